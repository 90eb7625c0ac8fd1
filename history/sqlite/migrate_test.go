package sqlite

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/history"
)

// perlTable is the table of connmapperl, by the names of its columns.
const perlTable = `CREATE TABLE detailed_history (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp DATETIME DEFAULT CURRENT_TIMESTAMP, ip TEXT, port INTEGER,
	local_ip TEXT, local_port INTEGER, programname TEXT, full_lookup TEXT, asn TEXT, orgname TEXT, lat REAL, lon REAL, x INTEGER, y INTEGER, count INTEGER);`

// foreign makes a file by SQL.
func foreign(t testing.TB, sql string) string {
	name := path(t)
	conn, err := sqlite.OpenConn(name, sqlite.OpenReadWrite|sqlite.OpenCreate)
	require.NoError(t, err)
	for _, s := range strings.Split(sql, ";\n") {
		require.NoError(t, sqlitex.ExecuteTransient(conn, strings.TrimRight(s, ";\n"), nil), s)
	}
	require.NoError(t, conn.Close())
	return name
}

func TestMigratePerl(t *testing.T) {
	const rows = `
INSERT INTO detailed_history VALUES (3, '2024-02-03 04:05:06', '192.0.2.1', 443, '10.0.0.5', 50000, 'firefox', 'a report', '64496', 'Example', 52.52, 13.405, 508, 154, 7);
INSERT INTO detailed_history VALUES (4, '2024-02-03 04:05:06', '192.0.2.1', 443, '10.0.0.5', 50000, 'firefox', 'a report', 'AS64496', 'Example', 52.52, 13.405, 508, 154, 2);
INSERT INTO detailed_history VALUES (9, 1706933106, '192.0.2.2', '22', NULL, NULL, NULL, NULL, NULL, NULL, '', '', NULL, NULL, NULL);
INSERT INTO detailed_history VALUES (10, 1706933106500, x'00ff', 'x', '', -1, 'a''; DROP', '', '', '', 91, 500, -3, 9, 0);
INSERT INTO detailed_history VALUES (12, 'yesterday', '2001:db8::1', 53, '::', 1, 'dig', '', 0, '', '0', '0', 1, 2, 1);
INSERT INTO detailed_history VALUES (13, '1706933106', '192.0.2.3', 1, '', 0, '', '', NULL, '', NULL, 7, 1, 2, 1);
INSERT INTO detailed_history VALUES (14, '2024-02-03T04:05:06Z', '192.0.2.3', 1, '', 0, '', '', NULL, '', NULL, 7, 1, 2, 1);
`
	const then = "1706933106"
	want := [][]string{
		{"3", then, "192.0.2.1", "443", "10.0.0.5", "50000", "firefox", "a report", "AS64496", "Example", "52.52", "13.405", "508", "154", "7", then + ".0", then + ".0"},
		{"4", then, "192.0.2.1", "443", "10.0.0.5", "50000", "firefox", "a report", "AS64496", "Example", "52.52", "13.405", "508", "154", "2", then + ".0", then + ".0"},
		{"9", then, "192.0.2.2", "22", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "1", then + ".0", then + ".0"},
		{"10", then, "\x00\xff", "0", "", "0", "a'; DROP", "", "", "", "NULL", "NULL", "-3", "9", "1", then + ".0", then + ".0"},
		{"12", "0", "2001:db8::1", "53", "::", "1", "dig", "", "AS0", "", "0.0", "0.0", "1", "2", "1", "0.0", "0.0"},
		{"13", then, "192.0.2.3", "1", "", "0", "", "", "NULL", "", "NULL", "NULL", "1", "2", "1", then + ".0", then + ".0"},
		{"14", then, "192.0.2.3", "1", "", "0", "", "", "NULL", "", "NULL", "NULL", "1", "2", "1", then + ".0", then + ".0"},
	}
	const all = `SELECT id, timestamp, ip, port, local_ip, local_port, programname, full_lookup, asn, orgname, lat, lon, x, y, count, opened, closed FROM detailed_history ORDER BY id`
	for name, mode := range map[string]string{"rollback journal": "", "written ahead": "PRAGMA journal_mode = WAL;\n"} {
		t.Run(name, func(t *testing.T) {
			name := foreign(t, mode+perlTable+"\n"+strings.TrimSpace(rows))
			before, err := os.ReadFile(name)
			require.NoError(t, err)
			var log strings.Builder
			db, err := Open(t.Context(), name, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			require.NoError(t, err)
			assert.Equal(t, want, query(t, db, all))
			assert.Equal(t, map[[2]float64]int64{{52.52, 13.405}: 9, {0, 0}: 1}, places(t, db))
			s, err := db.Stats()
			require.NoError(t, err)
			assert.EqualValues(t, 7, s.Rows)
			assert.Contains(t, log.String(), "rows=7")
			kept, err := filepath.Glob(name + ".before-migration-*")
			require.NoError(t, err)
			require.Len(t, kept, 1)
			after, err := os.ReadFile(kept[0])
			require.NoError(t, err)
			assert.True(t, string(before) == string(after), "the old file is as it was")

			// It goes on as any other, and is not migrated again.
			require.NoError(t, db.Record(t.Context(), entries(0, 100)))
			require.NoError(t, db.Close())
			db = open(t, name)
			assert.Equal(t, "107", count(t, db))
			kept, _ = filepath.Glob(name + ".*-*")
			assert.Len(t, kept, 1)
		})
	}
}

// TestMigrateWhileOpen: what another program has open is not taken over behind its
// back.
func TestMigrateWhileOpen(t *testing.T) {
	t.Parallel()
	slow(t)
	for name, mode := range map[string]string{"rollback journal": "", "written ahead": "PRAGMA journal_mode = WAL;\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			name := foreign(t, mode+perlTable)
			conn, err := sqlite.OpenConn(name, sqlite.OpenReadWrite)
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, sqlitex.ExecuteTransient(conn, `BEGIN IMMEDIATE`, nil))
			require.NoError(t, sqlitex.ExecuteTransient(conn, `INSERT INTO detailed_history (ip) VALUES ('192.0.2.1')`, nil))
			start := time.Now()
			_, err = Open(t.Context(), name, Options{})
			assert.ErrorContains(t, err, "cannot be upgraded; it is not changed")
			assert.ErrorContains(t, err, "stop the program that has locked it")
			assert.Less(t, time.Since(start), 3*busyTimeout)
			require.NoError(t, sqlitex.ExecuteTransient(conn, `COMMIT`, nil))
			left, _ := filepath.Glob(name + ".*")
			for _, f := range left {
				assert.Equal(t, name+".lock", f)
			}
		})
	}
}

