// Package monitor is the core of the map server: it takes in what agents
// report, locates, names and classifies each connection once when it opens,
// records it and publishes the state that the window shows.
// It neither draws nor speaks to the network; feed does that for it.
package monitor

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/conntrack/feed/frame"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/internal/peernames"
	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/rules"
)

const (
	minPublishInterval = 100 * time.Millisecond
	settleTime         = 2 * time.Second        // of a new collector: until then it may report connections that opened before
	maxPublishInterval = 500 * time.Millisecond // if anything changes
	marksEvery         = 5 * time.Second        // of the history's places while they are shown
	addrsEvery         = time.Minute            // of its addresses
	watchEvery         = 2 * time.Second        // interval of checks whether the history can be written
	pruneEvery         = time.Minute
)

// A server finds out by itself whether its Handler is an Acknowledger.
var _ feed.Acknowledger = (*Monitor)(nil)

// A Monitor is the table of all agents' connections. It is the Handler of a feed.Server and, as
// its Acknowledger, tells it when connections are recorded. Its fields must be set
// before the first use and not change afterwards; its methods are safe for
// concurrent use.
type Monitor struct {
	Geo     geoip.Tables
	NAT64   ranges.NAT64  // of translators whose addresses stand for IPv4 ones
	ASN     []*asn.DB     // asked in order until one knows the address
	History history.Store // nil: nothing is recorded
	Writer  history.Recorder
	// Opening is true until Opened sets History and Writer, since a large history may have to be
	// upgraded. Nobody may use these fields until then.
	Opening atomic.Bool
	Home    geoip.Place
	Names   peernames.Mode // which names of peers are shown and recorded
	// Changed, if not nil, is called after a new state was published, on the
	// goroutine of Run. It must not block.
	Changed func()

	mu                 sync.Mutex
	rules              *rules.Set
	labels             []string // of rules, by index
	beeping            []bool   // whether rules want a sound, by index
	agents             map[uint64]*agent
	order              []*entry // by opening; closed ones are removed when a state is made
	closed             int      // number of closed entries in order
	backlog            backlog
	inDelta            *agent   // whose Delta is being processed; nil: none, or that of this machine
	unwritten          []*entry // not yet recorded; may include some that have closed
	closedUnwritten    int      // number of closed entries in unwritten
	next, round        int      // indexes in order: the next connection to refresh in the history, and the end of the round
	began              time.Time
	marks              overlay[history.Mark]
	loaded             []history.Mark // from a file
	reset              bool           // the history has been reset: SaveMarks does not keep older places
	addrs              overlay[uint32]
	stats              *history.Stats
	wantStats          bool
	problems           map[string]string // by subject
	problemOrder       []string          // keys of problems
	seq, beeps, others uint64

	once     sync.Once
	openTime time.Duration              // see the constant
	opened   chan struct{}              // closed by Opened
	dirty    chan struct{}              // capacity 1: there is something to publish
	ask      chan func(context.Context) // capacity 2: reads of the history that Run starts
	// capacity 1: prune now
	pruneNow chan struct{}
	state    atomic.Pointer[live.State]
	geo      atomic.Pointer[[]*geoip.DB] // in place of Geo; nil: Geo itself
	asn      atomic.Pointer[[]*asn.DB]   // in place of ASN; nil: ASN itself
}

type agent struct {
	feed.Agent
	name      string // unique among the agents
	lost      uint64
	conns     map[uint64]*entry
	closing   int                                      // of conns, those that are being closed
	processes map[conntrack.Process]*conntrack.Process // of conns and of some that closed: of equal ones one
	// Close events were refused: the agent must report them again after it has reconnected.
	behind bool
	// Records of its last Delta: stored together with its Report.
	pending  []history.Record
	syncedAt time.Time // connections that are new after this have opened after it; zero until the first Full
}

// An entry is a connection in the table. conn is replaced, never changed.
type entry struct {
	conn    *live.Conn
	program *conntrack.Process // as recorded, of which Comm is part of the key; nil: it was never recorded
	at      time.Duration      // since start: when it was recorded last, or added if it never was
	resumed bool               // it may have opened before its agent looked
	closed  bool
}

// start is the reference of the times of entries: a time.Time would be three times as large.
var start = time.Now()

func (m *Monitor) init() {
	m.once.Do(func() {
		m.agents = make(map[uint64]*agent)
		m.problems = make(map[string]string)
		m.opened = make(chan struct{})
		if m.openTime == 0 {
			m.openTime = openTime
		}
		m.dirty = make(chan struct{}, 1)
		m.ask = make(chan func(context.Context), 2)
		m.pruneNow = make(chan struct{}, 1)
		m.marks = overlay[history.Mark]{about: "places", every: marksEvery, read: m.readMarks, now: make(chan struct{}, 1)}
		m.addrs = overlay[uint32]{about: "addresses", every: addrsEvery, read: m.readAddrs, now: make(chan struct{}, 1)}
	})
}

