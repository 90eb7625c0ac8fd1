package sqlite

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/history"
)

// of makes n entries of an agent that were seen a second after each other, the last at a time.
func of(agent string, n int, last time.Time) []history.Entry {
	all := entries(0, n)
	for i := range all {
		all[i].Agent = agent
		all[i].Opened = last.Add(time.Duration(i+1-n) * time.Second)
		all[i].Seen = all[i].Opened
		// Each is a row of its own.
		all[i].Local = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
	}
	return all
}

// rowsOf are how many rows each agent has.
func rowsOf(t *testing.T, db *DB) map[string]int {
	all := make(map[string]int)
	for _, row := range query(t, db, `SELECT agent, count(*) FROM detailed_history GROUP BY agent`) {
		var n int
		fmt.Sscan(row[1], &n)
		all[row[0]] = n
	}
	return all
}

// TestFlood: an agent that floods the history makes none of what others have go, whether
// its rows are many or long, and by which limit.
func TestFlood(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	slow(t)
	long := func(all []history.Entry) []history.Entry {
		for i := range all {
			all[i].Exe = "/" + strings.Repeat("x", 4000)
		}
		return all
	}
	now := time.Now()
	for name, tt := range map[string]struct {
		flood []history.Entry
		keep  func(before history.Stats) history.Retention
	}{
		"many rows":        {of("flood", 30_000, now), func(history.Stats) history.Retention { return history.Retention{Rows: 14_000} }},
		"many, by bytes":   {of("flood", 30_000, now), func(s history.Stats) history.Retention { return history.Retention{Bytes: 3 * s.Bytes} }},
		"long rows":        {long(of("flood", 6000, now)), func(s history.Stats) history.Retention { return history.Retention{Bytes: 3 * s.Bytes} }},
		"seen in 9999":     {of("flood", 30_000, maxTime), func(history.Stats) history.Retention { return history.Retention{Rows: 14_000} }},
		"seen long before": {of("flood", 30_000, now.AddDate(-20, 0, 0)), func(history.Stats) history.Retention { return history.Retention{Rows: 14_000} }},
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t, path(t))
			want := map[string]int{"nas": 5000, "laptop": 3000, "pi": 20}
			for agent, n := range want {
				require.NoError(t, db.Record(t.Context(), of(agent, n, now.Add(-48*time.Hour))))
			}
			require.NoError(t, db.emptyLog())
			before, err := db.Stats()
			require.NoError(t, err)
			r := tt.keep(before)
			require.NoError(t, db.SetRetention(r))
			for part := range slices.Chunk(tt.flood, 5000) {
				require.NoError(t, db.Record(t.Context(), part))
				_, err := db.Prune(t.Context())
				require.NoError(t, err)
			}
			got := rowsOf(t, db)
			assert.Positive(t, got["flood"])
			t.Logf("the flood has %d rows of %d", got["flood"], len(tt.flood))
			pruned := query(t, db, `SELECT pruned FROM agents WHERE agent = 'flood'`)
			assert.Equal(t, [][]string{{fmt.Sprint(len(tt.flood) - got["flood"])}}, pruned)
			delete(got, "flood")
			assert.Equal(t, want, got)
			consistent(t, db)
			s, err := db.Stats()
			require.NoError(t, err)
			if r.Bytes > 0 {
				assert.LessOrEqual(t, s.Bytes, r.Bytes)
			} else {
				assert.Equal(t, r.Rows, s.Rows)
			}
		})
	}
}