// olderFile makes a file of a schema before this, and returns its rows.
func olderFile(t *testing.T, script string) (name string, rows [][]string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", script))
	require.NoError(t, err)
	name = path(t)
	conn, err := sqlite.OpenConn(name, sqlite.OpenReadWrite|sqlite.OpenCreate)
	require.NoError(t, err)
	// A transaction of its own is in the script.
	sql := strings.NewReplacer("BEGIN TRANSACTION;", "", "COMMIT;", "", "PRAGMA foreign_keys=OFF;", "").Replace(string(b))
	require.NoError(t, sqlitex.ExecuteScript(conn, sql, nil))
	// Its times are texts, and its asn is a number.
	columns := strings.NewReplacer(", 'unixepoch'", "", " asn,", " coalesce('AS' || asn, ''),").Replace(olderColumns)
	require.NoError(t, sqlitex.Execute(conn, columns, &sqlitex.ExecOptions{ResultFunc: func(stmt *sqlite.Stmt) error {
		rows = append(rows, texts(stmt))
		return nil
	}}))
	require.NoError(t, conn.Close())
	return name, rows
}

const olderColumns = `SELECT ` + timeTexts + `, id, ip, port, local_ip, local_port, programname, full_lookup, asn, orgname, lat, lon, x, y, count,
		agent, direction, protocol, exe, container, country, rule, tx, rx, tx_before, rx_before FROM detailed_history ORDER BY id`

