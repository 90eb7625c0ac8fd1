package monitor

import (
	"context"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/history"
)

// record hands a connection to the history: a new one, or what is known of
// one by now.
func (m *Monitor) record(c *live.Conn, opened bool) {
	if m.Writer == nil {
		return
	}
	program := c.Process.Comm
	rule := ""
	if r := m.rules.Rules(); c.Rule < len(r) {
		rule = r[c.Rule].Label
	}
	m.Writer.Add(history.Entry{
		Agent: c.Agent, Protocol: c.Proto.String(), Direction: c.Direction.String(),
		Local: c.Local, Peer: c.Peer,
		Program: program, Exe: c.Process.Exe, Container: c.Process.Container,
		ASN: c.ASN, Org: c.Org, Country: c.Place.Country,
		Lat: c.Place.Lat, Lon: c.Place.Lon, Located: c.Scope == live.Internet && c.Place.Precision != geoip.Unknown,
		Rule: rule, Opened: c.Opened, Seen: time.Now(), Tx: c.Tx, Rx: c.Rx, New: opened,
	})
}

// refresh notes in the history that what is alive was seen now.
func (m *Monitor) refresh() {
	m.mu.Lock()
	m.sweep()
	conns := make([]*live.Conn, len(m.order))
	for i, e := range m.order {
		conns[i] = e.conn
	}
	m.mu.Unlock()
	for _, c := range conns {
		m.record(c, false)
	}
}

// ShowHistory puts the places of the stored history into the states to come,
// or leaves them out.
func (m *Monitor) ShowHistory(on bool) {
	m.init()
	m.mu.Lock()
	m.wantMarks = on
	if !on {
		m.marks = nil
	}
	start := on && m.History != nil && !m.readsMarks
	m.readsMarks = m.readsMarks || start
	m.mu.Unlock()
	m.touch()
	if start {
		m.ask <- struct{}{}
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
			m.readsMarks = false
			m.mu.Unlock()
			return
		}
		m.marks = marks
		m.mu.Unlock()
		m.touch()
		select {
		case <-ctx.Done():
			return
		case <-time.After(marksEvery):
		}
	}
}
