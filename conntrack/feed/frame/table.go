package frame

import (
	"cmp"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/connmapgo/connmap/conntrack"
)

const (
	defaultMaxCloses = 30_000 // in memory; they take about 8 MiB
	maxChanges       = defaultMaxCloses * 2 / 3
	maxUnused        = 1024
	maxSpare         = 1 << 14 // events
)

// An urgency says how soon changes are to be sent.
type urgency uint8

const (
	idle     urgency = iota // there are none
	counters                // once a second
	soon                    // as fast as deltas go
)

// A Table is the live connections of a machine, the changes that the server does not know yet,
// and the close events that no server has recorded. A close event holds its whole connection,
// so nothing else has to be kept: the next server receives all that lives anyway. Events for
// which there is no room count as lost. OpenTable makes a Table. It is safe for concurrent use.
type Table struct {
	run    Run
	before Run           // the run before this one; zero: unknown
	seq    uint64        // of the last full or delta; only the Reporter uses it
	wake   chan struct{} // capacity 1

	mu        sync.Mutex
	conns     map[uint64]*entry   // live ones, by Conn.ID
	maxCloses int                 // close events in memory: pending and in flight
	names     func(string) string // what is kept of a name of a peer; nil: all
	lost      uint64              // events that the server does not know to be lost

	// What the server knows. All of it is empty while there is none.
	synced   bool // it has received all connections, and receives changes
	maxConns int  // that it takes
	reported int  // of conns, those that it knows or that are in changes
	urgency  urgency
	changes  []conntrack.Event // to be sent, in order; more than maxCloses*2/3 of them end synced
	urgent   []bool            // of changes: more than counters changed
	spare    []conntrack.Event // memory for changes
	unused   []*entry          // memory for conns

	// What is kept until a server has recorded it, see delivery.go.
	acks           bool      // the server acknowledges
	ackedAt        time.Time // last, or when the server was synced
	pending        []conntrack.Event
	inFlight       []sentDelta // sent and not acknowledged, in order
	inFlightCloses int         // in inFlight
	spool          *spool      // nil: there is none
	spoolInFlight  bool        // deltas of its oldest batch are in inFlight
	spoolRetry     int         // close events until the spool is tried again, after its disk was full
}

// An entry is a live connection.
type entry struct {
	conn     conntrack.Conn
	reported bool // the server knows it, or it is in changes
	lost     bool // it is more than the server takes, and counted as lost
	last     int  // 1 + index in changes of the last about it; 0: there is none
}

func newTable() *Table {
	t := &Table{wake: make(chan struct{}, 1), conns: make(map[uint64]*entry), maxCloses: defaultMaxCloses}
	rand.Read(t.run[:])
	return t
}

// TableOptions are those of a Table. The zero value is a table without a spool.
type TableOptions struct {
	Spool     string                               // folder of the spool, made when it is missing; empty: none
	MaxCloses int                                  // close events in memory; zero: 30,000
	MaxSpool  int64                                // bytes of the spool; zero: 64 MiB
	Names     func(name string) string             // returns what is kept of a name of a peer, also of one in the spool; nil: all
	WriteFile func(name string, data []byte) error // writes a file of the spool, whole or not at all; nil: beside it first, with fsync
}

// OpenTable makes the table of a new run of an agent, with what earlier runs have left in the
// spool. A folder is for one Table at a time. It fails if there can be no such folder, or if other
// files are in it.
func OpenTable(o TableOptions) (*Table, error) {
	t := newTable()
	t.names = o.Names
	if o.MaxCloses > 0 {
		t.maxCloses = o.MaxCloses
	}
	if o.Spool == "" {
		return t, nil
	}
	var err error
	if t.spool, err = openSpool(o.Spool); err != nil {
		return nil, err
	}
	if o.MaxSpool > 0 {
		t.spool.maxBytes = o.MaxSpool
	}
	t.before = t.spool.startRun(t.run)
	if o.WriteFile != nil {
		t.spool.writeFile = o.WriteFile
	}
	return t, nil
}

