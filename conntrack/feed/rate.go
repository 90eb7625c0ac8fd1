package feed

import (
	"net/netip"
	"time"
)

// maxCounted bounds the sources that are counted in a minute.
const maxCounted = 1 << 16

// A rate counts what comes from each source, and from all, within a minute of the first.
// It is not safe for concurrent use.
type rate struct {
	rotated           time.Time
	current, previous map[netip.Prefix]count // first counted since rotated, or in the minute before
}

type count struct {
	n     int
	until time.Time
}

// allSources is the key of the count of all sources.
var allSources netip.Prefix

// rotate forgets counts that are over.
func (r *rate) rotate(now time.Time) {
	if since := now.Sub(r.rotated); since >= 2*time.Minute || since < 0 {
		r.previous = nil
	} else if since >= time.Minute {
		r.previous = r.current
	} else {
		return
	}
	r.rotated, r.current = now, make(map[netip.Prefix]count)
}

func (r *rate) of(source netip.Prefix, now time.Time) int {
	for _, m := range []map[netip.Prefix]count{r.current, r.previous} {
		if c, ok := m[source]; ok && now.Before(c.until) {
			return c.n
		}
	}
	return 0
}

// take counts one more of a source, unless it has max or all sources have maxOfAll, and reports
// whether it did.
func (r *rate) take(source netip.Prefix, max, maxOfAll int, now time.Time) bool {
	r.rotate(now)
	if r.of(source, now) >= max || r.of(allSources, now) >= maxOfAll {
		return false
	}
	if _, ok := r.current[source]; !ok && len(r.current) >= maxCounted {
		return false // it may try again later
	}
	r.add(source, now)
	r.add(allSources, now)
	return true
}

func (r *rate) add(source netip.Prefix, now time.Time) {
	c, ok := r.current[source]
	if ok && now.Before(c.until) {
		c.n++
		r.current[source] = c
		return
	}
	if c, ok = r.previous[source]; ok && now.Before(c.until) {
		c.n++
		r.previous[source] = c
		return
	}
	r.current[source] = count{1, now.Add(time.Minute)}
}
