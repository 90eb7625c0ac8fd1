package monitor

import (
	"context"
	"net/netip"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed"
)

// Follow takes in the connections of an agent inside this process, which has
// joined, until ctx ends or the source fails. The agent's ID should be zero,
// which the server of feed gives to none.
func (m *Monitor) Follow(ctx context.Context, a feed.Agent, src feed.Source) error {
	defer m.Leave(a)
	for e, err := range src.Events(ctx) {
		if err != nil {
			return err
		}
		e.Conn.Process = feed.CleanProcess(e.Conn.Process)
		e.Conn.Local, e.Conn.Peer = withoutZone(e.Conn.Local), withoutZone(e.Conn.Peer)
		m.Delta(a, []conntrack.Event{e})
	}
	return nil
}

// withoutZone leaves out the device of a link-local address, as the link of an agent does.
func withoutZone(a netip.AddrPort) netip.AddrPort {
	if a.Addr().Zone() == "" {
		return a
	}
	return netip.AddrPortFrom(a.Addr().WithZone(""), a.Port())
}
