package asn

import (
	"errors"
	"fmt"
	"time"

	"github.com/connmapgo/connmap/internal/layout"
	"github.com/connmapgo/connmap/internal/ranges"
)

// Open reads a table from files. Several files make one table, such as one of IPv4 and one of
// IPv6. It reads
//
//   - MaxMind DB files (.mmdb) with AS numbers: of MaxMind (ASN, ISP, Enterprise), IPinfo, DB-IP
//     and others;
//   - CSV of GeoLite2-ASN, DB-IP, IPinfo Lite (also JSON), IP2Location LITE and sapics, and any
//     whose first line names the columns, in any order;
//   - the TSV of iptoasn (https://iptoasn.com/) and pyasn, and RouteViews' pfx2as;
//   - dumps of routing tables in MRT (RFC 6396), without names;
//   - GeoIP's old .dat, and its CSV of networks;
//   - any of them compressed with gzip, bzip2, xz or zstd, or in a zip or tar archive;
//   - a table written by [DB.WriteTo], but no others beside it.
//
// The format is recognised by the content, not by the name. Addresses may be in decimal.
// Number 0 is not routed and has no AS. Where rows overlap the smallest range wins, and of equal
// ranges the last. A bad row is skipped and reported by [DB.Remarks]; if more rows
// are bad than good that is an error.
//
// A text may have 4,294,967,296 bytes, a binary file 1,073,741,824, all together 16,777,216 rows, and what
// is compressed 100 times its size beyond 16 MiB. More is an error: so the author of a file
// cannot exhaust memory or time.
//
// The files are read and compiled into memory, and may be changed or removed
// afterwards; [OpenCached] does not compile them again. The date is that in an .mmdb file or
// a written table, or else the one in the file's name, or its modification time, and the oldest of several.
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

// Bytes of content that the files may have, which are held in memory, but for the dumps.
// Those that are published have a tenth of that and less.
const (
	maxDelegations = 512 << 20
	maxOrgs        = 512 << 20
	maxDump        = 16 << 30
)

// Read adds the rows of a file; see [ranges.Reader].
func (b *builder) Read(f *ranges.File) (time.Time, []string, error) {
	r, err := layout.Read(f, b)
	switch {
	case err != nil:
	case !r.Kind.Networks:
		err = fmt.Errorf("%s: not a table of AS numbers", r.Kind.Name)
	case b.Len() == 0:
		err = errors.New("has no networks: the file is truncated")
	case r.Date.IsZero():
		r.Date = f.ModTime
	}
	return r.Date, r.Remarks, err
}