// State returns the state published last; it is never nil.
func (m *Monitor) State() *live.State {
	if st := m.state.Load(); st != nil {
		return st
	}
	return &live.State{}
}

// Run publishes changes and records live connections until ctx ends.
func (m *Monitor) Run(ctx context.Context) {
	m.init()
	m.touch()
	write := time.NewTicker(writeEvery)
	defer write.Stop()
	defer m.writeAll()
	var others sync.WaitGroup
	defer others.Wait()
	others.Go(func() {
		if m.Opening.Load() {
			select {
			case <-ctx.Done():
				return
			case <-m.opened:
			}
		}
		// Start the overlays that were requested before the history was open.
		m.mu.Lock()
		marks, addrs := m.marks.wanted, m.addrs.wanted
		m.mu.Unlock()
		if marks {
			m.ShowHistory(true)
		}
		if addrs {
			m.ShowAddrs(true)
		}
		if m.Writer != nil {
			m.maintain(ctx)
		}
	})
	for {
		select {
		case <-ctx.Done():
			return
		case <-write.C:
			m.write()
		case read := <-m.ask:
			others.Go(func() { read(ctx) })
		case <-m.dirty:
			begin := time.Now()
			m.Publish()
			select {
			case <-ctx.Done():
				return
			// With very many connections less often, to take at most a tenth of a processor.
			case <-time.After(min(max(minPublishInterval, 10*time.Since(begin)), maxPublishInterval)):
			}
		}
	}
}

// touch has Run publish a new state soon.
func (m *Monitor) touch() {
	m.init()
	select {
	case m.dirty <- struct{}{}:
	default:
	}
}

// Publish makes a state of the table at once.
func (m *Monitor) Publish() {
	m.init()
	m.mu.Lock()
	m.seq++
	st := &live.State{
		Seq: m.seq, Time: time.Now(),
		Conns: make([]*live.Conn, 0, len(m.order)-m.closed),
		Rules: m.rules.Rules(),
		Home:  m.Home, Geo: sourceOf(tables(&m.geo, m.Geo)), NetworksDate: newest(tables(&m.asn, m.ASN)),
		HistoryStats: m.stats, Beeps: m.beeps, Others: m.others, Opening: m.Opening.Load(),
	}
	// Of very many entries one pass is much cheaper than two.
	m.order = slices.DeleteFunc(m.order, func(e *entry) bool {
		if !e.closed {
			st.Conns = append(st.Conns, e.conn)
		}
		return e.closed
	})
	m.closed = 0
	if m.addrs.wanted {
		st.Addrs = m.addrs.data
	}
	if m.marks.wanted {
		st.Marks = m.marks.data
	}
	for _, a := range m.agents {
		st.Agents = append(st.Agents, live.Agent{
			ID: a.ID, Name: a.name, Addr: a.Addr, Since: a.Since, Backend: a.Backend, Limited: a.Limited, Lost: a.lost, Conns: len(a.conns) - a.closing,
		})
	}
	for _, key := range m.problemOrder {
		st.Problems = append(st.Problems, m.problems[key])
	}
	m.mu.Unlock()
	slices.SortFunc(st.Agents, func(a, b live.Agent) int { return cmp.Compare(a.Name, b.Name) })
	if m.Unrecorded() == nil && m.Writer != nil {
		if err := m.Writer.Problem(); err != nil {
			st.Problems = append(st.Problems, err.Error())
		}
		if p := m.History.Problem(); p != "" {
			st.Problems = append(st.Problems, p)
		}
	}
	m.state.Store(st)
	if m.Changed != nil {
		m.Changed()
	}
}

// sweep removes closed entries from order.
func (m *Monitor) sweep() {
	if m.closed > 0 {
		m.order = slices.DeleteFunc(m.order, func(e *entry) bool { return e.closed })
		m.closed = 0
	}
}

// Join implements feed.Handler.
func (m *Monitor) Join(a feed.Agent) {
	m.init()
	m.mu.Lock()
	defer m.mu.Unlock()
	name := a.Name
	for n := 2; m.named(name); n++ {
		name = fmt.Sprintf("%s #%d", a.Name, n)
	}
	ag := &agent{Agent: a, name: name, conns: make(map[uint64]*entry), processes: make(map[conntrack.Process]*conntrack.Process)}
	if a.ID == 0 {
		ag.syncedAt = time.Now().Add(settleTime) // of this machine, which sends no Full
	}
	m.agents[a.ID] = ag
	m.touch()
}

func (m *Monitor) named(name string) bool {
	for _, a := range m.agents {
		if a.name == name {
			return true
		}
	}
	return false
}

