// Package ranges holds tables that map each address to the smallest range that holds it. It
// depends neither on the meaning of IDs nor on the formats of files.
//
// A [Builder] collects rows, which may overlap. [Form.Encode] serialises the ranges that they
// resolve to, and [Form.Load] returns a [Table] that is searched in these bytes.
// [Form.OpenCached] saves them in a file and maps it into memory; it detects when somebody
// damages or truncates the file.
//
// The form of tables was made for places and serves networks too. Compared with a bisection of
// the starts, the embedded table of asn has 1.19 times as many bytes: 0.95 times for IPv4, 2.06
// for IPv6. Lookups of few hosts take 0.35 of the time (0.19 for IPv6), lookups anywhere that is
// announced 0.78 (0.64), and anywhere at all 1.2 for IPv4: BenchmarkLookup of asn/embedded.
package ranges

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math/bits"
	"net/netip"
	"slices"
	"sort"
)

// Max is the maximum number of rows of a table. The largest published ones have some ten million.
// So many overlapping IPv6 rows take 1.5 GB while they are resolved.
const Max = 1 << 24

// ErrTooMany means that a table has more than Max rows.
var ErrTooMany = errors.New("more than 16,777,216 ranges, which no table of this kind has")

// A Key is an address of one family.
type Key[K any] interface {
	Compare(K) int
	Next() (k K, ok bool) // not ok after the last address of the family
	Minus(K) K
}

// A V4 is an IPv4 address.
type V4 uint32

// Compare returns -1, 0 or 1.
func (a V4) Compare(b V4) int { return cmp.Compare(a, b) }

// Next returns the address after a; false: a is the last.
func (a V4) Next() (V4, bool) { return a + 1, a+1 != 0 }

// Minus returns the distance of a from b.
func (a V4) Minus(b V4) V4 { return a - b }

// A V6 is an IPv6 address: its first and its last 64 bits.
type V6 struct{ Hi, Lo uint64 }

// Compare returns -1, 0 or 1.
func (a V6) Compare(b V6) int {
	if a.Hi != b.Hi {
		return cmp.Compare(a.Hi, b.Hi)
	}
	return cmp.Compare(a.Lo, b.Lo)
}

// Next returns the address after a; false: a is the last.
func (a V6) Next() (V6, bool) {
	lo, carry := bits.Add64(a.Lo, 1, 0)
	hi, carry := bits.Add64(a.Hi, 0, carry)
	return V6{hi, lo}, carry == 0
}

// Minus returns the distance of a from b.
func (a V6) Minus(b V6) V6 {
	lo, borrow := bits.Sub64(a.Lo, b.Lo, 0)
	hi, _ := bits.Sub64(a.Hi, b.Hi, borrow)
	return V6{hi, lo}
}

// Key4 returns an IPv4 address as a key.
func Key4(a netip.Addr) V4 {
	b := a.As4()
	return V4(binary.BigEndian.Uint32(b[:]))
}

// Key6 returns an IPv6 address as a key.
func Key6(a netip.Addr) V6 {
	b := a.As16()
	return V6{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// Addr returns the address.
func (a V4) Addr() netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(a))
	return netip.AddrFrom4(b)
}

// Addr returns the address.
func (a V6) Addr() netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.Hi)
	binary.BigEndian.PutUint64(b[8:], a.Lo)
	return netip.AddrFrom16(b)
}

// Last returns the last address of a network. The address of p must be the first.
func Last(p netip.Prefix) netip.Addr {
	n := p.Bits()
	switch {
	case p.Addr().Is4():
		return (Key4(p.Addr()) | V4(1<<(32-n)-1)).Addr()
	case n < 64:
		k := Key6(p.Addr())
		return V6{k.Hi | (1<<(64-n) - 1), ^uint64(0)}.Addr()
	}
	k := Key6(p.Addr())
	return V6{k.Hi, k.Lo | (1<<(128-n) - 1)}.Addr()
}

// A Row is a range of addresses, both ends included, with an ID.
type Row[K any] struct {
	First, Last K
	ID          uint32
}

// A Start is the first address of a range; the range ends before the next Start.
type Start[K any] struct {
	First K
	ID    uint32
}

