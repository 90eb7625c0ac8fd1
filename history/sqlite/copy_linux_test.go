package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/internal/random"
)

// TestConsoleOfOlder: a file that has not been taken over is asked like one that has, and
// stays as it is.
func TestConsoleOfOlder(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	older, _ := olderFile(t, "schema1.sql")
	later, _ := olderFile(t, "schema2.sql")
	for name, want := range map[string]int64{
		foreign(t, perlTable+"\nINSERT INTO detailed_history (timestamp, ip, asn) VALUES (1706933106, '192.0.2.1', 'AS64496');"): 1, older: 12, later: 2,
	} {
		before, err := os.ReadFile(name)
		require.NoError(t, err)
		c, err := OpenConsole(t.Context(), name, ConsoleOptions{Complete: func(e *history.Entry) { e.Rule = "by " + e.Peer.String() }})
		require.NoError(t, err)
		assert.Equal(t, [][]any{{want}}, ask(t, c, `SELECT count(*) FROM detailed_history WHERE timestamp > '2024-01-01' AND (asn >= 'AS64496' OR asn = '')`, nil))
		for _, q := range SavedQueries() {
			params := make(map[string]any)
			for k, v := range q.Params {
				params[k] = v
			}
			_, err := c.Ask(t.Context(), history.Question{SQL: q.SQL, Params: params})
			assert.NoError(t, err, q.Name)
		}
		if want == 1 {
			assert.Equal(t, [][]any{{"by 192.0.2.1:0"}}, ask(t, c, `SELECT rule FROM detailed_history`, nil))
		}
		_, err = c.Ask(t.Context(), history.Question{SQL: `DELETE FROM detailed_history`})
		assert.ErrorContains(t, err, "only reads")
		require.NoError(t, c.Close())
		after, err := os.ReadFile(name)
		require.NoError(t, err)
		assert.True(t, string(before) == string(after))
		left, err := filepath.Glob(name + "*")
		require.NoError(t, err)
		assert.Equal(t, []string{name}, left)
	}
	left, err := os.ReadDir(os.TempDir())
	require.NoError(t, err)
	for _, f := range left {
		assert.NotContains(t, f.Name(), "connmap-history")
	}
}

// TestConsoleCache: a copy is used again until the file or the key changes.
func TestConsoleCache(t *testing.T) {
	for name, mode := range map[string]string{"rollback journal": "", "written ahead": "PRAGMA journal_mode = WAL;\n"} {
		t.Run(name, func(t *testing.T) {
			name := foreign(t, mode+perlTable+"\nINSERT INTO detailed_history (timestamp, ip) VALUES (1, '192.0.2.1');")
			dir := filepath.Join(t.TempDir(), "cache")
			copied := 0
			asked := func(key string) any {
				copied = 0
				c, err := OpenConsole(t.Context(), name, ConsoleOptions{Cache: dir, CacheKey: key, Complete: func(*history.Entry) { copied++ }})
				require.NoError(t, err)
				defer c.Close()
				return ask(t, c, `SELECT count(*) FROM detailed_history`, nil)[0][0]
			}
			assert.EqualValues(t, 1, asked("a"))
			assert.Equal(t, 1, copied)
			assert.EqualValues(t, 1, asked("a"))
			assert.Zero(t, copied)
			assert.EqualValues(t, 1, asked("b"))
			assert.Equal(t, 1, copied)
			// As connmapperl does, which has it open.
			conn, err := sqlite.OpenConn(name, sqlite.OpenReadWrite)
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, sqlitex.ExecuteTransient(conn, `INSERT INTO detailed_history (timestamp, ip) VALUES (2, '192.0.2.1')`, nil))
			assert.EqualValues(t, 2, asked("b"))
			// What it has not committed does not count, and it is not disturbed.
			require.NoError(t, sqlitex.ExecuteTransient(conn, `BEGIN IMMEDIATE`, nil))
			require.NoError(t, sqlitex.ExecuteTransient(conn, `INSERT INTO detailed_history (timestamp, ip) VALUES (3, '192.0.2.1')`, nil))
			assert.EqualValues(t, 2, asked("c"))
			require.NoError(t, sqlitex.ExecuteTransient(conn, `COMMIT`, nil))
			assert.EqualValues(t, 3, asked("c"))

			copies, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, copies, 1, "others are gone")
			require.NoError(t, os.WriteFile(filepath.Join(dir, copies[0].Name()), []byte("damaged"), 0o600))
			assert.EqualValues(t, 3, asked("c"))
		})
	}
}

