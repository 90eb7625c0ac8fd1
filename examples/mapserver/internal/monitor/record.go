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
	writeEvery   = 250 * time.Millisecond
	writeMost    = 2000             // new connections at a time: the map comes before the history
	refreshEvery = 12 * time.Second // of what is alive, in the history
	refreshMost  = 250              // at a time, so that of very many it takes longer
	lastWords    = 20 * time.Second // of the monitor to the history, at most
	openTime     = time.Second / 2  // that an agent waits for a history that is being opened
	unnamed      = 2 * time.Second  // that a connection's program has to become known
)

// record hands what is known of a connection to the history, and when it closed.
func (m *Monitor) record(e *entry, closed time.Time) {
	if !m.records() {
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
	precision := ""
	if locatedOnInternet(c) {
		precision = c.Place.Precision.String()
	}
	m.add(history.Entry{
		Agent: c.Agent, Protocol: c.Proto.String(), Direction: c.Direction.String(),
		Local: c.Local.AddrPort(), Peer: c.Peer.AddrPort(),
		Program: e.program.Comm, Exe: c.Process.Exe, Container: c.Process.Container,
		ASN: c.ASN, Org: c.Org, Country: c.Place.Country,
		Lat: c.Place.Lat, Lon: c.Place.Lon, Located: precision != "", Precision: precision,
		Rule: m.labels[c.Rule], New: opens, Resumed: e.resumed, Opened: c.Opened.Time(), Seen: seen, Closed: closed, Tx: c.Tx, Rx: c.Rx,
	})
}

// recordLoss hands to the history that an agent could not tell so many events.
func (m *Monitor) recordLoss(agent string, n uint64) {
	if m.records() && n > 0 {
		m.add(history.Loss{Agent: agent, Count: n, Seen: time.Now()})
	}
}

// Recorded implements feed.Recorder.
func (m *Monitor) Recorded(a feed.Agent, number uint64, f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.records() {
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
	if len(m.early.reports) >= maxEarly {
		// It has to tell that again, and all that follows.
		ag.behind, ag.pending = true, nil
		return false
	}
	m.release(ag)
	m.early.reports = append(m.early.reports, earlyReport{report, f})
	return true
}

// release hands to the history what is pending of an agent, without a Report.
func (m *Monitor) release(ag *agent) {
	for _, r := range ag.pending {
		m.add(r)
	}
	ag.pending = nil
}

// deferCloses reports whether close events among those of an agent must be refused, because the
// write queue is nearly full. The agent reports them again; the map must go on.
func (m *Monitor) deferCloses(ag *agent, events int) bool {
	// The kernel does not tell again, nor is there an end to waiting for a full disk.
	if m.Opening.Load() {
		// Half of the room is for this machine.
		if ag.ID != 0 && len(m.early.records)+events > maxEarly/2 {
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

// LastRecorded implements feed.Recorder.
func (m *Monitor) LastRecorded(run [16]byte) uint64 {
	m.init()
	if m.Opening.Load() {
		// Most histories open within this time. An agent is not to wait for others.
		select {
		case <-m.opened:
		case <-time.After(m.openTime):
			return 0
		}
	}
	if !m.records() {
		return 0
	}
	// If it cannot be read some are reported again.
	n, _ := m.History.LastReport(context.Background(), run)
	return n
}

func locatedOnInternet(c *live.Conn) bool {
	return c.Scope == live.Internet && c.Place.Precision != geoip.Unknown
}

// write tells the history of connections that it does not know yet, and in turn that the
// others are alive. The table itself is the queue, so that nothing is lost of what lives.
func (m *Monitor) write() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.records() {
		return
	}
	room := 0
	if !m.Opening.Load() {
		// A close cannot be reported later, so that most room is for that.
		free, size := m.Writer.Room()
		room = free - size*7/8
		m.writeNew(min(room, writeMost), false)
	}
	if m.closedUnwritten > 1000 && m.closedUnwritten > len(m.unwritten)/8 {
		m.unwritten = slices.DeleteFunc(m.unwritten, func(e *entry) bool { return e.closed })
		m.closedUnwritten = 0
	}
	if room -= writeMost; room < 0 {
		return
	}
	// In rounds, for each transaction costs, however small it is.
	now := time.Now()
	if m.next >= min(m.round, len(m.order)) {
		if now.Sub(m.began) < refreshEvery {
			return
		}
		m.sweep()
		m.next, m.round, m.began = 0, len(m.order), now
	}
	for n := 0; m.next < min(m.round, len(m.order)) && n < min(room, refreshMost); m.next++ {
		// What is being closed is not seen any more.
		if e := m.order[m.next]; !e.closed && !e.conn.State.BeingClosed() && e.program != nil && now.Sub(start)-e.at > refreshEvery/2 {
			m.record(e, time.Time{})
			n++
		}
	}
}

// writeNew records up to n connections that the history does not know. Those without a
// program wait a while for it, unless all are to be recorded: the program is part of their key,
// as it is when they are first recorded. Those of an agent whose Report is still to come wait
// for that, because others with the same ends have closed before them.
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
		case e.conn.Process.Comm == "" && time.Since(start)-e.at < unnamed && !all:
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

// writeAll tells of all that the history does not know, when the monitor ends.
func (m *Monitor) writeAll() {
	for end := time.Now().Add(lastWords); !m.Opening.Load() && m.Writer != nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
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
