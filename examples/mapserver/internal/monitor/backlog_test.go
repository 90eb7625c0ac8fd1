package monitor

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/history/sqlite"
)

// TestEarly: while a history is being opened connections are on the map, and nothing is
// acknowledged; then all of it is recorded, and what there was no room for as lost.
func TestEarly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "h.sqlite")
	m := newMonitor(t, "")
	m.Opening.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { m.Run(ctx) })
	agent, local := feed.Agent{ID: 1, Name: "nas"}, feed.Agent{Name: "here"}
	m.Join(agent)
	m.Join(local)
	m.Full(agent, []conntrack.Conn{conn(1, "8.8.8.8:443"), conn(2, "8.8.8.8:22")})
	end := func(c conntrack.Conn) []conntrack.Event {
		return []conntrack.Event{{Kind: conntrack.Close, Time: time.Now(), Conn: c}}
	}
	m.Delta(agent, end(conn(2, "8.8.8.8:22")))
	var acked atomic.Int64
	asked := make(chan struct{})
	require.True(t, m.Recorded(agent, 0, func() { close(asked) }))
	require.True(t, m.Recorded(agent, 7, func() { acked.Store(7) }))
	assert.Zero(t, m.LastRecorded(agent.Run))
	st, peers := published(m)
	assert.Equal(t, []string{"8.8.8.8:443"}, peers)
	assert.Equal(t, []string{}, append([]string{}, st.Problems...))
	assert.Zero(t, acked.Load())

	// This machine may fill the room; an agent then keeps what ends, and tells it again.
	for i := range uint64(maxBacklog + 10) {
		m.Delta(local, end(conn(1000+i, fmt.Sprintf("8.8.%d.%d:%d", i>>8&255, i&255, 1+i>>16))))
	}
	assert.Len(t, m.backlog.records, maxBacklog)
	m.Delta(agent, end(conn(3, "8.8.8.8:25")))
	assert.False(t, m.Recorded(agent, 8, func() { t.Error("acknowledged") }))

	db, err := sqlite.Open(t.Context(), file, sqlite.Options{})
	require.NoError(t, err)
	defer db.Close()
	w := db.Writer()
	c, err := sqlite.OpenConsole(t.Context(), file, sqlite.ConsoleOptions{})
	require.NoError(t, err)
	defer c.Close()
	ask := func(sql string) any {
		table, err := c.Ask(t.Context(), history.Question{SQL: sql})
		require.NoError(t, err)
		return table.Rows[0][0]
	}
	// What a process that is killed at any moment would leave: the close event and the report
	// that tells the agent not to send it again, or neither.
	looks, over := 0, make(chan struct{})
	work.Go(func() {
		defer close(over)
		for ; acked.Load() != 7; looks++ {
			if !assert.EqualValues(t, 0, ask("SELECT (SELECT count(*) FROM detailed_history WHERE port = 22 AND closed IS NOT NULL) - (SELECT count(*) FROM reports)")) {
				return
			}
			time.Sleep(time.Millisecond) // or it would take a core from what it looks at
		}
	})
	m.Opened(db, w)
	require.Eventually(t, func() bool { return acked.Load() == 7 }, 5*time.Minute, time.Millisecond)
	<-over
	assert.Greater(t, looks, 1)
	<-asked
	asked = make(chan struct{})
	require.True(t, m.Recorded(local, 0, func() { close(asked) }), "of a run of which nothing is known")
	<-asked
	assert.EqualValues(t, 1, ask("SELECT count(*) FROM detailed_history WHERE port = 22 AND closed IS NOT NULL"))
	require.Eventually(t, func() bool {
		return ask("SELECT count(*) FROM detailed_history WHERE port = 443 AND closed IS NULL") == int64(1)
	}, 30*time.Second, 50*time.Millisecond, "what lives")
	cancel()
	work.Wait()
	require.NoError(t, w.Close())
	assert.Zero(t, w.Dropped())
	assert.EqualValues(t, maxBacklog-1, ask("SELECT count(*) FROM detailed_history WHERE agent = 'here'"))
	assert.EqualValues(t, 11, ask("SELECT sum(count) FROM losses WHERE agent = 'here'"))
	assert.EqualValues(t, 0, ask("SELECT count(*) FROM detailed_history WHERE ip = ''"))
}

// TestLastRecordedWaits: an agent that comes back while the history is being opened is told
// what is recorded all the same, or it would tell it again.
func TestLastRecordedWaits(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "h.sqlite"), sqlite.Options{})
	require.NoError(t, err)
	defer db.Close()
	run := [16]byte{1}
	before := db.Writer()
	before.Add(history.Report{Run: run, Number: 7, Seen: time.Now()})
	require.NoError(t, before.Close())
	m := newMonitor(t, "")
	m.openTime = time.Minute
	m.Opening.Store(true)
	told := make(chan uint64, 1)
	go func() { told <- m.LastRecorded(run) }()
	time.Sleep(50 * time.Millisecond)
	assert.Empty(t, told)
	w := db.Writer()
	m.Opened(db, w)
	assert.EqualValues(t, 7, <-told)
	require.NoError(t, w.Close())
}

// TestEarlyWithoutHistory: where it cannot be opened, nothing waits for it any more.
func TestEarlyWithoutHistory(t *testing.T) {
	m := newMonitor(t, "")
	m.Opening.Store(true)
	agent := feed.Agent{ID: 1, Name: "nas"}
	m.Join(agent)
	m.Full(agent, []conntrack.Conn{conn(1, "8.8.8.8:443"), conn(2, "8.8.8.8:22")})
	m.Full(agent, []conntrack.Conn{conn(1, "8.8.8.8:443")})
	m.Opened(nil, nil)
	assert.Empty(t, m.backlog.records)
	assert.Empty(t, m.unwritten)
	acked := false
	assert.True(t, m.Recorded(agent, 1, func() { acked = true }))
	assert.True(t, acked)
	_, peers := published(m)
	assert.Equal(t, []string{"8.8.8.8:443"}, peers)
	assert.Equal(t, errNotRecorded, m.Unrecorded())
}