// TestShares: who has most comes down first, then all together, and each loses what it has
// not seen for longest.
func TestShares(t *testing.T) {
	slow(t)
	db := open(t, path(t))
	now := time.Now()
	for agent, n := range map[string]int{"a": 3000, "b": 2000, "c": 1000, "d": 5} {
		require.NoError(t, db.Record(t.Context(), of(agent, n, now)))
	}
	for _, tt := range []struct {
		rows int64
		want map[string]int
	}{
		{5505, map[string]int{"a": 2500, "b": 2000, "c": 1000, "d": 5}},
		{4005, map[string]int{"a": 1500, "b": 1500, "c": 1000, "d": 5}},
		{3005, map[string]int{"a": 1000, "b": 1000, "c": 1000, "d": 5}},
		{305, map[string]int{"a": 100, "b": 100, "c": 100, "d": 5}},
		{8, map[string]int{"a": 2, "b": 2, "c": 2, "d": 2}},
	} {
		require.NoError(t, db.SetRetention(history.Retention{Rows: tt.rows}))
		_, err := db.Prune(t.Context())
		require.NoError(t, err)
		assert.Equal(t, tt.want, rowsOf(t, db))
		newest := query(t, db, `SELECT count(*) FROM detailed_history AS d WHERE timestamp <= (SELECT max(timestamp) FROM detailed_history WHERE agent = d.agent) - (SELECT rows FROM agents WHERE agent = d.agent)`)
		assert.Equal(t, [][]string{{"0"}}, newest, "the newest are left")
		consistent(t, db)
	}
	// One without rows is forgotten, so that those that have been are not counted for good.
	require.NoError(t, db.SetRetention(history.Retention{Age: time.Hour}))
	require.NoError(t, execute(t, db.path, `UPDATE detailed_history SET timestamp = 0 WHERE agent = 'a'`))
	_, err := db.Prune(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[string]int{"b": 2, "c": 2, "d": 2}, rowsOf(t, db))
	consistent(t, db)
}

// TestSharesOfOthers: pruning ends, and the limits hold, also where another program has
// deleted or added rows of which nothing is counted.
func TestSharesOfOthers(t *testing.T) {
	db := open(t, path(t))
	for _, agent := range []string{"a", "b"} {
		require.NoError(t, db.Record(t.Context(), of(agent, 1000, time.Now())))
	}
	require.NoError(t, execute(t, db.path, `DELETE FROM detailed_history WHERE agent = 'a'`))
	require.NoError(t, execute(t, db.path, `UPDATE detailed_history SET agent = 'c' WHERE port = 443 AND id % 2`))
	require.NoError(t, db.SetRetention(history.Retention{Rows: 100}))
	_, err := db.Prune(t.Context())
	require.NoError(t, err)
	s, err := db.Stats()
	require.NoError(t, err)
	assert.LessOrEqual(t, s.Rows, int64(100))
	require.NoError(t, db.SetRetention(history.Retention{Bytes: 1}))
	_, err = db.Prune(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "0", count(t, db))
}

// FuzzReductions compares reductions with taking rows one by one from who has most.
func FuzzReductions(f *testing.F) {
	f.Add(uint64(1), 3, 100)
	f.Add(uint64(2), 0, 1)
	f.Add(uint64(3), 20, 5)
	f.Fuzz(func(t *testing.T, seed uint64, agents, want int) {
		agents, want = min(max(agents, 0), 50), min(max(want, 1), 5000)
		r := rand.New(rand.NewPCG(seed, 1))
		var shares []share
		left := map[string]int64{}
		for i := range agents {
			n := r.Int64N(200) + 1
			name := fmt.Sprint(i)
			shares = append(shares, share{agent: name, rows: n, bytes: n * (1 + r.Int64N(100))})
			left[name] = n
		}
		bytes := slices.Clone(shares)
		fast := map[string]int64{}
		gone := int64(0)
		for name, n := range left {
			fast[name] = n
		}
		for _, c := range reductions(slices.Clone(shares), int64(want), 0) {
			require.Positive(t, c.n)
			fast[c.of.agent] -= c.n
			gone += c.n
		}
		taken := int64(0)
		for ; taken < int64(want); taken++ {
			most := ""
			for name, n := range left {
				if n > 0 && (most == "" || n > left[most]) {
					most = name
				}
			}
			if most == "" {
				break
			}
			left[most]--
		}
		require.Equal(t, taken, gone)
		// Who is last among equals does not matter.
		sorted := func(m map[string]int64) (all []int64) {
			for _, n := range m {
				all = append(all, n)
			}
			slices.Sort(all)
			return all
		}
		for i, n := range sorted(left) {
			require.Equal(t, n, sorted(fast)[i], "one by one %v, at once %v", left, fast)
		}

		// By bytes, about the part goes, and nobody who has less than one who stays loses any.
		part := float64(want) / 10_000
		sum, goes := 0.0, 0.0
		for _, s := range bytes {
			sum += float64(s.bytes)
		}
		for _, c := range reductions(slices.Clone(bytes), 0, part) {
			require.Positive(t, c.n)
			require.LessOrEqual(t, c.n, c.of.rows)
			goes += float64(c.n) * float64(c.of.bytes) / float64(c.of.rows)
		}
		require.GreaterOrEqual(t, goes, sum*part*0.999)
		require.LessOrEqual(t, goes, sum*part+float64(agents)*102)
	})
}

