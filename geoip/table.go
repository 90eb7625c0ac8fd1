package geoip

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"math/bits"
	"net/netip"
	"strings"
	"sync/atomic"
)

// A serialised table is little-endian and consists of a header of headerSize
// bytes and these sections, each from a multiple of 8 bytes on:
//
//	root    65536 × 4   IPv4 by its first 16 bits: a place, or a node and nodeFlag
//	nodes   nn × 40     256 parts of a /16 or of a /24: a bit for each part that
//	                    differs from the one before (32 bytes), where the values
//	                    of its bits begin, how many bits the first 1, 2 and 3
//	                    words have (4, and 3 × 1 byte), and zero
//	values  nv × 3      for each bit: a place, or a node and valueFlag
//	root6   65536 × 4   IPv6 by its first 16 bits: how many starts lie below, or a
//	                    node of the next section and nodeFlag; absent without starts
//	nodes6  m6 × 1028   for the next 8 bits: how many starts lie below each part,
//	                    or a node and nodeFlag, and how many below what follows
//	hi6     n6 × 8      most significant halves of the IPv6 starts, ascending
//	fine    nf × 16     starts within split /64 networks: hi, lo
//	id6     n6 × width  place of the range that begins there
//	idf     nf × width
//	places  np × 16     lat and lon in 1e-7 degree, country, precision, length and offset of the city
//	names   ns          names of cities
//	sums    CRC-32C of each block of blockSize bytes of what stands before
//
// The tree of IPv4 is that of Asai and Ohara's Poptrie (SIGCOMM 2015) with
// strides of 16, 8 and 8 bits.
//
// An IPv6 range ends where the next one starts. Place 0 is none. Few boundaries
// lie within a /64 in the tables of countries, so only these cost 16 bytes: the
// place np in id6 says that a /64 is split and to be looked up in fine, where it
// is present from its first address on. width is the number of bytes that hold
// np.
//
// The header: magic (8 bytes), version, CRC-32C of the header, in which this is
// zero, and of sums, date (8 bytes, Unix seconds, 0: unknown), stamp of the
// sources (16 bytes), nn, nv, n6, nf, np, ns, flags, number of ranges, m6, and
// zeros.
const (
	magic      = "cmgeoip\x00"
	version    = 3
	headerSize = 128
	rootSize   = 1 << 16
	nodeSize   = 40
	valueSize  = 3
	placeSize  = 16
	node6Size  = 257 * 4
	blockSize  = 1 << 16

	nodeFlag  = 1 << 31
	valueFlag = 1 << 23
	mostIDs   = 1 << 23 // places, or nodes

	flagCountryLevel = 1

	degree = 10_000_000 // units of latitude and longitude in a degree

	cacheBits  = 15
	cache6Bits = 14
)

type table struct {
	data                                                                string
	nn, nv, m6, n6, nf, np, width, ranges                               int
	root, nodes, values, root6, nodes6, hi6, fine, id6, idf, places, ns int // offsets into data
	end                                                                 int // of all but sums
	date                                                                int64
	flags                                                               uint32
	stamp                                                               [16]byte // of the sources

	// The sections of places and of names: those of data, or a copy if data may vanish,
	// since places that have been looked up point into it.
	tail string
	// Whether data, a mapped file, could not be read, since somebody has cut it. Nil: they
	// cannot be cut.
	cut *atomic.Bool

	// Which blocks are known to be as they were written: 1; damaged: 2. Nil: the
	// data are trusted.
	checked []atomic.Uint32

	// What was looked up last, each an address and, in the lower half, its place
	// plus one: the same few peers are looked up again and again.
	recent *[1 << cacheBits]atomic.Uint64
	// Likewise the /64 networks of one place, each with a mark of the place in it
	// (Hyatt and Mann's lockless hash table): halves of two writers do not fit.
	recent6 *[1 << cache6Bits]struct{ network, id atomic.Uint64 }
}

