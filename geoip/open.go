package geoip

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/connmapgo/connmap/internal/layout"
	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/internal/unpack"
)

// Open reads a table from files, whose format it recognises by the content and
// not by the name. Several files make one table, such as that of IPv4 and that
// of IPv6. It understands
//
//   - MaxMind DB files (.mmdb) of cities or countries: of MaxMind, DB-IP, IPinfo and others
//     (https://maxmind.github.io/MaxMind-DB/);
//   - connmap's ipv4.csv with lines start,end,latitude,longitude, the addresses
//     in decimal. The tool that makes these files drops the first and last address of
//     networks; they are restored;
//   - the blocks of GeoLite2-City and GeoLite2-Country in CSV. The names of cities and countries
//     come from the file of locations beside it, in English if that is there;
//   - CSV of DB-IP, IPinfo Lite (also JSON), IP2Location LITE (DB1, DB3, DB5, DB9 and DB11; also
//     BIN) and sapics, and any whose first line names the columns, in any order;
//   - the TSV of iptoasn, for its countries; lists of first address, last address and country,
//     such as tor's geoip and geoip6;
//   - geofeeds (RFC 8805), for their countries; a network without one is a hole in those around it;
//   - GeoIP's old .dat, and its CSV of countries;
//   - any of them compressed with gzip, bzip2, xz or zstd, or in a zip or tar archive, in which
//     tables of countries are left out if others have points;
//   - a compiled table, of [CompileFile].
//
// A bad row is skipped and reported by [DB.Remarks]; if more rows are bad than good
// that is an error.
//
// Info.Date is the date in the files, or else in their names, or their modification time: the oldest of
// several.
//
// A text may have 4,294,967,296 bytes, a binary file 1,073,741,824, all together
// 16,777,216 rows, and what is compressed 100 times its size beyond 16 MiB. More is an
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

// Read adds the rows of a file; see [ranges.Reader].
func (b *builder) Read(f *ranges.File) (time.Time, []string, error) {
	r, err := layout.Read(f, b)
	switch {
	case err != nil:
	case !r.Kind.Places:
		err = fmt.Errorf("%s: not a table of places", r.Kind.Name)
	case len(b.places) == 1:
		err = layout.ErrNoPlaces
	case r.Date.IsZero():
		r.Date = f.ModTime
	}
	if r.Kind.Networks {
		b.both++
	}
	if r.Kind.Name == layout.Geofeed {
		b.feeds++
	} else {
		b.others++
	}
	if r.Kind.Name == layout.IPtoASN {
		b.held++
	}
	return r.Date, r.Remarks, err
}

// Recognise returns what a file of places is called, such as "DB-IP city CSV", by its content.
// The name is empty if Open does not read the file as a table of places. It fails if the file
// cannot be read. A recognised file may still be damaged.
func Recognise(name string) (string, error) {
	f, info, err := unpack.Open(name)
	if err != nil {
		return "", named(err)
	}
	defer f.Close()
	r, err := unpack.Reader(f, layout.Max)
	if err != nil {
		return "", named(fmt.Errorf("%s: %w", name, err))
	}
	if head, _ := r.Peek(len(form.Magic)); string(head) == form.Magic {
		return "compiled places", nil
	}
	kind, err := layout.Recognise(&ranges.File{Reader: r, Name: name, Size: info.Size(), At: f})
	switch {
	case kind.Places:
		return kind.Name, nil
	case err == nil, errors.Is(err, layout.ErrUnknown), errors.Is(err, unpack.ErrTooLarge), errors.Is(err, io.EOF):
		return "", nil
	}
	return "", named(fmt.Errorf("%s: %w", name, err))
}