// version4 makes a file as versions before the shares have written it.
func version4(t *testing.T, rows []history.Entry) string {
	db := open(t, path(t))
	require.NoError(t, db.Record(t.Context(), rows))
	require.NoError(t, db.Close())
	conn, err := sqlite.OpenConn(db.path, sqlite.OpenReadWrite)
	require.NoError(t, err)
	require.NoError(t, sqlitex.ExecuteScript(conn, `DROP TABLE agents; DROP TABLE unended; DROP VIEW peer_names; DROP INDEX detailed_history_agent; DROP INDEX detailed_history_peer_name;
		ALTER TABLE detailed_history DROP COLUMN precision; ALTER TABLE detailed_history DROP COLUMN peer_name; ALTER TABLE detailed_history DROP COLUMN peer_name_source; DELETE FROM settings WHERE name IN ('id', 'path'); PRAGMA user_version = 4;`, nil))
	require.NoError(t, conn.Close())
	return db.path
}

// TestUpgrade: a file of schema 4 gets its shares where it is, and answers also before.
func TestUpgrade(t *testing.T) {
	name := version4(t, slices.Concat(of("nas", 300, noon), of("pi", 20, noon)))
	c, err := OpenConsole(t.Context(), name, ConsoleOptions{})
	require.NoError(t, err)
	table, err := c.Ask(t.Context(), history.Question{SQL: `SELECT agent, count(*) FROM detailed_history GROUP BY agent`})
	require.NoError(t, err)
	assert.Equal(t, [][]any{{"nas", int64(300)}, {"pi", int64(20)}}, table.Rows)
	require.NoError(t, c.Close())
	var log strings.Builder
	db, err := Open(t.Context(), name, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	defer db.Close()
	assert.Regexp(t, `(?s)history is upgraded.*schema=7.*history has been upgraded.*took=`, log.String())
	assert.Equal(t, [][]string{{"nas", "300", "0"}, {"pi", "20", "0"}}, query(t, db, `SELECT agent, rows, pruned FROM agents`))
	assert.Equal(t, [][]string{{"7"}}, query(t, db, `PRAGMA user_version`))
	consistent(t, db)
	require.NoError(t, db.Record(t.Context(), of("nas", 400, noon)))
	consistent(t, db)
}

// TestOlderAnswers: a file of schema 4 to 6 answers all questions, also about what it lacks, as
// it is, and gets that where it is when it is opened.
func TestOlderAnswers(t *testing.T) {
	for version, made := range map[int64]struct{ from, script string }{
		4: {"schema5.sql", `DROP TABLE agents; DROP INDEX detailed_history_agent; PRAGMA user_version = 4;`}, 5: {"schema5.sql", ``}, 6: {"schema6.sql", ``},
	} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			name, _ := olderFile(t, made.from)
			precision := "" // of the first row
			if version == 6 {
				precision = "country"
			}
			conn, err := sqlite.OpenConn(name, sqlite.OpenReadWrite)
			require.NoError(t, err)
			require.NoError(t, sqlitex.ExecuteScript(conn, made.script, nil))
			require.NoError(t, conn.Close())
			before := stateOf(t, name)
			c, err := OpenConsole(t.Context(), name, ConsoleOptions{})
			require.NoError(t, err)
			for _, q := range SavedQueries() {
				ask(t, c, Filled(q).SQL, nil)
			}
			assert.Equal(t, [][]any{{"nas", int64(1), int64(314), int64(0)}, {"pi", int64(1), int64(310), int64(0)}}, ask(t, c, `SELECT * FROM agents ORDER BY agent`, nil))
			assert.Equal(t, [][]any{{"198.51.100.7", precision}, {"2001:db8::7", ""}}, ask(t, c, `SELECT ip, "Precision" FROM detailed_history WHERE timestamp = '2026-07-01 12:01' ORDER BY opened`, nil))
			assert.Equal(t, [][]any{{"198.51.100.7", nil, precision}}, ask(t, c, `SELECT ip, peer_name, precision FROM detailed_history WHERE peer_name_source IS NULL AND port = 443`, nil))
			assert.Empty(t, ask(t, c, `SELECT name FROM peer_names`, nil))
			assert.Len(t, ask(t, c, `SELECT * FROM detailed_history`, nil)[0], map[int64]int{4: 30, 5: 30, 6: 31}[version])
			_, err = c.Ask(t.Context(), history.Question{SQL: `SELECT precision FROM losses`})
			assert.EqualError(t, err, "no such column: precision")
			require.NoError(t, c.Close())
			assert.Equal(t, before, stateOf(t, name), "it stays as it is")

			db := open(t, name)
			assert.Equal(t, [][]string{{"7"}}, query(t, db, `PRAGMA user_version`))
			assert.Equal(t, [][]string{{"nas", "1", "314", "0"}, {"pi", "1", "310", "0"}}, query(t, db, `SELECT * FROM agents ORDER BY agent`))
			consistent(t, db)
			s, err := db.Stats()
			require.NoError(t, err)
			assert.Equal(t, history.Retention{Rows: 1000}, s.Retention)
			var first history.Row
			for row, err := range db.Newest(t.Context()) {
				require.NoError(t, err)
				if row.ID == 1 {
					assert.Equal(t, precision, row.Precision)
				}
				assert.Empty(t, row.PeerName)
				first = row
			}
			// It is known when the connection is seen again.
			e := first.Entry
			e.Located, e.Lat, e.Lon, e.Precision = true, 52.5, 13.4, "city"
			e.PeerName, e.PeerNameSource = "www.example.com", "sni"
			require.NoError(t, db.Record(t.Context(), []history.Entry{e}))
			assert.Equal(t, []string{"city", "www.example.com", "sni"}, query(t, db, `SELECT precision, peer_name, peer_name_source FROM detailed_history WHERE id = `+fmt.Sprint(first.ID))[0])
			consistent(t, db)
			// A fresh file has the same columns.
			const columns = `SELECT group_concat(name || type || "notnull" || coalesce(dflt_value, 'NULL')) FROM pragma_table_info('detailed_history')`
			assert.Equal(t, query(t, open(t, path(t)), columns), query(t, db, columns))
		})
	}
}

