package feed

import (
	"maps"
	"slices"
	"sync"

	"github.com/connmapgo/connmap/conntrack"
)

// mostPending bounds what waits for a link; beyond it the whole table is sent.
const mostPending = 20_000

// A table is the live connections of a source and what changed since the last
// report.
type table struct {
	mu       sync.Mutex
	conns    map[uint64]conntrack.Conn
	pending  []conntrack.Event
	place    map[uint64]int // of a connection's Open or Update in pending
	urgent   bool           // more than counters changed
	overflow bool
	lost     uint64
}

func newTable() *table {
	return &table{conns: make(map[uint64]conntrack.Conn), place: make(map[uint64]int)}
}

func (t *table) add(e conntrack.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e.Kind {
	case conntrack.Lost:
		t.lost += e.Lost
		t.urgent = true
		return
	case conntrack.Open, conntrack.Update:
		before := t.conns[e.Conn.ID]
		t.conns[e.Conn.ID] = e.Conn
		if e.Kind == conntrack.Open || before.Process != e.Conn.Process {
			t.urgent = true
		}
	case conntrack.Close:
		delete(t.conns, e.Conn.ID)
		t.urgent = true
	}
	if t.overflow {
		return
	}
	if i, ok := t.place[e.Conn.ID]; ok && e.Kind != conntrack.Open {
		// One event says both, but for the end: a connection that opened
		// and closed in between must be reported to have been.
		if e.Kind == conntrack.Update {
			t.pending[i].Conn = e.Conn
			return
		}
		delete(t.place, e.Conn.ID)
	} else if e.Kind != conntrack.Close {
		t.place[e.Conn.ID] = len(t.pending)
	}
	if len(t.pending) == mostPending {
		t.overflow, t.pending = true, nil
		clear(t.place)
		return
	}
	t.pending = append(t.pending, e)
}

// take returns what changed; mere counters only if asked for.
func (t *table) take(counters bool) ([]conntrack.Event, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.urgent && !counters {
		return nil, 0
	}
	events, lost := t.pending, t.lost
	t.reset()
	return events, lost
}

// snapshot returns all connections in order of opening; what was pending is
// in it.
func (t *table) snapshot() ([]conntrack.Conn, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	conns := slices.SortedFunc(maps.Values(t.conns), func(a, b conntrack.Conn) int { return a.Opened.Compare(b.Opened) })
	lost := t.lost
	t.reset()
	t.overflow = false
	return conns, lost
}

func (t *table) overflowed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.overflow
}

func (t *table) reset() {
	t.pending, t.lost, t.urgent = nil, 0, false
	clear(t.place)
}
