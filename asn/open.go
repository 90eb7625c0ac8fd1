package asn

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/connmapgo/connmap/internal/mmdb"
	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/internal/unpack"
)

// Open reads a table from files. Several files make one table, such as one of IPv4 and one of
// IPv6. It reads
//
//   - the IPv4 or IPv6 blocks of GeoLite2-ASN as CSV; columns are found by their
//     names in the first line, so others do no harm, and rows without a number
//     have no AS;
//   - a MaxMind DB file (.mmdb) with autonomous_system_number;
//   - iptoasn's ip2asn-v4, ip2asn-v6 or ip2asn-combined as TSV with lines start, end,
//     number, country, name (https://iptoasn.com/); number 0 is not routed and has no AS;
//   - a table written by [DB.WriteTo], but no others beside it.
//
// The format is recognised by the content, not by the name, and may be compressed with gzip or
// xz. Where lines overlap the smallest range wins, and of equal ranges the last.
//
// A file may have 1,073,741,824 bytes of content, all together 16,777,216 ranges, and what is
// compressed 250 times its size beyond 16 MiB. More is an error: so the author of a file
// cannot exhaust memory or time.
//
// The files are read and compiled into memory, and may be changed or removed
// afterwards; [OpenCached] does not compile them again. The date is that in an .mmdb file or
// a written table, or else the file's modification time, and the oldest of several.
func Open(names ...string) (*DB, error) {
	return dbOf(form.Open(newBuilder(), nil, names...))
}

// OpenCached is [Open] with a cache: it keeps the compiled table in a folder, which it makes
// if it is missing. The next call maps that file into memory, which takes no time and
// little memory, until a source file changes. While files are compiled it calls progress
// with the bytes read and their total; progress may be nil.
//
// If the folder cannot be written to, it returns the DB together with an error that wraps
// [ErrNotCached].
//
// Each part of a mapped file is checked when it is first used. Lookup finds nothing in a part
// that is damaged or was truncated later. [DB.Err] reports a file that was changed while in
// use. [DB.Verify] reads all of it and removes a damaged file, so that the next call compiles
// it again.
func OpenCached(folder string, progress func(done, size int64), names ...string) (*DB, error) {
	return dbOf(form.OpenCached(folder, newBuilder(), progress, names...))
}

// ErrNotCached means that a compiled table could not be saved, and is only in memory.
var ErrNotCached = ranges.ErrNotCached

const (
	numberColumn  = "autonomous_system_number"
	orgColumn     = "autonomous_system_organization"
	networkColumn = "network"

	csvWanted = "a line that names the columns " + networkColumn + ", " + numberColumn + " and " + orgColumn
)

// The maximum bytes of content of files, ten or more times those of published files. All but
// dumps are held in memory.
const (
	maxTable       = 1 << 30
	maxDelegations = 512 << 20
	maxOrgs        = 512 << 20
	maxDump        = 16 << 30
)

// Read adds the rows of a file and returns its date.
func (b *builder) Read(f *ranges.File) (time.Time, error) {
	skipMark(f.Reader)
	head, err := f.Peek(4096)
	if err != nil && err != io.EOF {
		return time.Time{}, damaged(err)
	}
	date := f.ModTime
	switch line, _, _ := bytes.Cut(head, []byte("\n")); {
	case isHeader(line):
		err = readCSV(f, b)
	case isTSV(line):
		err = readTSV(f, b)
	default:
		date, err = b.addMMDB(f, line)
	}
	if err == nil && b.Len() == 0 {
		err = errors.New("has no networks: the file is cut off or of another kind")
	}
	return date, err
}

// addMMDB adds the networks of a MaxMind DB file, which is recognised by its end, and returns when
// it was built.
func (b *builder) addMMDB(f *ranges.File, line []byte) (time.Time, error) {
	all, err := unpack.All(f, f.Size, maxTable)
	if err != nil {
		return time.Time{}, damaged(err)
	}
	if !mmdb.Is(all) {
		return time.Time{}, fmt.Errorf("line 1: expected %s, an .mmdb file, or lines of iptoasn, found %q", csvWanted, bytes.TrimSpace(clip(line)))
	}
	return readMMDB(all, b)
}

// damaged wraps an error of reading a file that could be opened.
func damaged(err error) error {
	return fmt.Errorf("file is damaged or cut off: %w", err)
}

