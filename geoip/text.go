package geoip

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/connmapgo/connmap/internal/ranges"
)

// A textFormat describes a table of lines.
type textFormat struct {
	fields   string // the fields of a line, for people; a line has exactly these
	count    int    // of fields
	sep      byte
	networks bool // the first field is a network; otherwise the first two are the first and last address
	hosts    bool // networks may lack their first and last address; see repair
	// place returns the place in the fields after the addresses.
	place func(f [][]byte) (Place, error)
}

var (
	// The addresses of ipv4.csv, and of tor's geoip, are decimal.
	connmapCSV  = textFormat{fields: "start,end,latitude,longitude", count: 4, sep: ',', hosts: true, place: point}
	countryList = textFormat{fields: "start,end,country", count: 3, sep: ',', place: countryField}
	dbipCSV     = textFormat{fields: "start,end,continent,country,region,city,latitude,longitude", count: 8, sep: ',',
		place: func(f [][]byte) (Place, error) { return cityPlace(f[1], f[3], f[2], f[4], f[5]) }}
	sapicsCSV = textFormat{fields: "start,end,country,region,district,city,postal code,latitude,longitude,time zone", count: 10, sep: ',',
		place: func(f [][]byte) (Place, error) { return cityPlace(f[0], f[3], f[1], f[5], f[6]) }}
	iptoasnTSV = textFormat{fields: "start, end, AS number, country and description, with tabs between", count: 5, sep: '\t',
		place: func(f [][]byte) (Place, error) { return countryField(f[1:]) }}
)

// point returns the place of a row of ipv4.csv.
func point(f [][]byte) (Place, error) {
	// Some tools write 0, 0, where nobody lives, for missing coordinates.
	if len(f[0]) == 0 || len(f[1]) == 0 {
		return Place{}, nil
	}
	lat, lon, err := coordinates(f[0], f[1])
	if err != nil || lat == 0 && lon == 0 {
		return Place{}, err
	}
	return Place{Lat: lat, Lon: lon, Precision: City}, nil
}

// countryField returns the place of a row that has only a code. Codes such as ?? and ZZ mean no
// country.
func countryField(f [][]byte) (Place, error) {
	code := string(f[0])
	if len(code) != 2 && code != "" && code != "None" {
		return Place{}, fmt.Errorf("%q is not a country code of two letters", code)
	}
	p, _ := CountryPlace(strings.ToUpper(code))
	return p, nil
}

// cityPlace returns the place of a row that names a city, or only a country.
func cityPlace(code, city, region, lat, lon []byte) (Place, error) {
	p, err := point([][]byte{lat, lon})
	if err != nil {
		return Place{}, err
	}
	return exactPlace(p, string(code), string(city), len(region) > 0), nil
}

// exactPlace combines the fields of a row. If it has only a country, the place is the country's
// own point: the row's coordinates would be in the middle of nowhere.
func exactPlace(p Place, code, city string, region bool) Place {
	country, known := CountryPlace(code)
	if p.Precision == Unknown || known && city == "" && !region {
		return country
	}
	p.Country, p.City = country.Country, city
	return p
}

func coordinates(lat, lon []byte) (float64, float64, error) {
	y, ok := coordinate(lat, 90)
	if !ok {
		return 0, 0, fmt.Errorf("latitude %q is not a number from -90 to 90", lat)
	}
	x, ok := coordinate(lon, 180)
	if !ok {
		return 0, 0, fmt.Errorf("longitude %q is not a number from -180 to 180", lon)
	}
	return float64(y) / degree, float64(x) / degree, nil
}

// recognise returns the format of a table that begins with head, perhaps with comments; nil: no
// format of lines fits.
func recognise(head []byte) *textFormat {
	line := firstLine(head)
	switch f := fieldsOf(line, ','); {
	case len(f) == 4 && isDigits(f[0]) && isDigits(f[1]):
		return &connmapCSV
	case !isAddress(f[0]) || len(f) < 3 || !isAddress(f[1]):
	case len(f) == 3:
		return &countryList
	case len(f) == 8:
		return &dbipCSV
	case len(f) == 10:
		return &sapicsCSV
	}
	if f := fieldsOf(line, '\t'); len(f) >= 4 && isAddress(f[0]) && isAddress(f[1]) && isDigits(f[2]) {
		return &iptoasnTSV
	}
	return nil
}

