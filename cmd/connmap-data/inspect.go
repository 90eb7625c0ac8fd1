package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/internal/layout"
	"github.com/connmapgo/connmap/internal/numbers"
	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/internal/terminal"
	"github.com/connmapgo/connmap/internal/unpack"
)

// A content is what inspect finds in a file.
type content struct {
	kind     string // such as "iptoasn TSV"; empty: not recognised
	rows     int64
	date     time.Time   // zero: unknown; inspect sets it by dates
	dates    []time.Time // that the data have, the best first
	promised int64       // rows that the file claims to have; 0: unknown

	places, networks bool     // for geoip.Open and asn.Open
	truncated        bool     // the last row is not whole
	remarks          []string // what users should know
	unknown          string   // why it is not recognised
}

// unpackedLimit is the maximum of bytes that a compressed file may unpack to.
const unpackedLimit = 8 << 30

var errWebPage = errors.New("a web page, not data: is there a login or captive portal?")

// maxAhead is how far a date may be after now: clocks differ, and so do days between time zones.
const maxAhead = 2 * day

// setDate sets the date to the first of dates that is known. One in the future is not, since with
// it no correct file would be newer; a remark says so.
func (c *content) setDate(now time.Time, dates ...time.Time) {
	for _, d := range dates {
		if !c.date.IsZero() {
			return
		}
		if d.Sub(now) <= maxAhead {
			c.date = d
			continue
		}
		remark := unpack.FutureRemark(d)
		if !slices.Contains(c.remarks, remark) {
			c.remarks = append(c.remarks, remark)
		}
	}
}

// misdated reports whether no date that the data have counts.
func (c content) misdated() bool {
	return c.date.IsZero() && slices.ContainsFunc(c.dates, func(d time.Time) bool { return !d.IsZero() })
}

// inspect reads a file to its end, recognises its kind by its content, counts its rows and checks
// the form of each. The error says where a file is damaged, or that it has more than limit
// bytes of content. An unknown kind is no error. The date is one in the data, if it has any that
// is not in the future.
func inspect(name string, limit int64, now time.Time) (content, error) {
	c, err := read(name, limit)
	c.setDate(now, c.dates...)
	return c, err
}

func read(name string, limit int64) (content, error) {
	f, info, err := unpack.Open(name)
	if err != nil {
		return content{}, err
	}
	defer f.Close()
	r, err := unpack.Reader(f, limit)
	if err != nil {
		return content{}, err
	}
	head, err := r.Peek(64 << 10)
	switch {
	case err != nil && err != io.EOF:
		return content{}, damaged(err)
	case len(head) == 0:
		return content{}, errors.New("the file is empty")
	case isWebPage(head):
		return content{}, errWebPage
	case bytes.HasPrefix(head, []byte("SQLite format 3\x00")):
		return content{kind: "SQLite database"}, nil
	case bytes.HasPrefix(head, []byte("\xcf\x9a\x57\x13")):
		_, err := io.Copy(io.Discard, r)
		return content{kind: "GDBM"}, err
	case bytes.HasPrefix(head, []byte("asntable")), bytes.HasPrefix(head, []byte("cmgeoip\x00")):
		return inspectCompiled(name, head[0] == 'c')
	}
	if !unpack.IsArchive(head) {
		if c, ok, err := inspectRegistry(r, head); ok {
			return c, err
		}
	}
	return inspectTable(&ranges.File{Reader: r, Name: name, Size: info.Size(), ModTime: unpack.Date(name, info.ModTime()), At: f})
}

// cutOff returns an error if a file has clearly fewer rows than it claims.
func (c content) cutOff() error {
	if c.truncated {
		return errors.New("truncated in the last row")
	}
	if c.rows*10 < c.promised*9 {
		return fmt.Errorf("cut off: %s of %s records", numbers.Thousands(c.rows), numbers.Thousands(c.promised))
	}
	return nil
}

func damaged(err error) error {
	return fmt.Errorf("damaged or cut off: %w", err)
}

func isWebPage(head []byte) bool {
	head = bytes.ToLower(bytes.TrimSpace(head[:min(len(head), 512)]))
	return bytes.HasPrefix(head, []byte("<!doctype html")) || bytes.HasPrefix(head, []byte("<html"))
}

// inspectCompiled reads a compiled table.
func inspectCompiled(name string, places bool) (content, error) {
	if places {
		db, err := geoip.Open(name)
		if err != nil {
			return content{}, err
		}
		info := db.Info()
		return content{kind: "compiled places", rows: int64(info.Ranges), dates: []time.Time{info.Date}, places: true}, nil
	}
	db, err := asn.Open(name)
	if err != nil {
		return content{}, err
	}
	info := db.Info()
	return content{kind: "compiled networks", rows: int64(info.Ranges), dates: []time.Time{info.Date}, networks: true}, nil
}

