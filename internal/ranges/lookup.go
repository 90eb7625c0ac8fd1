package ranges

import (
	"iter"
	"math/bits"
	"net/netip"
)

const (
	cacheBits  = 15
	cache6Bits = 14
)

// Find returns the ID of an address; 0: none. IPv4-mapped IPv6 addresses are looked up as IPv4,
// zones are ignored. It does not allocate.
func (t *Table) Find(a netip.Addr) uint32 {
	a = Inner(a)
	switch {
	case a.Is4():
		return t.Find4(Key4(a))
	case a.Is6():
		return t.Find6(Key6(a))
	}
	return 0
}

// Find4 returns the ID of an IPv4 address; 0: none.
func (t *Table) Find4(a V4) uint32 {
	if t.recent == nil {
		return 0
	}
	ip := uint32(a)
	slot := &t.recent[ip*0x9e3779b1>>(32-cacheBits)]
	if v := slot.Load(); uint32(v>>32) == ip && v != 0 {
		return uint32(v) - 1
	}
	id, ok := uint32(0), true
	if t.cut == nil {
		id = t.search4(ip)
	} else {
		id, ok = t.guarded4(ip)
	}
	if !ok {
		return 0
	}
	slot.Store(uint64(ip)<<32 | uint64(id+1))
	return id
}

// search4 walks down the tree. It checks offsets, since the table may be damaged.
func (t *Table) search4(ip uint32) uint32 {
	off := t.atRoot4 + int(ip>>16)*4
	if !t.intact(off) {
		return 0
	}
	v := t.u32(off)
	if v&nodeFlag == 0 {
		return v
	}
	v = t.value(v&^nodeFlag, ip>>8&0xff)
	if v&valueFlag != 0 {
		v = t.value(v&^valueFlag, ip&0xff)
	}
	return v &^ valueFlag
}

// value returns the value of a part of a node.
func (t *Table) value(node, part uint32) uint32 {
	if node >= uint32(t.nodes4) {
		return 0
	}
	off := t.atNodes4 + int(node)*nodeSize
	if !t.intact(off) || !t.intact(off+nodeSize-1) {
		return 0
	}
	word := part >> 6
	rank := bits.OnesCount64(t.u64(off+int(word)*8) << (63 - part&63))
	meta := t.u64(off + 32)
	// The lowest byte is the count before the first word, which is zero.
	i := uint32(meta) + uint32(meta>>32<<8>>(8*word))&0xff + uint32(rank) - 1
	if i >= uint32(t.values4) {
		return 0
	}
	at := t.atValues4 + valueSize*int(i)
	if !t.intact(at) || !t.intact(at+valueSize-1) {
		return 0
	}
	// This also reads a byte of the next value.
	return t.u32(at) & (1<<24 - 1)
}

// Find6 returns the ID of an IPv6 address; 0: none.
func (t *Table) Find6(a V6) uint32 {
	if t.recent6 == nil {
		return 0
	}
	slot := &t.recent6[a.Hi*0x9e3779b97f4a7c15>>(64-cache6Bits)]
	// It is the ID plus one, so that an empty slot matches nothing.
	if id := slot.id.Load(); id != 0 && slot.network.Load()^mark(id) == a.Hi {
		return uint32(id) - 1
	}
	var id uint32
	var whole bool
	if t.cut == nil {
		id, whole = t.search6(a)
	} else {
		id, whole = t.guarded6(a)
	}
	if whole {
		slot.id.Store(uint64(id) + 1)
		slot.network.Store(a.Hi ^ mark(uint64(id)+1))
	}
	return id
}

func mark(id uint64) uint64 { return id * 0xbf58476d1ce4e5b9 }

// search6 is Find6 without the cache, and reports whether the whole /64 has the ID.
func (t *Table) search6(a V6) (id uint32, whole bool) {
	i, j, ok := t.bucket6(a.Hi)
	if !ok {
		return 0, false
	}
	// A bisection without branches, which could not be predicted.
	keys := t.data[t.atStarts6:]
	for n := j - i; n > 0; {
		half := (n + 1) / 2
		_, above := bits.Sub64(a.Hi, u64(keys, 8*(i+half-1)), 0)
		i += half & (int(above) - 1)
		n -= half
	}
	if i == 0 || !t.idIntact(t.atIDs6, i-1) {
		return 0, false
	}
	if id = t.id(t.atIDs6, i-1); id != uint32(t.records) {
		return id, true
	}
	from, to := 0, t.fine6
	for from < to {
		m := int(uint(from+to) >> 1)
		off := t.atFine6 + 16*m
		if !t.intact(off) || !t.intact(off+15) {
			return 0, false
		}
		if t.fineStart(m).Compare(a) <= 0 {
			from = m + 1
		} else {
			to = m
		}
	}
	if from == 0 || !t.idIntact(t.atFineIDs6, from-1) {
		return 0, false
	}
	return t.id(t.atFineIDs6, from-1), false
}

