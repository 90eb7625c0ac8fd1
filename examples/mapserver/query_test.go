package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/history/sqlite"
)

// someHistory makes a file that a DB has open.
func someHistory(t *testing.T) string {
	name := filepath.Join(t.TempDir(), "history.sqlite")
	db, err := sqlite.Open(t.Context(), name, sqlite.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	var all []history.Entry
	for i := range 30 {
		all = append(all, history.Entry{
			Agent: "nas", Protocol: "tcp", Direction: "out", Program: "curl", Org: "Example Networks", Country: "DE", Rule: "Other", New: true,
			Local:  netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(40000+i)),
			Peer:   netip.MustParseAddrPort("198.51.100.7:443"),
			Opened: time.Now().Add(-time.Hour), Seen: time.Now(), Tx: uint64(i),
		})
	}
	require.NoError(t, db.Record(t.Context(), all))
	return name
}

func asked(t *testing.T, args ...string) (stdout, stderr string, err error) {
	ownFolders(t)
	var out, errs bytes.Buffer
	err = run(context.Background(), args, &out, &errs)
	return out.String(), errs.String(), err
}

func TestQuery(t *testing.T) {
	name := someHistory(t)
	out, errs, err := asked(t, "-history", name, "-query", "SELECT ip, count(*) AS n, rule(0, 22, 'ssh', '') AS rule FROM detailed_history GROUP BY ip")
	require.NoError(t, err)
	assert.Empty(t, errs)
	assert.Equal(t, "ip             n  rule\n────────────  ──  ───────\n198.51.100.7  30  SSH Out\n", out)

	out, _, err = asked(t, "-history", name, "-format", "csv", "-query", "SELECT local_port, tx FROM detailed_history WHERE tx < :most ORDER BY tx", "-param", "most=3")
	require.NoError(t, err)
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	require.NoError(t, err)
	assert.Equal(t, [][]string{{"local_port", "tx"}, {"40000", "0"}, {"40001", "1"}, {"40002", "2"}}, rows)

	out, _, err = asked(t, "-history", name, "-format", "json", "-query", "@organisations", "-param", "since=-2 hours")
	require.NoError(t, err)
	var o map[string]any
	require.NoError(t, json.Unmarshal([]byte(out), &o))
	assert.Equal(t, map[string]any{"orgname": "Example Networks", "asn": "", "connections": 30.0, "addresses": 1.0}, o)

	out, _, err = asked(t, "-query", "list")
	require.NoError(t, err)
	for _, q := range sqlite.SavedQueries() {
		assert.Contains(t, out, "@"+q.Name+" ")
		_, _, err := asked(t, "-history", name, "-query", "@"+q.Name)
		assert.NoError(t, err, q.Name)
	}

	// No more rows than a screen is for, but all of them in a file.
	many := "WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a WHERE x < 20000) SELECT x FROM a"
	out, errs, err = asked(t, "-history", name, "-query", many)
	require.NoError(t, err)
	assert.Equal(t, 10_002, strings.Count(out, "\n"))
	assert.Equal(t, "mapserver: only the first 10000 rows; -format csv and json have them all\n", errs)
	out, errs, err = asked(t, "-history", name, "-format", "csv", "-query", many)
	require.NoError(t, err)
	assert.Equal(t, 20_001, strings.Count(out, "\n"))
	assert.Empty(t, errs)
}

// endless is a question without an end.
const endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"

// TestQueryLimits: what is written row by row has a limit too, which can be lifted.
func TestQueryLimits(t *testing.T) {
	for args, want := range map[string]time.Duration{
		"": time.Minute, "-format csv": 10 * time.Minute, "-format json": 10 * time.Minute,
		"-timeout 1h": time.Hour, "-format csv -timeout 5s": 5 * time.Second, "-format csv -timeout 0": -1, "-timeout 0s": -1,
	} {
		cfg, err := parse(append([]string{"-query", "list"}, strings.Fields(args)...), io.Discard)
		require.NoError(t, err)
		assert.Equal(t, want, cfg.question.timeout, args)
	}
}