// firstLine returns the first line that is not a comment, without its end.
func firstLine(head []byte) []byte {
	head = bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))
	for len(head) > 0 {
		var line []byte
		line, head, _ = bytes.Cut(head, []byte("\n"))
		if line = bytes.TrimSuffix(line, []byte("\r")); len(line) > 0 && line[0] != '#' {
			return line
		}
	}
	return nil
}

func isAddress(s []byte) bool {
	_, ok := parseAddr(s)
	return ok
}

// fieldsOf splits a line into fields, some of which may be quoted.
func fieldsOf(line []byte, sep byte) [][]byte { return appendFields(nil, line, sep) }

func appendFields(f [][]byte, line []byte, sep byte) [][]byte {
	for {
		var field []byte
		if sep == ',' && len(line) > 0 && line[0] == '"' {
			field, line = quoted(line)
		} else {
			end := bytes.IndexByte(line, sep)
			if end < 0 {
				return append(f, line)
			}
			field, line = line[:end], line[end:]
		}
		f = append(f, field)
		if len(line) == 0 {
			return f
		}
		line = line[1:]
	}
}

// quoted returns the first field of a line that begins with a quotation mark, and the rest of the
// line, which is empty or begins with the separator. Quotation marks inside are
// doubled.
func quoted(line []byte) (field, rest []byte) {
	line = line[1:]
	double := false
	for i := 0; i < len(line); i++ {
		if line[i] != '"' {
			continue
		}
		if i+1 < len(line) && line[i+1] == '"' {
			double = true
			i++
			continue
		}
		field, rest = line[:i], line[i+1:]
		if end := bytes.IndexByte(rest, ','); end >= 0 {
			rest = rest[end:]
		} else {
			rest = nil
		}
		if double {
			field = bytes.ReplaceAll(field, []byte(`""`), []byte(`"`))
		}
		return field, rest
	}
	return line, nil
}

// lines reads a text line by line.
type lines struct {
	r *bufio.Reader
	n int // number of the line
}

// next returns a line without its end, valid until the next call. The error is io.EOF at the end
// of the text.
func (l *lines) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if len(line) == 0 && err == io.EOF {
		return nil, err
	}
	l.n++
	if err != nil && err != io.EOF {
		if errors.Is(err, bufio.ErrBufferFull) {
			err = errors.New("the line is too long")
		}
		return nil, fmt.Errorf("line %d: %w", l.n, err)
	}
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	if l.n == 1 {
		line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	}
	return line, nil
}

// readText adds the rows of a table of lines. It returns the date in the comments, if there is
// one.
func readText(b *builder, r *bufio.Reader, format *textFormat) (date time.Time, err error) {
	l := &lines{r: r}
	found := false
	// Rows of one place are equal after the addresses. Only some short ones are
	// remembered, so that no text fills the memory with them.
	ids := make(map[string]uint32)
	const maxIDs, maxRest = 1 << 20, 512
	var fields [][]byte
	for {
		line, err := l.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return date, err
		}
		if len(line) == 0 {
			continue
		}
		if line[0] == '#' {
			if at, ok := bytes.CutPrefix(bytes.TrimSpace(line[1:]), []byte("Generated:")); ok {
				date, _ = time.Parse(time.RFC1123, string(bytes.TrimSpace(at)))
			}
			continue
		}
		if format.networks && l.n == 1 {
			continue // the header
		}
		id, ok := uint32(0), false
		addresses, rest := cutAddresses(line, format)
		if addresses != nil {
			id, ok = ids[string(rest)]
		}
		if !ok {
			fields = appendFields(fields[:0], line, format.sep)
			if len(fields) != format.count && !(format.sep == '\t' && len(fields) >= 4) {
				return date, fmt.Errorf("line %d: %d fields, expected %s", l.n, len(fields), format.fields)
			}
			skip := 2
			if format.networks {
				skip = 1
			}
			p, err := format.place(fields[skip:])
			if err == nil {
				id, err = b.place(p)
			}
			if err != nil {
				return date, fmt.Errorf("line %d: %w", l.n, err)
			}
			if addresses != nil && len(ids) < maxIDs && len(rest) <= maxRest {
				ids[string(rest)] = id
			}
		}
		if err := addLine(b, line, format, id); err != nil {
			return date, fmt.Errorf("line %d: %w", l.n, err)
		}
		found = found || id != 0
	}
	if !found {
		return date, errors.New("no line has a known place")
	}
	return date, nil
}

