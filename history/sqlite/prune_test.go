package sqlite

import (
	"context"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/history"
)

// spread makes entries that were seen a minute after each other, the last of them now.
func spread(n int, now time.Time) []history.Entry {
	all := entries(0, n)
	for i := range all {
		all[i].Opened = now.Add(time.Duration(i+1-n) * time.Minute)
		all[i].Seen = all[i].Opened
	}
	return all
}

// consistent checks what is counted beside the rows.
func consistent(t testing.TB, db *DB) {
	t.Helper()
	assert.Equal(t, query(t, db, `SELECT count(*) FROM detailed_history`), query(t, db, `SELECT value FROM settings WHERE name = 'rows'`))
	assert.Empty(t, query(t, db, `SELECT * FROM places AS p WHERE count <> (SELECT sum(count) FROM detailed_history WHERE lat = p.lat AND lon = p.lon)`))
	assert.Empty(t, query(t, db, `SELECT * FROM detailed_history WHERE lat IS NOT NULL AND (lat, lon) NOT IN (SELECT lat, lon FROM places)`))
	assert.Equal(t, query(t, db, `SELECT agent, count(*), sum(`+rowSizeSQL+`) FROM detailed_history GROUP BY agent ORDER BY agent`), query(t, db, `SELECT agent, rows, bytes FROM agents ORDER BY agent`))
	assert.Equal(t, [][]string{{"ok"}}, query(t, db, `PRAGMA integrity_check`))
}

func size(t testing.TB, db *DB) int64 {
	info, err := os.Stat(db.path)
	require.NoError(t, err)
	return info.Size()
}

func TestPrune(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	slow(t)
	const n = 20_000
	for name, tt := range map[string]struct {
		r    history.Retention
		left int // rows
	}{
		"none":     {history.Retention{}, n},
		"rows":     {history.Retention{Rows: 5000}, 5000},
		"age":      {history.Retention{Age: 100 * time.Hour}, 6000},
		"both":     {history.Retention{Rows: 7000, Age: 100 * time.Hour}, 6000},
		"disabled": {history.Retention{Rows: 1, Age: 1, Bytes: 1, Disabled: true}, n},
		"one row":  {history.Retention{Rows: 1}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t, path(t))
			require.NoError(t, db.Record(t.Context(), spread(n, time.Now())))
			require.NoError(t, db.SetRetention(tt.r))
			deleted, err := db.Prune(t.Context())
			require.NoError(t, err)
			assert.InDelta(t, n-tt.left, deleted, 1)
			left := query(t, db, `SELECT count(*), min(id) FROM detailed_history`)[0]
			var rows, first int
			fmt.Sscan(left[0], &rows)
			fmt.Sscan(left[1], &first)
			assert.InDelta(t, tt.left, rows, 1)
			assert.Equal(t, n-rows+1, first, "the oldest went")
			consistent(t, db)

			// It is kept in the file.
			require.NoError(t, db.Close())
			db = open(t, db.path)
			s, err := db.Stats()
			require.NoError(t, err)
			assert.Equal(t, tt.r, s.Retention)
			if tt.left < n/2 {
				assert.Less(t, size(t, db), int64(n)*200, "the file is smaller")
			}
			deleted, err = db.Prune(t.Context())
			require.NoError(t, err)
			assert.LessOrEqual(t, deleted, int64(1))
		})
	}
}

func TestPruneBytes(t *testing.T) {
	slow(t)
	db := open(t, path(t))
	require.NoError(t, db.Record(t.Context(), spread(20_000, time.Now())))
	s, err := db.Stats()
	require.NoError(t, err)
	require.NoError(t, db.SetRetention(history.Retention{Bytes: s.Bytes / 2}))
	_, err = db.Prune(t.Context())
	require.NoError(t, err)
	s2, err := db.Stats()
	require.NoError(t, err)
	assert.LessOrEqual(t, s2.Bytes, s.Bytes/2)
	assert.Greater(t, s2.Rows, s.Rows/3)
	consistent(t, db)

	// A limit below the schema's own pages leaves nothing, and ends.
	require.NoError(t, db.SetRetention(history.Retention{Bytes: 1}))
	_, err = db.Prune(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "0", count(t, db))
	consistent(t, db)
}

