package sqlite

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/history"
)

// recent makes n entries of the last hours, of which the last lives.
func recent(n int) []history.Entry {
	all := take(months(n), n)
	for i := range all {
		e := &all[i]
		e.Opened = time.Now().Add(time.Duration(i-n+1) * time.Minute).Round(time.Millisecond)
		e.Seen = e.Opened.Add(time.Second)
		e.Closed = e.Seen
		if i == n-1 {
			e.Closed = time.Time{}
		}
	}
	return all
}

func console(t testing.TB, db *DB) *Console {
	c, err := OpenConsole(t.Context(), db.path, ConsoleOptions{Rule: func(local, peer uint16, program, exe string) string {
		return fmt.Sprint(local, " ", peer, " ", program, " ", exe)
	}})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func ask(t testing.TB, c *Console, sql string, params map[string]any) [][]any {
	table, err := c.Ask(t.Context(), history.Question{SQL: sql, Params: params})
	require.NoError(t, err, sql)
	return table.Rows
}

func TestAsk(t *testing.T) {
	db := open(t, path(t))
	require.NoError(t, db.Record(t.Context(), entries(0, 100)))
	c := console(t, db)
	table, err := c.Ask(t.Context(), history.Question{SQL: `SELECT id, lat, programname, x'00ff' AS b, NULL AS n FROM detailed_history WHERE id <= :most;  -- done`, Params: map[string]any{"most": 2}})
	require.NoError(t, err)
	assert.Equal(t, []history.Column{{Name: "id", Type: "integer"}, {Name: "lat", Type: "real"}, {Name: "programname", Type: "text"}, {Name: "b", Type: "blob"}, {Name: "n"}}, table.Columns)
	assert.Equal(t, [][]any{{int64(1), 30.0, "curl", []byte{0, 0xff}, nil}, {int64(2), 49.19, "firefox", []byte{0, 0xff}, nil}}, table.Rows)
	assert.Empty(t, table.Cut)
	assert.Positive(t, table.Elapsed)

	table, err = c.Ask(t.Context(), history.Question{SQL: `SELECT id FROM detailed_history`, MaxRows: 7})
	require.NoError(t, err)
	assert.Len(t, table.Rows, 7)
	assert.Equal(t, "only the first 7 rows", table.Cut)
	table, err = c.Ask(t.Context(), history.Question{SQL: `SELECT printf('%1000s', id) FROM detailed_history`, MaxBytes: 10_000})
	require.NoError(t, err)
	assert.Len(t, table.Rows, 9)
	assert.Contains(t, table.Cut, "only the first 9 rows")
	table, err = c.Ask(t.Context(), history.Question{SQL: `SELECT id FROM detailed_history WHERE id < 0`})
	require.NoError(t, err)
	assert.Equal(t, []history.Column{{Name: "id"}}, table.Columns)
	assert.Empty(t, table.Rows)

	// Columns with one name are told apart.
	table, err = c.Ask(t.Context(), history.Question{SQL: `SELECT a.ip, b.ip, a.port, a.ip, 1 AS "" FROM detailed_history AS a JOIN detailed_history AS b USING (id) LIMIT 1; -- x`})
	require.NoError(t, err)
	assert.Equal(t, []history.Column{{Name: "ip", Type: "text"}, {Name: "ip:1", Type: "text"}, {Name: "port", Type: "integer"}, {Name: "ip:2", Type: "text"}, {Type: "integer"}}, table.Columns)
	table, err = c.Ask(t.Context(), history.Question{SQL: `SELECT 1, 1, 2 /* open`})
	require.NoError(t, err)
	assert.Equal(t, []history.Column{{Name: "column 1", Type: "integer"}, {Name: "1", Type: "integer"}, {Name: "2 /* open", Type: "integer"}}, table.Columns)

	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	assert.Equal(t, [][]any{{int64(1767319445), "x", 1.5, int64(1), []byte("b"), nil}},
		ask(t, c, `VALUES (:time, :text, @real, $true, :blob, :null)`, map[string]any{"time": at, "text": "x", "real": 1.5, "true": true, "blob": []byte("b"), "null": nil}))
	// What is recorded is seen at once.
	require.NoError(t, db.Record(t.Context(), entries(200, 1)))
	assert.Equal(t, [][]any{{int64(101)}}, ask(t, c, `SELECT count(*) FROM detailed_history`, nil))
	for _, sql := range []string{`EXPLAIN QUERY PLAN SELECT 1`, `SELECT name FROM pragma_table_info('detailed_history')`, `PRAGMA table_info(detailed_history)`, `WITH a AS (SELECT 1) SELECT * FROM a`, ` ; /* x */ SELECT 1 ; ; `} {
		assert.NotEmpty(t, ask(t, c, sql, nil), sql)
	}
}

func TestAskErrors(t *testing.T) {
	db := open(t, path(t))
	c := console(t, db)
	for _, tt := range []struct {
		sql    string
		params map[string]any
		offset int
		msg    string
	}{
		{"SELECT * FORM detailed_history", nil, 9, `near "FORM": syntax error`},
		{"SELECT wrong FROM detailed_history", nil, 7, "no such column: wrong"},
		{"SELECT * FROM wrong", nil, -1, "no such table: wrong"},
		{"SELECT 1; SELECT 2", nil, 10, "only one statement can be asked at a time"},
		{"SELECT 1; -- x\n/* y */ DROP TABLE places", nil, 23, "only one statement"},
		{"DELETE FROM places", nil, -1, "this console only reads: ask with SELECT, WITH, VALUES or EXPLAIN"},
		{"", nil, -1, "nothing is asked"},
		{" -- SELECT 1", nil, -1, "nothing is asked"},
		{"SELECT 1\x00", nil, 8, "a zero byte"},
		{"SELECT :a", nil, -1, "the parameter :a has no value"},
		{"SELECT ?", nil, -1, "parameters have names"},
		{"SELECT ?1", nil, -1, "parameters have names"},
		{"SELECT :a", map[string]any{"a": 1, "b": 2}, -1, "the query has no parameter :b"},
		{"SELECT :a", map[string]any{"a": struct{}{}}, -1, "want a text, a number or a time"},
		{"SELECT cidr_match('10.0.0.1', 'x')", nil, -1, `cidr_match: want a prefix such as 10.0.0.0/8, found "x"`},
		{"SELECT 'x' REGEXP '('", nil, -1, "REGEXP: error parsing regexp"},
		{"SELECT zeroblob(20000)", nil, -1, "a text has more than 16 KiB"},
	} {
		_, err := c.Ask(t.Context(), history.Question{SQL: tt.sql, Params: tt.params})
		var q *history.QueryError
		require.ErrorAs(t, err, &q, tt.sql)
		assert.Equal(t, tt.offset, q.Offset, tt.sql)
		assert.Contains(t, q.Msg, tt.msg, tt.sql)
	}
}

func TestOpenConsoleRefuses(t *testing.T) {
	missing := path(t)
	_, err := OpenConsole(t.Context(), missing, ConsoleOptions{})
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.NoFileExists(t, missing)
	for sql, want := range map[string]string{
		`CREATE TABLE moz_cookies (id)`: "a database of another program",
		perlTable:                       "",
	} {
		c, err := OpenConsole(t.Context(), foreign(t, sql), ConsoleOptions{})
		if want != "" {
			assert.ErrorContains(t, err, want)
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, [][]any{{int64(0)}}, ask(t, c, `SELECT count(*) FROM detailed_history`, nil))
	}
	text := filepath.Join(t.TempDir(), "x")
	require.NoError(t, os.WriteFile(text, []byte(strings.Repeat("not a database ", 100)), 0o600))
	_, err = OpenConsole(t.Context(), text, ConsoleOptions{})
	assert.Error(t, err)
}

// hostile are statements that want to change something, or to take all there is of
// time or memory.
var hostile = []string{
	`DELETE FROM detailed_history`,
	`DELETE FROM places WHERE id = 1 RETURNING *`,
	`UPDATE detailed_history SET count = 0`,
	`INSERT INTO settings VALUES ('x', 1)`,
	`REPLACE INTO settings VALUES ('rows', 0)`,
	`WITH a AS (SELECT 1) DELETE FROM detailed_history`,
	`DROP TABLE detailed_history`,
	`CREATE TABLE x (y)`,
	`CREATE TEMP TABLE x AS SELECT * FROM detailed_history`,
	`CREATE TEMP VIEW x AS SELECT 1`,
	`CREATE VIEW x AS SELECT 1`,
	`CREATE INDEX x ON detailed_history (count)`,
	`CREATE TRIGGER x AFTER INSERT ON detailed_history BEGIN SELECT 1; END`,
	`CREATE VIRTUAL TABLE x USING rtree (a, b, c)`,
	`ALTER TABLE detailed_history ADD COLUMN x`,
	`ATTACH '/tmp/connmap-hostile' AS x`,
	`ATTACH ':memory:' AS x`,
	`DETACH main`,
	`VACUUM`,
	`VACUUM INTO '/tmp/connmap-hostile'`,
	`REINDEX`,
	`ANALYZE`,
	`PRAGMA journal_mode = DELETE`,
	`PRAGMA writable_schema = 1`,
	`PRAGMA query_only = 0`,
	`PRAGMA trusted_schema = 1`,
	`PRAGMA user_version = 9`,
	`PRAGMA wal_checkpoint(TRUNCATE)`,
	`PRAGMA temp_store_directory = '/'`,
	`PRAGMA incremental_vacuum`,
	`PRAGMA mmap_size = 1000000000`,
	`SELECT * FROM pragma_journal_mode('delete')`,
	`UPDATE sqlite_master SET sql = ''`,
	`SELECT load_extension('/tmp/x.so')`,
	`SELECT writefile('/tmp/connmap-hostile', 'x')`,
	`SELECT readfile('/etc/passwd')`,
	`SELECT edit('x')`,
	`SELECT fts3_tokenizer('x', 'y')`,
	`BEGIN`,
	`COMMIT`,
	`SAVEPOINT x`,
	`EXPLAIN DELETE FROM detailed_history`,
	`SELECT 1; DELETE FROM detailed_history`,
	"SELECT 1 /* */; -- \n DELETE FROM detailed_history",
	"SELECT 1;\x00DELETE FROM detailed_history",
	"SELECT '\xff\xfe' FROM \x80",
	`WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a) SELECT count(*) FROM a`,
	`WITH RECURSIVE a(x) AS (SELECT 1 UNION SELECT x + 1 FROM a) SELECT x FROM a ORDER BY x DESC`,
	`WITH RECURSIVE a(x) AS (VALUES ('x') UNION ALL SELECT x || x FROM a) SELECT max(length(x)) FROM a`,
	`SELECT zeroblob(1000000000)`,
	`SELECT length(randomblob(1000000000))`,
	`SELECT printf('%1000000000d', 1)`,
	`SELECT printf('%.1000000000f', 1)`,
	`SELECT replace(hex(zeroblob(8000)), '0', hex(zeroblob(8000)))`,
	`SELECT hex(hex(hex(hex(zeroblob(4000)))))`,
	`SELECT group_concat(a.full_lookup || b.orgname || c.orgname) FROM detailed_history a, detailed_history b, detailed_history c`,
	`SELECT count(*) FROM detailed_history a, detailed_history b, detailed_history c`,
	`SELECT * FROM detailed_history a, detailed_history b, detailed_history c ORDER BY random()`,
	`SELECT DISTINCT a.id * b.id * c.id FROM detailed_history a, detailed_history b, detailed_history c`,
	`SELECT a.id, sum(b.id) OVER (ORDER BY c.id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) FROM detailed_history a, detailed_history b, detailed_history c`,
	`SELECT count(*) FROM json_each('[' || group_concat('1') || ']') FROM detailed_history`,
	`SELECT json_group_array(a.ip) FROM detailed_history a, detailed_history b`,
	`SELECT 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab' LIKE '%a%a%a%a%a%a%a%a%a%a%a%a%a%a%a%a%c'`,
	`SELECT hex(zeroblob(8000)) GLOB '*0*0*0*0*0*0*0*0*0*0*0*0*0*0*0*0*1'`,
	`SELECT hex(zeroblob(8000)) LIKE '%0%0%0%0%0%0%0%0%0%0%0%0%0%0%0%1'`,
	`SELECT hex(zeroblob(8000)) REGEXP '(0*)*(0*)*(0*)*1'`,
	`SELECT hex(zeroblob(8000)) REGEXP '` + strings.Repeat("[0a]{0,1000}", 100) + `1'`,
	`SELECT hex(zeroblob(8000)) REGEXP '` + strings.Repeat("[0a]{0,100}", 80) + `1'`,
	`SELECT hex(zeroblob(8000)) REGEXP '((0{1,30}){1,15})1'`,
	`SELECT hex(zeroblob(8000)) REGEXP '` + strings.Repeat("(0?)*", 200) + `1'`,
	`SELECT 'x' REGEXP '` + strings.Repeat(`[\pL\pN]{1000}`, 60) + `'`,
	`WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a) SELECT count(*) FROM a WHERE 'x' REGEXP ('y{999}' || x)`,
	`WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a) SELECT count(*) FROM a WHERE cidr_match('10.0.0.1', iif(x = 5, 'bad', '10.0.0.0/8'))`,
	`SELECT 'x' REGEXP '((((((((((x{1,100}){1,100}){1,100}))))))))'`,
	`SELECT instr(hex(zeroblob(8000)), hex(zeroblob(4000)) || '1') FROM detailed_history a, detailed_history b`,
	`SELECT ` + strings.Repeat("(", 10_000) + "1" + strings.Repeat(")", 10_000),
	`SELECT ` + strings.Repeat("1+", 40_000) + "1",
	`SELECT ` + strings.Repeat("- ", 40_000) + "1",
	strings.Repeat("SELECT * FROM (", 500) + "SELECT 1" + strings.Repeat(")", 500),
	strings.Repeat("SELECT 1 UNION ALL ", 5000) + "SELECT 1",
	`SELECT 1 IN (` + strings.Repeat("1,", 45_000) + "1)",
	`SELECT ` + strings.Repeat("1,", 40_000) + "1",
	`SELECT '` + strings.Repeat("x", 1<<20) + `'`,
	`SELECT CASE ` + strings.Repeat("WHEN 1 THEN 1 ", 5000) + "END",
	`SELECT :a` + strings.Repeat(", :a", 1000),
}

func TestHostileStatements(t *testing.T) {
	db := open(t, path(t))
	require.NoError(t, db.Record(t.Context(), entries(0, 2000)))
	require.NoError(t, db.locked(t.Context(), func() error { return db.pragma(`wal_checkpoint(TRUNCATE)`) }))
	content := func() [32]byte {
		b, err := os.ReadFile(db.path)
		require.NoError(t, err)
		return sha256.Sum256(b)
	}
	before := content()
	c := console(t, db)
	require.GreaterOrEqual(t, len(hostile), 40)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	start := heap()
	for _, sql := range hostile {
		begin := time.Now()
		table, err := c.Ask(t.Context(), history.Question{SQL: sql, Timeout: 300 * time.Millisecond})
		took := time.Since(begin)
		assert.Less(t, took, 30*time.Second, "%.100q", sql)
		if err == nil {
			// What ended in time has only read.
			assert.LessOrEqual(t, len(table.Rows), defaultMaxRows, "%.100q", sql)
			t.Logf("answered in %v: %.100q", took.Round(time.Millisecond), sql)
		} else {
			assert.True(t, errors.As(err, new(*history.QueryError)), "%.100q: %v", sql, err)
		}
	}
	assert.Less(t, heap(), start+64<<20)
	assert.Equal(t, before, content())
	assert.NoFileExists(t, "/tmp/connmap-hostile")
	assert.Equal(t, "2000", count(t, db))
	require.NoError(t, db.Record(t.Context(), entries(2000, 1)))
}

// TestAggregates: each of SQLite's functions that look at many rows keeps little of them, or is
// refused; and what is said in place of those refused answers the same.
func TestAggregates(t *testing.T) {
	db := open(t, path(t))
	require.NoError(t, db.Record(t.Context(), entries(0, 3)))
	// These keep a number, one value, or a text that fails beyond textLimit as it grows.
	bounded := []string{"avg", "count", "cume_dist", "dense_rank", "first_value", "geopoly_group_bbox", "group_concat", "lag", "last_value", "lead", "max", "min",
		"nth_value", "ntile", "percent_rank", "rank", "row_number", "string_agg", "sum", "total"}
	var all []string
	require.NoError(t, db.read(t.Context(), `SELECT DISTINCT name FROM pragma_function_list WHERE type <> 's' ORDER BY 1`, func(stmt *sqlite.Stmt) error {
		all = append(all, stmt.ColumnText(0))
		return nil
	}))
	assert.ElementsMatch(t, append(slices.Collect(maps.Keys(unbounded)), bounded...), all)
	c := console(t, db)
	for name, args := range unbounded {
		call := name + `(` + strings.TrimSuffix(strings.Repeat("ip, ", args), ", ") + `)`
		for _, sql := range []string{
			`SELECT ` + call + ` FROM detailed_history`,
			`SELECT ` + call + ` FROM detailed_history WHERE id < 0`,
			`SELECT upper(` + call + ` OVER (ORDER BY id ROWS 1 PRECEDING)) FROM detailed_history`,
			`SELECT id FROM detailed_history GROUP BY id HAVING ` + call + ` <> ''`,
		} {
			_, err := c.Ask(t.Context(), history.Question{SQL: sql})
			assert.ErrorContains(t, err, name+" takes memory without limit", sql)
		}
	}
	var ips []string
	for _, row := range ask(t, c, `SELECT ip FROM detailed_history`, nil) {
		ips = append(ips, row[0].(string))
	}
	text := ask(t, c, `SELECT '[' || group_concat(json_quote(ip)) || ']' FROM detailed_history`, nil)[0][0].(string)
	var got []string
	require.NoError(t, json.Unmarshal([]byte(text), &got))
	assert.Equal(t, ips, got)
}

// TestModifiers: a parameter that is no modifier of a date function is told.
func TestModifiers(t *testing.T) {
	c := console(t, timed(t))
	const sql = `SELECT id FROM detailed_history WHERE timestamp >= unixepoch('now', 'utc', :since) AND strftime('%H', timestamp, 'unixepoch', $shift) > ''`
	for since, problem := range map[string]string{
		"-7 days": "", "start of year": "", "unixepoch": "", "localtime": "", "-00:30": "", "2026-07-01": "since = \"2026-07-01\" is no modifier", "": "no modifier", "7 dais": "no modifier",
	} {
		_, err := c.Ask(t.Context(), history.Question{SQL: sql, Params: map[string]any{"since": since, "shift": "+1 hour"}})
		if problem == "" {
			assert.NoError(t, err, since)
		} else {
			assert.ErrorContains(t, err, problem)
		}
	}
}

func TestAskCancelled(t *testing.T) {
	db := open(t, path(t))
	require.NoError(t, db.Record(t.Context(), entries(0, 2000)))
	c := console(t, db)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	start := time.Now()
	_, err := c.Ask(ctx, history.Question{SQL: `SELECT count(*) FROM detailed_history a, detailed_history b, detailed_history c`})
	assert.ErrorIs(t, err, context.Canceled)
	assert.Less(t, time.Since(start), 20*time.Second)
	_, err = c.Ask(t.Context(), history.Question{SQL: `SELECT count(*) FROM detailed_history a, detailed_history b, detailed_history c`, Timeout: 50 * time.Millisecond})
	assert.EqualError(t, err, "stopped after 50ms: narrow it, for example by timestamp >= unixepoch('now', '-1 day')")
	// Each ends with its callers.
	failure := errors.New("failure")
	_, err = c.Each(t.Context(), history.Question{SQL: `SELECT id FROM detailed_history`}, func([]history.Column) error { return nil }, func([]any) error { return failure })
	assert.ErrorIs(t, err, failure)
	_, err = c.Each(t.Context(), history.Question{SQL: `SELECT id FROM detailed_history`}, func([]history.Column) error { return failure }, nil)
	assert.ErrorIs(t, err, failure)
}

// TestOpenConsoleLocked: the wait for a file that another program has locked ends.
func TestOpenConsoleLocked(t *testing.T) {
	t.Parallel()
	name := foreign(t, perlTable)
	conn, err := sqlite.OpenConn(name, sqlite.OpenReadWrite)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, sqlitex.ExecuteTransient(conn, `BEGIN EXCLUSIVE`, nil))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err = OpenConsole(ctx, name, ConsoleOptions{})
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Less(t, time.Since(start), 20*time.Second)
	_, err = OpenConsole(t.Context(), name, ConsoleOptions{})
	assert.ErrorContains(t, err, "stop the program that has locked it")
}