// Limit sets why an agent does not see everything; empty: it does.
func (m *Monitor) Limit(a feed.Agent, why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ag := m.agents[a.ID]; ag != nil {
		ag.Limited = why
		m.touch()
	}
}

// Leave implements feed.Handler.
func (m *Monitor) Leave(a feed.Agent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ag := m.agents[a.ID]
	if ag == nil {
		return
	}
	m.release(ag)
	// The link ended, not the connections: the history keeps when they were
	// last seen, and only the live table removes them.
	for id, e := range ag.conns {
		opens := e.program == nil
		m.drop(ag, id, e)
		if opens {
			m.record(e, time.Time{})
		}
	}
	delete(m.agents, a.ID)
	m.touch()
}

// Full implements feed.Handler.
func (m *Monitor) Full(a feed.Agent, conns []conntrack.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ag := m.agents[a.ID]
	if ag == nil {
		return
	}
	gone := maps.Clone(ag.conns)
	for _, c := range conns {
		delete(gone, c.ID)
		m.put(ag, c)
	}
	if ag.syncedAt.IsZero() {
		ag.syncedAt = time.Now()
	}
	behind, unknown := len(gone) > 0 && m.deferCloses(ag, len(gone)), uint64(0)
	for id, e := range gone {
		if !behind {
			m.closeConn(ag, id, e, time.Now())
			continue
		}
		// The agent does not report these again.
		if m.drop(ag, id, e); e.program == nil {
			unknown++
		}
	}
	m.recordLoss(ag.name, unknown)
	m.touch()
}

// Delta implements feed.Handler.
func (m *Monitor) Delta(a feed.Agent, events []conntrack.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ag := m.agents[a.ID]
	if ag == nil {
		return
	}
	behind := m.deferCloses(ag, len(events))
	m.release(ag)
	if a.ID != 0 {
		m.inDelta = ag
		defer func() {
			// Otherwise feed calls Recorded next.
			if m.inDelta = nil; behind || !slices.ContainsFunc(events, func(e conntrack.Event) bool { return e.Kind >= conntrack.Close }) {
				m.release(ag)
			}
		}()
	}
	for _, e := range events {
		switch e.Kind {
		case conntrack.Open, conntrack.Update:
			m.put(ag, e.Conn)
		case conntrack.Close:
			// A short connection arrives as a close event only. But one that closed before
			// the agent's first Full may be open in the history.
			known := ag.conns[e.Conn.ID] != nil
			before := ag.syncedAt.IsZero() || frame.Spooled(e.Conn)
			m.put(ag, e.Conn)
			n := ag.conns[e.Conn.ID]
			if !known {
				n.resumed = before
			}
			if behind {
				m.drop(ag, e.Conn.ID, n)
			} else {
				m.closeConn(ag, e.Conn.ID, n, e.Time)
			}
		case conntrack.Lost:
			ag.lost = sumLost(ag.lost, e.Lost)
			if !behind {
				m.recordLoss(ag.name, e.Lost)
			}
		}
	}
	m.touch()
}

// put adds or updates a connection.
func (m *Monitor) put(ag *agent, c conntrack.Conn) {
	c.Tx, c.Rx = clampBytes(c.Tx, c.Opened), clampBytes(c.Rx, c.Opened)
	if c.Name = m.Names.Of(c.Name); c.Name == "" {
		c.NameSource = 0
	}
	old := ag.conns[c.ID]
	if old == nil {
		e := &entry{at: time.Since(start)}
		ag.set(e, m.enrich(ag, c))
		e.resumed = ag.syncedAt.IsZero() || time.Now().Before(ag.syncedAt)
		ag.conns[c.ID] = e
		m.order = append(m.order, e)
		if m.recording() {
			m.unwritten = append(m.unwritten, e)
		}
		m.count(e.conn.Rule)
		return
	}
	was, n := old.conn, live.New(c, ag.process(c.Process))
	if n.Peer != was.Peer || n.Local != was.Local || n.Proto != was.Proto {
		// A socket that connects again keeps its ID.
		m.closeConn(ag, c.ID, old, time.Now())
		m.put(ag, c)
		return
	}
	if n.State == was.State && n.Direction == was.Direction && c.Process == *was.Process &&
		n.Tx == was.Tx && n.Rx == was.Rx && n.RTT == was.RTT && n.Opened == was.Opened && n.Name == was.Name && n.NameSource == was.NameSource {
		return
	}
	// Place and network do not change. The rule may, since program and name may become known late.
	n.Agent, n.Scope, n.Place, n.ASN, n.Org, n.Rule = was.Agent, was.Scope, was.Place, was.ASN, was.Org, was.Rule
	n.Counted = live.StampOf(time.Now())
	if n.Counted >= was.Counted { // else somebody has set the clock
		dt := max(n.Counted.Time().Sub(was.Counted.Time()).Seconds(), 0.05)
		n.TxRate, n.RxRate = float32(float64(c.Tx-min(c.Tx, was.Tx))/dt), float32(float64(c.Rx-min(c.Rx, was.Rx))/dt)
	}
	if c.Process != *was.Process || n.Name != was.Name {
		if n.Rule = m.classify(&n); n.Rule != was.Rule {
			m.count(n.Rule)
		}
	}
	ag.set(old, &n)
}