// TestPruneReports: of the reports of runs the newest are kept.
func TestPruneReports(t *testing.T) {
	db := open(t, path(t))
	for from := 0; from < maxReports+2*maxStep; from += maxStep {
		var all []history.Record
		for i := range maxStep {
			n := from + i
			all = append(all, history.Report{Run: [16]byte{byte(n), byte(n >> 8), byte(n >> 16)}, Number: 1, Seen: time.Unix(1_800_000_000+int64(n), 0)})
		}
		require.NoError(t, db.recordAll(t.Context(), all))
	}
	for _, left := range []int{maxReports + maxStep, maxReports, maxReports} {
		_, err := db.Prune(t.Context())
		require.NoError(t, err)
		assert.Equal(t, [][]string{{fmt.Sprint(left), fmt.Sprint(1_800_000_000 + maxReports + 2*maxStep - left)}}, query(t, db, `SELECT count(*), min(timestamp) FROM reports`))
	}
}

// TestPruneUnended: of openings without an end the newest are kept.
func TestPruneUnended(t *testing.T) {
	db := open(t, path(t))
	require.NoError(t, execute(t, db.path, fmt.Sprintf(`WITH n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n LIMIT %d) INSERT INTO unended SELECT i, i, 0, 0 FROM n`, maxUnended+2*maxStep)))
	for _, left := range []int{maxUnended + maxStep, maxUnended, maxUnended} {
		_, err := db.Prune(t.Context())
		require.NoError(t, err)
		assert.Equal(t, [][]string{{fmt.Sprint(left), fmt.Sprint(maxUnended + 2*maxStep - left + 1)}}, query(t, db, `SELECT count(*), min(opened) FROM unended`))
	}
}

func TestRetentionRefuses(t *testing.T) {
	db := open(t, path(t))
	s, err := db.Stats()
	require.NoError(t, err)
	assert.Equal(t, history.Retention{Bytes: 4e9}, s.Retention)
	for _, r := range []history.Retention{{Age: -1}, {Rows: -1}, {Bytes: -1}} {
		assert.EqualError(t, db.SetRetention(r), "history: retention: a limit is negative: zero is none")
	}
	require.NoError(t, db.Close())
	assert.ErrorIs(t, db.SetRetention(history.Retention{}), os.ErrClosed)
	_, err = db.Prune(t.Context())
	assert.ErrorIs(t, err, os.ErrClosed)
	assert.ErrorIs(t, db.Reset(t.Context()), os.ErrClosed)
	_, err = db.Stats()
	assert.ErrorIs(t, err, os.ErrClosed)
}

func TestReset(t *testing.T) {
	slow(t)
	db := open(t, path(t))
	require.NoError(t, db.SetRetention(history.Retention{Rows: 1 << 40}))
	require.NoError(t, db.Record(t.Context(), entries(0, 20_000)))
	require.NoError(t, db.Reset(t.Context()))
	assert.Equal(t, "0", count(t, db))
	assert.Empty(t, places(t, db))
	s, err := db.Stats()
	require.NoError(t, err)
	assert.Equal(t, history.Retention{Rows: 1 << 40}, s.Retention)
	assert.Zero(t, s.Rows)
	assert.Zero(t, s.Oldest)
	assert.Less(t, s.Bytes, int64(200_000))
	// What lived on is recorded anew.
	e := entry(5)
	e.New = false
	require.NoError(t, db.Record(t.Context(), []history.Entry{e}))
	assert.Equal(t, "1", count(t, db))
	consistent(t, db)
}

