package monitor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/history/sqlite"
)

func TestKeepHistory(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	db, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "h.sqlite"), sqlite.Options{})
	require.NoError(t, err)
	defer db.Close()
	m := newMonitor(t, "")
	w := db.Writer()
	m.History, m.Writer = db, w
	var wg sync.WaitGroup
	wg.Go(func() { m.Run(ctx) })
	a := feed.Agent{ID: 1, Name: "nas"}
	m.Join(a)
	var conns []conntrack.Conn
	for i := range uint64(100) {
		c := conn(i, fmt.Sprintf("8.8.%d.8:443", i))
		c.Local = conn(0, fmt.Sprintf("192.0.2.1:%d", 1000+i)).Peer
		conns = append(conns, c)
	}
	m.Full(a, conns)
	rows := func() int64 {
		if k := m.State().HistoryStats; k != nil {
			return k.Rows
		}
		return -1
	}
	time.Sleep(50 * time.Millisecond)
	assert.EqualValues(t, -1, rows(), "nobody asks")
	m.ShowStats(true)
	require.Eventually(t, func() bool { return rows() == 100 }, time.Minute, 10*time.Millisecond)
	assert.Equal(t, history.Retention{Bytes: 4e9}, m.State().HistoryStats.Retention)

	file := filepath.Join(t.TempDir(), "places.txt")
	n, err := m.SaveMarks(ctx, file)
	require.NoError(t, err)
	assert.Positive(t, n)
	m.ShowHistory(true)
	require.Eventually(t, func() bool { return len(m.State().Marks) == n }, time.Minute, 10*time.Millisecond)

	require.NoError(t, m.SetRetention(history.Retention{Rows: 40}))
	require.Eventually(t, func() bool { return rows() == 40 }, time.Minute, 10*time.Millisecond)
	assert.Error(t, m.SetRetention(history.Retention{Rows: -1}))
	m.Full(a, nil) // what lives would be recorded anew
	require.Eventually(t, func() bool { return rows() >= 40 }, time.Minute, 10*time.Millisecond)
	time.Sleep(600 * time.Millisecond) // for the writer
	require.NoError(t, m.ResetHistory(ctx))
	require.Eventually(t, func() bool { return rows() == 0 }, time.Minute, 10*time.Millisecond)

	// What was saved survives it, and is shown again.
	loaded, err := m.LoadMarks(file)
	require.NoError(t, err)
	assert.Equal(t, n, loaded)
	m.ShowHistory(false)
	m.ShowHistory(true)
	require.Eventually(t, func() bool { return len(m.State().Marks) == n }, time.Minute, 10*time.Millisecond)
	_, err = m.LoadMarks(file + "x")
	assert.ErrorIs(t, err, os.ErrNotExist)
	m.ShowStats(false)
	require.Eventually(t, func() bool { return m.State().HistoryStats == nil }, time.Minute, 10*time.Millisecond)
	cancel()
	wg.Wait()
	require.NoError(t, w.Close())
}

// TestProblemIsSaid: that nothing can be recorded is said within five seconds, although
// nothing else changes.
func TestProblemIsSaid(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	db, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "h.sqlite"), sqlite.Options{})
	require.NoError(t, err)
	m := newMonitor(t, "")
	w := db.Writer()
	m.History, m.Writer = db, w
	var wg sync.WaitGroup
	wg.Go(func() { m.Run(ctx) })
	a := feed.Agent{ID: 1, Name: "nas"}
	m.Join(a)
	require.NoError(t, db.Close())
	m.Full(a, []conntrack.Conn{conn(1, "8.8.8.8:1")})
	require.Eventually(t, func() bool { return len(m.State().Problems) > 0 }, time.Minute, 10*time.Millisecond)
	cancel()
	wg.Wait()
	assert.Error(t, w.Close())
}

func TestNothingKept(t *testing.T) {
	m := newMonitor(t, "")
	assert.Error(t, m.SetRetention(history.Retention{}))
	assert.Error(t, m.ResetHistory(t.Context()))
	m.ShowStats(true)
	// Live places can be saved all the same.
	a := feed.Agent{ID: 1, Name: "nas"}
	m.Join(a)
	m.Full(a, []conntrack.Conn{conn(1, "8.8.8.8:1"), conn(2, "8.8.8.8:2"), conn(3, "192.168.0.1:3")})
	m.Publish()
	assert.Nil(t, m.State().HistoryStats)
	file := filepath.Join(t.TempDir(), "places.txt")
	n, err := m.SaveMarks(t.Context(), file)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	marks, err := history.LoadMarks(file)
	require.NoError(t, err)
	assert.EqualValues(t, 2, marks[0].Count)

	// Places that others have saved, as by an import, are kept with the larger counts.
	at := marks[0]
	before := []history.Mark{{Lat: at.Lat, Lon: at.Lon, Count: 1}, {Lat: 1, Lon: 2, Count: 30}}
	require.NoError(t, history.SaveMarks(file, func(yield func(history.Mark, error) bool) {
		_ = yield(before[0], nil) && yield(before[1], nil)
	}))
	n, err = m.SaveMarks(t.Context(), file)
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	marks, err = history.LoadMarks(file)
	require.NoError(t, err)
	assert.Equal(t, []history.Mark{{Lat: at.Lat, Lon: at.Lon, Count: 2}, {Lat: 1, Lon: 2, Count: 30}}, marks)
	m.reset = true
	n, err = m.SaveMarks(t.Context(), file)
	require.NoError(t, err)
	assert.Equal(t, 1, n, "after a reset they are forgotten")

	m.ShowHistory(true)
	_, err = m.LoadMarks(file)
	require.NoError(t, err)
	m.Publish()
	require.Len(t, m.State().Marks, 1)
}

func TestMerged(t *testing.T) {
	marks := []history.Mark{{Lat: 1, Lon: 2, Count: 5}, {Lat: 3, Lon: 4, Count: 9}}
	got := merged(marks, []history.Mark{{Lat: 1, Lon: 2, Count: 7}, {Lat: 3, Lon: 4, Count: 1}, {Lat: 5, Lon: 6, Count: 2}})
	assert.Equal(t, []history.Mark{{Lat: 1, Lon: 2, Count: 7}, {Lat: 3, Lon: 4, Count: 9}, {Lat: 5, Lon: 6, Count: 2}}, got)
}