func readCSV(r io.Reader, b *builder) error {
	// A quotation mark may begin a field of any number of lines.
	limited := &recordReader{r: r}
	cr := csv.NewReader(limited)
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
		return fmt.Errorf("line 1: expected %s, found %.200q", csvWanted, strings.Join(header, ","))
	}
	for line := 2; ; {
		limited.ended = cr.InputOffset()
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
			return fmt.Errorf("line %d: expected a network such as 192.0.2.0/24, found %.60q", line, fields[network])
		}
		as := AS{Org: fields[org]}
		if s := fields[number]; s != "" {
			n, err := strconv.ParseUint(s, 10, 32)
			if err != nil {
				return fmt.Errorf("line %d: expected an AS number from 0 to 4294967295, found %.60q", line, s)
			}
			as.Number = uint32(n)
		}
		if err := b.add(RangeOf(prefix), as); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
}

// A recordReader fails when it has read more than maxLine bytes of a record of CSV.
type recordReader struct {
	r     io.Reader
	n     int64
	ended int64 // where the last record ended
}

func (l *recordReader) Read(b []byte) (int, error) {
	n, err := l.r.Read(b)
	if l.n += int64(n); l.n-l.ended > maxLine {
		return 0, fmt.Errorf("a row has more than %d bytes: is a quotation mark missing?", maxLine)
	}
	return n, err
}

// csvError adds a line number to an error. If the error is not one of the text, the line is the
// first that may be the cause.
func csvError(err error, line int) error {
	if pe, ok := errors.AsType[*csv.ParseError](err); ok {
		return fmt.Errorf("line %d: %w", pe.Line, pe.Err)
	}
	return fmt.Errorf("line %d or after: %w", line, damaged(err))
}

// isHeader reports whether the first line of a file names the columns of GeoLite2-ASN. A small
// MaxMind DB file has one of these names near its beginning.
func isHeader(line []byte) bool {
	return bytes.Contains(line, []byte(numberColumn)) && bytes.IndexByte(line, 0) < 0
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
			return fmt.Errorf("line %d: expected start, end, number, country and name separated by tabs, found %q", lr.number, clip(line))
		}
		first, err1 := netip.ParseAddr(string(f[0]))
		last, err2 := netip.ParseAddr(string(f[1]))
		if err := errors.Join(err1, err2); err != nil || first.Zone() != "" || last.Zone() != "" {
			return fmt.Errorf("line %d: expected two addresses, found %q and %q", lr.number, clip(f[0]), clip(f[1]))
		}
		first, last = first.Unmap(), last.Unmap()
		if first.BitLen() != last.BitLen() || last.Less(first) {
			return fmt.Errorf("line %d: last address %s is before first or of another family than %s", lr.number, last, first)
		}
		number, err := strconv.ParseUint(string(f[2]), 10, 32)
		if err != nil {
			return fmt.Errorf("line %d: expected an AS number from 0 to 4294967295, found %q", lr.number, clip(f[2]))
		}
		if number == 0 {
			continue // lines do not overlap, so it need not cut a hole
		}
		as := AS{uint32(number), utf8Text(string(f[4]))}
		if err := b.add(Range{First: first, Last: last}, as); err != nil {
			return fmt.Errorf("line %d: %w", lr.number, err)
		}
	}
}

// readMMDB adds the networks of a MaxMind DB file, and returns the date of the data.
func readMMDB(file []byte, b *builder) (time.Time, error) {
	r, err := mmdb.Open(file)
	if err != nil {
		return time.Time{}, fmt.Errorf("damaged .mmdb file: %w", err)
	}
	// Most networks share their record with others.
	records := make(map[int]AS)
	for n, err := range r.Networks() {
		if err != nil {
			return time.Time{}, fmt.Errorf("damaged .mmdb file: %w", err)
		}
		as, ok := records[n.Record]
		if !ok {
			m, err := r.Record(n.Record, mmdb.Fields{numberColumn: nil, orgColumn: nil})
			if err != nil {
				return time.Time{}, fmt.Errorf("damaged .mmdb file: network %s: %w", n.Prefix, err)
			}
			number, _ := m[numberColumn].(uint64)
			org, _ := m[orgColumn].(string)
			if number > math.MaxUint32 {
				return time.Time{}, fmt.Errorf("damaged .mmdb file: network %s: AS number %d", n.Prefix, number)
			}
			as = AS{uint32(number), org}
			records[n.Record] = as
		}
		if as.Number == 0 {
			continue
		}
		if err := b.add(RangeOf(n.Prefix), as); err != nil {
			return time.Time{}, err
		}
	}
	if b.Len() == 0 {
		return time.Time{}, fmt.Errorf("an .mmdb file of type %.60q has no %s: expected one such as GeoLite2-ASN", r.Type, numberColumn)
	}
	return r.Built, nil
}