// bucket6 returns the indexes of the starts with the same first bits as hi, as many bits as the
// nodes distinguish. Starts before are lower, starts behind higher.
func (t *Table) bucket6(hi uint64) (from, to int, ok bool) {
	if t.starts6 == 0 {
		return 0, 0, false
	}
	off := t.atRoot6 + int(hi>>48)*4
	if !t.intact(off) {
		return 0, 0, false
	}
	v := t.u32(off)
	after := v
	for shift := 40; v&nodeFlag != 0; shift -= 8 {
		v &^= nodeFlag
		if v >= uint32(t.nodes6) || shift < 0 {
			return 0, 0, false
		}
		off = t.atNodes6 + int(v)*node6Size + int(hi>>shift&0xff)*4
		if !t.intact(off) || !t.intact(off+7) {
			return 0, 0, false
		}
		v, after = t.u32(off), t.u32(off+4)
	}
	for depth := 0; after&nodeFlag != 0; depth++ {
		after &^= nodeFlag
		if after >= uint32(t.nodes6) || depth == 8 {
			return 0, 0, false
		}
		off = t.atNodes6 + int(after)*node6Size
		if !t.intact(off) {
			return 0, 0, false
		}
		after = t.u32(off)
	}
	from, to = int(v), int(after)
	// The table may be damaged.
	if from < 0 || to < from || to > t.starts6 {
		return 0, 0, false
	}
	return from, to, t.checked == nil || t.startsIntact(from, to)
}

// startsIntact reports whether the blocks of some IPv6 starts are intact.
func (t *Table) startsIntact(from, to int) bool {
	end := t.atStarts6 + 8*to
	for at := t.atStarts6 + 8*from; at < end; at += blockSize {
		if !t.intact(at) || !t.intact(min(at+blockSize, end)-1) {
			return false
		}
	}
	return true
}

func (t *Table) fineStart(i int) V6 {
	off := t.atFine6 + 16*i
	return V6{t.u64(off), t.u64(off + 8)}
}

// id returns element i of a section of IDs.
func (t *Table) id(section, i int) uint32 {
	s := t.data[section+i*t.width:][:t.width]
	var v uint32
	for k := range len(s) {
		v |= uint32(s[k]) << (8 * k)
	}
	return v
}

func (t *Table) idIntact(section, i int) bool {
	off := section + i*t.width
	return t.intact(off) && t.intact(off+t.width-1)
}

// All yields the ranges with an ID, IPv4 before IPv6, ascending and without overlaps. Neighbours
// differ in their ID. A mapped file is copied into memory first; a damaged one has no ranges.
func (t *Table) All() iter.Seq2[Range, uint32] {
	return func(yield func(Range, uint32) bool) {
		if t.checked != nil {
			// The ranges of a damaged table are uncertain, and one that is truncated
			// meanwhile must not fault in the caller's code.
			data, err := t.copied()
			if err != nil || t.Verify() != nil {
				return
			}
			if t, err = t.form.Load(data); err != nil {
				return
			}
		}
		var first netip.Addr
		var id uint32
		emit := func(last netip.Addr) bool {
			return id == 0 || id >= uint32(t.records) || yield(Range{first, last}, id)
		}
		start := func(a netip.Addr, next uint32) bool {
			// A network may begin with the ID that the one before ends with.
			if next == id {
				return true
			}
			if !emit(a.Prev()) {
				return false
			}
			first, id = a, next
			return true
		}
		if !t.each4(start) || !emit((^V4(0)).Addr()) {
			return
		}
		first, id = netip.IPv6Unspecified(), 0
		if !t.each6(start) {
			return
		}
		emit(V6{^uint64(0), ^uint64(0)}.Addr())
	}
}

// startsAscend reports whether all starts ascend and have IDs of records.
func (t *Table) startsAscend() bool {
	last := netip.Addr{}
	ascending := func(a netip.Addr, id uint32) bool {
		ok := (!last.IsValid() || last.Less(a)) && id < uint32(t.records)
		last = a
		return ok
	}
	return t.each4(ascending) && t.each6(ascending)
}

// each4 calls yield for every start of an IPv4 range until it returns false, and reports whether
// it never did. Neighbours may be equal. Only a damaged table has shared nodes; then it ends
// after as many starts as there are values.
func (t *Table) each4(yield func(netip.Addr, uint32) bool) bool {
	if t.recent == nil {
		return true
	}
	left := rootSize + t.values4
	start := func(ip, id uint32) bool {
		left--
		return left >= 0 && yield(V4(ip).Addr(), id)
	}
	for h := range uint32(rootSize) {
		v := t.u32(t.atRoot4 + int(h)*4)
		if v&nodeFlag == 0 {
			if !start(h<<16, v) {
				return false
			}
			continue
		}
		for p := range t.parts(v &^ nodeFlag) {
			v := t.value(v&^nodeFlag, p)
			if v&valueFlag == 0 {
				if !start(h<<16|p<<8, v) {
					return false
				}
				continue
			}
			for q := range t.parts(v &^ valueFlag) {
				if !start(h<<16|p<<8|q, t.value(v&^valueFlag, q)&^valueFlag) {
					return false
				}
			}
		}
	}
	return true
}

// parts yields the parts of a node that have a bit.
func (t *Table) parts(node uint32) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		if node >= uint32(t.nodes4) {
			return
		}
		for word := range uint32(4) {
			for w := t.u64(t.atNodes4 + int(node)*nodeSize + int(word)*8); w != 0; w &= w - 1 {
				if !yield(word*64 + uint32(bits.TrailingZeros64(w))) {
					return
				}
			}
		}
	}
}

// each6 is each4 for IPv6.
func (t *Table) each6(yield func(netip.Addr, uint32) bool) bool {
	f := 0
	for i := range t.starts6 {
		hi, id := t.u64(t.atStarts6+8*i), t.id(t.atIDs6, i)
		if id != uint32(t.records) {
			if !yield(V6{Hi: hi}.Addr(), id) {
				return false
			}
			continue
		}
		for ; f < t.fine6 && t.fineStart(f).Hi == hi; f++ {
			if !yield(t.fineStart(f).Addr(), t.id(t.atFineIDs6, f)) {
				return false
			}
		}
	}
	return true
}