// TestQueryFormulas: texts that a spreadsheet would run get a mark, unless they are wanted raw.
func TestQueryFormulas(t *testing.T) {
	name := someHistory(t)
	args := []string{"-history", name, "-format", "csv", "-query", "SELECT '=1' AS a, -1 AS b"}
	out, _, err := asked(t, args...)
	require.NoError(t, err)
	assert.Equal(t, "a,b\n'=1,-1\n", out)
	out, _, err = asked(t, append(args, "-raw")...)
	require.NoError(t, err)
	assert.Equal(t, "a,b\n=1,-1\n", out)
}

func TestQueryErrors(t *testing.T) {
	name := someHistory(t)
	missing := filepath.Join(t.TempDir(), "missing.sqlite")
	for want, args := range map[string][]string{
		"near \"FORM\": syntax error\n  FORM detailed_history\n  ^": {"-history", name, "-query", "SELECT *\nFORM detailed_history"},
		"this console only reads":                                   {"-history", name, "-query", "DELETE FROM detailed_history"},
		"there is no saved query \"x\"; mapserver -query list":      {"-history", name, "-query", "@x"},
		"the parameter :a has no value":                             {"-history", name, "-query", "SELECT :a"},
		"-format: want table, csv or json, found \"rawcsv\"":        {"-history", name, "-query", "SELECT 1", "-format", "rawcsv"},
		"stopped after 1ms: narrow it, for example by timestamp >= unixepoch('now', '-1 day'), or allow more time with -timeout": {"-history", name, "-query", endless, "-format", "csv", "-timeout", "1ms"},
		"expected NAME=VALUE":    {"-history", name, "-query", "SELECT 1", "-param", "x"},
		missing:                  {"-history", missing, "-query", "SELECT 1"},
		"-query needs a history": {"-history", "none", "-query", "SELECT 1"},
	} {
		out, _, err := asked(t, args...)
		assert.ErrorContains(t, err, want)
		assert.Empty(t, out)
	}
	assert.NoFileExists(t, missing)
	assert.Equal(t, "\n  SELECT ä  wrong\n            ^", caret("SELECT ä\t wrong", 11))
	assert.Contains(t, caret(strings.Repeat("x", 500)+"!"+strings.Repeat("y", 500), 500), strings.Repeat(" ", 62)+"^")
	assert.Empty(t, caret("x", -1))
}

// TestSecondServer: of two servers on one file the second says so and ends.
func TestSecondServer(t *testing.T) {
	name := someHistory(t)
	_, _, err := asked(t, "-headless", "-no-local", "-listen", "none", "-history", name)
	assert.ErrorContains(t, err, "another server is recording into it: stop that one or choose another file; start with -history none to record nothing")
}

func TestParseKeep(t *testing.T) {
	const day = 24 * time.Hour
	for s, want := range map[string]history.Retention{
		"all": {}, "90d": {Age: 90 * day}, "12h": {Age: 12 * time.Hour}, "4GB": {Bytes: 4e9}, "500 mb": {Bytes: 5e8}, "1TB": {Bytes: 1e12},
		"5000000": {Rows: 5e6}, "90d,4GB,7": {Age: 90 * day, Bytes: 4e9, Rows: 7}, "100000d": {Age: 100_000 * day},
		"names:30d": {Names: 30 * day}, "4GB,names:12h": {Bytes: 4e9, Names: 12 * time.Hour}, "names:1d,9d": {Names: day, Age: 9 * day},
	} {
		got, err := parseRetention(s)
		require.NoError(t, err, s)
		assert.Equal(t, want, got, s)
	}
	for _, s := range []string{"", "x", "d", "-1d", "0", "1w", "9d,", "1.5GB", "999999999d", "99999999999999999999", "names:", "names:5", "names:4GB", "names:names:1d"} {
		_, err := parseRetention(s)
		assert.ErrorContains(t, err, "-keep: expected", s)
	}
}
