package frame

import (
	"cmp"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/connmapgo/connmap/conntrack"
)

// mostChanges bounds what waits for a link that is slow; beyond it the whole
// table is sent.
const mostChanges = mostKept * 2 / 3

// An urgency says how soon what waits is to be sent.
type urgency uint8

const (
	idle     urgency = iota
	counters         // once a second
	soon             // as fast as deltas go
)

// mostKept bounds the ends of connections that wait for a server, or for its
// acknowledgement. They take about 8 MiB.
const mostKept = 30_000

// otherID is what the ID of an end out of the spool differs by from that of its connection.
// A Collector makes none that has it.
const otherID = 1 << 61

// Spooled reports whether the close event of c comes from an agent's spool. Such an event is
// late: an earlier run of the agent may have seen it, and the server may know the connection
// as open under another ID.
func Spooled(c conntrack.Conn) bool { return c.ID&otherID != 0 }

// stallTime is how long a server may take to acknowledge before nothing waits for it.
const stallTime = 15 * time.Second

// A Table is the live connections of a machine, the changes that the server which follows does
// not know yet, and the close events that no server has recorded. A close event holds its whole
// connection, so that nothing else has to be kept: a new server receives what lives anyway.
// What there is no room for counts as lost. OpenTable makes one. It is safe for concurrent use.
type Table struct {
	run    Run
	before Run           // the run before this one; zero: it is not known
	seq    uint64        // of the last full or delta
	wake   chan struct{} // capacity 1: something waits, or is more urgent than what did

	mu      sync.Mutex
	conns   map[uint64]*known // by Conn.ID
	room    int               // mostKept
	lost    uint64            // events that the server will not see, and does not know of
	follows bool              // a server was given all and follows the changes
	most    int               // connections that it takes
	told    int               // of conns, those that it knows or that wait in changes
	changes []conntrack.Event // in order
	urgent  []bool            // of changes, which are more than counters
	spare   []conntrack.Event // room for changes
	unused  []*known          // to be filled again
	kept    []conntrack.Event // ends that are to be told when a server follows
	flight  []sent            // what was told and is not acknowledged yet, in order
	flying  int               // ends in flight
	spool   *spool            // where ends go that memory has no room for; nil: nowhere
	full    int               // ends for which the spool need not be asked
	reading bool              // the oldest batch of the spool is in flight
	acks    bool              // the server acknowledges
	ackedAt time.Time         // last, or when it began to follow
	urgency urgency           // of what waits
}

type known struct {
	conn conntrack.Conn
	told bool
	lost bool // beyond what the server takes, and counted as lost
	last int  // 1 + index in changes of the last about it; 0: none waits
}

// sent is a delta that was sent.
type sent struct {
	seq     uint64
	ends    []conntrack.Event // but for those that the spool has
	lost    uint64            // told with it, likewise
	spooled uint64            // number in the oldest batch of the spool; zero: it is not from there
	after   uint64            // likewise of what was sent before
}

func (d sent) isSpooled() bool { return d.spooled > 0 }

const (
	mostUnused = 1024
	mostSpare  = 1 << 14
)

func newTable() *Table {
	t := &Table{wake: make(chan struct{}, 1), conns: make(map[uint64]*known), room: mostKept}
	rand.Read(t.run[:])
	return t
}

// TableOptions are those of a Table. The zero value is a table without a spool.
type TableOptions struct {
	Spool     string                               // folder of the spool, made when it is missing; empty: none
	MaxCloses int                                  // close events in memory; zero: 30,000
	MaxSpool  int64                                // bytes of the spool; zero: 64 MiB
	WriteFile func(name string, data []byte) error // writes a file of the spool, whole or not at all; nil: beside it first, with fsync
}

