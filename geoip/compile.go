package geoip

import (
	"cmp"
	"container/heap"
	"encoding/binary"
	"fmt"
	"iter"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Compile makes a DB of rows in any order. Where rows overlap the smallest
// wins; of equally large ones that which starts later, then the later row. A
// row whose place has Precision [Unknown] is a hole in those around it.
//
// Coordinates are kept to 1e-7 degree, names of cities to 255 bytes. The date
// is what [DB.Info] will tell; zero: unknown.
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

// A key is an address of one family.
type key[K any] interface {
	compare(K) int
	next() (k K, ok bool) // not ok after the last address of the family
	minus(K) K
}

type v4 uint32

func (a v4) compare(b v4) int { return cmp.Compare(a, b) }
func (a v4) next() (v4, bool) { return a + 1, a+1 != 0 }
func (a v4) minus(b v4) v4    { return a - b }

type v6 struct{ hi, lo uint64 }

func (a v6) compare(b v6) int {
	if a.hi != b.hi {
		return cmp.Compare(a.hi, b.hi)
	}
	return cmp.Compare(a.lo, b.lo)
}

func (a v6) next() (v6, bool) {
	lo, carry := bits.Add64(a.lo, 1, 0)
	hi, carry := bits.Add64(a.hi, 0, carry)
	return v6{hi, lo}, carry == 0
}

func (a v6) minus(b v6) v6 {
	lo, borrow := bits.Sub64(a.lo, b.lo, 0)
	hi, _ := bits.Sub64(a.hi, b.hi, borrow)
	return v6{hi, lo}
}

func key4(a netip.Addr) v4 {
	b := a.As4()
	return v4(binary.BigEndian.Uint32(b[:]))
}

func key6(a netip.Addr) v6 {
	b := a.As16()
	return v6{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func addr6(k v6) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], k.hi)
	binary.BigEndian.PutUint64(b[8:], k.lo)
	return netip.AddrFrom16(b)
}

// A row is a range of addresses and its place.
type row[K any] struct {
	first, last K
	id          uint32
}

// A start is where a range begins; it ends where the next one does.
type start[K any] struct {
	first K
	id    uint32
}

// A builder collects rows.
type builder struct {
	rows4  []row[v4]
	rows6  []row[v6]
	places []Place
	ids    map[Place]uint32
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
	p.City = strings.ToValidUTF8(p.City, "\uFFFD")
	for len(p.City) > 255 {
		_, n := utf8.DecodeLastRuneInString(p.City)
		p.City = p.City[:len(p.City)-n]
	}
	id, ok := b.ids[p]
	if !ok {
		id = uint32(len(b.places))
		b.places = append(b.places, p)
		b.ids[p] = id
	}
	return id, nil
}

func (b *builder) add(r Range, id uint32) error {
	if r.First.Is4In6() && r.Last.Is4In6() {
		r.First, r.Last = r.First.Unmap(), r.Last.Unmap()
	}
	switch {
	case r.First.Is4() && r.Last.Is4():
		b.rows4 = append(b.rows4, row[v4]{key4(r.First), key4(r.Last), id})
	case r.First.Is6() && r.Last.Is6():
		b.rows6 = append(b.rows6, row[v6]{key6(r.First), key6(r.Last), id})
	default:
		return fmt.Errorf("%v to %v is not a range of addresses", r.First, r.Last)
	}
	if r.Last.WithZone("").Less(r.First.WithZone("")) {
		return fmt.Errorf("last address %v is before first %v", r.Last, r.First)
	}
	return nil
}

func (b *builder) compile(date time.Time) (*DB, error) {
	seconds := int64(0)
	if !date.IsZero() {
		seconds = date.Unix()
	}
	data, err := encode(resolve(b.rows4), resolve(b.rows6), b.places, seconds, b.stamp)
	if err != nil {
		return nil, err
	}
	return load(data)
}

// resolve sorts rows in place and returns the starts of the ranges that remain
// when overlaps are resolved and equal neighbours merged. It walks over the
// addresses from row boundary to row boundary and keeps the rows that cover
// the current one in a heap, the smallest on top.
func resolve[K key[K]](rows []row[K]) []start[K] {
	byFirst := func(a, b row[K]) int { return a.first.compare(b.first) }
	if !slices.IsSortedFunc(rows, byFirst) {
		slices.SortStableFunc(rows, byFirst)
	}
	out := make([]start[K], 0, len(rows)+len(rows)/16)
	put := func(at K, id uint32) {
		if len(out) == 0 && id == 0 || len(out) > 0 && out[len(out)-1].id == id {
			return
		}
		out = append(out, start[K]{at, id})
	}
	open := &smallest[K]{rows: rows}
	var at K
	for i := 0; ; {
		// Most rows overlap no other.
		if open.Len() == 0 && i < len(rows) && (i+1 == len(rows) || rows[i].last.compare(rows[i+1].first) < 0) {
			if at.compare(rows[i].first) < 0 {
				put(at, 0)
			}
			put(rows[i].first, rows[i].id)
			next, ok := rows[i].last.next()
			if !ok {
				return out
			}
			at = next
			i++
			continue
		}
		for i < len(rows) && rows[i].first.compare(at) <= 0 {
			heap.Push(open, i)
			i++
		}
		for open.Len() > 0 && rows[open.index[0]].last.compare(at) < 0 {
			heap.Pop(open)
		}
		if open.Len() == 0 {
			put(at, 0)
			if i == len(rows) {
				return out
			}
			at = rows[i].first
			continue
		}
		top := rows[open.index[0]]
		put(at, top.id)
		if i < len(rows) && rows[i].first.compare(top.last) <= 0 {
			at = rows[i].first
			continue
		}
		next, ok := top.last.next()
		if !ok {
			return out
		}
		at = next
	}
}

// smallest is a heap of indices of rows.
type smallest[K key[K]] struct {
	rows  []row[K]
	index []int
}

func (h *smallest[K]) Len() int      { return len(h.index) }
func (h *smallest[K]) Swap(i, j int) { h.index[i], h.index[j] = h.index[j], h.index[i] }
func (h *smallest[K]) Push(x any)    { h.index = append(h.index, x.(int)) }

func (h *smallest[K]) Less(i, j int) bool {
	a, b := h.rows[h.index[i]], h.rows[h.index[j]]
	if c := a.last.minus(a.first).compare(b.last.minus(b.first)); c != 0 {
		return c < 0
	}
	return h.index[i] > h.index[j]
}

func (h *smallest[K]) Pop() any {
	n := len(h.index) - 1
	x := h.index[n]
	h.index = h.index[:n]
	return x
}
