package geoip

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/connmapgo/connmap/internal/mmdb"
	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/internal/unpack"
)

// understood is what Open can read.
const understood = "understood are MaxMind DB files (.mmdb) of cities or countries, ipv4.csv with lines " +
	"start,end,latitude,longitude, the CSV of GeoLite2 and DB-IP, the TSV of iptoasn, lists of start,end,country, " +
	"all also compressed with gzip or xz, and compiled tables"

// Open reads a table from files, whose format it recognises by the content and
// not by the name. Several files make one table, such as that of IPv4 and that
// of IPv6. It understands
//
//   - MaxMind DB files of cities or countries, in the layouts of MaxMind,
//     DB-IP and IPinfo (https://maxmind.github.io/MaxMind-DB/);
//   - connmap's ipv4.csv with lines start,end,latitude,longitude, the addresses
//     in decimal. Rows without coordinates are left out, and the first and last
//     addresses of networks, which the tool that makes these files loses, are
//     put back;
//   - the blocks of GeoLite2-City and GeoLite2-Country in CSV, whose columns are
//     found by name. The names of cities and countries are those of the file
//     of locations in English that lies beside it;
//   - DB-IP's city and country CSV, and sapics' CSV of cities;
//   - iptoasn's TSV, for its countries;
//   - lists of first address, last address and country, such as tor's geoip and
//     geoip6;
//   - any of them compressed with gzip or xz;
//   - a compiled table, of [CompileFile].
//
// Info.Date is what the files say of themselves, else when they were modified,
// and the oldest of several.
//
// A text may have 4,294,967,296 bytes, an .mmdb file 1,073,741,824, all together
// 16,777,216 rows, and what is compressed 250 times its size beyond 16 MiB. More is an
// error: nobody who hands over a file decides what memory and time it costs.
//
// The files are read and compiled into memory, and may be changed or removed
// afterwards; [OpenCached] does not compile again what it has compiled before.
// A damaged file is an error that says where.
func Open(names ...string) (*DB, error) {
	return compileFiles(names, nil)
}

// compileFiles makes a DB of files. progress may be nil; it is told how many
// bytes of all have been read.
func compileFiles(names []string, progress func(done, size int64)) (*DB, error) {
	stamp, size, err := stampOf(names)
	if err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	b := newBuilder()
	b.stamp = stamp
	var date time.Time
	done := int64(0)
	for i, name := range names {
		db, at, err := b.file(name, func(n int64) { progress(done+n, size) })
		if err != nil {
			return nil, fmt.Errorf("geoip: %s: %w", name, err)
		}
		if db != nil {
			if len(names) > 1 {
				return nil, fmt.Errorf("geoip: %s: is a compiled table, which cannot be combined with others", name)
			}
			return db, nil
		}
		if info, err := os.Stat(name); err == nil {
			done += info.Size()
		}
		if date = older(date, at); i == 0 {
			date = at
		}
	}
	db, err := b.compile(date)
	if err != nil {
		return nil, fmt.Errorf("geoip: %s: %w", names[0], err)
	}
	progress(size, size)
	return db, nil
}

// file adds the rows of a file and returns its date, or the DB that it is.
func (b *builder) file(name string, progress func(done int64)) (*DB, time.Time, error) {
	f, info, err := unpack.Open(name)
	if err != nil {
		return nil, time.Time{}, pathless(err)
	}
	defer f.Close()
	r, err := unpack.Reader(&counted{r: f, tell: progress}, maxText)
	if err != nil {
		return nil, time.Time{}, pathless(err)
	}
	date := info.ModTime()
	head, err := r.Peek(64 << 10)
	if err != nil && err != io.EOF {
		return nil, time.Time{}, pathless(err)
	}
	var said time.Time
	switch format := recognise(head); {
	case len(head) == 0:
		return nil, time.Time{}, errors.New("the file is empty")
	case format != nil:
		b.expect(head, info.Size())
		said, err = readText(b, r, format)
	case isGeoLite(head):
		if format, err = geoLite(name, head); err == nil {
			said, err = readText(b, r, format)
		}
	case bytes.HasPrefix(head, []byte(magic)):
		db, err := readCompiled(r, info.Size())
		return db, time.Time{}, err
	default:
		said, err = b.whole(r, info.Size())
		date = time.Time{} // a database without a date has none
	}
	if !said.IsZero() {
		date = said
	}
	return nil, date, err
}

const (
	maxText = 4 << 30 // bytes of a text; the largest that are published have 1 GB
	maxDB   = 1 << 30 // bytes of a MaxMind DB file, which is held in memory
)

// expect makes room for the rows of a text of a size that begins with head: to
// grow again and again costs more than to read. Where the text is compressed it
// is too little.
func (b *builder) expect(head []byte, size int64) {
	if n := int64(bytes.Count(head, []byte("\n"))); n > 0 && int64(len(head)) < min(size, maxText) {
		// Room that is made anew is not cleared before it is used; slices.Grow would do so,
		// and nothing can interrupt that.
		n = min(min(size, maxText)*n/int64(len(head)), ranges.Max)
		b.rows4 = append(make([]ranges.Row[v4], 0, len(b.rows4)+int(n)), b.rows4...)
	}
}

// whole adds the networks of a MaxMind DB file, which can only be told by its
// end.
func (b *builder) whole(r *bufio.Reader, size int64) (time.Time, error) {
	data, err := unpack.All(r, size, maxDB)
	if err != nil {
		return time.Time{}, pathless(err)
	}
	switch {
	case mmdb.Is(data):
		return readMMDB(b, data)
	case bytes.IndexByte(data[:min(len(data), 4096)], 0) >= 0:
		return time.Time{}, errors.New("binary data without the metadata that ends a MaxMind DB file: cut short, or not a table of places; " + understood)
	}
	return time.Time{}, errors.New("not a table of places; " + understood)
}

func readCompiled(r io.Reader, size int64) (*DB, error) {
	data, err := unpack.All(r, size, math.MaxInt32) // as large as encode makes one
	if err != nil {
		return nil, pathless(err)
	}
	db, err := load(unsafeString(data))
	if err == nil {
		err = db.t.verify()
	}
	return db, err
}

// pathless returns an error without the path, which its reader knows.
func pathless(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err
	}
	return err
}

// A counted tells how much of r has been read.
type counted struct {
	r    io.Reader
	n    int64
	tell func(done int64)
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	c.tell(c.n)
	return n, err
}
