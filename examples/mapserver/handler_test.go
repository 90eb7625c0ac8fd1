package main

import (
	"context"
	"fmt"
	"image"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	raw "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/examples/mapserver/internal/sound"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/history/sqlite"
)

// serving starts a server with synthetic connections and a history, and its handler.
func serving(t *testing.T, args ...string) *handler {
	t.Helper()
	ownFolders(t)
	cfg, err := parse(append([]string{"-demo", "200", "-history", filepath.Join(t.TempDir(), "h.sqlite")}, args...), io.Discard)
	require.NoError(t, err)
	a, err := start(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	c := newHandler(ctx, a, &sound.Player{})
	t.Cleanup(func() { cancel(); c.close(); a.stop() })
	return c
}

// wait returns the first answer of a kind that fits.
func wait[A mapview.Answer](t *testing.T, c *handler, fits func(A) bool) A {
	t.Helper()
	for range 1000 {
		for _, a := range c.takeAnswers() {
			if got, ok := a.(A); ok && fits(got) {
				return got
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	require.Fail(t, "no such answer came")
	panic("unreachable")
}

func any1[A any](A) bool { return true }

// recorded waits until the history has rows.
func recorded(t *testing.T, c *handler) {
	t.Helper()
	c.waitForHistory(t.Context()) // a machine that is busy opens it later
	require.Eventually(t, func() bool {
		s, err := c.monitor.History.Stats()
		return err == nil && s.Rows >= 190
	}, time.Minute, 20*time.Millisecond)
}

func TestClerkAnswersQuestions(t *testing.T) {
	c := serving(t)
	recorded(t, c)
	c.handle(mapview.RunQuery{Ask: 1, SQL: "SELECT ip, programname, rule FROM detailed_history LIMIT 5"})
	a := wait(t, c, any1[mapview.Answered])
	require.Empty(t, a.Problem)
	assert.Equal(t, 1, a.Ask)
	assert.Len(t, a.Table.Rows, 5)
	assert.Len(t, a.Labels, 5)
	assert.NotEmpty(t, a.Labels[0])

	c.handle(mapview.RunQuery{Ask: 2, SQL: "SELECT 1 FROM nothing"})
	a = wait(t, c, any1[mapview.Answered])
	assert.Contains(t, a.Problem, "nothing")
	assert.Equal(t, 14, a.Offset)
	c.handle(mapview.RunQuery{Ask: 3, SQL: "DELETE FROM detailed_history"})
	assert.NotEmpty(t, wait(t, c, any1[mapview.Answered]).Problem)

	// One that takes long is cancelled.
	c.handle(mapview.RunQuery{Ask: 4, SQL: "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT count(*) FROM n"})
	time.Sleep(100 * time.Millisecond)
	begin := time.Now()
	c.handle(mapview.CancelQuery{Ask: 4})
	assert.Equal(t, "cancelled", wait(t, c, any1[mapview.Answered]).Problem)
	assert.Less(t, time.Since(begin), 20*time.Second)
	c.handle(mapview.CancelQuery{Ask: 99})
}

func TestClerkSearches(t *testing.T) {
	c := serving(t)
	recorded(t, c)
	c.handle(mapview.FindFiltered{Ask: 7})
	f := wait(t, c, any1[mapview.Found])
	assert.Equal(t, 7, f.Ask)
	assert.Empty(t, f.Problem)
	assert.GreaterOrEqual(t, len(f.Past), 190, "an empty filter fits all")
	assert.True(t, f.Since.IsZero())
}

// TestFilterInSQL: the question behind a search finds what the search does, whatever the
// words, also where columns are NULL.
func TestFilterInSQL(t *testing.T) {
	name := originalFile(t, 20)
	conn, err := raw.OpenConn(name, raw.OpenReadWrite)
	require.NoError(t, err)
	for _, q := range []string{
		`INSERT INTO detailed_history (timestamp, ip) VALUES (1700000000, '203.0.113.1')`,
		`INSERT INTO detailed_history (timestamp, ip, port, local_ip, local_port, programname, orgname, count)
			VALUES (1700000001, '2001:db8::1', 443, '2001:db8::2', 4000, '100%_sure\x''', 'Åland Telekom', 1)`,
	} {
		require.NoError(t, sqlitex.ExecuteTransient(conn, q, nil))
	}
	require.NoError(t, conn.Close())
	require.True(t, t.Run("record", func(t *testing.T) { recorded(t, serving(t, "-history", name)) }))
	c := serving(t, "-history", name, "-demo", "0", "-no-local", "-listen", "none") // which stays as it is
	found := 0
	for _, text := range []string{
		"-zzz", "port:443", "-port:443", "port:22 -app:sshd", "port:0443", "port:x", "ip:8.8.", "ip:2001:DB8", "ip:%", "host:demo", "agent:demo", "-agent:demo",
		"app:FIREFOX", "-app:firefox", "app:%_", "app:x'", `\x`, "org:cloudflare", "-org:cloudflare", "org:ÅLAND", "-org:åland", "åland",
		"as:as64497", "as:64497", "-as:64497", "as:0", "country:de", "country:united", "country:u", "-country:us", "germany", "rule:web", "-rule:other",
		"proto:udp", "proto:quic", "dir:in", "-dir:out", "container:x", "-container:x", "8.8.8.8:50000", "[2001:db8::1]:443", "2001:db8", ":443", "443", "e", "-e",
		"name:example", "-name:www", "name:*.example.com", "-name:*.example.net", "name:*", "name:%", "www.example",
		"port:443 -app:firefox country:us -zzz", "8.8.8.8 ssh -port:23",
	} {
		var v mapview.View
		in := mapview.Input{Size: image.Pt(1000, 500), Keys: []ui.Key{'/'}}
		for _, r := range text {
			in.Keys = append(in.Keys, ui.Key(r))
		}
		in.Keys = append(in.Keys, ui.KeyEnter)
		e := v.Update(time.Now(), in, c.monitor.State())
		require.Len(t, e, 1)
		filter := e[0].(mapview.FindFiltered).Filter
		question := sqlite.SQL(filter.Selection())
		past, since, err := c.monitor.Search(t.Context(), filter.Fits)
		require.NoError(t, err)
		require.True(t, since.IsZero())
		var want, got []string
		for _, p := range past {
			want = append(want, fmt.Sprintf("%v %d %s", p.Peer.Addr(), p.Peer.Port(), p.Process.Comm))
		}
		a := c.query(t.Context(), mapview.RunQuery{SQL: question})
		require.Empty(t, a.Problem, question)
		for _, r := range a.Table.Rows {
			port, _ := r[3].(int64)
			program, _ := r[4].(string)
			got = append(got, fmt.Sprintf("%v %d %s", r[1], port, program))
		}
		assert.ElementsMatch(t, want, got, "%s\n%s", text, question)
		found += len(got)
	}
	assert.Greater(t, found, 500, "there is something to find")
}

// TestSavedQueriesRun: each is right with its values in it.
func TestSavedQueriesRun(t *testing.T) {
	c := serving(t)
	recorded(t, c)
	list := savedQueries()
	require.Len(t, list, len(sqlite.SavedQueries()))
	for _, q := range list {
		assert.NotRegexp(t, `:[a-z]`, q.SQL, q.Name)
		c.handle(mapview.RunQuery{Ask: 1, SQL: q.SQL})
		assert.Empty(t, wait(t, c, any1[mapview.Answered]).Problem, q.Name)
	}
}

func TestClerkFinds(t *testing.T) {
	c := serving(t)
	recorded(t, c)
	st := c.monitor.State()
	conn := st.Conns[0]
	for _, o := range st.Conns {
		if o.Scope == 0 && o.Place.Precision > 0 && o.Peer.Addr().Is4() {
			conn = o
		}
	}
	c.handle(mapview.FindNearby{Ask: 7, Circle: history.Circle{Lat: conn.Place.Lat, Lon: conn.Place.Lon, Km: 500}})
	f := wait(t, c, any1[mapview.Found])
	assert.Equal(t, 7, f.Ask)
	assert.NotEmpty(t, f.Past)
	c.handle(mapview.WriteSQL{Of: history.Selection{Near: history.Circle{Lat: 1, Lon: 2, Km: 3}}})
	assert.Contains(t, wait(t, c, any1[mapview.Written]).SQL, "detailed_history")
	prefix, _ := conn.Peer.Addr().Prefix(8)
	c.handle(mapview.FindWithin{Ask: 8, Prefix: prefix})
	f = wait(t, c, any1[mapview.Found])
	require.Empty(t, f.Problem)
	assert.NotEmpty(t, f.Past)
	c.handle(mapview.FindWithin{Ask: 9, Prefix: netip.MustParsePrefix("2001:db8::/32")})
	assert.NotEmpty(t, wait(t, c, any1[mapview.Found]).Problem)
	c.handle(mapview.FindFirst{Ask: 10, Peer: conn.Peer.Addr(), Program: conn.Process.Comm})
	assert.Positive(t, wait(t, c, any1[mapview.First]).Count)
	c.handle(mapview.LookUp{Addr: netip.MustParseAddr("8.8.8.8")})
	assert.Contains(t, wait(t, c, any1[mapview.Named]).Text, "AS15169")
	c.handle(mapview.Whois{Addr: netip.MustParseAddr("8.8.8.8")})
	r := wait(t, c, any1[mapview.Report])
	assert.Contains(t, r.Text, "15169")
	named := slices.IndexFunc(c.monitor.State().Conns, func(c *live.Conn) bool { return c.Name != "" })
	require.GreaterOrEqual(t, named, 0)
	asked := c.monitor.State().Conns[named]
	c.handle(mapview.Whois{Addr: asked.Peer.Addr()})
	r = wait(t, c, func(r mapview.Report) bool { return !strings.Contains(r.Text, "8.8.8.8") })
	assert.Regexp(t, "\n    Asked for as  "+regexp.QuoteMeta(asked.Name)+" by [^\n]*"+asked.Process.Comm+"[^\n]*, seen [^\n]* UTC\n", r.Text)
}

func TestClerkKeepsTheHistory(t *testing.T) {
	c := serving(t)
	recorded(t, c)
	said := func(text string) {
		t.Helper()
		wait(t, c, func(s mapview.Said) bool { return strings.Contains(s.Text, text) })
	}
	c.handle(mapview.LoadHistory{})
	said("press s to save it")
	c.handle(mapview.SaveHistory{})
	said("saved in")
	c.handle(mapview.LoadHistory{})
	said("loaded from")
	c.handle(mapview.SetRetention{})
	c.handle(mapview.ReloadRules{})
	said("rules read from")
	for format, want := range map[string]string{"csv": "ip,n\n", "json": `{"ip":`} {
		c.handle(mapview.Export{SQL: "SELECT ip, count(*) AS n FROM detailed_history GROUP BY ip", Format: format})
		s := wait(t, c, func(s mapview.Said) bool { return strings.Contains(s.Text, " rows written to ") })
		_, name, _ := strings.Cut(s.Text, " written to ")
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(string(b), want), "%.40q", b)
		assert.Greater(t, strings.Count(string(b), "\n"), 50)
		info, err := os.Stat(name)
		require.NoError(t, err)
		assert.EqualValues(t, 0o600, info.Mode().Perm())
	}
	c.handle(mapview.Export{SQL: "SELECT nothing", Format: "csv"})
	said("export: ")
	left, err := filepath.Glob(filepath.Join(c.cfg.dataDir, "exports", "*"))
	require.NoError(t, err)
	assert.Len(t, left, 2, "half an answer is not left")
	c.handle(mapview.ResetHistory{})
	said("has been deleted")

	c.handle(mapview.StartReplay{Ask: 5})
	r := wait(t, c, any1[mapview.Replayed])
	assert.Equal(t, 5, r.Ask)
	assert.Empty(t, r.Text)
	c.handle(mapview.CancelQuery{Ask: 5})
}

func TestClerkWithoutHistory(t *testing.T) {
	c := serving(t, "-history", "none")
	c.handle(mapview.RunQuery{Ask: 1, SQL: "SELECT 1"})
	assert.Contains(t, wait(t, c, any1[mapview.Answered]).Problem, "-history FILE")
	c.handle(mapview.FindNearby{Ask: 1})
	assert.Contains(t, wait(t, c, any1[mapview.Found]).Problem, "-history FILE")
	c.handle(mapview.StartReplay{Ask: 2})
	assert.Contains(t, wait(t, c, any1[mapview.Replayed]).Text, "-history FILE")
	c.handle(mapview.Export{SQL: "SELECT 1", Format: "csv"})
	wait(t, c, func(s mapview.Said) bool { return strings.Contains(s.Text, "-history FILE") })
}

// TestEditedRulesAreOffered: the file is not read by itself, but it is said that it was
// edited.
func TestEditedRulesAreOffered(t *testing.T) {
	c := serving(t)
	problems := func() string {
		c.monitor.Publish()
		return strings.Join(c.monitor.State().Problems, "\n")
	}
	require.Never(t, func() bool { return strings.Contains(problems(), "edited") }, 300*time.Millisecond, 100*time.Millisecond)
	require.NoError(t, os.WriteFile(c.rulesSource().name, []byte("\"Mine\",peer,443,1,2,3,255,0,0\n"), 0o600))
	require.Eventually(t, func() bool { return strings.Contains(problems(), "has been edited: press c to read it again") }, time.Minute, 50*time.Millisecond)
	assert.NotEqual(t, "Mine", c.monitor.State().Rules[0].Label)
	c.handle(mapview.ReloadRules{})
	require.Eventually(t, func() bool { return c.monitor.State().Rules[0].Label == "Mine" && problems() == "" }, time.Minute, 20*time.Millisecond)
}

func TestRemember(t *testing.T) {
	c := serving(t)
	_, ok := c.recall()
	assert.False(t, ok, "nothing yet")
	want := remembered{X: -5, Y: 7, Width: 1200, Height: 700}
	want.Settings = mapview.Settings{Light: true, Queries: []string{"SELECT 1"}, Panels: map[string][4]float64{"sql": {1, 2, 3, 4}}}
	at := func() {
		c.remember(want.Settings, image.Pt(-5, 7), image.Pt(1200, 700))
	}
	at()
	got, ok := c.recall()
	require.True(t, ok)
	assert.Equal(t, want, got)
	info, err := os.Stat(c.cfg.rememberedFile())
	require.NoError(t, err)
	assert.EqualValues(t, 0o600, info.Mode().Perm(), "questions may be private")
	for _, damaged := range []string{"", "{", "[]", `{"Settings":5}`, strings.Repeat("x", 1<<20)} {
		require.NoError(t, os.WriteFile(c.cfg.rememberedFile(), []byte(damaged), 0o600))
		_, ok = c.recall()
		assert.False(t, ok, "%.20q", damaged)
	}
	require.NoError(t, os.RemoveAll(c.cfg.configDir))
	at()
	_, ok = c.recall()
	assert.True(t, ok)
}

func TestNoClipboard(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere there always is a clipboard")
	}
	t.Setenv("DISPLAY", "")
	c := serving(t)
	for _, e := range []mapview.Effect{mapview.Copy{Text: "x"}, mapview.Paste{}} {
		c.handle(e)
		wait(t, c, func(s mapview.Said) bool { return strings.Contains(s.Text, "the clipboard cannot be used: ") })
	}
}

// TestLoopback: with -loopback a connection of this machine to itself is among those of the
// local network.
func TestLoopback(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	a, err := l.Accept()
	require.NoError(t, err)
	defer a.Close()
	c := serving(t, "-demo", "0", "-listen", "none", "-history", "none", "-loopback")
	require.Eventually(t, func() bool {
		c.monitor.Publish()
		return slices.ContainsFunc(c.monitor.State().Conns, func(x *live.Conn) bool {
			return x.Peer.String() == l.Addr().String() && x.Scope == live.Loopback
		})
	}, time.Minute, 50*time.Millisecond)
}

// TestEveryEffectIsDone: each thing that the view asks for has a method of the handler, or else a
// case of the window.
func TestEveryEffectIsDone(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		return string(b)
	}
	handler, window := read("handler.go"), read("internal/gui/window.go")
	effects := regexp.MustCompile(`(?m)^func \((?:e )?(\w+)\) Do\((h )?Handler\)`).FindAllStringSubmatch(read("internal/mapview/effect.go"), -1)
	require.Greater(t, len(effects), 10)
	for _, e := range effects {
		if e[2] == "" {
			assert.Contains(t, window, "case mapview."+e[1]+":")
		} else {
			assert.Contains(t, handler, "func (h *handler) "+e[1]+"(")
		}
	}
}
