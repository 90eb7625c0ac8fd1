package geoip

import (
	"fmt"
	"iter"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/connmapgo/connmap/internal/ranges"
)

// Compile makes a DB of rows in any order. Where rows overlap the smallest
// wins; of equally large ones that which starts later, then the later row. A
// row whose place has Precision [Unknown] is a hole in those around it.
//
// Coordinates are kept to 1e-7 degree, names of cities to 255 bytes. There may be
// 16,777,216 rows, 8,388,607 places and 268,435,456 bytes of names; more are an error.
// The date is what [DB.Info] will tell; zero: unknown.
func Compile(rows iter.Seq2[Range, Place], date time.Time) (*DB, error) {
	b := newBuilder()
	n := 0
	for r, p := range rows {
		n++
		id, err := b.place(p)
		if err == nil {
			err = b.add(r, id)
		}
		if err != nil {
			return nil, fmt.Errorf("geoip: row %d: %w", n, err)
		}
	}
	return b.compile(date)
}

// The keys and rows of ranges that may overlap.
type (
	v4           = ranges.V4
	v6           = ranges.V6
	start[K any] = ranges.Start[K]
)

// A builder collects rows.
type builder struct {
	rows4  []ranges.Row[v4]
	rows6  []ranges.Row[v6]
	places []Place
	ids    map[Place]uint32
	names  int      // bytes of those of cities
	stamp  [16]byte // of the files
}

func newBuilder() *builder {
	return &builder{places: make([]Place, 1), ids: make(map[Place]uint32)}
}

// place returns the number of p, which is zero if its precision is Unknown.
func (b *builder) place(p Place) (uint32, error) {
	if p.Precision == Unknown {
		return 0, nil
	}
	// Negated so that NaN fails too.
	if !(p.Lat >= -90 && p.Lat <= 90 && p.Lon >= -180 && p.Lon <= 180) {
		return 0, fmt.Errorf("coordinates %v, %v are not degrees on Earth", p.Lat, p.Lon)
	}
	if p.Precision > City {
		return 0, fmt.Errorf("unknown precision %d", p.Precision)
	}
	if p.Country != "" && !isCode(p.Country) {
		return 0, fmt.Errorf("country %q is not a code of two capital letters", p.Country)
	}
	p.City = cityName(p.City)
	id, ok := b.ids[p]
	if !ok {
		id = uint32(len(b.places))
		// The place that a table has for none counts too.
		if id > mostIDs-1 {
			return 0, fmt.Errorf("more than %d places, which no table has", mostIDs-1)
		}
		if b.names += len(p.City); b.names > maxNames {
			return 0, fmt.Errorf("names of cities of more than %d bytes, which no table has", maxNames)
		}
		// It may be part of a long line, or of a file.
		p.City = strings.Clone(p.City)
		b.places = append(b.places, p)
		b.ids[p] = id
	}
	return id, nil
}

const (
	maxCity  = 255       // bytes of the name of a city
	maxNames = 256 << 20 // bytes of the names of all
)

// cityName returns a name as tables keep it.
func cityName(s string) string {
	if len(s) > maxCity {
		s = s[:min(len(s), maxCity+utf8.UTFMax)] // what is no UTF-8 becomes longer
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	for len(s) > maxCity {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

func (b *builder) add(r Range, id uint32) error {
	if r.First.Is4In6() && r.Last.Is4In6() {
		r.First, r.Last = r.First.Unmap(), r.Last.Unmap()
	}
	both4 := r.First.Is4() && r.Last.Is4()
	switch {
	case !both4 && !(r.First.Is6() && r.Last.Is6()):
		return fmt.Errorf("%v to %v is not a range of addresses", r.First, r.Last)
	case r.Last.WithZone("").Less(r.First.WithZone("")):
		return fmt.Errorf("last address %v is before first %v", r.Last, r.First)
	case both4:
		return b.add4(ranges.Key4(r.First), ranges.Key4(r.Last), id)
	}
	if err := b.full(); err != nil {
		return err
	}
	b.rows6 = append(b.rows6, ranges.Row[v6]{First: ranges.Key6(r.First), Last: ranges.Key6(r.Last), ID: id})
	return nil
}

func (b *builder) add4(first, last v4, id uint32) error {
	if err := b.full(); err != nil {
		return err
	}
	b.rows4 = append(b.rows4, ranges.Row[v4]{First: first, Last: last, ID: id})
	return nil
}

// full returns an error if there is no room for another row.
func (b *builder) full() error {
	if len(b.rows4)+len(b.rows6) >= ranges.Max {
		return ranges.ErrTooMany
	}
	return nil
}

func (b *builder) compile(date time.Time) (*DB, error) {
	seconds := int64(0)
	if !date.IsZero() {
		seconds = date.Unix()
	}
	data, err := encode(ranges.Resolve(b.rows4), ranges.Resolve(b.rows6), b.places, seconds, b.stamp)
	if err != nil {
		return nil, err
	}
	return load(data)
}
