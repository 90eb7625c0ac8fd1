// Package layout reads the files in which tables of addresses are published: what they say of
// ranges of addresses, whether that is places, networks (autonomous systems) or both. It
// recognises a layout by the content, never by the name.
//
// It does not decide what is of use: a [Sink] takes from the [Facts] what it wants. All
// programs read through this package, so what one of them reads every other does too.
package layout

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/connmapgo/connmap/internal/numbers"
	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/internal/unpack"
)

// Facts are what a row says of its addresses. The zero Facts say nothing. Texts are UTF-8.
type Facts struct {
	Country  string // two capital letters, as the file has them
	City     string
	Region   bool // a region or a postal code is named
	Point    bool // Lat and Lon are known
	Exact    bool // Lat and Lon are those of the addresses, though no place is named
	Lat, Lon float64
	Radius   uint16 // km around the point; 0: unknown
	AS       uint32 // 0: none
	Org      string // name of the AS's holder
}

// Geofeed is the name of the layout of RFC 8805, and IPtoASN that of iptoasn.com: its countries are
// those of the ASes' holders.
const (
	Geofeed = "geofeed"
	IPtoASN = "iptoasn TSV"
)

// A Kind is what a file turned out to be.
type Kind struct {
	Name     string // for people, such as "DB-IP city CSV"; empty: not recognised
	Places   bool   // it tells places
	Networks bool   // it tells autonomous systems
}

// A Report says what was read.
type Report struct {
	Kind      Kind
	Date      time.Time // that the file says; zero: it does not say
	Rows      int64     // good ones, whether they say something or not
	Skipped   int64     // rows that could not be read
	Truncated bool      // the last row is not whole
	// Remarks are what a user should know: rows that were skipped, names that are missing.
	Remarks []string

	points bool // of a text that is not read whole: it has columns of points
}

// A Sink takes rows. Read calls it from one goroutine.
type Sink interface {
	// ID returns the number of what Facts say, or 0 if that is nothing for the sink.
	ID(Facts) (uint32, error)
	// Add, Add4 and Add6 add rows of other IDs than 0, and of geofeeds all: one that says
	// nothing is a hole in those around it. An error ends the reading.
	Add(r ranges.Range, id uint32) error
	Add4(first, last ranges.V4, id uint32) error
	Add6(first, last ranges.V6, id uint32) error
	// Reserve4 announces about n rows of IPv4.
	Reserve4(n int)
}

// Max is how many bytes the content of a file may have. Those that are published have up to
// 1.2 GB.
const Max = 4 << 30

// ExactRadius is up to how many km around a point it is taken for that of the addresses. Those of
// whole countries have 100 and more, or no radius.
const ExactRadius = 50

const (
	maxDB  = 1 << 30  // bytes of a file that is held in memory
	sample = 64 << 10 // bytes by which a layout is recognised
)

// Understood says what Read reads, for messages.
const Understood = "understood are MaxMind DB files (.mmdb); the CSV of GeoLite2, DB-IP, IPinfo Lite, IP2Location LITE, sapics and " +
	"connmap; the TSV of iptoasn and pyasn; RouteViews' pfx2as; geofeeds; CSV whose first line names the columns; " +
	"MRT dumps of routing tables; IPinfo Lite's JSON; IP2Location's BIN; GeoIP's old .dat; all also compressed or in an archive"

// ErrUnknown says that a file has no known layout.
var ErrUnknown = errors.New("the layout is not known")

// ErrNoPlaces says that a table has columns of places, and nothing in them.
var ErrNoPlaces = errors.New("no row has a place that is known")

// Read passes the rows of a file to a sink. A bad row is skipped, counted, and named in the
// report; more bad than good rows are an error. All tables of an archive are read as one, but those
// of countries beside others with points. The file is neither empty nor a compiled table.
func Read(f *ranges.File, sink Sink) (Report, error) {
	r, err := read(f, sink, math.MaxInt64)
	if !unpack.Plausible(r.Date) {
		r.Remarks = append(r.Remarks, unpack.FutureRemark(r.Date))
		r.Date = time.Time{}
	}
	return r, err
}

// Count reads a file as Read does, and keeps nothing but the report.
func Count(f *ranges.File) (Report, error) { return Read(f, nothing{}) }

// Recognise tells what a file holds. Of a text it looks at the beginning only, of others at the
// first rows; what it recognises may be damaged.
func Recognise(f *ranges.File) (Kind, error) {
	r, err := read(f, nothing{}, recogniseRows)
	return r.Kind, err
}

const recogniseRows = 1000

// read is Read of about as many rows as limit says.
func read(f *ranges.File, sink Sink, limit int64) (Report, error) {
	head, err := f.Peek(min(sample, f.Reader.Size()))
	if err != nil && err != io.EOF {
		return Report{}, err
	}
	member := func(f *ranges.File) (Report, error) { return read(f, sink, limit) }
	switch {
	case unpack.IsZip(head):
		return readArchive(f, walkZip, limit, member)
	case unpack.IsTar(head):
		return readArchive(f, walkTar, limit, member)
	case isMRT(head):
		return readMRT(f, sink, limit)
	case isJSON(head):
		return readJSON(f, sink, limit)
	}
	t, err := recogniseText(head)
	switch {
	case err == nil && limit < math.MaxInt64:
		return Report{Kind: t.kind, points: t.has(lat) && t.has(lon)}, nil
	case err == nil:
		return readText(f, t, sink)
	case bytes.IndexByte(head[:min(len(head), 4096)], 0) < 0:
		return Report{}, err
	}
	return readBinary(f, head, sink, limit)
}

// unaligned adds a remark if there are networks that are written as an address inside.
func (r *Report) unaligned(n int) {
	if n > 0 {
		r.Remarks = append(r.Remarks, numbers.Count(n, "network is", "networks are")+" written as an address inside: the whole network counts")
	}
}

// finish adds what is to be told of bad rows, of which the first is given. It fails if there are
// more than good ones.
func (r Report) finish(bad error) (Report, error) {
	switch {
	case bad == nil && r.Rows == 0:
		return r, errors.New("it has no rows: the file is truncated")
	case bad == nil:
		return r, nil
	case r.Rows < r.Skipped || r.Rows == 0:
		return r, fmt.Errorf("%s of %s rows cannot be read: %w", numbers.Thousands(r.Skipped), numbers.Thousands(r.Rows+r.Skipped), bad)
	}
	r.Remarks = append(r.Remarks, fmt.Sprintf("%s left out: %v", numbers.Count(int(r.Skipped), "row is", "rows are"), bad))
	return r, nil
}

// nothing is a Sink for which no row says anything.
type nothing struct{}

func (nothing) ID(Facts) (uint32, error)            { return 0, nil }
func (nothing) Add(ranges.Range, uint32) error      { return nil }
func (nothing) Add4(_, _ ranges.V4, _ uint32) error { return nil }
func (nothing) Add6(_, _ ranges.V6, _ uint32) error { return nil }
func (nothing) Reserve4(int)                        {}
