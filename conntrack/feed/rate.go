package feed

import (
	"net/netip"
	"time"
)

// mostCounted bounds the sources that are counted in a minute.
const mostCounted = 1 << 16

// A rate counts what comes from each source, and from all, within a minute of the first.
// It is not safe for concurrent use.
type rate struct {
	turned     time.Time
	young, old map[netip.Prefix]count // by when they were counted first: since turned, or in the minute before
}

type count struct {
	n     int
	until time.Time
}

// everySource is what all of them are counted under.
var everySource netip.Prefix

// turn forgets counts that are over.
func (r *rate) turn(now time.Time) {
	if since := now.Sub(r.turned); since >= 2*time.Minute || since < 0 {
		r.old = nil
	} else if since >= time.Minute {
		r.old = r.young
	} else {
		return
	}
	r.turned, r.young = now, make(map[netip.Prefix]count)
}

func (r *rate) of(source netip.Prefix, now time.Time) int {
	for _, m := range []map[netip.Prefix]count{r.young, r.old} {
		if c, ok := m[source]; ok && now.Before(c.until) {
			return c.n
		}
	}
	return 0
}

// take counts one more of a source and of all, unless there are as many as may be, and
// reports whether it has.
func (r *rate) take(source netip.Prefix, most, mostOfAll int, now time.Time) bool {
	r.turn(now)
	if r.of(source, now) >= most || r.of(everySource, now) >= mostOfAll {
		return false
	}
	if _, ok := r.young[source]; !ok && len(r.young) >= mostCounted {
		return false // whoever it is may come again
	}
	r.add(source, now)
	r.add(everySource, now)
	return true
}

func (r *rate) add(source netip.Prefix, now time.Time) {
	c, ok := r.young[source]
	if ok && now.Before(c.until) {
		c.n++
		r.young[source] = c
		return
	}
	if c, ok = r.old[source]; ok && now.Before(c.until) {
		c.n++
		r.old[source] = c
		return
	}
	r.young[source] = count{1, now.Add(time.Minute)}
}