// inspectTable reads a table as all other programs do.
func inspectTable(f *ranges.File) (content, error) {
	r, err := layout.Count(f)
	if errors.Is(err, layout.ErrUnknown) {
		why := strings.TrimSuffix(err.Error(), "; "+layout.Understood)
		return content{unknown: strings.TrimPrefix(why, layout.ErrUnknown.Error()+": ")}, nil
	}
	c := content{kind: terminal.Clean(r.Kind.Name, terminal.Reply), rows: r.Rows, dates: []time.Time{r.Date}, remarks: r.Remarks,
		truncated: r.Truncated, places: r.Kind.Places, networks: r.Kind.Networks}
	return c, err
}

// isRPSL recognises the first attribute of a record.
func isRPSL(line string) bool {
	attribute, _, ok := strings.Cut(line, ":")
	switch strings.ToLower(attribute) {
	case "aut-num", "as-block", "as-set", "inetnum", "inet6num", "organisation", "route", "route6", "mntner", "person", "role", "ashandle", "owner", "*xxte", "filter-set", "route-set", "domain", "irt", "key-cert", "inet-rtr", "peering-set", "rtr-set":
		return ok
	}
	return false
}

// inspectRegistry reads a file of a registry or of CAIDA. It is false if head is not the beginning
// of one.
func inspectRegistry(r io.Reader, head []byte) (c content, ok bool, err error) {
	var count func(string) (bool, error)
	switch line := firstLine(head); {
	case bytes.Contains(head, []byte("format:org_id|")) || bytes.Contains(head, []byte("format:aut|")):
		c.kind, count = "CAIDA as-org2info", orgRows()
	case strings.HasPrefix(line, "2") && strings.Count(line, "|") == 6:
		field := strings.Split(line, "|")
		c.kind, count = "delegations of "+terminal.Clean(field[1], 20), delegation
		c.promised, _ = strconv.ParseInt(field[3], 10, 64)
		for _, date := range []string{field[5], field[2]} {
			if t, err := time.Parse("20060102", date); err == nil {
				c.dates = append(c.dates, t)
			}
		}
	case isRPSL(line):
		c.kind = "registry database"
		c.rows, c.remarks, err = asn.CountAutNums(r)
		if err = errors.Unwrap(err); err != nil && c.rows > 0 { // without the package's name
			err = damaged(err)
		}
		return c, true, err
	case strings.HasPrefix(line, "{") && strings.Contains(line, `"organizationId"`):
		c.kind, count = "CAIDA as-org2info", func(line string) (bool, error) { return strings.Contains(line, `"type":"ASN"`), nil }
	case strings.Contains(line, "geoname_id,") && strings.Contains(line, "country_iso_code"):
		c.kind, count = "GeoLite2 locations CSV", func(string) (bool, error) { return true, nil }
	default:
		return c, false, nil
	}
	lines := bufio.NewReaderSize(r, maxLine)
	for n := 1; ; n++ {
		raw, err := lines.ReadSlice('\n')
		for err == bufio.ErrBufferFull {
			raw = nil // a line that is too long is a bad row
			_, err = lines.ReadSlice('\n')
		}
		if err != nil && err != io.EOF {
			return c, true, fmt.Errorf("line %d: %w", n, damaged(err))
		}
		line := strings.TrimRight(string(raw), "\r\n")
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if line != "" && (line[0] != '#' || c.kind == "CAIDA as-org2info") {
			ok, e := count(line)
			if e != nil {
				return c, true, fmt.Errorf("line %d: %w", n, e)
			}
			if ok {
				c.rows++
			}
		}
		if err == io.EOF {
			return c, true, nil
		}
	}
}

// maxLine is longer than any valid line of a registry's file.
const maxLine = 1 << 20

// firstLine returns the first line that is neither empty nor a comment.
func firstLine(head []byte) string {
	for line := range bytes.Lines(bytes.TrimPrefix(head, []byte("\ufeff"))) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) > 0 && line[0] != '#' && line[0] != '%' {
			return string(line)
		}
	}
	return ""
}

// delegation reports whether a line of a registry's file is a record. Header and summary lines
// are not.
func delegation(line string) (bool, error) {
	field := strings.SplitN(line, "|", 8)
	if len(field) < 7 {
		return false, nil
	}
	switch field[2] {
	case "asn", "ipv4", "ipv6":
		return true, nil
	}
	return false, nil
}

// orgRows counts the AS numbers of an as-org2info file, in which a comment gives the format of
// the lines after it.
func orgRows() func(string) (bool, error) {
	ases := false
	return func(line string) (bool, error) {
		if line[0] == '#' {
			if _, format, ok := strings.Cut(line, "format:"); ok {
				ases = strings.HasPrefix(strings.TrimSpace(format), "aut|")
			}
			return false, nil
		}
		return ases, nil
	}
}