// TestSaying: what takes long is said again and again, until it ends.
func TestSaying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		end := saying(slog.New(slog.NewTextHandler(&log, nil)), "history is upgraded")
		time.Sleep(2*sayEvery + time.Second)
		end()
		assert.Equal(t, 2, strings.Count(log.String(), "history is upgraded"), log.String())
		assert.Contains(t, log.String(), "for=4s")
	})
}

// TestUpgradeInterrupted: an upgrade that is ended leaves the file as it was, or as it is to be,
// and the next one makes up for it.
func TestUpgradeInterrupted(t *testing.T) {
	name := version4(t, of("nas", 5000, noon))
	for wait := time.Duration(0); ; wait = 2*wait + time.Millisecond {
		ctx, cancel := context.WithCancel(t.Context())
		db, err := Open(ctx, name, Options{Logger: slog.New(slog.NewTextHandler(writerFunc(func(b []byte) (int, error) {
			// It has begun.
			if wait == 0 {
				cancel()
			}
			time.AfterFunc(wait, cancel)
			return len(b), nil
		}), nil))})
		cancel()
		if wait == 0 || err != nil {
			require.ErrorIs(t, err, context.Canceled)
			conn, err := sqlite.OpenConn(name, sqlite.OpenReadOnly)
			require.NoError(t, err)
			version, err := number(conn, `PRAGMA user_version`)
			require.NoError(t, err)
			shares, err := number(conn, `SELECT (SELECT count(*) FROM sqlite_schema WHERE name IN ('agents', 'detailed_history_agent', 'peer_names', 'detailed_history_peer_name')) +
				(SELECT count(*) FROM pragma_table_info('detailed_history') WHERE name IN ('precision', 'peer_name', 'peer_name_source'))`)
			require.NoError(t, err)
			assert.Equal(t, map[int64]int64{4: 0, 7: 7}[version], shares, "all or nothing of it is there")
			require.NoError(t, conn.Close())
			continue
		}
		defer db.Close()
		assert.Equal(t, [][]string{{"nas", "5000", "0"}}, query(t, db, `SELECT agent, rows, pruned FROM agents`))
		consistent(t, db)
		return
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
