package history

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
		c, err := OpenConsole(t.Context(), name, ConsoleOptions{Complete: func(e *Entry) { e.Rule = "by " + e.Peer.String() }})
		require.NoError(t, err)
		assert.Equal(t, [][]any{{want}}, ask(t, c, `SELECT count(*) FROM detailed_history WHERE timestamp > '2024-01-01' AND (asn >= 'AS64496' OR asn = '')`, nil))
		for _, q := range SavedQueries() {
			params := make(map[string]any)
			for k, v := range q.Params {
				params[k] = v
			}
			_, err := c.Ask(t.Context(), Question{SQL: q.SQL, Params: params})
			assert.NoError(t, err, q.Name)
		}
		if want == 1 {
			assert.Equal(t, [][]any{{"by 192.0.2.1:0"}}, ask(t, c, `SELECT rule FROM detailed_history`, nil))
		}
		_, err = c.Ask(t.Context(), Question{SQL: `DELETE FROM detailed_history`})
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
				c, err := OpenConsole(t.Context(), name, ConsoleOptions{Cache: dir, CacheKey: key, Complete: func(*Entry) { copied++ }})
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

// TestConsoleInterrupted: nothing is left of a copy that was stopped.
func TestConsoleInterrupted(t *testing.T) {
	name := foreign(t, perlTable+strings.TrimSuffix("\nWITH n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n LIMIT 50000) INSERT INTO detailed_history (timestamp, ip) SELECT i, '192.0.2.1' FROM n;", ""))
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	_, err := OpenConsole(ctx, name, ConsoleOptions{Cache: dir, Complete: func(*Entry) {
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
