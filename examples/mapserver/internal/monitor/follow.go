package monitor

import (
	"context"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/conntrack/feed/frame"
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
		e.Conn = frame.Clean(e.Conn)
		m.Delta(a, []conntrack.Event{e})
	}
	return nil
}