func TestMigrateOlder(t *testing.T) {
	name, want := olderFile(t, "schema1.sql")
	require.Len(t, want, 12)
	db := open(t, name)
	assert.Equal(t, want, query(t, db, olderColumns))
	assert.Equal(t, map[[2]float64]int64{{52.52, 13.405}: 10}, places(t, db))
	// The same connection is found again.
	noon := time.Date(2026, 7, 1, 12, 1, 0, 0, time.UTC)
	e := history.Entry{Agent: "laptop", Protocol: "tcp", Local: addrPort("192.0.2.1:40001"), Peer: addrPort("[2001:db8::7]:443"), Program: "curl", New: true, Opened: noon.Add(time.Hour)}
	require.NoError(t, db.Record(t.Context(), []history.Entry{e}))
	assert.Equal(t, "12", count(t, db))
	assert.Equal(t, "2", query(t, db, `SELECT count FROM detailed_history WHERE id = 2`)[0][0])
}

// TestMigrateLater: a file that has settings, reports and losses keeps them.
func TestMigrateLater(t *testing.T) {
	for script, rows := range map[string]int{"schema2.sql": 2, "schema3.sql": 4} {
		t.Run(script, func(t *testing.T) { migrateLater(t, script, rows) })
	}
}

func migrateLater(t *testing.T, script string, rows int) {
	name, want := olderFile(t, script)
	require.Len(t, want, rows)
	db := open(t, name)
	assert.Equal(t, want, query(t, db, olderColumns))
	consistent(t, db)
	n, err := strconv.ParseInt(query(t, db, `SELECT sum(count) FROM detailed_history WHERE lat = 52.52`)[0][0], 10, 64)
	require.NoError(t, err)
	assert.Equal(t, map[[2]float64]int64{{52.52, 13.405}: n}, places(t, db))
	s, err := db.Stats()
	require.NoError(t, err)
	assert.Equal(t, history.Retention{Rows: 1000}, s.Retention)
	last, err := db.LastReport(t.Context(), [16]byte{1, 2})
	require.NoError(t, err)
	assert.EqualValues(t, 9, last)
	assert.Equal(t, [][]string{{"0", "nas", "7"}}, query(t, db, `SELECT timestamp % 3600, agent, count FROM losses`))
}

// TestHotJournal: what a process that was killed had begun is rolled back.
func TestHotJournal(t *testing.T) {
	name := foreign(t, perlTable+"\nINSERT INTO detailed_history (ip) VALUES ('192.0.2.1');")
	conn, err := sqlite.OpenConn(name, sqlite.OpenReadWrite)
	require.NoError(t, err)
	defer conn.Close()
	for _, q := range []string{
		`PRAGMA cache_size = 1`, `BEGIN`,
		`WITH n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n LIMIT 5000) INSERT INTO detailed_history (ip, orgname) SELECT '198.51.100.1', hex(zeroblob(100)) FROM n`,
		`UPDATE detailed_history SET ip = 'damaged'`,
	} {
		require.NoError(t, sqlitex.ExecuteTransient(conn, q, nil))
	}
	// As it lies on the disk now.
	left := path(t)
	for _, suffix := range []string{"", "-journal"} {
		require.NoError(t, copyFile(left+suffix, name+suffix))
	}
	// Who only asks leaves it as it is.
	before := stateOf(t, left, left+"-journal")
	c, err := OpenConsole(t.Context(), left, ConsoleOptions{})
	require.NoError(t, err)
	defer c.Close()
	table, err := c.Ask(t.Context(), history.Question{SQL: `SELECT ip FROM detailed_history`})
	require.NoError(t, err)
	assert.Equal(t, [][]any{{"192.0.2.1"}}, table.Rows)
	assert.Equal(t, before, stateOf(t, left, left+"-journal"))

	db := open(t, left)
	assert.Equal(t, [][]string{{"192.0.2.1"}}, query(t, db, `SELECT ip FROM detailed_history`))
}

