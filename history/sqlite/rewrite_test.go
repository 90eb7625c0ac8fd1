package sqlite

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/history"
)

// timed are a row before 2026-07-01 12:00 UTC, one then and two after it, of which the
// first has closed.
func timed(t testing.TB) *DB {
	db := open(t, path(t))
	var all []history.Entry
	for i := range 4 {
		e := entry(i)
		e.ASN = uint32(7 + i)
		e.Opened = noon.Add(time.Duration(i-1) * 24 * time.Hour)
		e.Seen = e.Opened.Add(250 * time.Millisecond)
		if i == 0 {
			e.Closed = e.Seen
		}
		all = append(all, e)
	}
	require.NoError(t, db.Record(t.Context(), all))
	return db
}

// TestTimeComparisons: a time is compared with numbers and with texts, in all ways that
// SQL has for it.
func TestTimeComparisons(t *testing.T) {
	c := console(t, timed(t))
	params := map[string]any{"text": "2026-07-01 12:00:00", "number": noon.Unix(), "time": noon, "asn": "7"}
	for condition, want := range map[string]int{
		`timestamp > unixepoch('2026-07-01 12:00:00')`:             2,
		`timestamp > 1782907200`:                                   2,
		`timestamp > '1782907200'`:                                 2,
		`timestamp > (strftime('%s', '2026-07-01 12:00:30') - 30)`: 2,
		`timestamp > '2026-07-01 12:00:00'`:                        2,
		`timestamp >= '2026-07-01T12:00:00Z'`:                      3,
		`timestamp >= '2026-07-01 14:00+02:00'`:                    3,
		`timestamp < '2026-07-01 12:00'`:                           1,
		`timestamp <= '2026-07-01'`:                                1,
		`timestamp > '2026-07'`:                                    3,
		`timestamp > '2026'`:                                       4,
		// A text that is made of a time is one, as in the original.
		`timestamp || '' > '2026'`:                                                                     0,
		`'' || timestamp < '2026'`:                                                                     4,
		`(timestamp||'x') = '1782907200x'`:                                                             1,
		`substr(timestamp || '', 1, 1) = '1'`:                                                          4,
		`timestamp > datetime('2026-07-01 12:00:30', '-30 seconds')`:                                   2,
		`timestamp > DATE('2026-07-01')`:                                                               3,
		`datetime('2026-07-01 12:00:00') < timestamp`:                                                  2,
		`timestamp = '2026-07-01 12:00:00'`:                                                            1,
		`timestamp == '2026-07-01 12:00:00' OR timestamp = '2026-07-02 12:00:00'`:                      2,
		`timestamp <> '2026-07-01 12:00:00'`:                                                           3,
		`timestamp != '2026-07-01 12:00:00' AND ip <> ''`:                                              3,
		`timestamp IS '2026-07-01 12:00:00'`:                                                           1,
		`timestamp IS NOT '2026-07-01 12:00:00'`:                                                       3,
		`timestamp IS DISTINCT FROM '2026-07-01 12:00:00'`:                                             3,
		`timestamp BETWEEN '2026-07-01' AND '2026-07-02 12:00:00' AND port = 443`:                      2,
		`timestamp NOT BETWEEN '2026-07-01' AND '2026-07-02 12:00:00'`:                                 2,
		`'2026-07-01 12:00:00' BETWEEN opened AND timestamp`:                                           1,
		`timestamp IN ('2026-07-01 12:00:00', 1782993600)`:                                             2,
		`timestamp NOT IN ('2026-07-01 12:00:00', datetime('2026-07-02 12:00:00'))`:                    2,
		`timestamp IN (SELECT datetime('2026-07-01 12:00:00'))`:                                        1,
		`timestamp IN (SELECT max(timestamp) FROM detailed_history)`:                                   1,
		`timestamp > (SELECT datetime('2026-07-01 12:00:00'))`:                                         2,
		`(SELECT max(timestamp) FROM detailed_history) > '2026-07-02'`:                                 4,
		`(SELECT max(timestamp) FROM detailed_history) < '2026-07-02'`:                                 0,
		`timestamp > :text`:                                                                            2,
		`timestamp > :number`:                                                                          2,
		`timestamp > :time`:                                                                            2,
		`(timestamp, ip) > ('2026-07-01 12:00:00', '')`:                                                3,
		`(timestamp) > ('2026-07-01 12:00:00')`:                                                        2,
		`"timestamp" > '2026-07-01 12:00:00'`:                                                          2,
		`[detailed_history].` + "`timestamp`" + ` > '2026-07-01 12:00:00'`:                             2,
		`main.detailed_history.timestamp/**/>--x` + "\n" + `'2026-07-01 12:00:00'`:                     2,
		`TIMESTAMP>'2026-07-01 12:00:00'`:                                                              2,
		`+timestamp > '2026-07-01 12:00:00'`:                                                           2,
		`timestamp - 86400 > '2026-07-01'`:                                                             2,
		`coalesce(closed, timestamp) > '2026-07-01 12:00:00'`:                                          2,
		`timestamp > CASE WHEN port = 443 THEN '2026-07-01 12:00:00' ELSE 0 END`:                       2,
		`CASE WHEN timestamp > '2026-07-01 12:00:00' THEN 1 ELSE 0 END`:                                2,
		`NOT (timestamp > '2026-07-01 12:00:00')`:                                                      2,
		`(timestamp > '2026-07-01 12:00:00') = 1`:                                                      2,
		`opened < '2026-07-01 12:00:00.001'`:                                                           2,
		`last_opened <= '2026-07-01 12:00:00'`:                                                         2,
		`closed < '2026-07-01'`:                                                                        1,
		`closed IS NULL AND timestamp IS NOT NULL`:                                                     3,
		`closed < '2026-06-30 12:00:00.251'`:                                                           1,
		`closed - opened < 1`:                                                                          1,
		`timestamp > opened`:                                                                           0,
		`timestamp > NULL`:                                                                             0,
		`date(timestamp) = '2026-07-01'`:                                                               1,
		`date(timestamp, 'unixepoch') = '2026-07-01'`:                                                  1,
		`date(timestamp, '+1 day') = '2026-07-01'`:                                                     1,
		`strftime('%d', opened) = '01'`:                                                                1,
		`strftime('%s', opened) = '1782907200'`:                                                        1,
		`julianday(timestamp) > julianday('2026-07-01')`:                                               3,
		`ip LIKE '198.%' AND timestamp > '2026-07-01 12:00:00' AND programname NOT LIKE 'x%'`:          2,
		`id IN (SELECT id FROM detailed_history WHERE timestamp IN ('2026-07-01 12:00:00') AND 1 > 0)`: 1,
		`asn = 'AS7'`:                 1,
		`asn = 7`:                     1,
		`asn = '7'`:                   1,
		`asn IN ('AS7', 'as 8', 9)`:   3,
		`asn BETWEEN 'AS7' AND 'AS8'`: 2,
		`asn BETWEEN 8 AND 9`:         2,
		`asn BETWEEN 8 AND 10`:        3, `asn > 8`: 2, `9 < asn`: 1, `asn >= 'AS8'`: 2, `10 >= asn`: 4, `asn <> 10`: 3, `NOT asn > 9`: 3,
		`CASE asn WHEN 7 THEN 1 WHEN 'AS8' THEN 1 ELSE 0 END`: 2, `asn LIKE 'AS7%'`: 1, `asn GLOB 'AS1*'`: 1, `lower(asn) = 'as7'`: 1, `substr(asn, 3) = '7'`: 1, `asn || '' = 'AS7'`: 1, `instr(asn, 'S')`: 4, `asn IN (SELECT 7)`: 1, `asn IS NOT 7`: 3, `asn = :asn`: 1, `CAST(substr(asn, 3) AS INTEGER) > 8`: 2, `CASE timestamp WHEN '2026-07-01 12:00:00' THEN 1 END`: 1,
		`'AS7' = asn`:                  1,
		`orgname LIKE '%' AND asn = 7`: 1,
		`asn <> 'AS7'`:                 3,
		`detailed_history.asn = "asn"`: 4,
	} {
		used := map[string]any{}
		for name, v := range params {
			if strings.Contains(condition, ":"+name) {
				used[name] = v
			}
		}
		assert.Len(t, ask(t, c, "SELECT id FROM detailed_history WHERE "+condition, used), want, condition)
	}
	// Times under other names.
	for sql, want := range map[string]int{
		`SELECT programname, min(opened) AS first FROM detailed_history GROUP BY id HAVING first >= '2026-07-01 12:00:00'`:                          3,
		`SELECT ip, max(timestamp) FROM detailed_history GROUP BY id HAVING max(timestamp) > datetime('2026-07-01 12:00:00')`:                       2,
		`SELECT * FROM (SELECT timestamp AS t FROM detailed_history) WHERE t > '2026-07-01 12:00:00'`:                                               2,
		`SELECT * FROM (SELECT timestamp t FROM detailed_history) WHERE t > '2026-07-01 12:00:00'`:                                                  2,
		`WITH c AS (SELECT timestamp t FROM detailed_history) SELECT * FROM c WHERE t < '2026-07-01 12:00'`:                                         1,
		`WITH c AS (SELECT id, asn a, ip FROM detailed_history) SELECT * FROM c WHERE a = 'AS7'`:                                                    1,
		`SELECT ip, max(timestamp) m FROM detailed_history GROUP BY id HAVING m > '2026-07-01 12:00:00'`:                                            2,
		`SELECT id FROM detailed_history d WHERE iif(1, timestamp, 0) > '2026-07-01 12:00:00'`:                                                      2,
		`WITH a AS (SELECT opened AS o FROM detailed_history), b AS (SELECT o AS p FROM a) SELECT * FROM b WHERE p > '2026-07-01 12:00:00'`:         2,
		`SELECT a.id FROM detailed_history AS a JOIN detailed_history AS b ON a.id = b.id AND a.timestamp > '2026-07-01 12:00:00' ORDER BY a.id`:    2,
		`WITH a(i, o) AS NOT MATERIALIZED (SELECT id, opened FROM detailed_history) SELECT * FROM a WHERE o > '2026-07-01 12:00:00'`:                2,
		`SELECT timestamp > '2026-07-01 12:00:00' AS late FROM detailed_history WHERE late`:                                                         2,
		`SELECT count(*) FROM detailed_history GROUP BY timestamp > '2026-07-01 12:00:00'`:                                                          2,
		`SELECT id FROM detailed_history ORDER BY timestamp > '2026-07-01' DESC, id LIMIT 3`:                                                        3,
		`SELECT id FROM losses UNION SELECT id FROM detailed_history WHERE timestamp > '2026-07-01 12:00:00' UNION ALL SELECT 1 WHERE 1 = 2`:        -1,
		`SELECT 1 FROM detailed_history WHERE timestamp > '2026-07-01 12:00:00' UNION ALL SELECT 2 FROM detailed_history WHERE opened < '2026-07'`:  3,
		`SELECT id, max(timestamp) OVER (PARTITION BY agent) > '2026-07-03' FROM detailed_history WHERE timestamp>='2026-07-01 12:00:00' LIMIT 10;`: 3,
	} {
		table, err := c.Ask(t.Context(), history.Question{SQL: sql})
		if want < 0 {
			assert.ErrorContains(t, err, "no such column: id")
			continue
		}
		require.NoError(t, err, sql)
		assert.Len(t, table.Rows, want, sql)
	}
	for sql, want := range map[string][]any{
		`SELECT timestamp > '2026-01-01' a FROM detailed_history`:                                                                    {int64(1)},
		`SELECT opened BETWEEN '2026-07-01' AND '2026-08-01' d, '2026-01-01' < timestamp, port p FROM detailed_history WHERE id = 2`: {int64(1), int64(1), int64(443)},
		`SELECT timestamp > '2026-01-01' b, timestamp < '2026-01-02' c FROM detailed_history`:                                        {int64(1), int64(0)},
	} {
		assert.Equal(t, want, ask(t, c, sql, nil)[0], sql)
	}
	// Names are those of the question.
	table, err := c.Ask(t.Context(), history.Question{SQL: `SELECT timestamp > '2026-07-01', date(opened) FROM detailed_history`})
	require.NoError(t, err)
	assert.Equal(t, "timestamp > '2026-07-01'", table.Columns[0].Name)
	assert.Equal(t, "date(opened)", table.Columns[1].Name)
}