// TestAskFails: a question ends when a function fails, however many rows follow.
func TestAskFails(t *testing.T) {
	c := console(t, open(t, path(t)))
	start := time.Now()
	_, err := c.Ask(t.Context(), history.Question{SQL: `WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a)
		SELECT count(*) FROM a WHERE cidr_match('10.0.0.1', iif(x = 5, 'bad', '10.0.0.0/8'))`})
	assert.ErrorContains(t, err, `found "bad"`)
	assert.Less(t, time.Since(start), 20*time.Second)
}

func TestConcurrentQuestions(t *testing.T) {
	db := open(t, path(t))
	c := console(t, db)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				_, err := c.Ask(t.Context(), history.Question{SQL: `SELECT count(*), rule(1, 2, 'a', 'b') FROM detailed_history WHERE cidr_match(ip, '198.51.0.0/16')`})
				assert.NoError(t, err)
			}
		})
	}
	for i := range 50 {
		require.NoError(t, db.Record(t.Context(), entries(i*100, 100)))
	}
	wg.Wait()
}

// TestConnectionsComeAndGo: what belongs to a connection does not go with another that
// was closed at its address.
func TestConnectionsComeAndGo(t *testing.T) {
	c := console(t, open(t, path(t)))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 200 {
				table, err := c.Ask(t.Context(), history.Question{SQL: `SELECT cidr_match('10.1.2.3', '10.0.0.0/8')`})
				if assert.NoError(t, err) {
					assert.Equal(t, [][]any{{int64(1)}}, table.Rows)
				}
			}
		})
	}
	wg.Wait()
}

