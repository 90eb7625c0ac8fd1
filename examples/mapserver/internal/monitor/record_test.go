package monitor

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/history"
)

// TestManyConnectionsAreRecorded: more at once than wait for the history get there, those
// that end before their turn too, and what is acknowledged is there.
func TestManyConnectionsAreRecorded(t *testing.T) {
	const n, ended = 90_000, 70_000
	file := filepath.Join(t.TempDir(), "h.sqlite")
	db, err := history.Open(t.Context(), file, history.Options{})
	require.NoError(t, err)
	defer db.Close()
	m := newMonitor(t, "")
	m.History, m.Writer = db, db.Writer()
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { m.Run(ctx) })
	a := feed.Agent{ID: 1, Name: "nas"}
	m.Join(a)
	var conns []conntrack.Conn
	var ends []conntrack.Event
	for i := range n {
		c := conn(uint64(i), fmt.Sprintf("8.%d.%d.8:443", i>>8&255, i&255))
		c.Local = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i >> 16)}), uint16(1000+i>>16))
		conns = append(conns, c)
		if i < ended {
			ends = append(ends, conntrack.Event{Kind: conntrack.Close, Conn: c})
		}
	}
	m.Full(a, conns)
	acked := make(chan struct{})
	for part := range slices.Chunk(ends, 4000) {
		m.Delta(a, part)
	}
	m.Recorded(func() { close(acked) })
	select {
	case <-acked:
	case <-time.After(time.Minute):
		t.Fatal("not recorded")
	}
	c, err := history.OpenConsole(file, history.ConsoleOptions{})
	require.NoError(t, err)
	count := func(where string) any {
		table, err := c.Ask(t.Context(), history.Question{SQL: `SELECT count(*) FROM detailed_history WHERE ` + where})
		require.NoError(t, err)
		return table.Rows[0][0]
	}
	assert.EqualValues(t, ended, count("closed IS NOT NULL"))
	cancel()
	work.Wait()
	require.NoError(t, m.Writer.Close())
	assert.Zero(t, m.Writer.Dropped())
	assert.EqualValues(t, n, count("count = 1"), "what lives is written when the monitor ends")
}
