package monitor

import (
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

// recordLoss hands to the history that an agent could not tell so many events.
func (m *Monitor) recordLoss(agent string, n uint64) {
	if m.Writer != nil && n > 0 {
		m.Writer.Add(history.Entry{Agent: agent, Lost: n, Seen: time.Now()})
	}
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
