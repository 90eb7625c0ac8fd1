package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	raw "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/history/sqlite"
)

// TestHistoryThatOpensSlowly: while a history is being opened, for as long as that takes, the
// server is there and says so.
func TestHistoryThatOpensSlowly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "h.sqlite")
	db, err := sqlite.Open(t.Context(), name, sqlite.Options{})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	// As long as this has it locked, less than the 5 seconds after which it is given up.
	conn, err := raw.OpenConn(name, raw.OpenReadWrite)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, sqlitex.ExecuteScript(conn, `PRAGMA locking_mode = EXCLUSIVE; CREATE TABLE other (a);`, nil))
	var log bytes.Buffer
	a, err := start(t.Context(), config{configDir: dir, dataDir: dir, noLocal: true, rules: filepath.Join(dir, "connmaprc"), history: name}, slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	defer a.stop()
	assert.NotContains(t, log.String(), "until it can be opened")
	problems := func() string {
		a.monitor.Publish()
		return fmt.Sprint(a.monitor.State().Problems)
	}
	assert.Contains(t, problems(), name+" is being opened; meanwhile the map shows connections, and records them afterwards")
	require.NoError(t, conn.Close())
	assert.True(t, poll(time.Minute, 10*time.Millisecond, func() bool { return problems() == "[]" }), "%s", problems())
}

// TestHistoryThatOpensLater: while the history cannot be opened nothing is acknowledged, and
// what came meanwhile is recorded as soon as it can.
func TestHistoryThatOpensLater(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "h.sqlite")
	require.NoError(t, os.Mkdir(name, 0o700)) // as a disk that is full, or not there yet
	cfg := config{configDir: dir, dataDir: dir, noLocal: true, rules: filepath.Join(dir, "connmaprc"), history: name}
	a, err := start(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer a.stop()
	problems := func() string {
		a.monitor.Publish()
		return fmt.Sprint(a.monitor.State().Problems)
	}
	assert.Contains(t, problems(), "nothing is recorded until it can be opened")
	var out bytes.Buffer
	a.greet(&out)
	assert.Contains(t, out.String(), "Not yet recording to "+name)
	ended, end := context.WithCancel(t.Context())
	end()
	require.NoError(t, a.headless(ended, &out, "-headless"))
	assert.Contains(t, out.String(), "Connections are collected and not yet recorded.")
	_, err = a.monitor.Nearby(t.Context(), history.Circle{Km: 365})
	assert.ErrorContains(t, err, "can be opened")

	agent := feed.Agent{ID: 1, Name: "nas", Run: [16]byte{1}}
	a.monitor.Join(agent)
	c := conntrack.Conn{ID: 1, Proto: conntrack.TCP, Local: netip.MustParseAddrPort("192.0.2.1:1000"), Peer: netip.MustParseAddrPort("8.8.8.8:443"), Tx: 5, Opened: time.Now()}
	a.monitor.Delta(agent, []conntrack.Event{{Kind: conntrack.Close, Time: time.Now(), Conn: c}})
	acked := make(chan struct{})
	assert.True(t, a.monitor.Recorded(agent, 7, func() { close(acked) }))
	select {
	case <-acked:
		require.Fail(t, "it is not recorded")
	case <-time.After(2 * firstOpening):
	}
	require.NoError(t, os.Remove(name))
	select {
	case <-acked:
	case <-time.After(2 * lastOpening):
		require.Fail(t, "it is not opened")
	}
	assert.EqualValues(t, 7, a.monitor.LastRecorded(agent.Run))
	assert.True(t, poll(time.Minute, 10*time.Millisecond, func() bool { return problems() == "[]" }), "%s", problems())
}