func TestFunctions(t *testing.T) {
	c := console(t, open(t, path(t)))
	for sql, want := range map[string]any{
		`cidr_match('10.1.2.3', '10.0.0.0/8')`:           int64(1),
		`cidr_match('11.1.2.3', '10.0.0.0/8')`:           int64(0),
		`cidr_match('2001:db8::1', '2001:db8::/32')`:     int64(1),
		`cidr_match('::ffff:10.0.0.1', '10.0.0.0/8')`:    int64(1),
		`cidr_match('10.0.0.1', '::ffff:10.0.0.0/104')`:  int64(1),
		`cidr_match('10.0.0.1', '::/0')`:                 int64(0),
		`cidr_match('', '10.0.0.0/8')`:                   int64(0),
		`cidr_match(NULL, '10.0.0.0/8')`:                 nil,
		`cidr_match('10.0.0.1', NULL)`:                   nil,
		`haversine(0, 0, 0, NULL)`:                       nil,
		`round(haversine(52.52, 13.405, 48.857, 2.352))`: 877.0,
		`round(haversine(0, -179, 0, 179))`:              222.0,
		`round(haversine(90, 0, -90, 50))`:               20015.0,
		`'firefox' REGEXP '^f.*x$'`:                      int64(1),
		`'chrome' REGEXP '^f'`:                           int64(0),
		`NULL REGEXP 'x'`:                                nil,
		`rule(40000, 443, 'curl', '/usr/bin/curl')`:      "40000 443 curl /usr/bin/curl",
		`rule(1, 2, NULL, '')`:                           nil,
	} {
		assert.Equal(t, [][]any{{want}}, ask(t, c, `SELECT `+sql, nil), sql)
	}
	none, err := OpenConsole(t.Context(), c.path, ConsoleOptions{})
	require.NoError(t, err)
	assert.Equal(t, [][]any{{nil}}, ask(t, none, `SELECT rule(1, 2, '', '')`, nil))
	// More prefixes than are remembered.
	for i := range 200 {
		assert.Equal(t, [][]any{{int64(1)}}, ask(t, c, fmt.Sprintf(`SELECT cidr_match('10.0.0.%d', '10.0.0.%d/32')`, i, i), nil))
	}
}