// TestTimeComparisonsRefused: what would be wrong without a word is told.
func TestTimeComparisonsRefused(t *testing.T) {
	c := console(t, timed(t))
	for sql, want := range map[string]string{
		`SELECT 1 FROM detailed_history WHERE timestamp > 'yesterday'`:                   `"yesterday" is no time: write Unix seconds, as by unixepoch('2026-01-01')`,
		`SELECT 1 FROM detailed_history WHERE timestamp > '2026-02-30'`:                  `"2026-02-30" is no time`,
		`SELECT 1 FROM detailed_history WHERE timestamp > '2026-01-01 25:00'`:            `"2026-01-01 25:00" is no time`,
		`SELECT 1 FROM detailed_history WHERE timestamp > time('12:00')`:                 `"12:00:00" is no time`,
		`SELECT 1 FROM detailed_history WHERE timestamp > x'00'`:                         `is no time`,
		`SELECT 1 FROM detailed_history WHERE timestamp LIKE '2026-07%'`:                 `timestamp is a number, Unix seconds: compare it as with unixepoch('2026-01-01'), or the text strftime('%Y-%m-%d', timestamp, 'unixepoch')`,
		`SELECT 1 FROM detailed_history AS d WHERE d.opened NOT GLOB '2026*'`:            `d.opened is a number`,
		`SELECT 1 FROM detailed_history WHERE closed REGEXP '^2026'`:                     `closed is a number`,
		`SELECT substr(timestamp, 1, 10) FROM detailed_history`:                          `timestamp is a number`,
		`SELECT 1 FROM detailed_history WHERE substring(opened, 12, 2) < '06'`:           `opened is a number`,
		`SELECT 1 FROM detailed_history WHERE timestamp > '2026-01-01' COLLATE nonesuch`: `no such collation`,
	} {
		_, err := c.Ask(t.Context(), history.Question{SQL: sql})
		var q *history.QueryError
		require.ErrorAs(t, err, &q, sql)
		assert.Contains(t, q.Msg, want, sql)
	}
}

