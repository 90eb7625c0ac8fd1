package geoip

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"net/netip"
	"sort"
)

// A serialised table is little-endian and consists of a header of headerSize
// bytes and these sections:
//
//	hi6    n6 × 8     most significant halves of the IPv6 starts, ascending
//	fine   nf × 16    starts within split /64 networks: hi, lo
//	index4 65537 × 4  how many IPv4 starts lie below h<<16, for each h
//	places np × 16    lat and lon in 1e-7 degree, country, precision, length and offset of the city
//	low4   n4 × 2     least significant halves of the IPv4 starts
//	id4    n4 × width place of the range that begins there
//	id6    n6 × width
//	idf    nf × width
//	names  ns         names of cities
//
// A range ends where the next one starts. Place 0 is none. Few boundaries lie
// within a /64 in the tables of countries, so only these cost 16 bytes: the
// place np in id6 says that a /64 is split and to be looked up in fine, where
// it is present from its first address on. width is the number of bytes that
// hold np.
//
// The header: magic (8 bytes), version, CRC-32 (IEEE) of all that follows,
// date (8 bytes, Unix seconds, 0: unknown), n4, n6, nf, np, ns, flags, and
// zeros.
const (
	magic      = "cmgeoip\x00"
	version    = 1
	headerSize = 64
	checked    = 16 // where the part covered by the checksum begins
	indexSize  = 1<<16 + 1
	placeSize  = 16

	flagCountryLevel = 1

	degree = 10_000_000 // units of latitude and longitude in a degree
)

type table struct {
	data                                               string
	n4, n6, nf, np, width                              int
	hi6, fine, index4, places, low4, id4, id6, idf, ns int // offsets into data
	date                                               int64
	flags                                              uint32
}

// A record is a Place as it is stored.
type record struct {
	lat, lon  int32
	country   string
	precision Precision
	city      string
}

var errDamaged = errors.New("geoip: damaged table")

// layout computes the offsets of the sections from their counts.
func (t *table) layout(ns int) (size uint64) {
	for v := t.np; v > 0; v >>= 8 {
		t.width++
	}
	size = headerSize
	for _, s := range []struct {
		off     *int
		n, each int
	}{
		{&t.hi6, t.n6, 8}, {&t.fine, t.nf, 16}, {&t.index4, indexSize, 4}, {&t.places, t.np, placeSize},
		{&t.low4, t.n4, 2}, {&t.id4, t.n4, t.width}, {&t.id6, t.n6, t.width}, {&t.idf, t.nf, t.width}, {&t.ns, ns, 1},
	} {
		*s.off = int(size)
		size += uint64(s.n) * uint64(s.each)
	}
	return size
}

func parseTable(data string) (table, error) {
	if len(data) < headerSize || data[:len(magic)] != magic {
		return table{}, errors.New("geoip: not a compiled table")
	}
	t := table{data: data}
	if t.u32(8) != version {
		return table{}, errors.New("geoip: the table was compiled by another version: compile it again")
	}
	t.date = int64(t.u64(16))
	t.flags = t.u32(44)
	var n [5]int
	for i := range n {
		v := t.u32(24 + 4*i)
		if v > math.MaxInt32 {
			return table{}, errDamaged
		}
		n[i] = int(v)
	}
	t.n4, t.n6, t.nf, t.np = n[0], n[1], n[2], n[3]
	if t.layout(n[4]) != uint64(len(data)) {
		return table{}, errDamaged
	}
	return t, nil
}