// TestFunctionsLikeTwins compares with slow ways to say the same.
func TestFunctionsLikeTwins(t *testing.T) {
	slow(t)
	r := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		lat, lon, lat2, lon2 := r.Float64()*180-90, r.Float64()*360-180, r.Float64()*180-90, r.Float64()*360-180
		v := func(lat, lon float64) (x, y, z float64) {
			a, o := lat*math.Pi/180, lon*math.Pi/180
			return math.Cos(a) * math.Cos(o), math.Cos(a) * math.Sin(o), math.Sin(a)
		}
		x, y, z := v(lat, lon)
		x2, y2, z2 := v(lat2, lon2)
		chord := math.Sqrt((x-x2)*(x-x2) + (y-y2)*(y-y2) + (z-z2)*(z-z2))
		require.InDelta(t, 2*earth*math.Asin(min(1, chord/2)), haversine(lat, lon, lat2, lon2), 0.01)

		a := netip.AddrFrom4([4]byte{byte(r.IntN(4)), byte(r.IntN(4)), byte(r.Uint32()), byte(r.Uint32())})
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(r.IntN(4)), byte(r.IntN(4)), byte(r.Uint32()), 0}), r.IntN(33))
		same := true
		for i := range p.Bits() {
			same = same && a.AsSlice()[i/8]>>(7-i%8)&1 == p.Addr().AsSlice()[i/8]>>(7-i%8)&1
		}
		require.Equal(t, same, within(p, a), "%v %v", p, a)
	}
}