// TestConsoleRefresh: a copy of a file that connmapperl goes on writing is like a new one,
// and only what has changed is read into it.
func TestConsoleRefresh(t *testing.T) {
	random := random.For(t)
	name := original(t, originalTables["typed"], true, 1000)
	dir := t.TempDir()
	completed := 0
	complete := func(e *history.Entry) { completed++; e.Rule = "by " + e.Program }
	rows := func(o ConsoleOptions) (string, int) {
		o.Complete, completed = complete, 0
		c, err := OpenConsole(t.Context(), name, o)
		require.NoError(t, err)
		defer c.Close()
		all := fmt.Sprint(ask(t, c, `SELECT * FROM detailed_history ORDER BY id`, nil), ask(t, c, `SELECT * FROM places ORDER BY lat, lon`, nil), ask(t, c, `SELECT value FROM settings WHERE name = 'rows'`, nil))
		return all, completed
	}
	_, n := rows(ConsoleOptions{Cache: dir})
	assert.Equal(t, 1000, n)
	// As it does, which has it open.
	conn, err := sqlite.OpenConn(name, sqlite.OpenReadWrite)
	require.NoError(t, err)
	defer conn.Close()
	for range 8 {
		at := random.IntN(1000)
		for _, q := range []string{
			`INSERT INTO detailed_history (timestamp, ip, port, programname, lat, lon, count) SELECT timestamp, ip, port, programname, lat, lon, 1 FROM detailed_history WHERE id = ?1`,
			`UPDATE detailed_history SET timestamp = timestamp + 1, count = count + 1 WHERE id = ?1 + 1`,
			`UPDATE detailed_history SET lat = 1, lon = NULL, orgname = 'Example' WHERE id = ?1 + 2`,
			`DELETE FROM detailed_history WHERE id = ?1 + 3`,
		} {
			if random.IntN(2) == 0 {
				require.NoError(t, sqlitex.Execute(conn, q, &sqlitex.ExecOptions{Args: []any{at}}))
			}
		}
		refreshed, n := rows(ConsoleOptions{Cache: dir})
		assert.LessOrEqual(t, n, 3)
		fresh, _ := rows(ConsoleOptions{})
		require.Equal(t, fresh, refreshed)
	}
	// While somebody asks it for long, it is made anew.
	kept, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, kept, 1)
	reader, err := sqlite.OpenConn(kept[0], sqlite.OpenReadOnly)
	require.NoError(t, err)
	defer reader.Close()
	stmt := reader.Prep(`SELECT id FROM detailed_history`)
	defer stmt.Reset()
	_, err = stmt.Step()
	require.NoError(t, err)
	require.NoError(t, sqlitex.ExecuteTransient(conn, `DELETE FROM detailed_history WHERE id > 500`, nil))
	refreshed, _ := rows(ConsoleOptions{Cache: dir})
	fresh, _ := rows(ConsoleOptions{})
	assert.Equal(t, fresh, refreshed)
}

// TestConsoleInterrupted: nothing is left of a copy that was stopped.
func TestConsoleInterrupted(t *testing.T) {
	name := foreign(t, perlTable+strings.TrimSuffix("\nWITH n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n LIMIT 50000) INSERT INTO detailed_history (timestamp, ip) SELECT i, '192.0.2.1' FROM n;", ""))
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	_, err := OpenConsole(ctx, name, ConsoleOptions{Cache: dir, Complete: func(*history.Entry) {
		if n++; n == 1000 {
			cancel()
		}
	}})
	assert.ErrorIs(t, err, context.Canceled)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
}

// TestProgress: it ends with all, and time does not go by without it.
func TestProgress(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	slow(t)
	name := foreign(t, perlTable+"\nWITH n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n LIMIT 300000) INSERT INTO detailed_history (timestamp, ip) SELECT i, '192.0.2.' || (i % 200) FROM n;")
	var told []string
	db, err := Open(t.Context(), name, Options{Progress: func(done, total int64) { told = append(told, fmt.Sprint(done, " ", total)) }})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	require.NotEmpty(t, told)
	assert.True(t, strings.HasSuffix(told[0], " 300000"))
	assert.Equal(t, "300000 300000", told[len(told)-1])
}

// TestReadOnly: a history in a folder that cannot be written answers, whatever a writer
// has left there.
func TestReadOnly(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for name, left := range map[string]bool{"closed": false, "killed": true} {
		for origin, make := range map[string]func(t *testing.T) string{
			"current": func(t *testing.T) string {
				db := open(t, path(t))
				require.NoError(t, db.Record(t.Context(), entries(0, 100)))
				if !left {
					require.NoError(t, db.Close())
				}
				return db.path
			},
			"connmapperl": func(t *testing.T) string {
				name := foreign(t, perlTable+"\nINSERT INTO detailed_history (timestamp, ip) SELECT value, '192.0.2.1' FROM json_each('["+strings.Repeat("1,", 99)+"1]');")
				if left {
					conn, err := sqlite.OpenConn(name, sqlite.OpenReadWrite)
					require.NoError(t, err)
					t.Cleanup(func() { conn.Close() })
					for _, q := range []string{`PRAGMA cache_size = 1`, `BEGIN`, `UPDATE detailed_history SET full_lookup = hex(zeroblob(1000)), ip = 'damaged'`} {
						require.NoError(t, sqlitex.ExecuteTransient(conn, q, nil))
					}
				}
				return name
			},
		} {
			t.Run(origin+" "+name, func(t *testing.T) {
				from := make(t)
				dir := mount(t)
				to := filepath.Join(dir, "a?b #%20.sqlite")
				for _, suffix := range []string{"", "-wal", "-journal"} {
					if err := copyFile(to+suffix, from+suffix); err != nil {
						require.ErrorIs(t, err, os.ErrNotExist)
					}
				}
				remountReadOnly(t, dir)
				c, err := OpenConsole(t.Context(), to, ConsoleOptions{})
				require.NoError(t, err)
				assert.Equal(t, [][]any{{int64(100)}}, ask(t, c, `SELECT count(*) FROM detailed_history WHERE ip <> 'damaged'`, nil))
				require.NoError(t, c.Close())
				left, err := os.ReadDir(os.TempDir())
				require.NoError(t, err)
				for _, f := range left {
					assert.NotContains(t, f.Name(), "connmap-history")
				}
			})
		}
	}
}