// OpenTable makes the table of a new run of an agent, with what earlier runs have left in the
// spool. A folder is for one Table at a time. It fails if there can be no such folder.
func OpenTable(o TableOptions) (*Table, error) {
	t := newTable()
	if o.MaxCloses > 0 {
		t.room = o.MaxCloses
	}
	if o.Spool == "" {
		return t, nil
	}
	var err error
	if t.spool, err = openSpool(o.Spool); err != nil {
		return nil, err
	}
	if o.MaxSpool > 0 {
		t.spool.most = o.MaxSpool
	}
	t.before = t.spool.begin(t.run)
	if o.WriteFile != nil {
		t.spool.save = o.WriteFile
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

// next returns the number of the next full or delta.
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
	if len(t.changes) > t.room*2/3 {
		t.forget()
		t.waits(soon)
	}
}

func (t *Table) open(e conntrack.Event) {
	var k *known
	if n := len(t.unused); n > 0 {
		k = t.unused[n-1]
		t.unused = t.unused[:n-1]
	} else {
		k = new(known)
	}
	*k = known{conn: e.Conn}
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

func (t *Table) update(k *known, e conntrack.Event) {
	urgent := e.Conn.Process != k.conn.Process
	k.conn = e.Conn
	if !t.follows || !k.told {
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
		t.waits(soon)
	}
}

func (t *Table) close(k *known, e conntrack.Event) {
	delete(t.conns, e.Conn.ID)
	switch {
	case k != nil && k.lost && !k.told:
		// It was counted when it opened.
	case !t.follows:
		t.keep(e)
	case k == nil:
		t.change(&known{}, e, true)
	case k.last > 0 && t.changes[k.last-1].Kind == conntrack.Update:
		t.told--
		t.changes[k.last-1], t.urgent[k.last-1] = e, true
		t.waits(soon)
	default:
		t.told--
		t.change(k, e, true)
	}
	if k != nil && len(t.unused) < mostUnused {
		*k = known{}
		t.unused = append(t.unused, k)
	}
}

func (t *Table) change(k *known, e conntrack.Event, urgent bool) {
	if t.changes == nil {
		t.changes, t.spare = t.spare, nil
	}
	t.changes, t.urgent = append(t.changes, e), append(t.urgent, urgent)
	k.last = len(t.changes)
	if urgent {
		t.waits(soon)
	} else {
		t.waits(counters)
	}
}

func (t *Table) waits(u urgency) {
	if u > t.urgency {
		t.urgency = u
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// waiting says how urgent is what waits, and whether the server still follows. What waits
// for a server that has much to acknowledge waits on.
func (t *Table) waiting() (urgency, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flying >= t.room && t.follows && !t.stalled() {
		return idle, true
	}
	return t.urgency, t.follows
}

// stalled reports whether a server has not acknowledged anything for long, as one whose
// disk is full: it is to show what lives all the same.
func (t *Table) stalled() bool { return time.Since(t.ackedAt) > stallTime }

// keep has an end told when a server follows.
func (t *Table) keep(e conntrack.Event) {
	t.kept = append(t.kept, e)
	for len(t.kept)+t.flying > t.room {
		if t.spool != nil && len(t.kept) > t.room/2 && t.spill() {
			continue
		}
		if !t.shed() {
			t.kept = t.kept[1:]
			t.lost++
		}
	}
}

// shed counts the oldest ends in flight as lost, if there are any. The losses that were
// told with them are not acknowledged either.
func (t *Table) shed() bool {
	i := slices.IndexFunc(t.flight, func(d sent) bool { return len(d.ends) > 0 })
	if i < 0 {
		return false
	}
	d := &t.flight[i]
	t.lost += uint64(len(d.ends))
	t.flying -= len(d.ends)
	if d.ends = nil; d.lost == 0 {
		t.flight = slices.Delete(t.flight, i, i+1)
	}
	return true
}

// sending notes a delta that is about to be sent.
func (t *Table) sending(seq uint64, events []conntrack.Event, lost uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.acks {
		return
	}
	d := sent{seq: seq, lost: lost}
	if n := countEnds(events); n > 0 {
		d.ends = make([]conntrack.Event, 0, n)
		for _, e := range events {
			if e.Kind == conntrack.Close {
				d.ends = append(d.ends, e)
			}
		}
	}
	if d.ends == nil && lost == 0 {
		return
	}
	if n := len(t.flight); n >= t.room && d.ends == nil {
		// Of a server that never acknowledges too many losses would be noted one by one.
		if last := &t.flight[n-1]; last.ends == nil && last.spooled == 0 {
			last.seq, last.lost = seq, last.lost+lost
			return
		}
	}
	t.flight = append(t.flight, d)
	for t.flying += len(d.ends); t.flying > t.room && t.stalled() && t.shed(); {
	}
}

// landedAll reports whether all that was sent is acknowledged.
func (t *Table) landedAll() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.flight) == 0
}

// acked notes that the server has recorded all deltas up to one.
func (t *Table) acked(seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ackedAt = time.Now()
	t.landed(seq)
}

func (t *Table) landed(seq uint64) {
	before := t.flying
	for len(t.flight) > 0 && t.flight[0].seq <= seq {
		t.flying -= len(t.flight[0].ends)
		t.flight = t.flight[1:]
	}
	if len(t.flight) == 0 {
		t.flight = nil
	}
	if before >= t.room && t.flying < t.room {
		if u := t.urgency; u != idle {
			t.urgency = idle
			t.waits(u)
		}
	}
	if !t.reading {
		return
	}
	if !slices.ContainsFunc(t.flight, sent.isSpooled) {
		t.spool.drop()
		t.reading = false
		if len(t.spool.batches) > 0 {
			t.waits(soon)
		}
	}
}

// joined notes that there is a new link, to a server that has recorded all deltas up to
// one, and whose process has taken in all up to another. Those wait on for their
// acknowledgement; what else was in flight is to be told again.
func (t *Table) joined(recorded, heard uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.landed(recorded)
	var again []conntrack.Event
	for len(t.flight) > 0 {
		d := t.flight[len(t.flight)-1]
		if d.seq <= heard {
			break
		}
		t.flight = t.flight[:len(t.flight)-1]
		t.flying -= len(d.ends)
		t.lost += d.lost
		if d.isSpooled() {
			// It may be that the server has recorded it, and not that this run has told it.
			b := &t.spool.batches[0]
			b.told, b.known = d.after, false
		}
		again = append(slices.Clone(d.ends), again...)
	}
	// What flew was before what was kept.
	t.kept = append(again, t.kept...)
	t.reading = false // what was not heard of the batch is read again
	if t.spool != nil && len(t.spool.batches) > 0 {
		t.spool.batches[0].asked = false
	}
}

func countEnds(events []conntrack.Event) (n int) {
	for i := range events {
		if events[i].Kind == conntrack.Close {
			n++
		}
	}
	return n
}

// take returns what changed; changes of counters alone only if asked for. The events are
// the caller's until it gives them back.
func (t *Table) take(all bool) ([]conntrack.Event, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.taken(all)
}

// giveBack lets the table use the room of events again, unless they were of a burst.
func (t *Table) giveBack(events []conntrack.Event) {
	busy := cap(events) <= 4*len(events)+64
	clear(events)
	t.mu.Lock()
	defer t.mu.Unlock()
	if busy && cap(events) <= mostSpare && t.spare == nil {
		t.spare = events[:0]
	}
}

func (t *Table) taken(all bool) (events []conntrack.Event, lost uint64) {
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

// follow returns the IDs of all connections, those that opened first at most, for a
// server that follows from here on: it is to be given them, a part at a time. What it has
// to know before are the changes, if it did follow, or the ends that were kept, and losses.
func (t *Table) follow(most int, acks bool) (ids []uint64, before []conntrack.Event, lost uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, lost = t.taken(true)
	if !t.follows {
		before, t.kept = append(t.kept, before...), nil
	}
	t.acks = acks
	if !t.follows {
		t.ackedAt = time.Now()
	}
	all := make([]*known, 0, len(t.conns))
	for _, k := range t.conns {
		k.told = false
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b *known) int {
		return cmp.Or(a.conn.Opened.Compare(b.conn.Opened), cmp.Compare(a.conn.ID, b.conn.ID))
	})
	t.follows, t.most, t.told = true, most, min(most, len(all))
	ids = make([]uint64, t.told)
	for i, k := range all[:t.told] {
		k.told = true
		ids[i] = k.conn.ID
	}
	for _, k := range all[t.told:] {
		if !k.lost {
			k.lost = true
			lost++
		}
	}
	return ids, before, lost
}

// part appends to conns the first of some connections, as many as go into a frame, and
// returns the others. One that has closed since is left out: its Close event waits in
// changes, and holds the whole connection.
func (t *Table) part(conns []conntrack.Conn, ids []uint64) ([]conntrack.Conn, []uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	bytes := maxFrameExtra
	for n, id := range ids {
		k := t.conns[id]
		if k == nil || !k.told || k.last > 0 && t.changes[k.last-1].Kind == conntrack.Open {
			continue // the last is another one with the same ID, which opens in a change
		}
		if bytes += rowSize(&k.conn); len(conns) == maxItems || bytes > MaxSize {
			return conns, ids[n:]
		}
		conns = append(conns, k.conn)
	}
	return conns, nil
}

// unfollow is for when a link ends: lost are the losses that were taken but
// could not be told.
func (t *Table) unfollow(lost uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lost += lost
	t.forget()
}

// forget drops what waits, but for ends.
func (t *Table) forget() {
	for _, e := range t.changes {
		if e.Kind == conntrack.Close {
			t.keep(e)
		}
	}
	for _, k := range t.conns {
		k.last, k.told = 0, false
	}
	t.changes, t.urgent, t.follows, t.urgency = nil, nil, false, idle
}