func TestSavedQueries(t *testing.T) {
	db := open(t, path(t))
	all := recent(3000)
	for i := range 5 {
		all[2990+i].Rule, all[2990+i].Container = "Other", "c0ffee"
	}
	all[2999].Program = "sshd"
	all[2998] = named(all[2998], "www.example.com", "sni")
	require.NoError(t, db.Record(t.Context(), all))
	require.NoError(t, db.recordAll(t.Context(), []history.Record{history.Loss{Agent: "nas", Count: 1, Seen: time.Now()}}))
	c := console(t, db)
	queries := SavedQueries()
	require.GreaterOrEqual(t, len(queries), 19)
	names := make(map[string]bool)
	for _, q := range queries {
		assert.False(t, names[q.Name], q.Name)
		names[q.Name] = true
		assert.NotContains(t, q.Name, " ")
		assert.NotEmpty(t, q.About)
		params := make(map[string]any)
		for k, v := range q.Params {
			params[k] = v
		}
		rows := ask(t, c, q.SQL, params)
		switch q.Name {
		case "range", "near", "scanners", "only":
		default:
			assert.NotEmpty(t, rows, q.Name)
		}
		// None goes through the whole table.
		for _, row := range ask(t, c, `EXPLAIN QUERY PLAN `+q.SQL, params) {
			plan := fmt.Sprint(row[3])
			assert.False(t, strings.HasPrefix(plan, "SCAN detailed_history") && !strings.Contains(plan, "USING INDEX"), "%s: %s", q.Name, plan)
			assert.False(t, plan == "SCAN a" || plan == "SCAN b", "%s: %s", q.Name, plan)
			assert.NotContains(t, plan, "SCAN detailed_history USING INDEX detailed_history_key", q.Name)
			assert.NotContains(t, plan, "SCAN detailed_history USING INDEX detailed_history_agent", q.Name)
			assert.NotContains(t, plan, "INDEX detailed_history_opened (opened<", q.Name)
			assert.NotContains(t, plan, "SCAN detailed_history USING INDEX detailed_history_opened", q.Name)
		}
	}
}