func (t *table) u32(off int) uint32 {
	s := t.data[off : off+4]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

func (t *table) u64(off int) uint64 {
	return uint64(t.u32(off)) | uint64(t.u32(off+4))<<32
}

func (t *table) low(i int) uint16 {
	s := t.data[t.low4+2*i:]
	return uint16(s[0]) | uint16(s[1])<<8
}

// id returns element i of a section of places.
func (t *table) id(section, i int) uint32 {
	s := t.data[section+i*t.width:][:t.width]
	var v uint32
	for k := range len(s) {
		v |= uint32(s[k]) << (8 * k)
	}
	return v
}

// bucket returns which IPv4 starts share the 16 most significant bits h.
func (t *table) bucket(h uint32) (from, to int) {
	off := t.index4 + 4*int(h)
	// Clamped in case the table is damaged.
	end := min(t.u32(off+4), uint32(t.n4))
	return int(min(t.u32(off), end)), int(end)
}

func (t *table) find4(ip uint32) uint32 {
	if t.n4 == 0 {
		return 0
	}
	low := uint16(ip)
	i, j := t.bucket(ip >> 16)
	for i < j {
		m := int(uint(i+j) >> 1)
		if t.low(m) <= low {
			i = m + 1
		} else {
			j = m
		}
	}
	if i == 0 {
		return 0
	}
	return t.id(t.id4, i-1)
}

func (t *table) find6(hi, lo uint64) uint32 {
	i := sort.Search(t.n6, func(i int) bool { return t.u64(t.hi6+8*i) > hi })
	if i == 0 {
		return 0
	}
	id := t.id(t.id6, i-1)
	if id != uint32(t.np) {
		return id
	}
	i = sort.Search(t.nf, func(i int) bool {
		h := t.u64(t.fine + 16*i)
		return h > hi || h == hi && t.u64(t.fine+16*i+8) > lo
	})
	if i == 0 {
		return 0
	}
	return t.id(t.idf, i-1)
}

// record returns the record of a place, and whether there is one.
func (t *table) record(id uint32) (record, bool) {
	if id == 0 || id >= uint32(t.np) {
		return record{}, false
	}
	off := t.places + placeSize*int(id)
	r := record{
		lat:       int32(t.u32(off)),
		lon:       int32(t.u32(off + 4)),
		precision: Precision(t.data[off+10]),
	}
	if t.data[off+8] != 0 {
		r.country = t.data[off+8 : off+10]
	}
	names := t.data[t.ns:]
	n, at := int(t.data[off+11]), int(t.u32(off+12))
	if n > 0 && at <= len(names)-n && at >= 0 {
		r.city = names[at : at+n]
	}
	return r, true
}

func (t *table) place(r record) Place {
	return Place{
		Lat:       float64(r.lat) / degree,
		Lon:       float64(r.lon) / degree,
		Country:   r.country,
		City:      r.city,
		Precision: r.precision,
	}
}

// starts4 calls yield for every start of an IPv4 range until it returns false,
// and reports whether it never did.
func (t *table) starts4(yield func(netip.Addr, uint32) bool) bool {
	if t.n4 == 0 {
		return true
	}
	i := 0
	for h := range uint32(1 << 16) {
		for _, to := t.bucket(h); i < to; i++ {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], h<<16|uint32(t.low(i)))
			if !yield(netip.AddrFrom4(b), t.id(t.id4, i)) {
				return false
			}
		}
	}
	return true
}

// starts6 is starts4 for IPv6.
func (t *table) starts6(yield func(netip.Addr, uint32) bool) bool {
	f := 0
	for i := range t.n6 {
		hi, id := t.u64(t.hi6+8*i), t.id(t.id6, i)
		if id != uint32(t.np) {
			if !yield(addr6(v6{hi, 0}), id) {
				return false
			}
			continue
		}
		for ; f < t.nf && t.u64(t.fine+16*f) == hi; f++ {
			if !yield(addr6(v6{hi, t.u64(t.fine + 16*f + 8)}), t.id(t.idf, f)) {
				return false
			}
		}
	}
	return true
}

func (t *table) verify() error {
	if t.data == "" {
		return nil
	}
	if crc32.ChecksumIEEE([]byte(t.data[checked:])) != t.u32(12) {
		return errDamaged
	}
	for id := 1; id < t.np; id++ {
		r, _ := t.record(uint32(id))
		if uint32(r.lat+90*degree) > 180*degree || uint32(r.lon)+180*degree > 360*degree ||
			(r.precision != Country && r.precision != City) {
			return errDamaged
		}
	}
	n, last := 0, netip.Addr{}
	ascending := func(a netip.Addr, id uint32) bool {
		n++
		ok := (!last.IsValid() || last.Less(a)) && id < uint32(t.np)
		last = a
		return ok
	}
	if !t.starts4(ascending) || n != t.n4 || !t.starts6(ascending) {
		return errDamaged
	}
	return nil
}