// Hello returns what an agent with this table says of itself now, without a name.
func (t *Table) Hello(now time.Time) Hello {
	return Hello{Version: Version, Run: t.run, Wall: now.UnixMicro(), Before: t.before}
}

// Wake returns a channel that yields a value when there is something to report, or something
// more urgent than before.
func (t *Table) Wake() <-chan struct{} { return t.wake }

// next returns the number for the next full or delta.
func (t *Table) next() uint64 {
	t.seq++
	return t.seq
}

// Add takes in an event of the machine. Without a Reporter the table keeps close events for
// the next one.
func (t *Table) Add(e conntrack.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Kind == conntrack.Lost {
		t.lost += e.Lost
		t.raise(soon)
		return
	}
	if !e.Conn.Local.IsValid() || !e.Conn.Peer.IsValid() {
		return
	}
	t.cutName(&e.Conn)
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
	if len(t.changes) > t.maxCloses*2/3 {
		t.unsyncLocked()
		t.raise(soon)
	}
}

// cutName keeps of the name of a peer what is to be kept.
func (t *Table) cutName(c *conntrack.Conn) {
	if t.names == nil || c.Name == "" {
		return
	}
	if c.Name = t.names(c.Name); c.Name == "" {
		c.NameSource = 0
	}
}

func (t *Table) open(e conntrack.Event) {
	var k *entry
	if n := len(t.unused); n > 0 {
		k = t.unused[n-1]
		t.unused = t.unused[:n-1]
	} else {
		k = new(entry)
	}
	*k = entry{conn: e.Conn}
	t.conns[e.Conn.ID] = k
	switch {
	case !t.synced:
	case t.reported >= t.maxConns:
		k.lost = true
		t.lost++
		t.raise(soon)
	default:
		t.reported++
		k.reported = true
		t.change(k, e, true)
	}
}

func (t *Table) update(k *entry, e conntrack.Event) {
	urgent := e.Conn.Process != k.conn.Process || e.Conn.Name != k.conn.Name
	k.conn = e.Conn
	if !t.synced || !k.reported {
		return
	}
	if k.last == 0 {
		t.change(k, e, urgent)
		return
	}
	t.changes[k.last-1].Conn = e.Conn
	if urgent {
		t.urgent[k.last-1] = true
	}
	if t.urgent[k.last-1] {
		t.raise(soon)
	}
}

func (t *Table) close(k *entry, e conntrack.Event) {
	delete(t.conns, e.Conn.ID)
	switch {
	case k != nil && k.lost && !k.reported:
		// It was counted when it opened.
	case !t.synced:
		t.addPending(e)
	case k == nil:
		t.change(&entry{}, e, true)
	case k.last > 0 && t.changes[k.last-1].Kind == conntrack.Update:
		t.reported--
		t.changes[k.last-1], t.urgent[k.last-1] = e, true
		t.raise(soon)
	default:
		t.reported--
		t.change(k, e, true)
	}
	if k != nil && len(t.unused) < maxUnused {
		*k = entry{}
		t.unused = append(t.unused, k)
	}
}

// change adds a change of a connection.
func (t *Table) change(k *entry, e conntrack.Event, urgent bool) {
	if t.changes == nil {
		t.changes, t.spare = t.spare, nil
	}
	t.changes, t.urgent = append(t.changes, e), append(t.urgent, urgent)
	k.last = len(t.changes)
	if urgent {
		t.raise(soon)
	} else {
		t.raise(counters)
	}
}

