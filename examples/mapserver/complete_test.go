package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	raw "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/conntrack/conntracktest"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/examples/mapserver/internal/sound"
	"github.com/connmapgo/connmap/geoip"
	geoembedded "github.com/connmapgo/connmap/geoip/embedded"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/history/sqlite"
	"github.com/connmapgo/connmap/internal/race"
	"github.com/connmapgo/connmap/rules"
)

const someRules = `"Mail",peer,993,0,255,0,255,1,0
"Ours",local,12000,255,0,0,255,1,0
"Theirs",peer,12000,255,0,0,255,1,0
"Torrents",app,"/usr/bin/deluge",0,0,255,255,1,0
`

func TestComplete(t *testing.T) {
	set, err := rules.Parse(strings.NewReader(someRules))
	require.NoError(t, err)
	fill := complete(set, func(a netip.Addr) (geoip.Place, bool) { return geoembedded.DB().Lookup(a) })
	for _, tt := range []struct {
		local, peer, program     string
		rule, country, direction string
	}{
		{"192.0.2.7:40000", "8.8.8.8:443", "firefox", "Other", "US", "out"},
		{"192.0.2.7:22", "8.8.8.8:50000", "sshd", "Other", "US", "in"},
		{"192.0.2.7:50000", "8.8.8.8:993", "", "Mail", "US", "out"},
		{"192.0.2.7:12000", "8.8.8.8:50000", "", "Ours", "US", "in"},
		{"192.0.2.7:50000", "8.8.8.8:12000", "", "Theirs", "US", "out"},
		{"192.0.2.7:50000", "8.8.8.8:50001", "/usr/bin/deluge", "Torrents", "US", "unknown"},
		{"192.0.2.7:123", "8.8.8.8:123", "", "Other", "US", "unknown"},
		{"192.0.2.7:8080", "8.8.8.8:50001", "", "Other", "US", "in"},
		{"192.0.2.7:50001", "8.8.8.8:8080", "", "Other", "US", "out"},
		{"192.0.2.7:0", "8.8.8.8:443", "", "Other", "US", "unknown"},
		{"192.0.2.7:40000", "192.168.1.1:443", "", "Other", "", "out"},
	} {
		e := history.Entry{Local: netip.MustParseAddrPort(tt.local), Peer: netip.MustParseAddrPort(tt.peer), Program: tt.program, Direction: "unknown"}
		fill(&e)
		assert.Equal(t, [3]string{tt.rule, tt.country, tt.direction}, [3]string{e.Rule, e.Country, e.Direction}, "%+v", tt)
	}
	e := history.Entry{Direction: "unknown"}
	fill(&e)
	assert.Equal(t, history.Entry{Direction: "unknown", Rule: "Other"}, e)
}

