package asn

import (
	"cmp"
	"container/heap"
	"slices"
)

// A span is the keys from first to last and what is known of them.
type span[K uint32 | uint64] struct {
	first, last K
	date        uint32 // YYYYMMDD, 0 unknown
	tag         uint32
	holder      uint32
}

// spans finds the smallest of all spans that hold a key. The keys are cut where
// the answer changes, so that spans may overlap in any way.
type spans[K uint32 | uint64] struct {
	all    []span[K]
	starts []K
	owners []int32 // in all, of the keys from a start to the next; -1: none
}

func (s *spans[K]) find(key K) (span[K], bool) {
	i, ok := slices.BinarySearch(s.starts, key)
	if !ok {
		i--
	}
	if i < 0 || s.owners[i] < 0 {
		return span[K]{}, false
	}
	return s.all[s.owners[i]], true
}

// newSpans sorts all. Of equal spans the one whose tag is newer wins, then the
// later one.
func newSpans[K uint32 | uint64](all []span[K], newer func(a, b uint32) int) spans[K] {
	all = slices.Clip(all)
	byFirst := func(a, b span[K]) int { return cmp.Compare(a.first, b.first) }
	if !slices.IsSortedFunc(all, byFirst) {
		slices.SortStableFunc(all, byFirst)
	}
	s := spans[K]{all: all}
	emit := func(start K, owner int32) {
		if n := len(s.starts) - 1; n >= 0 && s.starts[n] == start {
			s.starts, s.owners = s.starts[:n], s.owners[:n]
		}
		if n := len(s.starts) - 1; n >= 0 && s.owners[n] == owner {
			return
		}
		s.starts, s.owners = append(s.starts, start), append(s.owners, owner)
	}
	open := &openSpans[K]{all: all, newer: newer}
	// leave ends the spans that end before a key, or at the end of all keys.
	leave := func(before K, end bool) {
		for len(open.ids) > 0 {
			last := all[open.ids[0]].last
			if !end && last >= before || last == ^K(0) {
				return
			}
			next := last + 1
			for len(open.ids) > 0 && all[open.ids[0]].last < next {
				heap.Pop(open)
			}
			if len(open.ids) > 0 {
				emit(next, open.ids[0])
			} else {
				emit(next, -1)
			}
		}
	}
	for i := range all {
		leave(all[i].first, false)
		heap.Push(open, int32(i))
		emit(all[i].first, open.ids[0])
	}
	leave(0, true)
	s.starts, s.owners = slices.Clip(s.starts), slices.Clip(s.owners)
	return s
}

// openSpans is a heap of spans that began, with the one on top that holds.
type openSpans[K uint32 | uint64] struct {
	all   []span[K]
	newer func(a, b uint32) int
	ids   []int32
}

func (o *openSpans[K]) Len() int      { return len(o.ids) }
func (o *openSpans[K]) Swap(i, j int) { o.ids[i], o.ids[j] = o.ids[j], o.ids[i] }
func (o *openSpans[K]) Push(x any)    { o.ids = append(o.ids, x.(int32)) }
func (o *openSpans[K]) Less(i, j int) bool {
	a, b := o.all[o.ids[i]], o.all[o.ids[j]]
	return cmp.Or(
		cmp.Compare(a.last-a.first, b.last-b.first),
		o.newer(b.tag, a.tag),
		cmp.Compare(o.ids[j], o.ids[i]),
	) < 0
}

func (o *openSpans[K]) Pop() any {
	n := len(o.ids) - 1
	x := o.ids[n]
	o.ids = o.ids[:n]
	return x
}