// TestTimeIndex: reading what a time is compared with costs no index.
func TestTimeIndex(t *testing.T) {
	c := console(t, timed(t))
	for _, condition := range []string{
		`timestamp > (strftime('%s', 'now') - 30)`, `timestamp > '2026-07-01'`, `timestamp > datetime('now', '-1 day')`,
		`timestamp BETWEEN '2026-07-01' AND '2026-08-01'`, `opened = '2026-07-01'`, `timestamp IN ('2026-07-01', '2026-07-02')`,
	} {
		plan := ask(t, c, "EXPLAIN QUERY PLAN SELECT * FROM detailed_history WHERE "+condition, nil)
		assert.Contains(t, plan[0][3], "SEARCH detailed_history USING INDEX", condition)
	}
}

func TestTimeColumns(t *testing.T) {
	c := console(t, timed(t))
	table, err := c.Ask(t.Context(), history.Question{SQL: `SELECT timestamp, closed, +opened AS a, max(timestamp) AS b, max(opened), count(*) AS c, closed - opened AS d, d.timestamp, port, e.timestamp,
		coalesce(closed, e.timestamp) AS f, strftime('%s', timestamp) AS g FROM detailed_history AS d JOIN (SELECT 1 AS timestamp) AS e`})
	_ = table
	require.ErrorContains(t, err, "ambiguous")
	table, err = c.Ask(t.Context(), history.Question{SQL: `SELECT d.timestamp, d.closed, +d.opened AS a, max(d.timestamp) AS b, max(d.opened), count(*) AS c, d.closed - d.opened AS d, d.port, e.timestamp,
		coalesce(d.closed, d.timestamp) AS f, strftime('%s', d.timestamp) AS g FROM detailed_history AS d JOIN detailed_history AS e USING (id)`})
	require.NoError(t, err)
	var times []string
	for _, c := range table.Columns {
		if c.Time {
			times = append(times, c.Name)
		}
	}
	assert.Equal(t, []string{"timestamp", "closed", "a", "b", "max(d.opened)", "timestamp:1", "f"}, times)
	table, err = c.Ask(t.Context(), history.Question{SQL: `SELECT max(timestamp) m, min(opened) first, count(*) n, max(port) port FROM detailed_history d WHERE ip <> ''`})
	require.NoError(t, err)
	assert.Equal(t, []bool{true, true, false, false}, []bool{table.Columns[0].Time, table.Columns[1].Time, table.Columns[2].Time, table.Columns[3].Time})
	for sql, want := range map[string]bool{
		`'2026-01-01' < timestamp e`: false, `1 = timestamp x`: false, `NOT timestamp x`: false, `count(closed) closed`: false, `count(*) AS opened`: false, `id < timestamp AS x`: false,
		`ifnull(closed, 0)`: true, `nullif(closed, 1) c`: true, `round(opened)`: true, `coalesce(closed, opened)`: true, `min(timestamp, opened) AS m`: true, `timestamp t`: true,
	} {
		table, err := c.Ask(t.Context(), history.Question{SQL: `SELECT ` + sql + ` FROM detailed_history`})
		require.NoError(t, err, sql)
		assert.Equal(t, want, table.Columns[0].Time, sql)
	}
}

