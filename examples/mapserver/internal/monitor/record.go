package monitor

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/history"
)

// record hands what is known of a connection to the history: that it opened,
// when it closed, or, with neither, that it is alive.
func (m *Monitor) record(c *live.Conn, opens bool, closed time.Time) {
	if m.Writer == nil {
		return
	}
	m.Writer.Add(history.Entry{
		Agent: c.Agent, Protocol: c.Proto.String(), Direction: c.Direction.String(),
		Local: c.Local, Peer: c.Peer,
		Program: c.Process.Comm, Exe: c.Process.Exe, Container: c.Process.Container,
		ASN: c.ASN, Org: c.Org, Country: c.Place.Country,
		Lat: c.Place.Lat, Lon: c.Place.Lon, Located: locatedOnInternet(c),
		Rule: m.labels[c.Rule], New: opens, Opened: c.Opened, Seen: time.Now(), Closed: closed, Tx: c.Tx, Rx: c.Rx,
	})
}

// Recorded implements feed.Recorder.
func (m *Monitor) Recorded(f func()) {
	if m.Writer == nil {
		f()
		return
	}
	m.Writer.Then(f)
}

func locatedOnInternet(c *live.Conn) bool {
	return c.Scope == live.Internet && c.Place.Precision != geoip.Unknown
}

// refresh notes in the history that what is alive was seen now.
func (m *Monitor) refresh() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep()
	for _, e := range m.order {
		m.record(e.conn, false, time.Time{})
	}
}

// ShowHistory puts the places of the stored history into the states to come,
// or leaves them out.
func (m *Monitor) ShowHistory(on bool) {
	m.init()
	m.mu.Lock()
	m.wantMarks = on
	if on && m.marks == nil {
		m.marks = merged(nil, m.loaded)
	}
	start := on && m.History != nil && !m.readsMarks
	m.readsMarks = m.readsMarks || start
	m.mu.Unlock()
	m.touch()
	if start {
		m.ask <- m.readMarks
	}
}

// readMarks reads the places of the history and reads them again for as long
// as they are wanted.
func (m *Monitor) readMarks(ctx context.Context) {
	for ctx.Err() == nil {
		m.Problem("places", "")
		var marks []live.Mark
		for p, err := range m.History.Places(ctx) {
			if err != nil {
				if ctx.Err() == nil {
					m.Problem("places", err.Error())
				}
				marks = nil
				break
			}
			marks = append(marks, live.Mark{Lat: p.Lat, Lon: p.Lon, Count: p.Count})
		}
		m.mu.Lock()
		if !m.wantMarks {
			m.readsMarks, m.marks = false, nil
			m.mu.Unlock()
			return
		}
		m.marks = merged(marks, m.loaded)
		m.mu.Unlock()
		m.touch()
		select {
		case <-ctx.Done():
			return
		case <-time.After(marksEvery):
		}
	}
}

// ShowAddrs puts the addresses of the stored history into the states to come, or
// leaves them out.
func (m *Monitor) ShowAddrs(on bool) {
	m.init()
	m.mu.Lock()
	m.wantAddrs = on
	start := on && m.History != nil && !m.readsAddrs
	m.readsAddrs = m.readsAddrs || start
	m.mu.Unlock()
	m.touch()
	if start {
		m.ask <- m.readAddrs
	}
}

// readAddrs reads the addresses of the history, and again for as long as they are
// wanted.
func (m *Monitor) readAddrs(ctx context.Context) {
	for {
		var addrs []uint32
		for a, err := range m.History.Addrs(ctx) {
			if err != nil {
				addrs = nil // recording says what is wrong
				break
			}
			if a.Is4() {
				raw := a.As4()
				addrs = append(addrs, binary.BigEndian.Uint32(raw[:]))
			}
		}
		m.mu.Lock()
		if !m.wantAddrs || ctx.Err() != nil {
			m.readsAddrs, m.addrs = false, nil
			m.mu.Unlock()
			return
		}
		m.addrs = addrs
		m.mu.Unlock()
		m.touch()
		select {
		case <-ctx.Done():
		case <-time.After(addrsEvery):
		}
	}
}
