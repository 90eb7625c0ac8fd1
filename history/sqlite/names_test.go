package sqlite

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/history"
)

// named gives an entry the name of its peer.
func named(e history.Entry, name, source string) history.Entry {
	e.PeerName, e.PeerNameSource = name, source
	return e
}

// nameOf is what the history has as the name of the only row.
func nameOf(t *testing.T, db *DB) []string {
	t.Helper()
	rows := query(t, db, `SELECT coalesce(peer_name, 'NULL'), coalesce(peer_name_source, 'NULL') FROM detailed_history`)
	require.Len(t, rows, 1)
	return rows[0]
}

// TestPeerName: a name may come with the first entry of a connection, later or never, and stays if a
// later entry has none.
func TestPeerName(t *testing.T) {
	db := open(t, path(t))
	e := entry(1)
	e.New, e.Seen = true, noon
	record := func(e history.Entry) {
		t.Helper()
		require.NoError(t, db.Record(t.Context(), []history.Entry{e}))
		consistent(t, db)
	}
	record(e)
	assert.Equal(t, []string{"NULL", "NULL"}, nameOf(t, db))
	e.New = false
	record(named(e, "www.example.com", "host"))
	assert.Equal(t, []string{"www.example.com", "host"}, nameOf(t, db))
	record(e)
	assert.Equal(t, []string{"www.example.com", "host"}, nameOf(t, db))
	record(named(e, "www.example.com", "sni"))
	assert.Equal(t, []string{"www.example.com", "sni"}, nameOf(t, db))
	db.cache.clear() // as when the program was started again
	record(e)
	e.Closed = noon.Add(time.Minute)
	record(e)
	assert.Equal(t, []string{"www.example.com", "sni"}, nameOf(t, db))
	// Another opening may be of another name.
	e.Closed, e.New, e.Opened = time.Time{}, true, noon.Add(time.Hour)
	record(named(e, "api.example.com", "quic"))
	assert.Equal(t, []string{"api.example.com", "quic"}, nameOf(t, db))
	for row, err := range db.Newest(t.Context()) {
		require.NoError(t, err)
		assert.Equal(t, [2]string{"api.example.com", "quic"}, [2]string{row.PeerName, row.PeerNameSource})
	}
}

// TestFindNames: what the view and the index find is what a search of all rows finds, by this package
// and by sqlite3.
func TestFindNames(t *testing.T) {
	db := open(t, path(t))
	all := of("nas", 2000, time.Now())
	r := rand.New(rand.NewPCG(1, 2))
	for i := range all {
		switch r.IntN(4) {
		case 0:
		case 1:
			all[i] = named(all[i], "example.com", "dns")
		default:
			all[i] = named(all[i], fmt.Sprintf("w%d.%s", r.IntN(300), []string{"example.com", "a.example.com", "badexample.com", "example.org", "b_.example", "bb.example"}[r.IntN(6)]), "sni")
		}
	}
	require.NoError(t, db.Record(t.Context(), all))
	consistent(t, db)
	c := console(t, db)
	for value, want := range map[string]func(name string) bool{
		"*.example.com": func(n string) bool { return strings.HasSuffix(n, ".example.com") },
		"example.com":   func(n string) bool { return strings.Contains(n, "example.com") },
		"w1":            func(n string) bool { return strings.Contains(n, "w1") },
		"*.b_.example":  func(n string) bool { return strings.HasSuffix(n, ".b_.example") },
		"nothing":       func(string) bool { return false },
	} {
		count := 0
		for _, e := range all {
			if e.PeerName != "" && want(e.PeerName) {
				count++
			}
		}
		for _, not := range []bool{false, true} {
			q := SQL(history.Selection{Terms: []history.Term{{Key: "name", Value: value, Not: not}}})
			n := count
			if not {
				n = len(all) - count
			}
			assert.Len(t, ask(t, c, q, nil), n, q)
		}
	}
	below := 0
	names := map[string]bool{}
	for _, e := range all {
		if e.PeerName == "example.com" || strings.HasSuffix(e.PeerName, ".example.com") {
			below++
		}
		if e.PeerName != "" {
			names[e.PeerName] = true
		}
	}
	for _, q := range SavedQueries() {
		if q.Name == "name" {
			q.SQL = strings.ReplaceAll(q.SQL, "LIMIT 500", "")
			for _, domain := range []string{"example.com", "*.example.com", "Example.COM", "example.com."} {
				q.Params = map[string]string{"domain": domain}
				assert.Len(t, ask(t, c, Filled(q).SQL, nil), below, domain)
			}
			for _, domain := range []string{"%", "_xample.com", "", "*", "xample.com"} {
				q.Params = map[string]string{"domain": domain}
				assert.Empty(t, ask(t, c, Filled(q).SQL, nil), domain)
			}
			for _, row := range ask(t, c, `EXPLAIN QUERY PLAN `+Filled(q).SQL, nil) {
				assert.NotContains(t, row[3], "SCAN detailed_history")
			}
		}
	}
	assert.Len(t, ask(t, c, `SELECT name FROM peer_names`, nil), len(names))
	for _, row := range ask(t, c, `EXPLAIN QUERY PLAN SELECT ip FROM detailed_history WHERE peer_name = 'w1.example.com'`, nil) {
		assert.Contains(t, row[3], "detailed_history_peer_name")
	}
	if tool, err := exec.LookPath("sqlite3"); err == nil {
		out, err := exec.Command(tool, "-readonly", db.path, `SELECT count(*), (SELECT count(*) FROM detailed_history WHERE peer_name LIKE '%.example.com') = (
	SELECT count(*) FROM detailed_history WHERE peer_name IN (SELECT name FROM peer_names WHERE name LIKE '%.example.com')) FROM peer_names`).CombinedOutput()
		require.NoError(t, err, "%s", out)
		assert.Equal(t, fmt.Sprintf("%d|1\n", len(names)), string(out))
	}
}