// stateOf is the content of files.
func stateOf(t *testing.T, names ...string) (s string) {
	for _, name := range names {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		s += string(b)
	}
	return s
}

// TestConsoleWithoutCache: where no copy can be kept, one is made for this time.
func TestConsoleWithoutCache(t *testing.T) {
	name := foreign(t, perlTable+"\nINSERT INTO detailed_history (ip) VALUES ('192.0.2.1');")
	c, err := OpenConsole(t.Context(), name, ConsoleOptions{Cache: filepath.Join(name, "cache")})
	require.NoError(t, err)
	defer c.Close()
	table, err := c.Ask(t.Context(), history.Question{SQL: `SELECT ip FROM detailed_history`})
	require.NoError(t, err)
	assert.Equal(t, [][]any{{"192.0.2.1"}}, table.Rows)
}

// TestMigrateSparse: pieces do not depend on where the numbers of rows lie.
func TestMigrateSparse(t *testing.T) {
	want := [][]string{{"-9223372036854775808"}, {"-5"}, {"0"}, {"1"}, {"9000000000000000000"}, {"9223372036854775807"}}
	sql := perlTable
	for _, id := range want {
		sql += "\nINSERT INTO detailed_history (id, ip) VALUES (" + id[0] + ", '192.0.2.1');"
	}
	db := open(t, foreign(t, sql))
	assert.Equal(t, want, query(t, db, `SELECT id FROM detailed_history ORDER BY id`))
	require.NoError(t, db.Record(t.Context(), entries(0, 10)))
	assert.Equal(t, "16", count(t, db))
	consistent(t, db)
}

// TestMigrateMany: pieces make a whole, and what cannot be taken over stays.
func TestMigrateMany(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	slow(t)
	r := rand.New(rand.NewPCG(1, 2))
	name := foreign(t, perlTable)
	conn, err := sqlite.OpenConn(name, sqlite.OpenReadWrite)
	require.NoError(t, err)
	require.NoError(t, sqlitex.ExecuteTransient(conn, `BEGIN`, nil))
	const n = 250_000
	id := 0
	for range n {
		id += 1 + r.IntN(3)
		require.NoError(t, sqlitex.Execute(conn, `INSERT INTO detailed_history (id, ip, port, programname, lat, lon, count) VALUES (?, ?, 443, 'curl', ?, 1, 2)`,
			&sqlitex.ExecOptions{Args: []any{id, fmt.Sprint("192.0.2.", id%256), id % 50}}))
	}
	require.NoError(t, sqlitex.ExecuteTransient(conn, `COMMIT`, nil))
	require.NoError(t, conn.Close())
	db := open(t, name)
	assert.Equal(t, fmt.Sprint(n), count(t, db))
	total := int64(0)
	for _, c := range places(t, db) {
		total += c
	}
	assert.EqualValues(t, 2*n, total)

	for _, sql := range []string{
		`CREATE TABLE detailed_history (id INTEGER PRIMARY KEY, what TEXT)`,
		`CREATE TABLE detailed_history (timestamp, ip, PRIMARY KEY (timestamp, ip)) WITHOUT ROWID`,
	} {
		name := foreign(t, sql)
		before, err := os.ReadFile(name)
		require.NoError(t, err)
		var log strings.Builder
		_, err = Open(t.Context(), name, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		assert.ErrorContains(t, err, "cannot be upgraded; it is not changed")
		assert.NotContains(t, log.String(), "kept", "nothing was kept")
		after, err := os.ReadFile(name)
		require.NoError(t, err)
		assert.True(t, string(before) == string(after))
		left, _ := filepath.Glob(name + ".*")
		assert.Equal(t, []string{name + ".lock"}, left)
	}
}