// set replaces the connection of an entry.
func (ag *agent) set(e *entry, c *live.Conn) {
	if e.conn != nil && e.conn.State.BeingClosed() {
		ag.closing--
	}
	if e.conn = c; c.State.BeingClosed() {
		ag.closing++
	}
}

// process returns p in memory that it shares with equal ones.
func (ag *agent) process(p conntrack.Process) *conntrack.Process {
	known := ag.processes[p]
	if known == nil {
		// Most of them may be those of connections that have closed.
		if len(ag.processes) > len(ag.conns)+64 {
			clear(ag.processes)
		}
		known = &p
		ag.processes[p] = known
	}
	return known
}

// clampBytes bounds the bytes that an agent reports of a connection by what a link can carry,
// 100 GB a second, and by what the history can store.
func clampBytes(n uint64, opened time.Time) uint64 {
	const rate = 100e9 // bytes a second
	return min(n, uint64(min(max(time.Since(opened).Seconds(), 1)*rate, history.MaxCounter)))
}

// sumLost adds two counts of lost events, up to history.MaxCounter.
func sumLost(lost, n uint64) uint64 { return min(lost+min(n, history.MaxCounter), history.MaxCounter) }

// count counts a new connection by rule, for the beeps of the window.
func (m *Monitor) count(rule int32) {
	switch list := m.beeping; {
	case int(rule) == len(list)-1:
		m.others++
	case list[rule]:
		m.beeps++
	}
}

// closeConn removes and records a connection that closed, perhaps long ago.
func (m *Monitor) closeConn(ag *agent, id uint64, e *entry, closed time.Time) {
	m.drop(ag, id, e)
	if opened := e.conn.Opened.Time(); closed.Before(opened) {
		closed = opened
	}
	m.record(e, closed)
}

// drop takes out a connection, which closed or is not reported any more.
func (m *Monitor) drop(ag *agent, id uint64, e *entry) {
	delete(ag.conns, id)
	if e.conn.State.BeingClosed() {
		ag.closing--
	}
	e.closed = true
	m.closed++
	if m.recording() && e.program == nil {
		m.closedUnwritten++
	}
	// Publish sweeps too. But the table must not grow if it is not called, for
	// example while the window is hidden.
	if m.closed > 1024 && m.closed > len(m.order)/2 {
		m.sweep()
	}
}

func (m *Monitor) enrich(ag *agent, c conntrack.Conn) *live.Conn {
	l := live.New(c, ag.process(c.Process))
	l.Agent, l.Counted, l.Scope, l.Rule = ag.name, live.StampOf(time.Now()), m.scope(c.Peer.Addr()), m.classify(&l)
	if l.Scope != live.Internet {
		l.Place = m.Home
		return &l
	}
	m.lookUp(&l)
	return &l
}

var carrierNAT = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598: behind carrier-grade NAT

// scope says how far away an address is.
func (m *Monitor) scope(a netip.Addr) live.Scope {
	switch a = m.NAT64.Inner(a); {
	case a.IsLoopback():
		return live.Loopback
	case a.IsPrivate(), a.IsLinkLocalUnicast(), a.IsMulticast(), a.IsUnspecified(), carrierNAT.Contains(a),
		a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return live.LAN
	}
	return live.Internet
}

func (m *Monitor) classify(c *live.Conn) int32 {
	return int32(m.rules.Index(rules.Conn{
		Local: c.Local.Port(), Peer: c.Peer.Port(), Comm: c.Process.Comm, Exe: c.Process.Exe, Name: c.Name,
	}))
}

// SetRules classifies all connections anew.
func (m *Monitor) SetRules(set *rules.Set) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rules = set
	m.labels, m.beeping = m.labels[:0], m.beeping[:0]
	for _, r := range set.Rules() {
		m.labels = append(m.labels, r.Label)
		m.beeping = append(m.beeping, r.Beep)
	}
	for _, e := range m.order {
		n := *e.conn
		n.Rule = m.classify(&n)
		e.conn = &n
	}
	m.touch()
}

// Problem sets the message about a subject: what is wrong and what to do. An empty text
// removes it.
func (m *Monitor) Problem(about, text string) {
	m.init()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.problems[about] == text {
		return
	}
	m.problemOrder = slices.DeleteFunc(m.problemOrder, func(k string) bool { return k == about })
	delete(m.problems, about)
	if text != "" {
		m.problemOrder = append(m.problemOrder, about)
		m.problems[about] = text
	}
	m.touch()
}