// cutAddresses separates the addresses of a line from the rest.
func cutAddresses(line []byte, format *textFormat) (addresses, rest []byte) {
	at := bytes.IndexByte(line, format.sep)
	if at >= 0 && !format.networks {
		next := bytes.IndexByte(line[at+1:], format.sep)
		if next < 0 {
			return nil, nil
		}
		at += 1 + next
	}
	if at < 0 {
		return nil, nil
	}
	return line[:at], line[at+1:]
}

// addLine adds the row of a line. If it has no place, its addresses are only checked.
func addLine(b *builder, line []byte, format *textFormat, id uint32) error {
	addresses, _ := cutAddresses(line, format)
	if format.networks {
		p, err := netip.ParsePrefix(string(addresses))
		if err != nil {
			return fmt.Errorf("%q is not a network such as 192.0.2.0/24", addresses)
		}
		if id == 0 {
			return nil
		}
		return b.Add(ranges.Of(p), id)
	}
	one, two, _ := bytes.Cut(addresses, []byte{format.sep})
	one, two = bytes.Trim(one, `"`), bytes.Trim(two, `"`)
	first, ok1 := parse4(one)
	last, ok2 := parse4(two)
	if !ok1 || !ok2 {
		first, ok := parseAddr(one)
		if !ok {
			return fmt.Errorf("start %q is not an IP address", one)
		}
		last, ok := parseAddr(two)
		if !ok {
			return fmt.Errorf("end %q is not an IP address", two)
		}
		if id == 0 {
			return nil
		}
		return b.Add(Range{First: first, Last: last}, id)
	}
	if last < first {
		return fmt.Errorf("last address %v is before first %v", addr4(last), addr4(first))
	}
	if id == 0 {
		return nil
	}
	if format.hosts {
		first, last = repair(first, last)
	}
	return b.Add4(ranges.V4(first), ranges.V4(last), id)
}

// repair restores a network from a range that lacks its first and last address. The tool that
// makes ipv4.csv writes networks up to /30 so: it takes the first and last host of each.
func repair(first, last uint32) (uint32, uint32) {
	size := uint64(last) - uint64(first) + 3
	if first > 0 && size >= 4 && size&(size-1) == 0 && uint64(first-1)%size == 0 {
		return first - 1, last + 1
	}
	return first, last
}

func addr4(ip uint32) netip.Addr { return ranges.V4(ip).Addr() }

// parseAddr parses an address, which may be IPv4 in decimal.
func parseAddr(s []byte) (netip.Addr, bool) {
	s = bytes.Trim(s, `"`)
	if ip, ok := parse4(s); ok {
		return addr4(ip), true
	}
	a, err := netip.ParseAddr(string(s))
	return a, err == nil && a.Zone() == ""
}

// parse4 parses an IPv4 address with dots or in decimal.
func parse4(s []byte) (uint32, bool) {
	if isDigits(s) {
		return decimal(s)
	}
	var b [4]byte
	i, v, digits := 0, 0, 0
	for _, c := range s {
		switch {
		case '0' <= c && c <= '9' && digits < 3:
			v = v*10 + int(c-'0')
			digits++
		case c == '.' && digits > 0 && v < 256 && i < 3:
			b[i] = byte(v)
			i, v, digits = i+1, 0, 0
		default:
			return 0, false
		}
	}
	if i != 3 || digits == 0 || v > 255 {
		return 0, false
	}
	b[3] = byte(v)
	return binary.BigEndian.Uint32(b[:]), true
}

func isDigits(s []byte) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(s) > 0
}

// decimal parses an unsigned 32-bit number.
func decimal(s []byte) (uint32, bool) {
	if !isDigits(s) || len(s) > 10 {
		return 0, false
	}
	var v uint64
	for _, c := range s {
		v = v*10 + uint64(c-'0')
	}
	return uint32(v), v <= 1<<32-1
}

// coordinate parses degrees such as -33.494 into the stored unit, and ignores further decimals.
// It does not use strconv, since files have millions of lines; see BenchmarkOpen.
func coordinate(s []byte, limit int64) (int32, bool) {
	negative := len(s) > 0 && s[0] == '-'
	if negative {
		s = s[1:]
	}
	whole, fraction, dot := bytes.Cut(s, []byte("."))
	if !isDigits(whole) || len(whole) > 3 || dot && !isDigits(fraction) {
		return 0, false
	}
	var v int64
	for _, c := range whole {
		v = v*10 + int64(c-'0')
	}
	for i := range 7 {
		v *= 10
		if i < len(fraction) {
			v += int64(fraction[i] - '0')
		}
	}
	if v > limit*degree {
		return 0, false
	}
	if negative {
		v = -v
	}
	return int32(v), true
}
