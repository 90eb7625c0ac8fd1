package asn

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// Open reads a table from a file:
//
//   - the IPv4 or IPv6 blocks of GeoLite2-ASN as CSV; columns are found by their
//     names in the first line, so further ones do no harm, and rows without
//     a number have no AS;
//   - a MaxMind DB file (.mmdb) with autonomous_system_number;
//   - iptoasn's ip2asn-v4, ip2asn-v6 or ip2asn-combined as TSV with lines start, end,
//     number, country, name (https://iptoasn.com/); number 0 is not routed and has no AS;
//   - a table written by [DB.WriteTo].
//
// The format is told by the content, not by the name, and may be compressed
// with gzip or xz.
//
// The table is read whole: the file may change or vanish afterwards. Its date
// is that in an .mmdb file or written table, else that of the file's last change.
func Open(name string) (*DB, error) {
	f, err := openFile(name)
	if err != nil {
		return nil, fmt.Errorf("asn: %w", err)
	}
	defer f.Close()
	db, err := read(f.Reader, f.info)
	if err != nil {
		return nil, fmt.Errorf("asn: %s: %w", name, strip(err))
	}
	return db, nil
}

// strip removes the package's name from an error of Load or Verify.
func strip(err error) error {
	if s, ok := strings.CutPrefix(err.Error(), "asn: "); ok {
		return errors.New(s)
	}
	return err
}

const (
	numberColumn  = "autonomous_system_number"
	orgColumn     = "autonomous_system_organization"
	networkColumn = "network"

	csvWanted = "a line that names the columns " + networkColumn + ", " + numberColumn + " and " + orgColumn
)

// mmdbMark begins the metadata, in the last 128 KiB of an .mmdb file.
const mmdbMark = "\xab\xcd\xefMaxMind.com"

// read reads a table of any format that Open knows. Its errors do not say the
// file's name.
func read(br *bufio.Reader, info Info) (*DB, error) {
	head, err := br.Peek(4096)
	if err != nil && err != io.EOF {
		return nil, damaged(err)
	}
	line, _, _ := bytes.Cut(head, []byte("\n"))
	b := newBuilder()
	switch {
	case bytes.HasPrefix(head, []byte(magic)):
		var table strings.Builder
		if _, err := io.Copy(&table, br); err != nil {
			return nil, damaged(err)
		}
		db, err := Load(table.String())
		if err != nil {
			return nil, err
		}
		return db, db.Verify()
	case bytes.Contains(line, []byte(numberColumn)):
		err = readCSV(br, b)
	case isTSV(line):
		err = readTSV(br, b)
	default:
		var all []byte
		if all, err = io.ReadAll(br); err != nil {
			return nil, damaged(err)
		}
		if !isMMDB(all) {
			line = bytes.TrimSpace(clip(line))
			return nil, fmt.Errorf("line 1: want %s, an .mmdb file, or lines of iptoasn, found %q", csvWanted, line)
		}
		info.Date, err = readMMDB(all, b)
	}
	if err != nil {
		return nil, err
	}
	if len(b.rows) == 0 {
		return nil, errors.New("has no networks: the file is cut off or of another kind")
	}
	return b.db(info)
}

// isMMDB reports whether a file has the metadata of a MaxMind DB.
func isMMDB(all []byte) bool {
	return bytes.Contains(all[max(0, len(all)-128<<10):], []byte(mmdbMark))
}

// damaged explains an error of reading a file that could be opened.
func damaged(err error) error {
	return fmt.Errorf("file is damaged or cut off: %w", err)
}

func readCSV(r io.Reader, b *builder) error {
	cr := csv.NewReader(r)
	cr.ReuseRecord = true
	header, err := cr.Read()
	if err != nil {
		return csvError(err, 1)
	}
	column := func(name string) int {
		return slices.IndexFunc(header, func(s string) bool { return strings.TrimSpace(s) == name })
	}
	network, number, org := column(networkColumn), column(numberColumn), column(orgColumn)
	if network < 0 || number < 0 || org < 0 {
		return fmt.Errorf("line 1: want %s, found %q", csvWanted, strings.Join(header, ","))
	}
	for line := 2; ; {
		fields, err := cr.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return csvError(err, line)
		}
		line, _ = cr.FieldPos(0)
		prefix, err := netip.ParsePrefix(fields[network])
		if err != nil {
			return fmt.Errorf("line %d: want a network such as 192.0.2.0/24, found %q", line, fields[network])
		}
		as := AS{Org: fields[org]}
		if s := fields[number]; s != "" {
			n, err := strconv.ParseUint(s, 10, 32)
			if err != nil {
				return fmt.Errorf("line %d: want an AS number from 0 to 4294967295, found %q", line, s)
			}
			as.Number = uint32(n)
		}
		if err := b.add(prefix, as); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
}

