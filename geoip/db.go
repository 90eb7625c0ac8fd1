package geoip

import (
	"fmt"
	"io"
	"iter"
	"net/netip"
	"time"

	"github.com/connmapgo/connmap/internal/ranges"
)

// A Range is the addresses from First to Last, both included and both of the
// same family. It is the same type as that of package asn.
type Range = ranges.Range

// RangeOf returns the addresses of a network.
func RangeOf(p netip.Prefix) Range { return ranges.Of(p) }

// A DB is an immutable table of ranges of addresses and their places. It is safe for
// concurrent use. The zero DB is empty. A DB of [OpenCached] keeps its file mapped as long as
// the program runs.
type DB struct {
	t ranges.Table
}

// Info describes a DB.
type Info struct {
	// Name is the name of the file without its folder, of the first file if there are
	// several, or the name given to [New].
	Name string
	// Date is the date in the data, or else in the name of the file, or its modification time, to the
	// second. Zero: unknown.
	Date time.Time
	// Ranges is how many ranges have a place.
	Ranges int
	// CountryLevel reports that all places of the table are countries.
	CountryLevel bool
	// Geofeed reports that the table was made of geofeeds (RFC 8805), in which the holders of
	// addresses say where these are.
	Geofeed bool
}

// Load returns the DB that [DB.WriteTo] wrote as data. It checks sizes only and copies
// nothing. In damaged data Lookup may return wrong places, but does not panic; [DB.Verify]
// finds damage.
func Load(data string) (*DB, error) { return dbOf(form.Load(data)) }

// dbOf returns the DB of a table. There may be both a table and an error.
func dbOf(t *ranges.Table, err error) (*DB, error) {
	if t == nil {
		return nil, named(err)
	}
	return &DB{*t}, named(err)
}

// named adds the name of the package to an error.
func named(err error) error {
	if err != nil {
		return fmt.Errorf("geoip: %w", err)
	}
	return nil
}

// Verify reads the whole table and reports whether it is undamaged. It removes a damaged file
// from the folder of [OpenCached], which then compiles it again.
func (db *DB) Verify() error { return named(db.t.Verify()) }

// WriteTo writes the table in the form that [Load] reads. Equal tables give equal bytes, the
// zero DB none.
func (db *DB) WriteTo(w io.Writer) (int64, error) {
	n, err := db.t.WriteTo(w)
	return n, named(err)
}

// Err returns an error if the mapped file of a DB of [OpenCached] was truncated or written to
// while in use. Lookup may then miss addresses; OpenCached compiles the table again. A file that
// was removed or replaced is no error, since the DB keeps the old one. Err asks only the file
// system, and reads no data.
func (db *DB) Err() error { return named(db.t.Err()) }

// Info describes the DB. It is zero for the zero DB.
func (db *DB) Info() Info {
	i := db.t.Info()
	return Info{i.Name, i.Date, i.Ranges, db.t.Flags()&flagCountryLevel != 0, db.t.Flags()&flagGeofeed != 0}
}

// Remarks are what users of the table should know of its files, such as how many rows could
// not be read and were left out.
func (db *DB) Remarks() []string { return db.t.Info().Remarks }

// Lookup returns where a is, and whether the table knows it. Of IPv6 addresses that stand for
// an IPv4 one (mapped, 6to4, Teredo, and NAT64 with 64:ff9b::/96) that is looked up; zones are
// ignored. It does not allocate.
func (db *DB) Lookup(a netip.Addr) (Place, bool) {
	var id uint32
	var network uint64
	a = ranges.Inner(a)
	switch {
	case a.Is4():
		ip := ranges.Key4(a)
		id, network = db.t.Find4(ip), uint64(ip>>8)
	case a.Is6():
		ip := ranges.Key6(a)
		// The top bit distinguishes /48s from /24s.
		id, network = db.t.Find6(ip), ip.Hi>>16|1<<63
	}
	return place(&db.t, id, network, true)
}

// All yields the ranges that have a place, IPv4 before IPv6, ascending and without overlaps.
// A place of Precision [Country] is the country's own point, unlike the one of Lookup. A
// mapped table is copied into memory first; a damaged one has no ranges.
func (db *DB) All() iter.Seq2[Range, Place] {
	return func(yield func(Range, Place) bool) {
		for r, id := range db.t.All() {
			if p, ok := place(&db.t, id, 0, false); ok && !yield(r, p) {
				return
			}
		}
	}
}

// scatterRadius is the maximum distance between a network's point and that of its country, in
// units of 1e-7 degree of latitude and longitude.
const scatterRadius = 9_000_000

// scatter moves a point by up to scatterRadius, evenly over the disc. It computes with integers:
// the last bits of floating-point functions differ between processors, but the point must not.
func scatter(lat, lon int32, network uint64) (int32, int32) {
	for {
		// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
		network += 0x9e3779b97f4a7c15
		h := network
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
		dy, dx := int64(int16(h)), int64(int16(h>>16))
		if dx*dx+dy*dy >= 1<<30 {
			continue
		}
		y := int64(lat) + dy*scatterRadius>>15
		x := int64(lon) + dx*scatterRadius>>15
		y = max(-90*degree, min(y, 90*degree))
		switch {
		case x > 180*degree:
			x -= 360 * degree
		case x < -180*degree:
			x += 360 * degree
		}
		return int32(y), int32(x)
	}
}
