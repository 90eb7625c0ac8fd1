package geoip

import (
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"os"
	"time"
)

// A Range is the addresses from First to Last, both included and both of the
// same family.
type Range struct {
	First, Last netip.Addr
}

// A DB is an immutable table of ranges, searched by a tree. It is safe for
// concurrent use. The zero DB is empty. A DB of [OpenCached] keeps its file
// mapped as long as the program runs.
type DB struct {
	t      table
	cached string      // file that is mapped
	mapped os.FileInfo // of it, then
}

// Info describes a DB.
type Info struct {
	// Date is the age of the data: what the source says of itself, or the
	// modification time of a file that does not say. Zero: unknown.
	Date time.Time
	// CountryLevel says that no place of the table is better than a country.
	CountryLevel bool
	// Ranges is how many ranges have a place.
	Ranges int
}

// Load returns the DB whose serialised form, as written by [DB.WriteTo], is
// data. It looks at the sizes only, so that it costs nothing: on damaged data
// Lookup may answer wrongly but does not panic. See [DB.Verify].
func Load(data string) (*DB, error) {
	return load(data)
}

func load(data string) (*DB, error) {
	t, err := parseTable(data)
	if err != nil {
		return nil, err
	}
	return &DB{t: t}, nil
}

// Verify reads the whole table and reports whether it is undamaged. If it is
// and comes from the folder of [OpenCached], it is removed there, so that
// OpenCached compiles it anew.
func (db *DB) Verify() error {
	err := db.t.verify()
	if err != nil && db.cached != "" {
		err = fmt.Errorf("%w %s", err, db.cached)
		// Another file may be in its place by now.
		if now, e := os.Stat(db.cached); e == nil && (db.mapped == nil || os.SameFile(now, db.mapped)) {
			os.Remove(db.cached)
		}
	}
	return err
}

// WriteTo writes the serialised form of the DB, which is the same for the same
// content. That of the zero DB is empty.
func (db *DB) WriteTo(w io.Writer) (int64, error) {
	data, err := db.t.copied()
	if err != nil {
		return 0, err
	}
	n, err := io.WriteString(w, data)
	return int64(n), err
}

// Err returns an error if somebody has cut the file in the folder of [OpenCached] or
// written into it since: Lookup then no longer knows all addresses, and OpenCached gives
// another DB in place of this one. A file that was removed or replaced by another is no
// error, since the DB keeps its own. Err asks the file system, and reads nothing.
func (db *DB) Err() error {
	if db.t.cut != nil && db.t.cut.Load() {
		return fmt.Errorf("geoip: %s was cut while it was in use", db.cached)
	}
	if db.mapped == nil {
		return nil
	}
	now, err := os.Stat(db.cached)
	if err != nil || !os.SameFile(now, db.mapped) {
		return nil
	}
	switch was := db.mapped; {
	case now.Size() < was.Size():
		return fmt.Errorf("geoip: %s was cut while it was in use", db.cached)
	case now.Size() != was.Size() || !now.ModTime().Equal(was.ModTime()):
		return fmt.Errorf("geoip: %s was changed while it was in use", db.cached)
	}
	return nil
}

// Info describes the DB. That of the zero DB is the zero Info.
func (db *DB) Info() Info {
	info := Info{CountryLevel: db.t.flags&flagCountryLevel != 0, Ranges: db.t.ranges}
	if db.t.date != 0 {
		info.Date = time.Unix(db.t.date, 0).UTC()
	}
	return info
}

// Lookup returns where a is, and whether the table knows it. IPv4-mapped IPv6
// addresses are looked up as IPv4; zones are ignored. It does not allocate.
func (db *DB) Lookup(a netip.Addr) (Place, bool) {
	var id uint32
	var network uint64
	a = a.Unmap()
	switch {
	case a.Is4():
		b := a.As4()
		ip := binary.BigEndian.Uint32(b[:])
		id, network = db.t.find4(ip), uint64(ip>>8)
	case a.Is6():
		b := a.As16()
		hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
		// The top bit keeps the /48s apart from the /24s.
		id, network = db.t.find6(hi, lo), hi>>16|1<<63
	}
	return db.t.place(id, network, true)
}

// All returns the ranges of the table and their places, IPv4 before IPv6, each
// in ascending order and without overlaps; of a DB of [OpenCached] it makes a copy in
// memory first. A place of Precision [Country] is
// the country's own point, unlike what Lookup returns.
func (db *DB) All() iter.Seq2[Range, Place] {
	return func(yield func(Range, Place) bool) {
		if db.t.checked != nil {
			// A damaged one has no ranges that are certain, and one that is cut
			// meanwhile must not fail in the midst of what the caller does.
			data, err := db.t.copied()
			if err != nil || db.Verify() != nil {
				return
			}
			if db, err = load(data); err != nil {
				return
			}
		}
		var first netip.Addr
		var id uint32
		emit := func(last netip.Addr) bool {
			p, ok := db.t.place(id, 0, false)
			return !ok || yield(Range{first, last}, p)
		}
		start := func(a netip.Addr, next uint32) bool {
			// A network may begin with what its predecessor ends with.
			if next == id {
				return true
			}
			if !emit(a.Prev()) {
				return false
			}
			first, id = a, next
			return true
		}
		if !db.t.starts4(start) || !emit(netip.AddrFrom4([4]byte{255, 255, 255, 255})) {
			return
		}
		first, id = netip.IPv6Unspecified(), 0
		if !db.t.starts6(start) {
			return
		}
		b := [16]byte{}
		for i := range b {
			b[i] = 0xff
		}
		emit(netip.AddrFrom16(b))
	}
}

// scatterRadius is how far from its country's point a network is placed at
// most, in units of 1e-7 degree of latitude and longitude.
const scatterRadius = 9_000_000

// scatter moves a point by up to scatterRadius, evenly over the disc. It
// computes with integers because the last bits of floating-point functions
// differ between processors, and the point should not.
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
