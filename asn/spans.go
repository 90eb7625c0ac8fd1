package asn

import (
	"slices"

	"github.com/connmapgo/connmap/internal/ranges"
)

// A span is a range of keys with its data.
type span[K ranges.Key[K]] struct {
	first, last K
	about
}

type about struct {
	date   uint32 // YYYYMMDD, 0 unknown
	tag    uint32
	holder uint32
}

// spans finds the smallest span that holds a key. Spans may overlap in any way.
type spans[K ranges.Key[K]] struct {
	all    []span[K]
	starts []ranges.Start[K] // ID: index in all, plus one
}

func (s *spans[K]) find(key K) (span[K], bool) {
	id := ranges.Find(s.starts, key)
	if id == 0 {
		return span[K]{}, false
	}
	return s.all[id-1], true
}

// newSpans sorts all. Of equally large spans the one with the newer tag wins, then the one that
// starts later, then the later one.
func newSpans[K ranges.Key[K]](all []span[K], newer func(a, b uint32) int) spans[K] {
	slices.SortStableFunc(all, func(a, b span[K]) int { return a.first.Compare(b.first) })
	rows := make([]ranges.Row[K], len(all))
	for i, s := range all {
		rows[i] = ranges.Row[K]{First: s.first, Last: s.last, ID: uint32(i + 1)}
	}
	starts := ranges.ResolveBy(rows, func(a, b uint32) int { return newer(all[a-1].tag, all[b-1].tag) })
	return spans[K]{slices.Clip(all), slices.Clip(starts)}
}