func TestParseDate(t *testing.T) {
	for s, want := range map[string]string{
		"2026-07-01": "2026-07-01T00:00:00Z", "2026": "2026-01-01T00:00:00Z", "2026-07": "2026-07-01T00:00:00Z", " 2026-07-01 12 ": "2026-07-01T12:00:00Z",
		"2026-07-01T12:30": "2026-07-01T12:30:00Z", "2026-07-01 12:30:15.25": "2026-07-01T12:30:15.25Z", "2026-07-01 12:30:15 Z": "2026-07-01T12:30:15Z",
		"2026-07-01 00:30-05:30": "2026-07-01T06:00:00Z", "0000-01-01": "0000-01-01T00:00:00Z", "2024-02-29": "2024-02-29T00:00:00Z",
	} {
		got, ok := parseDate(s)
		assert.True(t, ok, s)
		assert.Equal(t, want, got.Format(time.RFC3339Nano), s)
	}
	for _, s := range []string{"", "x", "202", "20260701", "2026-7-1", "2026-13-01", "2026-02-29", "2026-07-01 24:00", "2026-07-01 12:60", "2026-07-01 12:00:61", "12:00", "now", "2026-07-01 12:00 CEST"} {
		_, ok := parseDate(s)
		assert.False(t, ok, s)
	}
}