// encode serialises what the compiler found. The names of cities are shared by
// equal places.
func encode(starts4 []start[v4], starts6 []start[v6], places []Place, date int64) string {
	hi6, fine := split(starts6, uint32(len(places)))
	t := table{n4: len(starts4), n6: len(hi6), nf: len(fine), np: len(places)}

	var names []byte
	nameAt := make(map[string]int)
	flags := uint32(0)
	if len(places) > 1 {
		flags = flagCountryLevel
	}
	for _, p := range places[1:] {
		if p.Precision != Country {
			flags = 0
		}
		if _, ok := nameAt[p.City]; !ok {
			nameAt[p.City] = len(names)
			names = append(names, p.City...)
		}
	}

	b := make([]byte, 0, t.layout(len(names)))
	le := binary.LittleEndian
	b = append(b, magic...)
	b = le.AppendUint32(b, version)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint64(b, uint64(date))
	for _, n := range []int{t.n4, t.n6, t.nf, t.np, len(names)} {
		b = le.AppendUint32(b, uint32(n))
	}
	b = le.AppendUint32(b, flags)
	b = append(b, make([]byte, headerSize-len(b))...)

	for _, s := range hi6 {
		b = le.AppendUint64(b, s.first.hi)
	}
	for _, s := range fine {
		b = le.AppendUint64(b, s.first.hi)
		b = le.AppendUint64(b, s.first.lo)
	}
	i := 0
	for h := range uint64(indexSize) {
		for i < len(starts4) && uint64(starts4[i].first) < h<<16 {
			i++
		}
		b = le.AppendUint32(b, uint32(i))
	}
	for _, p := range places {
		b = le.AppendUint32(b, uint32(fixed(p.Lat)))
		b = le.AppendUint32(b, uint32(fixed(p.Lon)))
		cc := [2]byte{}
		copy(cc[:], p.Country)
		b = append(b, cc[0], cc[1], byte(p.Precision), byte(len(p.City)))
		b = le.AppendUint32(b, uint32(nameAt[p.City]))
	}
	for _, s := range starts4 {
		b = le.AppendUint16(b, uint16(s.first))
	}
	appendID := func(id uint32) {
		for range t.width {
			b = append(b, byte(id))
			id >>= 8
		}
	}
	for _, s := range starts4 {
		appendID(s.id)
	}
	for _, s := range hi6 {
		appendID(s.id)
	}
	for _, s := range fine {
		appendID(s.id)
	}
	b = append(b, names...)
	le.PutUint32(b[12:], crc32.ChecksumIEEE(b[checked:]))
	return string(b)
}

// split separates the starts within /64 networks from the others; see table.
func split(starts []start[v6], mark uint32) (hi6, fine []start[v6]) {
	before := uint32(0) // the place of what precedes the /64
	for i := 0; i < len(starts); {
		hi := starts[i].first.hi
		j := i + 1
		for j < len(starts) && starts[j].first.hi == hi {
			j++
		}
		last := starts[j-1].id
		if j == i+1 && starts[i].first.lo == 0 {
			hi6 = append(hi6, starts[i])
		} else {
			hi6 = append(hi6, start[v6]{v6{hi, 0}, mark})
			if starts[i].first.lo != 0 {
				fine = append(fine, start[v6]{v6{hi, 0}, before})
			}
			fine = append(fine, starts[i:j]...)
			if hi != math.MaxUint64 && (j == len(starts) || starts[j].first.hi != hi+1) {
				hi6 = append(hi6, start[v6]{v6{hi + 1, 0}, last})
			}
		}
		before, i = last, j
	}
	return hi6, fine
}

// fixed converts degrees to the stored unit.
func fixed(degrees float64) int32 {
	return int32(math.Round(degrees * degree))
}