// BenchmarkPattern searches with the slowest patterns that are allowed in the
// longest text.
func BenchmarkPattern(b *testing.B) {
	text := strings.Repeat("0", textLimit)
	for _, pattern := range []string{`((0{1,30}){1,15})1`, `[0a]{0,490}1`, strings.Repeat("(0?)*", 150) + "1"} {
		re, err := compile(pattern)
		require.NoError(b, err)
		b.Run(fmt.Sprintf("pattern=%.12s", pattern), func(b *testing.B) {
			for b.Loop() {
				re.MatchString(text)
			}
		})
	}
}

func FuzzAsk(f *testing.F) {
	for _, sql := range hostile {
		if len(sql) < 500 {
			f.Add(sql)
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, sql string) {
		name := filepath.Join(dir, fmt.Sprint(os.Getpid()))
		if _, err := os.Stat(name); err != nil {
			db := open(t, name)
			require.NoError(t, db.Record(t.Context(), entries(0, 50)))
			require.NoError(t, db.Close())
		}
		c, err := OpenConsole(t.Context(), name, ConsoleOptions{})
		require.NoError(t, err)
		table, err := c.Ask(t.Context(), history.Question{SQL: sql, Timeout: 100 * time.Millisecond, MaxRows: 100})
		if err != nil {
			require.ErrorAs(t, err, new(*history.QueryError))
			return
		}
		require.LessOrEqual(t, len(table.Rows), 100)
		for _, row := range table.Rows {
			require.Len(t, row, len(table.Columns))
		}
	})
}

