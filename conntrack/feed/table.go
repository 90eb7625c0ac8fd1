package feed

import (
	"cmp"
	"slices"
	"sync"

	"github.com/connmapgo/connmap/conntrack"
)

// mostChanges bounds what waits for a link that is slow; beyond it the whole
// table is sent.
const mostChanges = 40_000

// An urgency says how soon what waits is to be sent.
type urgency uint8

const (
	idle     urgency = iota
	counters         // once a second
	soon             // as fast as deltas go
)

// A table is the live connections of a source and, while a server follows,
// the changes that it does not know yet. A connection that came and went
// without the server counts as lost.
type table struct {
	wake chan struct{} // capacity 1: something waits, or is more urgent than what did

	mu      sync.Mutex
	conns   map[uint64]*known // by Conn.ID
	lost    uint64            // events that the server will not see, and does not know of
	follows bool              // a server was given all and follows the changes
	most    int               // connections that it takes
	told    int               // of conns, those that it knows or that wait in changes
	changes []change          // in order
	urgency urgency           // of what waits
}

type known struct {
	conn conntrack.Conn
	told bool
	lost bool // beyond what the server takes, and counted as lost
	last int  // 1 + index in changes of the last about it; 0: none waits
}

type change struct {
	conntrack.Event
	urgent bool // more than counters
}

func newTable() *table {
	return &table{wake: make(chan struct{}, 1), conns: make(map[uint64]*known)}
}

// add takes in an event of the source.
func (t *table) add(e conntrack.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Kind == conntrack.Lost {
		t.lost += e.Lost
		t.waits(soon)
		return
	}
	if !e.Conn.Local.IsValid() || !e.Conn.Peer.IsValid() {
		return
	}
	k := t.conns[e.Conn.ID]
	switch {
	case e.Kind == conntrack.Close:
		t.close(k, e)
	case k == nil:
		e.Kind = conntrack.Open
		t.open(e)
	default:
		e.Kind = conntrack.Update
		t.update(k, e)
	}
	if len(t.changes) > mostChanges {
		t.forget()
		t.waits(soon)
	}
}

func (t *table) open(e conntrack.Event) {
	k := &known{conn: e.Conn}
	t.conns[e.Conn.ID] = k
	switch {
	case !t.follows:
	case t.told >= t.most:
		k.lost = true
		t.lost++
		t.waits(soon)
	default:
		t.told++
		k.told = true
		t.change(k, e, true)
	}
}

func (t *table) update(k *known, e conntrack.Event) {
	urgent := e.Conn.Process != k.conn.Process
	k.conn = e.Conn
	if !t.follows || !k.told {
		return
	}
	if k.last == 0 {
		t.change(k, e, urgent)
		return
	}
	c := &t.changes[k.last-1]
	c.Conn, c.urgent = e.Conn, c.urgent || urgent
	if c.urgent {
		t.waits(soon)
	}
}

func (t *table) close(k *known, e conntrack.Event) {
	delete(t.conns, e.Conn.ID)
	switch {
	case !t.follows && (k == nil || !k.told && !k.lost):
		t.lost++
	case !t.follows || k != nil && !k.told:
		// The next full snapshot says it, or it was counted when it opened.
	case k == nil:
		t.change(&known{}, e, true)
	case k.last > 0 && t.changes[k.last-1].Kind == conntrack.Update:
		t.told--
		t.changes[k.last-1] = change{e, true}
		t.waits(soon)
	default:
		t.told--
		t.change(k, e, true)
	}
}

func (t *table) change(k *known, e conntrack.Event, urgent bool) {
	t.changes = append(t.changes, change{e, urgent})
	k.last = len(t.changes)
	if urgent {
		t.waits(soon)
	} else {
		t.waits(counters)
	}
}

func (t *table) waits(u urgency) {
	if u > t.urgency {
		t.urgency = u
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// waiting says how urgent is what waits, and whether the server still follows.
func (t *table) waiting() (urgency, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.urgency, t.follows
}

// take returns what changed; changes of counters alone only if asked for.
func (t *table) take(all bool) ([]conntrack.Event, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.taken(all)
}

func (t *table) taken(all bool) (events []conntrack.Event, lost uint64) {
	kept := t.changes[:0]
	for _, c := range t.changes {
		k := t.conns[c.Conn.ID]
		if !all && !c.urgent {
			kept = append(kept, c)
			if k != nil {
				k.last = len(kept)
			}
			continue
		}
		events = append(events, c.Event)
		if k != nil {
			k.last = 0
		}
	}
	lost = t.lost
	t.lost, t.changes, t.urgency = 0, kept, idle
	if len(kept) > 0 {
		t.urgency = counters
	} else {
		t.changes = nil // a burst must not hold its room
	}
	return events, lost
}

// follow returns all connections, those that opened first at most, for a
// server that follows from here on. What it has to know before are the
// changes and losses, if it did follow.
func (t *table) follow(most int) (conns []conntrack.Conn, before []conntrack.Event, lost uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, lost = t.taken(true)
	all := make([]*known, 0, len(t.conns))
	for _, k := range t.conns {
		k.told = false
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b *known) int {
		return cmp.Or(a.conn.Opened.Compare(b.conn.Opened), cmp.Compare(a.conn.ID, b.conn.ID))
	})
	t.follows, t.most, t.told = true, most, min(most, len(all))
	conns = make([]conntrack.Conn, t.told)
	for i, k := range all[:t.told] {
		k.told = true
		conns[i] = k.conn
	}
	for _, k := range all[t.told:] {
		if !k.lost {
			k.lost = true
			lost++
		}
	}
	return conns, before, lost
}

// unfollow is for when a link ends: lost are the losses that were taken but
// could not be told.
func (t *table) unfollow(lost uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lost += lost
	t.forget()
}

// forget drops what waits.
func (t *table) forget() {
	opened := make(map[uint64]bool)
	for _, c := range t.changes {
		switch {
		case c.Kind == conntrack.Open:
			opened[c.Conn.ID] = true
		case c.Kind == conntrack.Close && opened[c.Conn.ID]:
			delete(opened, c.Conn.ID)
			t.lost++
		}
	}
	for id := range opened {
		t.conns[id].told = false
	}
	for _, k := range t.conns {
		k.last = 0
	}
	t.changes, t.follows, t.urgency = nil, false, idle
}