var (
	errDamaged = errors.New("geoip: damaged table")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// layout computes the offsets of the sections from their counts.
func (t *table) layout(ns int) (size uint64) {
	for v := t.np; v > 0; v >>= 8 {
		t.width++
	}
	root6 := 0
	if t.n6 > 0 {
		root6 = rootSize
	}
	size = headerSize
	for _, s := range []struct {
		off     *int
		n, each int
	}{
		{&t.root, rootSize, 4}, {&t.nodes, t.nn, nodeSize}, {&t.values, t.nv, valueSize},
		{&t.root6, root6, 4}, {&t.nodes6, t.m6, node6Size}, {&t.hi6, t.n6, 8}, {&t.fine, t.nf, 16}, {&t.id6, t.n6, t.width}, {&t.idf, t.nf, t.width},
		{&t.places, t.np, placeSize}, {&t.ns, ns, 1},
	} {
		size = (size + 7) &^ 7
		*s.off = int(size)
		size += uint64(s.n) * uint64(s.each)
	}
	size = (size + 7) &^ 7
	t.end = int(size)
	return size + (size+blockSize-1)/blockSize*4
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
	copy(t.stamp[:], data[24:40])
	var n [9]int
	for i := range n {
		v := t.u32(40 + 4*i)
		if v > math.MaxInt32 {
			return table{}, errDamaged
		}
		n[i] = int(v)
	}
	t.nn, t.nv, t.n6, t.nf, t.np, t.flags, t.ranges = n[0], n[1], n[2], n[3], n[4], uint32(n[6]), n[7]
	t.m6 = n[8]
	if t.np > mostIDs || t.layout(n[5]) != uint64(len(data)) {
		return table{}, errDamaged
	}
	if headerSum(data[:headerSize], data[t.end:]) != t.u32(12) {
		return table{}, errDamaged
	}
	t.tail = data[t.places:t.end]
	t.recent = new([1 << cacheBits]atomic.Uint64)
	if t.n6 > 0 {
		t.recent6 = new([1 << cache6Bits]struct{ network, id atomic.Uint64 })
	}
	return t, nil
}

func headerSum(header, sums string) uint32 {
	h := []byte(header)
	clear(h[12:16])
	return crc32.Update(crc32.Checksum(h, castagnoli), castagnoli, unsafeBytes(sums))
}

// doubt has blocks checked before they are used for the first time, those of the tail at
// once, and copies that.
func (t *table) doubt() {
	t.checked = make([]atomic.Uint32, (t.end+blockSize-1)/blockSize)
	for block := t.places / blockSize; block < len(t.checked); block++ {
		t.sound(block * blockSize)
	}
	t.tail = strings.Clone(t.tail)
	t.cut = new(atomic.Bool)
}

// sound reports whether the block at an offset is as it was written.
func (t *table) sound(off int) bool {
	if t.checked == nil {
		return true
	}
	switch c := &t.checked[off/blockSize]; c.Load() {
	case 0:
		state := uint32(1)
		if !t.sumOf(off / blockSize) {
			state = 2
		}
		c.Store(state)
		return state == 1
	case 1:
		return true
	}
	return false
}

func (t *table) sumOf(block int) bool {
	s := t.data[block*blockSize : min((block+1)*blockSize, t.end)]
	sum := uint32(0)
	if block == 0 {
		// The header has a sum of its own, in which this one is.
		var header [headerSize]byte
		copy(header[:], s)
		clear(header[12:16])
		sum = crc32.Checksum(header[:], castagnoli)
		s = s[headerSize:]
	}
	return crc32.Update(sum, castagnoli, unsafeBytes(s)) == t.u32(t.end+4*block)
}

func (t *table) u32(off int) uint32 {
	s := t.data[off : off+4]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

func (t *table) u64(off int) uint64 { return u64(t.data, off) }

func u64(s string, off int) uint64 {
	s = s[off : off+8]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// value returns an element of the section of values. What stands behind it may
// be read too.
func (t *table) value(i int) uint32 { return t.u32(t.values+valueSize*i) & (1<<24 - 1) }

// id returns element i of a section of places.
func (t *table) id(section, i int) uint32 {
	s := t.data[section+i*t.width:][:t.width]
	var v uint32
	for k := range len(s) {
		v |= uint32(s[k]) << (8 * k)
	}
	return v
}

// find4 returns the place of an IPv4 address.
func (t *table) find4(ip uint32) uint32 {
	if t.recent == nil {
		return 0
	}
	slot := &t.recent[ip*0x9e3779b1>>(32-cacheBits)]
	if v := slot.Load(); uint32(v>>32) == ip && v != 0 {
		return uint32(v) - 1
	}
	id, ok := t.safely4(ip)
	if !ok {
		return 0
	}
	slot.Store(uint64(ip)<<32 | uint64(id+1))
	return id
}

// walk4 walks down the tree. Offsets are checked in case the table is damaged.
func (t *table) walk4(ip uint32) uint32 {
	off := t.root + int(ip>>16)*4
	if !t.sound(off) {
		return 0
	}
	v := t.u32(off)
	if v&nodeFlag == 0 {
		return v
	}
	v = t.part(v&^nodeFlag, ip>>8&0xff)
	if v&valueFlag != 0 {
		v = t.part(v&^valueFlag, ip&0xff)
	}
	return v &^ valueFlag
}

// part returns the value of a part of a node.
func (t *table) part(node, part uint32) uint32 {
	if node >= uint32(t.nn) {
		return 0
	}
	off := t.nodes + int(node)*nodeSize
	if !t.sound(off) || !t.sound(off+nodeSize-1) {
		return 0
	}
	word := part >> 6
	rank := bits.OnesCount64(t.u64(off+int(word)*8) << (63 - part&63))
	meta := t.u64(off + 32)
	// The lowest byte of the counts is that of no words.
	i := uint32(meta) + uint32(meta>>32<<8>>(8*word))&0xff + uint32(rank) - 1
	if i >= uint32(t.nv) {
		return 0
	}
	at := t.values + valueSize*int(i)
	if !t.sound(at) || !t.sound(at+valueSize-1) {
		return 0
	}
	return t.value(int(i))
}

// bucket6 returns which starts have the same first bits as hi, as many as the nodes
// go down for it. Those before are lower, those behind higher.
func (t *table) bucket6(hi uint64) (from, to int, ok bool) {
	if t.n6 == 0 {
		return 0, 0, false
	}
	off := t.root6 + int(hi>>48)*4
	if !t.sound(off) {
		return 0, 0, false
	}
	v := t.u32(off)
	after := v
	for shift := 40; v&nodeFlag != 0; shift -= 8 {
		v &^= nodeFlag
		if v >= uint32(t.m6) || shift < 0 {
			return 0, 0, false
		}
		off = t.nodes6 + int(v)*node6Size + int(hi>>shift&0xff)*4
		if !t.sound(off) || !t.sound(off+7) {
			return 0, 0, false
		}
		v, after = t.u32(off), t.u32(off+4)
	}
	for depth := 0; after&nodeFlag != 0; depth++ {
		after &^= nodeFlag
		if after >= uint32(t.m6) || depth == 8 {
			return 0, 0, false
		}
		off = t.nodes6 + int(after)*node6Size
		if !t.sound(off) {
			return 0, 0, false
		}
		after = t.u32(off)
	}
	from, to = int(v), int(after)
	// In case the table is damaged.
	if from < 0 || to < from || to > t.n6 {
		return 0, 0, false
	}
	if t.checked != nil {
		for at := t.hi6 + 8*from; at < t.hi6+8*to; at += blockSize {
			ok = t.sound(at) && t.sound(min(at+blockSize, t.hi6+8*to)-1)
			if !ok {
				return 0, 0, false
			}
		}
	}
	return from, to, true
}

// find6 returns the place of an IPv6 address.
func (t *table) find6(hi, lo uint64) uint32 {
	if t.recent6 == nil {
		return 0
	}
	slot := &t.recent6[hi*0x9e3779b97f4a7c15>>(64-cache6Bits)]
	// One more than the place, so that an empty slot fits nothing.
	if id := slot.id.Load(); id != 0 && slot.network.Load()^mark(id) == hi {
		return uint32(id) - 1
	}
	id, whole := t.safely6(hi, lo)
	if whole {
		slot.id.Store(uint64(id) + 1)
		slot.network.Store(hi ^ mark(uint64(id)+1))
	}
	return id
}

func mark(id uint64) uint64 { return id * 0xbf58476d1ce4e5b9 }

// search6 is find6 without what is remembered, and reports whether all of the
// /64 is there.
func (t *table) search6(hi, lo uint64) (id uint32, whole bool) {
	i, j, ok := t.bucket6(hi)
	if !ok {
		return 0, false
	}
	// Bisection without branches, which cannot be predicted.
	keys := t.data[t.hi6:]
	for n := j - i; n > 0; {
		half := (n + 1) / 2
		_, above := bits.Sub64(hi, u64(keys, 8*(i+half-1)), 0)
		i += half & (int(above) - 1)
		n -= half
	}
	if i == 0 || !t.soundID(t.id6, i-1) {
		return 0, false
	}
	if id = t.id(t.id6, i-1); id != uint32(t.np) {
		return id, true
	}
	from, to := 0, t.nf
	for from < to {
		m := int(uint(from+to) >> 1)
		off := t.fine + 16*m
		if !t.sound(off) || !t.sound(off+15) {
			return 0, false
		}
		if h := t.u64(off); h < hi || h == hi && t.u64(off+8) <= lo {
			from = m + 1
		} else {
			to = m
		}
	}
	if from == 0 || !t.soundID(t.idf, from-1) {
		return 0, false
	}
	return t.id(t.idf, from-1), false
}

func (t *table) soundID(section, i int) bool {
	off := section + i*t.width
	return t.sound(off) && t.sound(off+t.width-1)
}

// place returns a place, and whether there is one. That of a country is
// scattered by the network if that is asked for. Fields are filled in one by one:
// structures that are handed on cost more than all else in a look-up.
func (t *table) place(id uint32, network uint64, scattered bool) (p Place, ok bool) {
	if id == 0 || id >= uint32(t.np) {
		return p, false
	}
	off := t.places + placeSize*int(id)
	if !t.sound(off) || !t.sound(off+placeSize-1) {
		return p, false
	}
	s := t.tail[placeSize*int(id):][:placeSize]
	lat := int32(uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24)
	lon := int32(uint32(s[4]) | uint32(s[5])<<8 | uint32(s[6])<<16 | uint32(s[7])<<24)
	p.Precision = Precision(s[10])
	if scattered && p.Precision == Country {
		lat, lon = scatter(lat, lon, network)
	}
	p.Lat, p.Lon = float64(lat)/degree, float64(lon)/degree
	if s[8] != 0 {
		p.Country = s[8:10]
	}
	n, at := int(s[11]), int(uint32(s[12])|uint32(s[13])<<8|uint32(s[14])<<16|uint32(s[15])<<24)
	if n > 0 && at >= 0 && at <= t.end-t.ns-n && t.sound(t.ns+at) && t.sound(t.ns+at+n-1) {
		p.City = t.tail[t.ns-t.places+at:][:n]
	}
	return p, true
}

// starts4 calls yield for every start of an IPv4 range until it returns false,
// and reports whether it never did. Neighbours may be equal.
func (t *table) starts4(yield func(netip.Addr, uint32) bool) bool {
	if t.recent == nil {
		return true
	}
	start := func(ip, id uint32) bool {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], ip)
		return yield(netip.AddrFrom4(b), id)
	}
	for h := range uint32(rootSize) {
		v := t.u32(t.root + int(h)*4)
		if v&nodeFlag == 0 {
			if !start(h<<16, v) {
				return false
			}
			continue
		}
		for p := range t.parts(v &^ nodeFlag) {
			v := t.part(v&^nodeFlag, p)
			if v&valueFlag == 0 {
				if !start(h<<16|p<<8, v) {
					return false
				}
				continue
			}
			for q := range t.parts(v &^ valueFlag) {
				if !start(h<<16|p<<8|q, t.part(v&^valueFlag, q)&^valueFlag) {
					return false
				}
			}
		}
	}
	return true
}

// parts yields the parts of a node that have a bit.
func (t *table) parts(node uint32) func(func(uint32) bool) {
	return func(yield func(uint32) bool) {
		if node >= uint32(t.nn) {
			return
		}
		for word := range uint32(4) {
			for w := t.u64(t.nodes + int(node)*nodeSize + int(word)*8); w != 0; w &= w - 1 {
				if !yield(word*64 + uint32(bits.TrailingZeros64(w))) {
					return
				}
			}
		}
	}
}

// starts6 is starts4 for IPv6.
func (t *table) starts6(yield func(netip.Addr, uint32) bool) bool {
	f := 0
	for i := range t.n6 {
		hi, id := t.u64(t.hi6+8*i), t.id(t.id6, i)
		if id != uint32(t.np) {
			if !yield(v6{Hi: hi}.Addr(), id) {
				return false
			}
			continue
		}
		for ; f < t.nf && t.u64(t.fine+16*f) == hi; f++ {
			if !yield(v6{Hi: hi, Lo: t.u64(t.fine + 16*f + 8)}.Addr(), t.id(t.idf, f)) {
				return false
			}
		}
	}
	return true
}

// verify reads the whole table.
func (t *table) verify() error {
	if t.data == "" {
		return nil
	}
	err := errDamaged
	t.unlessCut(func() { err = t.check() })
	return err
}

func (t *table) check() error {
	for block := range (t.end + blockSize - 1) / blockSize {
		ok := t.sumOf(block)
		if t.checked != nil {
			t.checked[block].Store(map[bool]uint32{true: 1, false: 2}[ok])
		}
		if !ok {
			return errDamaged
		}
	}
	for id := 1; id < t.np; id++ {
		p, _ := t.place(uint32(id), 0, false)
		if max(p.Lat, -p.Lat) > 90 || max(p.Lon, -p.Lon) > 180 || p.Precision != Country && p.Precision != City {
			return errDamaged
		}
	}
	last := netip.Addr{}
	ascending := func(a netip.Addr, id uint32) bool {
		ok := (!last.IsValid() || last.Less(a)) && id < uint32(t.np)
		last = a
		return ok
	}
	if !t.starts4(ascending) || !t.starts6(ascending) {
		return errDamaged
	}
	return nil
}
