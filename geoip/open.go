package geoip

import (
	"bytes"
	"errors"
	"io"
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
// Each part of a mapped file is checked when it is first used. Lookup finds nothing in a
// damaged part, nor in one that is cut off later. [DB.Err] reports a file that was changed
// while in use. [DB.Verify] reads all of it and removes a damaged file, so that the next
// call compiles it again.
func OpenCached(folder string, progress func(done, size int64), names ...string) (*DB, error) {
	return dbOf(form.OpenCached(folder, newBuilder(), progress, names...))
}

// ErrNotCached says that a compiled table could not be kept, and lies in memory.
var ErrNotCached = ranges.ErrNotCached

// CompileFile compiles a file that [Open] understands into another, which it
// replaces when all is written. Open takes it as it takes the source. progress
// may be nil; it is told how many bytes of all have been read.
func CompileFile(source, target string, progress func(done, size int64)) (Info, error) {
	db, err := dbOf(form.CompileFile(newBuilder(), source, target, progress))
	if err != nil {
		return Info{}, err
	}
	return db.Info(), nil
}

// Read adds the rows of a file and returns its date.
func (b *builder) Read(f *ranges.File) (time.Time, error) {
	head, err := f.Peek(64 << 10)
	if err != nil && err != io.EOF {
		return time.Time{}, err
	}
	format := recognise(head)
	if format == nil && isGeoLite(head) {
		if format, err = geoLite(f.Name, head); err != nil {
			return time.Time{}, err
		}
	}
	if format == nil {
		return b.whole(f) // a database without a date has none
	}
	if !format.networks {
		b.expect(head, f.Size)
	}
	date, err := readText(b, f.Reader, format)
	if date.IsZero() {
		date = f.ModTime
	}
	return date, err
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
		b.Expect4(int(min(min(size, maxText)*n/int64(len(head)), ranges.Max)))
	}
}

// whole adds the networks of a MaxMind DB file, which can only be recognised by its
// end, and returns when it was built.
func (b *builder) whole(f *ranges.File) (time.Time, error) {
	data, err := unpack.All(f, f.Size, maxDB)
	if err != nil {
		return time.Time{}, err
	}
	switch {
	case mmdb.Is(data):
		return readMMDB(b, data)
	case bytes.IndexByte(data[:min(len(data), 4096)], 0) >= 0:
		return time.Time{}, errors.New("binary data without the metadata that ends a MaxMind DB file: cut short, or not a table of places; " + understood)
	}
	return time.Time{}, errors.New("not a table of places; " + understood)
}