// TestPruneBesideRecording: rows are recorded, seen and deleted at once, by this
// process and by another.
func TestPruneBesideRecording(t *testing.T) {
	db := open(t, path(t))
	require.NoError(t, db.SetRetention(history.Retention{Rows: 3000}))
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !done.Load() {
			_, err := db.Prune(context.Background())
			assert.NoError(t, err)
		}
	})
	var worst time.Duration
	rounds := fewer(60)
	for i := range rounds {
		batch := spread(500, time.Now().Add(time.Duration(i)*time.Minute))
		for j := range batch {
			batch[j].New = i%3 != 2
			batch[j].Local = entry(j + i/3*500).Local
		}
		start := time.Now()
		require.NoError(t, db.Record(t.Context(), batch))
		worst = max(worst, time.Since(start))
		if i == rounds/2 {
			// Somebody else deletes too.
			other := execute(t, db.path, `DELETE FROM detailed_history WHERE id % 2`)
			assert.NoError(t, other)
			require.NoError(t, db.Record(t.Context(), batch))
		}
	}
	done.Store(true)
	wg.Wait()
	_, err := db.Prune(t.Context())
	require.NoError(t, err)
	t.Logf("the longest of %d recordings of 500 took %v", rounds, worst)
	var rows int
	fmt.Sscan(count(t, db), &rows)
	assert.LessOrEqual(t, rows, 3000)
	assert.Positive(t, rows)
	assert.Equal(t, [][]string{{"ok"}}, query(t, db, `PRAGMA integrity_check`))
}

// TestClock: a clock that is set ahead by years wipes nothing, a computer that was
// off for a month goes on.
func TestClock(t *testing.T) {
	const age = 30 * 24 * time.Hour
	day := 24 * time.Hour
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		newest time.Duration // before opening
		steps  []struct{ wall, ran time.Duration }
		want   bool
	}{
		"steady":                {0, []struct{ wall, ran time.Duration }{{day, day}}, true},
		"an hour ahead":         {0, []struct{ wall, ran time.Duration }{{day + time.Hour, day}}, true},
		"2038":                  {0, []struct{ wall, ran time.Duration }{{4300 * day, day / 2}}, false},
		"2038 and back":         {0, []struct{ wall, ran time.Duration }{{4300 * day, day / 2}, {day * 3 / 4, day * 3 / 4}}, false},
		"2038 and long back":    {0, []struct{ wall, ran time.Duration }{{4300 * day, day / 2}, {day, day}, {3 * day, 3 * day}}, true},
		"to 1970":               {0, []struct{ wall, ran time.Duration }{{-20000 * day, day / 2}}, false},
		"off for a month":       {30 * day, []struct{ wall, ran time.Duration }{{0, 0}}, true},
		"off for twelve years":  {4400 * day, []struct{ wall, ran time.Duration }{{time.Hour, time.Hour}}, false},
		"off, and a day passed": {4400 * day, []struct{ wall, ran time.Duration }{{2 * day, 2 * day}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var wall, ran time.Duration
			c := clock{now: func() time.Time { return at.Add(wall) }, ran: func() time.Duration { return ran }, opened: at, newest: at.Add(-tt.newest)}
			got := false
			for _, s := range tt.steps {
				wall, ran = s.wall, s.ran
				got = c.trusted(age)
			}
			assert.Equal(t, tt.want, got)
		})
	}

	db := open(t, path(t))
	require.NoError(t, db.Record(t.Context(), spread(1000, time.Now())))
	require.NoError(t, db.SetRetention(history.Retention{Age: age, Rows: 900}))
	db.clock.now = func() time.Time { return time.Date(2038, 1, 19, 3, 14, 8, 0, time.UTC) }
	_, err := db.Prune(t.Context())
	assert.ErrorIs(t, err, errClock)
	assert.Equal(t, "900", count(t, db), "the other limits hold")
	// Recording goes on whatever the clock says.
	for _, year := range []int{1970, 2038, 2026, math.MaxInt16} {
		e := entry(5000 + year)
		e.Opened = time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
		e.Seen = e.Opened
		require.NoError(t, db.Record(t.Context(), []history.Entry{e}))
	}
	assert.Equal(t, "904", count(t, db))
}