// TestTextsBesideQuestions: a question changes nothing in the memory of SQLite that others use.
func TestTextsBesideQuestions(t *testing.T) {
	db := open(t, path(t))
	require.NoError(t, db.Record(t.Context(), entries(0, 10)))
	var work sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		work.Go(func() {
			c, err := OpenConsole(t.Context(), db.path, ConsoleOptions{})
			if !assert.NoError(t, err) {
				return
			}
			defer c.Close()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := c.Ask(t.Context(), history.Question{SQL: "SELECT count(*) FROM detailed_history"}); !assert.NoError(t, err) {
					return
				}
			}
		})
	}
	conn, err := sqlite.OpenConn(":memory:", sqlite.OpenReadWrite, sqlite.OpenMemory)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, sqlitex.ExecuteScript(conn, "CREATE TABLE texts (a, b, c)", nil))
	for range 20_000 {
		require.NoError(t, sqlitex.Execute(conn, "INSERT INTO texts VALUES (?, ?, ?)", &sqlitex.ExecOptions{Args: []any{"tcp", "here", "unknown"}}))
	}
	close(stop)
	work.Wait()
	n, err := number(conn, "SELECT count(*) FROM texts WHERE a = 'tcp' AND b = 'here' AND c = 'unknown'")
	require.NoError(t, err)
	assert.EqualValues(t, 20_000, n)
}