// TestTakenOver: what is taken over of connmapperl has its rule, country and direction.
func TestTakenOver(t *testing.T) {
	ownFolders(t)
	cfg, err := parse([]string{"-history", originalFile(t, 0), "-rules", filepath.Join(t.TempDir(), "none"), "-no-local", "-listen", "none"}, t.Output())
	require.NoError(t, err)
	a, err := start(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	past, err := a.monitor.Nearby(t.Context(), history.Circle{Lat: 52.5, Lon: 13.4, Km: 365})
	require.NoError(t, err)
	require.Len(t, past, 1)
	assert.Equal(t, "SSH In", past[0].Label)
	assert.Equal(t, "US", past[0].Place.Country)
	assert.Equal(t, "in", past[0].Direction.String())
	a.stop()
}

// TestTakenOverMeanwhile: the window need not wait until a large history has been taken
// over, and says how far that is.
func TestTakenOverMeanwhile(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	ownFolders(t)
	rows := 200_000
	if race.Enabled {
		rows = 60_000
	}
	name := originalFile(t, rows)
	before, err := os.ReadFile(name)
	require.NoError(t, err)
	args := []string{"-history", name, "-demo", "3", "-listen", "127.0.0.1:0"}
	cfg, err := parse(args, t.Output())
	require.NoError(t, err)

	// Who does not wait for it loses nothing.
	a, err := start(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.True(t, a.monitor.Opening.Load())
	a.stop()
	after, err := os.ReadFile(name)
	require.NoError(t, err)
	assert.True(t, string(before) == string(after))

	a, err = start(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer a.stop()
	require.True(t, a.monitor.Opening.Load())
	goOn := holdTakeover(a)
	defer goOn()
	far := regexp.MustCompile(`sqlite is being upgraded: \d+ %; meanwhile the map shows connections, and records them afterwards`)
	require.Eventually(t, func() bool { return far.MatchString(fmt.Sprint(a.monitor.State().Problems)) }, time.Minute, time.Millisecond)
	_, err = a.monitor.Nearby(t.Context(), history.Circle{Lat: 52.5, Lon: 13.4, Km: 365})
	assert.EqualError(t, err, "the history is not open yet: wait until it is upgraded or can be opened")
	assert.Equal(t, err, a.monitor.SetRetention(history.Retention{}))
	a.monitor.ShowHistory(true)
	a.monitor.ShowStats(true)
	a.monitor.ShowAddrs(true)
	// What the window asks meanwhile is answered when the history is there.
	ctx, cancel := context.WithCancel(context.Background())
	c := newHandler(ctx, a, &sound.Player{})
	defer func() { cancel(); c.close() }()
	for _, e := range []mapview.Effect{
		mapview.FindFiltered{Ask: 1}, mapview.FindNearby{Ask: 2, Circle: history.Circle{Lat: 52.5, Lon: 13.4, Km: 400}},
		mapview.FindWithin{Ask: 3, Prefix: netip.MustParsePrefix("8.8.8.8/32")}, mapview.FindFirst{Ask: 4, Peer: netip.MustParseAddr("8.8.8.8"), Program: "sshd"},
		mapview.RunQuery{Ask: 5, SQL: "SELECT count(*) FROM detailed_history WHERE ip = '8.8.8.8'"}, mapview.StartReplay{Ask: 6},
		mapview.Export{SQL: "SELECT 1", Format: "csv"}, mapview.FindNearby{Ask: 7},
	} {
		c.handle(e)
	}
	assert.True(t, a.monitor.State().Opening)
	c.handle(mapview.CancelQuery{Ask: 7})
	assert.Equal(t, 7, wait(t, c, any1[mapview.Found]).Ask, "it does not wait")
	// Connections of this machine and of agents are on the map meanwhile.
	joined, leave := context.WithCancel(t.Context())
	agent := &feed.Client{Addr: a.listener.Addr().String(), Token: a.identity.Token(), Name: "nas", Source: conntracktest.Source{N: 5, Seed: 2}}
	var work sync.WaitGroup
	work.Go(func() { assert.NoError(t, agent.Run(joined)) })
	require.Eventually(t, func() bool { return len(a.monitor.State().Conns) >= 3+4 }, time.Minute, time.Millisecond)
	assert.True(t, a.monitor.Opening.Load(), "that is not done yet")
	leave()
	work.Wait()
	var out bytes.Buffer
	a.greet(&out)
	assert.Contains(t, out.String(), "Upgrading "+name)
	goOn()
	require.Eventually(t, func() bool { return !a.monitor.Opening.Load() }, 2*time.Minute, 10*time.Millisecond)
	// Places of what has been recorded since may be more.
	settled := poll(time.Minute, 10*time.Millisecond, func() bool {
		st := a.monitor.State()
		return len(st.Conns) == 3 && len(st.Marks) >= 2 && len(st.Addrs) > 0 && st.HistoryStats != nil && len(st.Problems) == 0 && !st.Opening
	})
	st := a.monitor.State()
	require.True(t, settled, "%d connections, %d marks, %d addresses, kept %v, problems %q, opening %v", len(st.Conns), len(st.Marks), len(st.Addrs), st.HistoryStats, st.Problems, st.Opening)
	got := map[int]int{}
	replayed, said := false, ""
	require.Eventually(t, func() bool {
		for _, answer := range c.takeAnswers() {
			switch answer := answer.(type) {
			case mapview.Found:
				assert.Empty(t, answer.Problem)
				assert.Equal(t, answer.Ask == 1, answer.Full)
				got[answer.Ask] = len(answer.Past)
			case mapview.First:
				got[answer.Ask] = int(answer.Count)
			case mapview.Answered:
				got[answer.Ask] = int(answer.Table.Rows[0][0].(int64))
			case mapview.Replayed:
				assert.Empty(t, answer.Text)
				replayed = true
			case mapview.Said:
				said += answer.Text
			}
		}
		return len(got) == 5 && replayed && strings.Contains(said, "1 row written")
	}, time.Minute, 10*time.Millisecond)
	assert.Equal(t, map[int]int{1: 500, 2: 1, 3: 1, 4: 3, 5: 1}, got)
	past, err := a.monitor.Nearby(t.Context(), history.Circle{Lat: 52.5, Lon: 13.4, Km: 365})
	require.NoError(t, err)
	assert.Len(t, past, 1)
}

// holdTakeover has a takeover wait where it next tells how far it is, until goOn is called.
func holdTakeover(a *app) (goOn func()) {
	held := make(chan struct{})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wake = func() {
		// Others publish what is shown too.
		if stack := make([]byte, 16<<10); strings.Contains(string(stack[:runtime.Stack(stack, false)]), ".openFile.") {
			<-held
		}
	}
	return sync.OnceFunc(func() { close(held) })
}

// TestSeedInWindow: what connmapperl's documentation asks is answered in the window as it
// stands there.
func TestSeedInWindow(t *testing.T) {
	seed, err := os.ReadFile("../../../shared/seed/connmapperl.txt")
	if err != nil {
		t.Skip("needs the documentation of connmapperl: ", err)
	}
	queries := regexp.MustCompile(`(?ms)^SELECT \* FROM detailed_history.*?;$`).FindAllString(string(seed), -1)
	require.Len(t, queries, 7)
	ownFolders(t)
	cfg, err := parse([]string{"-history", originalFile(t, 20), "-demo", "1", "-listen", "none"}, t.Output())
	require.NoError(t, err)
	a, err := start(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer a.stop()
	c := &handler{app: a, ctx: t.Context()}
	for i, want := range []int{0, 1, 1, 20, 0, 0, 1} {
		got := c.query(t.Context(), mapview.RunQuery{Ask: 1, SQL: queries[i]})
		require.Empty(t, got.Problem, queries[i])
		rows := 0
		for j, row := range got.Table.Rows {
			if n := row[0].(int64); n == 7 || n <= 27 { // and not what lives now
				rows++
				assert.NotEmpty(t, got.Labels[j])
			}
		}
		assert.Equal(t, want, rows, queries[i])
	}
}

// originalFile makes a history of connmapperl of one connection to sshd and more others.
func originalFile(t *testing.T, more int) string {
	name := filepath.Join(t.TempDir(), ".connmap-history2.sqlite")
	conn, err := raw.OpenConn(name, raw.OpenReadWrite|raw.OpenCreate)
	require.NoError(t, err)
	defer conn.Close()
	now := time.Now().Unix()
	for _, q := range []string{
		`CREATE TABLE detailed_history (id INTEGER PRIMARY KEY, timestamp INTEGER, ip TEXT, port INTEGER, local_ip TEXT, local_port INTEGER, programname TEXT,
			full_lookup TEXT, asn TEXT, orgname TEXT, lat REAL, lon REAL, x INTEGER, y INTEGER, count INTEGER)`,
		fmt.Sprintf(`INSERT INTO detailed_history VALUES (7, %d, '8.8.8.8', 50000, '192.0.2.7', 22, 'sshd', '', 'AS64496', 'Example Networks', 52.52, 13.405, 508, 154, 3)`, now-600),
		fmt.Sprintf(`WITH n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n LIMIT %d) INSERT INTO detailed_history
			SELECT NULL, %d - i, '8.8.4.' || (i %% 250), 443, '192.0.2.7', 40000, 'firefox', '', 'AS64497', 'Cloudflare', 10, 10, 0, 0, 1 FROM n`, more, now-1000),
	} {
		require.NoError(t, sqlitex.ExecuteTransient(conn, q, nil))
	}
	return name
}

// TestQueryOriginal: a history of connmapperl answers without being taken over, and saved
// queries too; that it is copied is told when it takes a while.
func TestQueryOriginal(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	name := originalFile(t, 0)
	before, err := os.ReadFile(name)
	require.NoError(t, err)
	out, errs, err := asked(t, "-history", name, "-format", "csv", "-query", "SELECT id, rule, country, direction FROM detailed_history WHERE timestamp > (strftime('%s', 'now') - 3600) AND asn = 'AS64496'")
	require.NoError(t, err)
	assert.Empty(t, errs)
	assert.Equal(t, "id,rule,country,direction\n7,SSH In,US,in\n", out)
	for _, q := range sqlite.SavedQueries() {
		_, _, err := asked(t, "-history", name, "-query", "@"+q.Name)
		assert.NoError(t, err, q.Name)
	}
	after, err := os.ReadFile(name)
	require.NoError(t, err)
	assert.True(t, string(before) == string(after))

	many := originalFile(t, 200_000)
	ownFolders(t)
	ask := func(ctx context.Context) (string, string, error) {
		var out, errs bytes.Buffer
		err := run(ctx, []string{"-history", many, "-format", "csv", "-query", "SELECT count(*) FROM detailed_history"}, &out, &errs)
		return out.String(), errs.String(), err
	}
	out, errs, err = ask(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "count(*)\n200001\n", out)
	assert.Contains(t, errs, "mapserver: "+many+" has an older format: it is copied with indexes, and the copy is kept for later queries\n")
	assert.Contains(t, errs, "mapserver: 200001 of 200001 rows are copied\n")
	out, errs, err = ask(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "count(*)\n200001\n", out)
	assert.Empty(t, errs, "it is there")

	ownFolders(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, _, err = ask(ctx)
	assert.EqualError(t, err, "interrupted")
}

// TestQueryInterrupted: so does a question that takes long.
func TestQueryInterrupted(t *testing.T) {
	name := someHistory(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	var out, errs bytes.Buffer
	ownFolders(t)
	err := run(ctx, []string{"-history", name, "-query", "WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a) SELECT max(x) FROM a"}, &out, &errs)
	assert.EqualError(t, err, "interrupted")
}

func TestQueryTimes(t *testing.T) {
	name := someHistory(t)
	for _, tt := range []struct{ format, times, want string }{
		{"table", "", `^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z+0-9-]+$`}, {"table", "number", `^\d{10}$`}, {"csv", "", `^\d{10}$`}, {"csv", "local", `^\d{4}-.* [A-Z+0-9-]+$`},
		{"csv", "iso", `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`}, {"json", "", `^{"timestamp":\d{10}}$`}, {"json", "iso", `^{"timestamp":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"}$`},
	} {
		out, _, err := asked(t, "-history", name, "-format", tt.format, "-times", tt.times, "-query", "SELECT timestamp FROM detailed_history LIMIT 1")
		require.NoError(t, err)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		assert.Regexp(t, tt.want, lines[len(lines)-1], tt)
	}
	_, _, err := asked(t, "-history", name, "-times", "utc", "-query", "SELECT 1")
	assert.EqualError(t, err, `-format and -times: want times as number, local or iso, found "utc"`)
	// Milliseconds where there are some.
	out, _, err := asked(t, "-history", name, "-format", "csv", "-times", "iso", "-query", "SELECT 1782907200.25 AS opened, 1782907200.0 AS closed, -1 AS timestamp, 'x' AS last_opened")
	require.NoError(t, err)
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	require.NoError(t, err)
	assert.Equal(t, []string{"2026-07-01T12:00:00.25Z", "2026-07-01T12:00:00Z", "1969-12-31T23:59:59Z", "x"}, rows[1])
}