// raise wakes the Reporter if changes are more urgent than before.
func (t *Table) raise(u urgency) {
	if u > t.urgency {
		t.urgency = u
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// status says how urgent the changes are, and whether the server is synced. Changes wait while
// the server has much to acknowledge.
func (t *Table) status() (urgency, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inFlightCloses >= t.maxCloses && t.synced && !t.stalled() {
		return idle, true
	}
	return t.urgency, t.synced
}

// take removes and returns the changes, and how many events are lost. Changes of counters alone
// stay unless all are asked for. The events are the caller's until it recycles them.
func (t *Table) take(all bool) ([]conntrack.Event, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.takeLocked(all)
}

// recycle lets the table reuse the memory of events, unless they were a burst.
func (t *Table) recycle(events []conntrack.Event) {
	busy := cap(events) <= 4*len(events)+64
	clear(events)
	t.mu.Lock()
	defer t.mu.Unlock()
	if busy && cap(events) <= maxSpare && t.spare == nil {
		t.spare = events[:0]
	}
}

func (t *Table) takeLocked(all bool) (events []conntrack.Event, lost uint64) {
	lost = t.lost
	t.lost, t.urgency = 0, idle
	if all || !slices.Contains(t.urgent, false) {
		for i := range t.changes {
			if k := t.conns[t.changes[i].Conn.ID]; k != nil {
				k.last = 0
			}
		}
		events = t.changes
		t.changes, t.urgent = nil, t.urgent[:0]
		return events, lost
	}
	kept := 0
	for i := range t.changes {
		k := t.conns[t.changes[i].Conn.ID]
		if t.urgent[i] {
			events = append(events, t.changes[i])
			if k != nil {
				k.last = 0
			}
			continue
		}
		t.changes[kept], t.urgent[kept] = t.changes[i], false
		kept++
		if k != nil {
			k.last = kept
		}
	}
	clear(t.changes[kept:])
	t.changes, t.urgent, t.urgency = t.changes[:kept], t.urgent[:kept], counters
	return events, lost
}

// sync returns the IDs of the connections that a server receives next, which are those that
// opened first if it does not take all. Before them it must receive events, which are the
// changes and the pending close events, and the number of lost events. From now on it is synced.
func (t *Table) sync(maxConns int, acks bool) (ids []uint64, before []conntrack.Event, lost uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, lost = t.takeLocked(true)
	if !t.synced {
		before, t.pending = append(t.pending, before...), nil
	}
	t.acks = acks
	if !t.synced {
		t.ackedAt = time.Now()
	}
	all := make([]*entry, 0, len(t.conns))
	for _, k := range t.conns {
		k.reported = false
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b *entry) int {
		return cmp.Or(a.conn.Opened.Compare(b.conn.Opened), cmp.Compare(a.conn.ID, b.conn.ID))
	})
	t.synced, t.maxConns, t.reported = true, maxConns, min(maxConns, len(all))
	ids = make([]uint64, t.reported)
	for i, k := range all[:t.reported] {
		k.reported = true
		ids[i] = k.conn.ID
	}
	for _, k := range all[t.reported:] {
		if !k.lost {
			k.lost = true
			lost++
		}
	}
	return ids, before, lost
}

// nextPart appends to conns as many of the connections as fit into a frame, and returns the IDs
// of the others. It leaves out those that have closed since: their close events are in changes.
func (t *Table) nextPart(conns []conntrack.Conn, ids []uint64) ([]conntrack.Conn, []uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	bytes := maxFrameExtra
	for n, id := range ids {
		k := t.conns[id]
		if k == nil || !k.reported || k.last > 0 && t.changes[k.last-1].Kind == conntrack.Open {
			continue // in the last case another connection has the ID now, and opens in changes
		}
		if bytes += rowSize(&k.conn); len(conns) == maxItems || bytes > MaxSize {
			return conns, ids[n:]
		}
		conns = append(conns, k.conn)
	}
	return conns, nil
}

// unsync is for when the connection to the server ends. It takes back losses that could not be
// sent.
func (t *Table) unsync(lost uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lost += lost
	t.unsyncLocked()
}

// unsyncLocked drops the changes. Their close events become pending.
func (t *Table) unsyncLocked() {
	for _, e := range t.changes {
		if e.Kind == conntrack.Close {
			t.addPending(e)
		}
	}
	for _, k := range t.conns {
		k.last, k.reported = 0, false
	}
	t.changes, t.urgent, t.synced, t.urgency = nil, nil, false, idle
}