// FuzzRewrite: text is only added to a question, and nothing that is asked is too much for
// the reading of it.
func FuzzRewrite(f *testing.F) {
	for _, q := range SavedQueries() {
		f.Add(q.SQL)
	}
	for _, s := range []string{
		`SELECT 1 WHERE 'a' IN (SELECT timestamp FROM detailed_history WHERE (opened, 1) < (closed, '2') OR CASE asn WHEN 7 THEN 1 END IS NOT NULL)`,
		`SELECT "a""b", [x] , x'00', 0x1f, 1.5e+3, :p, ?1 -> 'a' ->> "b" /* c */ -- d`,
		`SELECT timestamp FROM detailed_history WHERE timestamp BETWEEN 1 AND 2 AND NOT timestamp NOT IN (1, (SELECT 2), 3)`,
		`(((`, `)))`, `case`, `end`, `timestamp > `, `> timestamp`, `timestamp in (`, `between and timestamp`, `'`, `date(timestamp`, `timestamp is not`, `a as timestamp as b as`,
	} {
		f.Add(s)
	}
	db := timed(f)
	c := console(f, db)
	f.Fuzz(func(t *testing.T, sql string) {
		r, err := rewrite(sql)
		if err != nil {
			require.ErrorAs(t, err, new(*history.QueryError))
			return
		}
		// In the order of the question.
		rest := r.sql
		for i := range len(sql) {
			at := strings.IndexByte(rest, sql[i])
			require.GreaterOrEqual(t, at, 0, "%q became %q", sql, r.sql)
			rest = rest[at+1:]
		}
		if strings.ContainsAny(sql, "'") || len(sql) > 1000 {
			return // texts may have another meaning
		}
		conn, _, err := c.connect(t.Context(), sql)
		require.NoError(t, err)
		defer conn.Close()
		if stmt, _, err := conn.PrepareTransient(sql); err == nil {
			stmt.Finalize()
			c.Ask(t.Context(), history.Question{SQL: sql, Timeout: time.Second, MaxRows: 10})
		}
	})
}
