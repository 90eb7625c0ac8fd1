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

// understood says, for errors, what Open reads.
const understood = "understood are MaxMind DB files (.mmdb) of cities or countries, ipv4.csv with lines " +
	"start,end,latitude,longitude, the CSV of GeoLite2 and DB-IP, the TSV of iptoasn, lists of start,end,country, " +
	"all also compressed with gzip or xz, and compiled tables"

// Open reads a table from files. It recognises their format by the content, not by the name.
// Several files make one table, such as one of IPv4 and one of IPv6. It reads
//
//   - MaxMind DB files of cities or countries, in the layouts of MaxMind,
//     DB-IP and IPinfo (https://maxmind.github.io/MaxMind-DB/);
//   - connmap's ipv4.csv with lines start,end,latitude,longitude, the addresses
//     in decimal. Rows without coordinates are ignored. The tool that makes these files
//     drops the first and last address of networks; they are restored;
//   - the blocks of GeoLite2-City and GeoLite2-Country in CSV, whose columns are
//     found by name. The names of cities and countries come from the English file of
//     locations beside it;
//   - DB-IP's city and country CSV, and sapics' CSV of cities;
//   - iptoasn's TSV, for its countries;
//   - lists of first address, last address and country, such as tor's geoip and
//     geoip6;
//   - any of them compressed with gzip or xz;
//   - a compiled table, of [CompileFile].
//
// Info.Date is the date in the files, or else their modification time, and the oldest of
// several.
//
// A text may have 4,294,967,296 bytes, an .mmdb file 1,073,741,824, all together
// 16,777,216 rows, and what is compressed 250 times its size beyond 16 MiB. More is an
// error: so the author of a file cannot exhaust memory or time.
//
// The files are read and compiled into memory, and may be changed or removed
// afterwards; [OpenCached] does not compile them again.
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
// Each part of a mapped file is checked when it is first used. Lookup finds nothing in a part
// that is damaged or was truncated later. [DB.Err] reports a file that was changed while in
// use. [DB.Verify] reads all of it and removes a damaged file, so that the next call compiles
// it again.
func OpenCached(folder string, progress func(done, size int64), names ...string) (*DB, error) {
	return dbOf(form.OpenCached(folder, newBuilder(), progress, names...))
}

// ErrNotCached means that a compiled table could not be saved, and is only in memory.
var ErrNotCached = ranges.ErrNotCached

// CompileFile compiles a file that [Open] reads into another file, which it replaces when all is
// written. Open reads that file as it reads the source. CompileFile calls progress with the
// bytes read and their total; progress may be nil.
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
		return b.addMMDB(f) // a database without a date also has a zero date
	}
	if !format.networks {
		b.reserve(head, f.Size)
	}
	date, err := readText(b, f.Reader, format)
	if date.IsZero() {
		date = f.ModTime
	}
	return date, err
}

const (
	maxText = 4 << 30 // bytes of a text; the largest published ones have 1 GB
	maxDB   = 1 << 30 // bytes of a MaxMind DB file, which is held in memory
)

// reserve reserves room for the rows of a text that begins with head and has size bytes: growing
// often costs more than reading. It is too little for a compressed text.
func (b *builder) reserve(head []byte, size int64) {
	if n := int64(bytes.Count(head, []byte("\n"))); n > 0 && int64(len(head)) < min(size, maxText) {
		b.Reserve4(int(min(min(size, maxText)*n/int64(len(head)), ranges.Max)))
	}
}

// addMMDB adds the networks of a MaxMind DB file, which is recognised by its end, and returns when
// it was built.
func (b *builder) addMMDB(f *ranges.File) (time.Time, error) {
	data, err := unpack.All(f, f.Size, maxDB)
	if err != nil {
		return time.Time{}, err
	}
	switch {
	case mmdb.Is(data):
		return readMMDB(b, data)
	case bytes.IndexByte(data[:min(len(data), 4096)], 0) >= 0:
		return time.Time{}, errors.New("binary data without the metadata at the end of a MaxMind DB file: truncated, or not a table of places; " + understood)
	}
	return time.Time{}, errors.New("not a table of places; " + understood)
}
