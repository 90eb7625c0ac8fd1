package monitor

import (
	"context"
	"slices"
	"time"

	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/history"
)

const (
	writeEvery     = 250 * time.Millisecond
	maxWrites      = 2000             // new connections at a time: the map must not wait for the history
	refreshEvery   = 12 * time.Second // of live connections in the history
	maxRefreshes   = 250              // at a time: very many connections take longer
	finalWriteTime = 20 * time.Second // maximum time for recording when the monitor ends
	openTime       = time.Second / 2  // how long an agent waits for a history that is being opened
	nameTimeout    = 2 * time.Second  // how long recording waits for the program of a connection
)

// record queues an Entry of a connection. closed is zero while it is open.
func (m *Monitor) record(e *entry, closed time.Time) {
	if !m.recording() {
		return
	}
	c, opens, now := e.conn, e.program == nil, time.Now()
	if opens {
		e.program = c.Process
	}
	e.at = now.Sub(start)
	seen := now
	if !closed.IsZero() {
		seen = closed
	}
	process := c.Process
	if process.Comm != e.program.Comm {
		process = e.program // the program has executed another one since
	}
	precision, country := "", ""
	if c.Scope == live.Internet {
		country = c.Place.Country // of other peers it is that of the server
	}
	if locatedOnInternet(c) {
		precision = c.Place.Precision.String()
	}
	m.add(history.Entry{
		Agent: c.Agent, Protocol: c.Proto.String(), Direction: c.Direction.String(),
		Local: c.Local.AddrPort(), Peer: c.Peer.AddrPort(),
		Program: e.program.Comm, Exe: process.Exe, Container: process.Container,
		ASN: c.ASN, Org: c.Org, Country: country,
		Lat: c.Place.Lat, Lon: c.Place.Lon, Located: precision != "", Precision: precision,
		PeerName: c.Name, PeerNameSource: c.NameSource.String(),
		Rule: m.labels[c.Rule], New: opens, Resumed: e.resumed, Opened: c.Opened.Time(), Seen: seen, Closed: closed, Tx: c.Tx, Rx: c.Rx,
	})
}

// recordLoss records that an agent has lost n events.
func (m *Monitor) recordLoss(agent string, n uint64) {
	if m.recording() && n > 0 {
		m.add(history.Loss{Agent: agent, Count: n, Seen: time.Now()})
	}
}

// Recorded implements feed.Acknowledger.
func (m *Monitor) Recorded(a feed.Agent, number uint64, f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.recording() {
		f()
		return true
	}
	if ag := m.agents[a.ID]; ag == nil || ag.behind {
		return false
	}
	ag := m.agents[a.ID]
	var report []history.Record
	if number > 0 {
		report = []history.Record{history.Report{Run: a.Run, Number: number, Seen: time.Now()}}
	}
	if !m.Opening.Load() {
		m.Writer.AddAll(append(ag.pending, report...), f)
		ag.pending = nil
		return true
	}
	if len(m.backlog.reports) >= maxBacklog {
		// The agent has to report that again, and all that follows.
		ag.behind, ag.pending = true, nil
		return false
	}
	m.release(ag)
	m.backlog.reports = append(m.backlog.reports, backlogReport{report, f})
	return true
}

// release records what is pending of an agent without its Report.
func (m *Monitor) release(ag *agent) {
	for _, r := range ag.pending {
		m.add(r)
	}
	ag.pending = nil
}

// deferCloses reports whether close events among those of an agent must be refused, because the
// write queue is nearly full. The agent reports them again; the map must go on.
func (m *Monitor) deferCloses(ag *agent, events int) bool {
	// Never those of this machine, which the kernel does not repeat, nor while the disk is full.
	if m.Opening.Load() {
		// Half of the backlog is for this machine.
		if ag.ID != 0 && len(m.backlog.records)+events > maxBacklog/2 {
			ag.behind = true
		}
		return ag.behind
	}
	if ag.ID != 0 && m.Writer != nil {
		if free, size := m.Writer.Room(); free < size/4+events && !m.Writer.Failing() {
			ag.behind = true
		}
	}
	return ag.behind
}

// LastRecorded implements feed.Acknowledger.
func (m *Monitor) LastRecorded(run [16]byte) uint64 {
	m.init()
	if m.Opening.Load() {
		// Most histories open within this time.
		select {
		case <-m.opened:
		case <-time.After(m.openTime):
			return 0
		}
	}
	if !m.recording() {
		return 0
	}
	// On error some events are reported again.
	n, _ := m.History.LastReport(context.Background(), run)
	return n
}

func locatedOnInternet(c *live.Conn) bool {
	return c.Scope == live.Internet && c.Place.Precision != geoip.Unknown
}

// write records new connections, and refreshes the others in rounds. The table itself is the
// queue, so that no live connection is lost.
func (m *Monitor) write() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.recording() {
		return
	}
	room := 0
	if !m.Opening.Load() {
		// Most room is for close events, which cannot wait in the table.
		free, size := m.Writer.Room()
		room = free - size*7/8
		m.writeNew(min(room, maxWrites), false)
	}
	if m.closedUnwritten > 1000 && m.closedUnwritten > len(m.unwritten)/8 {
		m.unwritten = slices.DeleteFunc(m.unwritten, func(e *entry) bool { return e.closed })
		m.closedUnwritten = 0
	}
	if room -= maxWrites; room < 0 {
		return
	}
	// In rounds, since each transaction has a cost, however small it is.
	now := time.Now()
	if m.next >= min(m.round, len(m.order)) {
		if now.Sub(m.began) < refreshEvery {
			return
		}
		m.sweep()
		m.next, m.round, m.began = 0, len(m.order), now
	}
	for n := 0; m.next < min(m.round, len(m.order)) && n < min(room, maxRefreshes); m.next++ {
		// A connection that is being closed does not count as seen.
		if e := m.order[m.next]; !e.closed && !e.conn.State.BeingClosed() && e.program != nil && now.Sub(start)-e.at > refreshEvery/2 {
			m.record(e, time.Time{})
			n++
		}
	}
}

// writeNew records up to n new connections. Unless all is true, those without a program wait
// for it, since it becomes part of their key. Those of an agent whose Report is still to come
// wait for that, because earlier connections with the same ends have closed before them.
func (m *Monitor) writeNew(n int, all bool) {
	waiting := make(map[string]bool)
	for _, ag := range m.agents {
		if len(ag.pending) > 0 && all {
			m.release(ag)
		}
		waiting[ag.name] = len(ag.pending) > 0
	}
	var later []*entry
	i := 0
	for ; i < len(m.unwritten) && n > 0; i++ {
		e := m.unwritten[i]
		switch {
		case e.closed:
			m.closedUnwritten--
		case e.program != nil:
		case waiting[e.conn.Agent]:
			later = append(later, e)
		case e.conn.Process.Comm == "" && time.Since(start)-e.at < nameTimeout && !all:
			later = append(later, e)
		default:
			m.record(e, time.Time{})
			n--
		}
	}
	i -= copy(m.unwritten[i-len(later):i], later)
	clear(m.unwritten[:i])
	if m.unwritten = m.unwritten[i:]; len(m.unwritten) == 0 {
		m.unwritten = nil
	}
}

// writeAll records all new connections when the monitor ends.
func (m *Monitor) writeAll() {
	for end := time.Now().Add(finalWriteTime); !m.Opening.Load() && m.Writer != nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		m.mu.Lock()
		free, _ := m.Writer.Room()
		m.writeNew(free, true)
		left := len(m.unwritten)
		m.mu.Unlock()
		if left == 0 || m.Writer.Problem() != nil {
			return
		}
	}
}