// csvError adds the line, unless the reader stopped at or after a line for
// reasons that are not in the text.
func csvError(err error, line int) error {
	if pe, ok := errors.AsType[*csv.ParseError](err); ok {
		return fmt.Errorf("line %d: %w", pe.Line, pe.Err)
	}
	return fmt.Errorf("line %d or after: %w", line, damaged(err))
}

// isTSV reports whether the first line of a file is one of iptoasn.
func isTSV(line []byte) bool {
	f := bytes.Split(line, []byte("\t"))
	if len(f) < 5 {
		return false
	}
	_, err := netip.ParseAddr(string(f[0]))
	return err == nil
}

// readTSV reads lines of start, end, number, country and name, which may hold
// further tabs.
func readTSV(r io.Reader, b *builder) error {
	lr := newLineReader(r)
	for {
		line, err := lr.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", lr.number, damaged(err))
		}
		if len(line) == 0 {
			continue
		}
		f := bytes.SplitN(line, []byte("\t"), 5)
		if len(f) < 5 {
			return fmt.Errorf("line %d: want start, end, number, country and name separated by tabs, found %q", lr.number, clip(line))
		}
		first, err1 := netip.ParseAddr(string(f[0]))
		last, err2 := netip.ParseAddr(string(f[1]))
		if err := errors.Join(err1, err2); err != nil || first.Zone() != "" || last.Zone() != "" {
			return fmt.Errorf("line %d: want two addresses, found %q and %q", lr.number, clip(f[0]), clip(f[1]))
		}
		first, last = first.Unmap(), last.Unmap()
		if first.BitLen() != last.BitLen() || last.Less(first) {
			return fmt.Errorf("line %d: last address %s is before first or of another family than %s", lr.number, last, first)
		}
		number, err := strconv.ParseUint(string(f[2]), 10, 32)
		if err != nil {
			return fmt.Errorf("line %d: want an AS number from 0 to 4294967295, found %q", lr.number, clip(f[2]))
		}
		if number == 0 {
			continue // no lines overlap, so there is nothing to take out
		}
		as := AS{uint32(number), utf8Text(string(f[4]))}
		for p := range prefixes(Range{first, last}) {
			if err := b.add(p, as); err != nil {
				return fmt.Errorf("line %d: %w", lr.number, err)
			}
		}
	}
}

// prefixes reports the fewest prefixes that are exactly a range.
func prefixes(r Range) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		for first := r.First; first.IsValid() && !r.Last.Less(first); {
			bits := first.BitLen()
			p := netip.PrefixFrom(first, bits)
			for bits > 0 {
				wider := netip.PrefixFrom(first, bits-1)
				if wider.Masked().Addr() != first || r.Last.Less(last(wider)) {
					break
				}
				bits--
				p = wider
			}
			if !yield(p) {
				return
			}
			first = last(p).Next()
		}
	}
}

// readMMDB returns the date of the data.
func readMMDB(file []byte, b *builder) (time.Time, error) {
	r, err := maxminddb.OpenBytes(file)
	if err != nil {
		return time.Time{}, fmt.Errorf("damaged .mmdb file: %w", err)
	}
	defer r.Close()
	// Most networks share their record with others.
	records := make(map[uintptr]AS)
	for result := range r.Networks() {
		if err := result.Err(); err != nil {
			return time.Time{}, fmt.Errorf("damaged .mmdb file: %w", err)
		}
		as, ok := records[result.Offset()]
		if !ok {
			var record struct {
				Number uint32 `maxminddb:"autonomous_system_number"`
				Org    string `maxminddb:"autonomous_system_organization"`
			}
			if err := result.Decode(&record); err != nil {
				return time.Time{}, fmt.Errorf("damaged .mmdb file: network %s: %w", result.Prefix(), err)
			}
			as = AS{record.Number, record.Org}
			records[result.Offset()] = as
		}
		if as.Number == 0 {
			continue
		}
		if err := b.add(result.Prefix(), as); err != nil {
			return time.Time{}, err
		}
	}
	if len(b.rows) == 0 {
		return time.Time{}, fmt.Errorf("an .mmdb file of type %q has no %s: want one such as GeoLite2-ASN", r.Metadata.DatabaseType, numberColumn)
	}
	return r.Metadata.BuildTime().UTC(), nil
}