// TestForgetNames: names go when they are older than the retention says, and nothing else does, however
// many rows a second has; a name that is recorded late goes too.
func TestForgetNames(t *testing.T) {
	db := open(t, path(t))
	now := time.Now().Truncate(time.Second)
	var all []history.Entry
	for i, age := range []time.Duration{40 * 24 * time.Hour, 31 * 24 * time.Hour, 29 * 24 * time.Hour, time.Hour} {
		for n, e := range of(fmt.Sprint("agent", i), 700, now.Add(-age)) {
			e.Seen = now.Add(-age)
			if n%3 > 0 {
				e = named(e, fmt.Sprintf("w%d.example.com", n), "dns")
			}
			all = append(all, e)
		}
	}
	require.NoError(t, db.Record(t.Context(), all))
	require.NoError(t, db.SetRetention(history.Retention{Names: 30 * 24 * time.Hour}))
	s, err := db.Stats()
	require.NoError(t, err)
	assert.Equal(t, history.Retention{Names: 30 * 24 * time.Hour}, s.Retention)
	prune := func() {
		t.Helper()
		deleted, err := db.Prune(t.Context())
		require.NoError(t, err)
		assert.Zero(t, deleted)
		consistent(t, db)
	}
	named := func() (counts []string) {
		for _, row := range query(t, db, `SELECT count(peer_name) || ' ' || count(peer_name_source) FROM detailed_history GROUP BY agent ORDER BY agent`) {
			counts = append(counts, row[0])
		}
		return counts
	}
	require.Equal(t, slices.Repeat([]string{"466 466"}, 4), named())
	prune()
	assert.Equal(t, []string{"0 0", "0 0", "466 466", "466 466"}, named())
	assert.Equal(t, "2800", count(t, db))
	prune()
	late := all[1]
	late.Seen = now.Add(-35 * 24 * time.Hour)
	require.NoError(t, db.Record(t.Context(), []history.Entry{late}))
	assert.Equal(t, []string{"1 1", "0 0", "466 466", "466 466"}, named())
	prune()
	assert.Equal(t, []string{"0 0", "0 0", "466 466", "466 466"}, named())
	require.NoError(t, db.SetRetention(history.Retention{Names: time.Minute, Disabled: true}))
	prune()
	assert.Equal(t, []string{"0 0", "0 0", "466 466", "466 466"}, named())
	require.NoError(t, db.SetRetention(history.Retention{Names: time.Minute}))
	prune()
	assert.Equal(t, slices.Repeat([]string{"0 0"}, 4), named())
}
