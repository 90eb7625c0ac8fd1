package geoip

import (
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"

	"github.com/connmapgo/connmap/internal/layout"
	"github.com/connmapgo/connmap/internal/ranges"
)

// New makes a DB of rows in any order. Where rows overlap the smallest wins, then the one
// that starts later, then the later row. A row whose place has Precision [Unknown] cuts a hole
// into those around it. New takes Name and Date from info.
//
// Coordinates are rounded to 1e-7 degree, names of cities to 255 bytes. There may be
// 16,777,216 rows, 8,388,607 places and 268,435,456 bytes of names; more are an error.
func New(info Info, rows iter.Seq2[Range, Place]) (*DB, error) {
	b := newBuilder()
	n := 0
	for r, p := range rows {
		n++
		id, err := b.place(p)
		if err == nil {
			err = b.Add(r, id)
		}
		if err != nil {
			return nil, fmt.Errorf("geoip: row %d: %w", n, err)
		}
	}
	return dbOf(b.Table(ranges.Info{Name: info.Name, Date: info.Date}, ranges.Stamp{}))
}

// A builder collects rows.
type builder struct {
	ranges.Builder
	places []Place
	ids    map[Place]uint32
	names  int // bytes of all names of cities
	feeds  int // geofeeds that were read
	others int // other files that were read
	both   int // files that hold AS numbers too
	held   int // of others, those whose countries are those of the holders of ASes
}

func newBuilder() *builder {
	return &builder{places: make([]Place, 1), ids: make(map[Place]uint32)}
}

// place returns the ID of p; zero if its precision is Unknown.
func (b *builder) place(p Place) (uint32, error) {
	if p.Precision == Unknown {
		return 0, nil
	}
	// The condition is negated so that NaN fails too.
	if !(p.Lat >= -90 && p.Lat <= 90 && p.Lon >= -180 && p.Lon <= 180) {
		return 0, fmt.Errorf("coordinates %v, %v are not degrees on Earth", p.Lat, p.Lon)
	}
	if p.Precision > City {
		return 0, fmt.Errorf("unknown precision %d", p.Precision)
	}
	if p.Radius > maxRadius {
		p.Radius = 0
	}
	if p.Country != "" && !isCode(p.Country) {
		return 0, fmt.Errorf("country %q is not a code of two capital letters", p.Country)
	}
	p.City = cityName(p.City)
	id, ok := b.ids[p]
	if !ok {
		id = uint32(len(b.places))
		// The table's record for ID 0 counts too.
		if id > ranges.MaxRecords-1 {
			return 0, fmt.Errorf("more than %d places: not a table of places", ranges.MaxRecords-1)
		}
		if b.names += len(p.City); b.names > maxNames {
			return 0, fmt.Errorf("names of cities of more than %d bytes: not a table of places", maxNames)
		}
		// The name may share memory with a long line or a file.
		p.City = strings.Clone(p.City)
		b.places = append(b.places, p)
		b.ids[p] = id
	}
	return id, nil
}

// ID returns the number of the place of a row, or 0 if the row has no place.
func (b *builder) ID(f layout.Facts) (uint32, error) { return b.place(placeOf(f)) }

// placeOf combines what a row says. A country without more has its own point even if the row
// has coordinates, unless they are exact: those of countries lie in the middle of nowhere.
func placeOf(f layout.Facts) Place {
	country, known := CountryPlace(f.Country)
	switch {
	case !f.Point || known && f.City == "" && !f.Region && !f.Exact:
		return country
	case f.City == "" && (f.Region || known || f.Radius > layout.ExactRadius):
		return Place{f.Lat, f.Lon, country.Country, "", Region, f.Radius}
	}
	return Place{f.Lat, f.Lon, country.Country, f.City, City, f.Radius}
}

const (
	maxCity  = 255       // bytes of the name of one city
	maxNames = 256 << 20 // bytes of all names
)

// cityName returns a name as tables keep it: in UTF-8 and not too long.
func cityName(s string) string {
	if len(s) > maxCity {
		s = s[:min(len(s), maxCity+utf8.UTFMax)] // the replacement of invalid UTF-8 is longer
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	for len(s) > maxCity {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// Table makes a table of the rows.
func (b *builder) Table(info ranges.Info, stamp ranges.Stamp) (*ranges.Table, error) {
	c := ranges.Content{Info: info, Stamp: stamp}
	c.V4, c.V6 = b.Resolve()
	c.Records, c.Texts, c.Flags = records(b.places)
	if b.feeds > 0 && b.others == 0 {
		c.Flags |= flagGeofeed
	}
	if b.held > 0 && b.held == b.others {
		c.Flags |= flagHolders
	}
	if b.both > 0 {
		c.Flags |= flagNetworks
	}
	data, err := form.Encode(c)
	if err != nil {
		return nil, err
	}
	return form.Load(data)
}