// Resolve sorts rows in place and returns the starts of the ranges that remain: overlaps are
// resolved and neighbours with the same ID merged. They are 2n+1 at most for n rows, in time n
// log n however the rows overlap. Of several rows that hold an address the smallest wins; of
// equally large ones the one that starts later, then the later row. Addresses in no row have
// ID 0.
func Resolve[K Key[K]](rows []Row[K]) []Start[K] { return ResolveBy(rows, nil) }

// ResolveBy is Resolve with a preference: of equally large rows the one with the greater ID by
// prefer wins, before all else. prefer may be nil.
func ResolveBy[K Key[K]](rows []Row[K], prefer func(a, b uint32) int) []Start[K] {
	byFirst := func(a, b Row[K]) int { return a.First.Compare(b.First) }
	if !slices.IsSortedFunc(rows, byFirst) {
		slices.SortStableFunc(rows, byFirst)
	}
	out := make([]Start[K], 0, len(rows)+len(rows)/16)
	put := func(at K, id uint32) {
		if len(out) == 0 && id == 0 || len(out) > 0 && out[len(out)-1].ID == id {
			return
		}
		out = append(out, Start[K]{at, id})
	}
	// This walks over the addresses from row boundary to row boundary. A heap has the rows
	// that cover the present address, the smallest on top.
	open := &smallest[K]{rows: rows, prefer: prefer}
	var at K
	for i := 0; ; {
		// Most rows do not overlap others.
		if len(open.index) == 0 && i < len(rows) && (i+1 == len(rows) || rows[i].Last.Compare(rows[i+1].First) < 0) {
			if at.Compare(rows[i].First) < 0 {
				put(at, 0)
			}
			put(rows[i].First, rows[i].ID)
			next, ok := rows[i].Last.Next()
			if !ok {
				return out
			}
			at = next
			i++
			continue
		}
		for i < len(rows) && rows[i].First.Compare(at) <= 0 {
			open.push(int32(i))
			i++
		}
		for len(open.index) > 0 && rows[open.index[0]].Last.Compare(at) < 0 {
			open.pop()
		}
		if len(open.index) == 0 {
			put(at, 0)
			if i == len(rows) {
				return out
			}
			at = rows[i].First
			continue
		}
		top := rows[open.index[0]]
		put(at, top.ID)
		if i < len(rows) && rows[i].First.Compare(top.Last) <= 0 {
			at = rows[i].First
			continue
		}
		next, ok := top.Last.Next()
		if !ok {
			return out
		}
		at = next
	}
}

// Find returns the ID of a key among the starts that Resolve has returned.
func Find[K Key[K]](starts []Start[K], key K) uint32 {
	i := sort.Search(len(starts), func(i int) bool { return key.Compare(starts[i].First) < 0 })
	if i == 0 {
		return 0
	}
	return starts[i-1].ID
}

// smallest is a heap of indexes of rows. Package container/heap would allocate for each.
type smallest[K Key[K]] struct {
	rows   []Row[K]
	index  []int32
	prefer func(a, b uint32) int // of IDs; may be nil
}

func (h *smallest[K]) less(i, j int) bool {
	a, b := h.rows[h.index[i]], h.rows[h.index[j]]
	if c := a.Last.Minus(a.First).Compare(b.Last.Minus(b.First)); c != 0 {
		return c < 0
	}
	if h.prefer != nil {
		if c := h.prefer(a.ID, b.ID); c != 0 {
			return c > 0
		}
	}
	return h.index[i] > h.index[j]
}

func (h *smallest[K]) push(i int32) {
	h.index = append(h.index, i)
	for at := len(h.index) - 1; at > 0; {
		above := (at - 1) / 2
		if !h.less(at, above) {
			return
		}
		h.index[at], h.index[above] = h.index[above], h.index[at]
		at = above
	}
}

// pop removes the top.
func (h *smallest[K]) pop() {
	n := len(h.index) - 1
	h.index[0] = h.index[n]
	h.index = h.index[:n]
	for at := 0; ; {
		below := 2*at + 1
		if below >= n {
			return
		}
		if below+1 < n && h.less(below+1, below) {
			below++
		}
		if !h.less(below, at) {
			return
		}
		h.index[at], h.index[below] = h.index[below], h.index[at]
		at = below
	}
}
