package mapview

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/examples/mapserver/internal/worldmap"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/history"
)

// opened returns a view with a list of many connections.
func opened(t testing.TB, n int) (*View, *live.State) {
	var conns []*live.Conn
	for i := range n {
		c := conn(uint64(i), paris, i%3)
		c.Process.Comm = fmt.Sprintf("prog%06d", (i*7919)%n)
		conns = append(conns, c)
	}
	v, st := &View{}, state(conns...)
	v.Update(noon, press(ui.KeyEnter), st)
	require.NotNil(t, v.panels.Find("connection list"))
	return v, st
}

func TestListOfConnections(t *testing.T) {
	v, st := opened(t, 1000)
	assert.Contains(t, texts(v), "All connections · 1,000 live\n")
	v.Update(noon, press(ui.KeyEnd), st)
	l := v.panels.Find("connection list").Body.(*connList)
	assert.Equal(t, 999, l.table.Position())
	assert.Contains(t, texts(v), "prog000000\n", "the newest are above")
	x, y := at(t, v, "program")
	v.Update(noon, click(x, y), st)
	assert.Contains(t, texts(v), "program ↑\n")
	v.Update(noon, press(ui.KeyHome), st)
	shown := texts(v)
	assert.Less(t, strings.Index(shown, "prog000000"), strings.Index(shown, "prog000001"))
	// Enter opens the report on the address; the answer to another is not its.
	e := v.Update(noon, press(ui.KeyEnter), st)
	require.Len(t, e, 1)
	q := e[0].(Whois)
	addr := q.Addr
	assert.Contains(t, texts(v), "whois "+addr.String()+"\nlooking it up\n")
	in := frame("")
	in.Answers = []Answer{Report{Ask: q.Ask + 1, Text: "wrong"}, Report{Ask: q.Ask, Text: "one\n\ttwo\n"}}
	v.Update(noon, in, st)
	assert.Contains(t, texts(v), "one\n    two\n")
	assert.NotContains(t, texts(v), "wrong")
	assert.Equal(t, []Effect{Copy{"one\n    two\n"}}, v.Update(noon, press(ui.Ctrl|'c'), st))
	x, y = at(t, v, "Copy")
	assert.Equal(t, []Effect{Copy{"one\n    two\n"}}, v.Update(noon, click(x, y), st))
}

func TestListButtons(t *testing.T) {
	v, st := opened(t, 20)
	push := func(label string) []Effect {
		x, y := at(t, v, label)
		e := v.Update(noon, click(x, y), st)
		v.Update(noon, mouse(x, y), st)
		return e
	}
	assert.Empty(t, push("Copy row"))
	assert.Contains(t, texts(v), "choose a row first")
	v.Update(noon, press(ui.KeyDown), st)
	assert.Equal(t, []Effect{Copy{"203.0.113.19"}}, push("Copy cell"))
	row := push("Copy row")
	require.Len(t, row, 1)
	assert.True(t, strings.HasPrefix(row[0].(Copy).Text, "●\tprog"), "%v", row)
	whole := push("Copy all")[0].(Copy).Text
	assert.Equal(t, 21, strings.Count(whole, "\n"))
	assert.True(t, strings.HasPrefix(whole, "\tprogram\tname\taddress\tport\tlocal port\topened, UTC\t"))
	e := push("Details")
	require.Len(t, e, 1)
	assert.IsType(t, FindFirst{}, e[0])
	assert.NotNil(t, v.panels.Find("details"))
	v.panels.Close(v.panels.Find("details"))
	v.Update(noon, frame(""), st)
	assert.Equal(t, []Effect{WriteSQL{}}, push("Query"))
	hand(v, Written{SQL: "SELECT 9"})
	assert.Equal(t, "SELECT 9", v.sql().editor.Text())
	assert.NotNil(t, v.panels.Find("sql"))
}

// TestClickOnAddress: a click on an address opens its report, one elsewhere chooses
// the row.
func TestClickOnAddress(t *testing.T) {
	v, st := opened(t, 20)
	x, y := at(t, v, "203.0.113.15")
	e := v.Update(noon, click(x, y), st)
	require.Len(t, e, 1)
	assert.Equal(t, "203.0.113.15", e[0].(Whois).Addr.String())
	v.panels.Close(v.panels.Find("whois"))
	v.Update(noon, frame(""), st)
	x, y = at(t, v, v.st.Conns[12].Process.Comm)
	assert.Empty(t, v.Update(noon, click(x, y), st))
	l := v.panels.Find("connection list").Body.(*connList)
	assert.EqualValues(t, 12, l.rows.conn(l.table.Selected()).ID)
}

// TestListFollowsFilter: what the map does not show the lists do not either.
func TestListFollowsFilter(t *testing.T) {
	v, st := opened(t, 20)
	v.Update(noon, click(990, 250), st)
	v.Update(noon, frame(""), st)
	v.Update(noon, frame("/rule:mail"), st)
	assert.Contains(t, texts(v), "All connections · 7 live\n")
	v.Update(noon, press(ui.KeyEscape), st)
	assert.Contains(t, texts(v), "All connections · 20 live\n")
}

func TestRuleList(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0), conn(2, rio, 1), conn(3, rio, 1))
	v.Update(noon, frame(""), st)
	x, y := at(t, &v, "Mail")
	assert.Empty(t, v.Update(noon, click(x, y), st))
	assert.Contains(t, texts(&v), "Mail · 2 live\n")
	l := v.panels.Find("rule list").Body.(*connList)
	assert.Equal(t, history.Selection{Rule: "Mail"}, l.query)
	// A new connection appears, and one that has closed goes.
	st2 := state(conn(1, paris, 0), conn(3, rio, 1), conn(4, rio, 1), conn(5, paris, 1))
	v.Update(noon, frame(""), st2)
	assert.Contains(t, texts(&v), "Mail · 3 live\n")
}

func TestLegendMouse(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0), conn(2, rio, 1), conn(3, rio, 1))
	v.Update(noon, frame(""), st)
	v.Update(noon, frame(""), state(conn(1, paris, 0), conn(2, rio, 1)))
	v.Update(noon, frame(""), state(conn(1, paris, 0), conn(2, rio, 1), conn(3, rio, 1), conn(4, rio, 1), conn(5, rio, 1)))
	x, y := at(t, &v, "Mail")
	v.Update(noon, mouse(x, y), v.st)
	assert.Contains(t, texts(&v), "min 1, max 4\n")
	// The square switches the labels of the rule.
	assert.Equal(t, 1, strings.Count(texts(&v), "Mail\n"))
	assert.Empty(t, v.Update(noon, click(x-18, y), v.st))
	assert.Nil(t, v.panels.Find("rule list"))
	v.Update(noon, mouse(500, 480), v.st)
	assert.Equal(t, 2, strings.Count(texts(&v), "Mail\n"), "beside its place")
	assert.Equal(t, 1, strings.Count(texts(&v), "Web\n"))
	v.Update(noon, click(x-18, y), v.st)
	v.Update(noon, mouse(500, 480), v.st)
	assert.Equal(t, 1, strings.Count(texts(&v), "Mail\n"))
	// r resets the statistics too.
	v.Update(noon, frame("r"), v.st)
	v.Update(noon.Add(time.Second), frame("r"), v.st)
	v.Update(noon, mouse(x, y), v.st)
	assert.Contains(t, texts(&v), "min 4, max 4\n")
}

func TestRightClickFindsNearby(t *testing.T) {
	var v View
	near, far := paris, paris
	near.Lon += 3
	far.Lon += 30
	st := state(conn(1, paris, 0), conn(2, near, 1), conn(3, far, 1), conn(4, geoip.Place{}, 1))
	v.Update(noon, frame(""), st)
	x, y := v.Scene().View.Pixel(paris.Lat, paris.Lon)
	in := mouse(x, y)
	in.Right = true
	e := v.Update(noon, in, st)
	require.Len(t, e, 1)
	f := e[0].(FindNearby)
	assert.InDelta(t, paris.Lat, f.Lat, 0.5)
	assert.InDelta(t, paris.Lon, f.Lon, 0.5)
	assert.InDelta(t, worldmap.Km(f.Lat, 15), f.Km, 1e-9, "of the original's map")
	assert.Contains(t, texts(&v), " · 2 live · looking into the history\n")
	// The answer to another question is not for this list.
	p := live.Past{Conn: *conn(9, rio, 0), Label: "Mail", Count: 12_345, Seen: noon.Add(-time.Minute)}
	in = frame("")
	in.Answers = []Answer{Found{Ask: f.Ask + 1, Problem: "wrong"}, Found{Ask: f.Ask, Past: []live.Past{p}}}
	v.Update(noon, in, st)
	assert.Contains(t, texts(&v), " · 2 live · 1 of the history\n")
	assert.Contains(t, texts(&v), "prog9\n")
	l := v.panels.Find("nearby list").Body.(*connList)
	assert.Equal(t, "12,345", l.rows.Cell(2, colCount))
	assert.Equal(t, "11:59:00", l.rows.Cell(2, colSeen))
	assert.Equal(t, history.Selection{Near: f.Circle}, l.query)
	// Zoomed in, fifteen pixels are less.
	v = View{}
	v.Update(noon, frame(""), st)
	for range 6 {
		v.Update(noon, wheel(x, y, 1), st)
	}
	in = mouse(x, y)
	in.Right = true
	e = v.Update(noon, in, st)
	f = e[0].(FindNearby)
	assert.InDelta(t, worldmap.Km(f.Lat, 15/v.camera.zoom), f.Km, 1e-9)
	assert.Contains(t, texts(&v), " · 1 live · ")
	in.Answers = []Answer{Found{Ask: e[0].(FindNearby).Ask, Problem: "nothing is recorded"}}
	in.Right = false
	v.Update(noon, in, st)
	assert.Contains(t, texts(&v), " · nothing is recorded\n")
}

// TestDetailsSayThePrecision: of a stored place as of a live one, and that it is not recorded.
func TestDetailsSayThePrecision(t *testing.T) {
	for want, set := range map[string]func(p *live.Past){
		"48.8500, 2.3500\n":                         func(p *live.Past) {},
		"48.8500, 2.3500, country level\n":          func(p *live.Past) { p.Place.Precision = geoip.Country },
		"48.8500, 2.3500, precision not recorded\n": func(p *live.Past) { p.Place.Precision, p.Unsure = geoip.Country, true },
	} {
		var v View
		p := live.Past{Conn: *conn(1, paris, 0)}
		p.ID = 0
		set(&p)
		v.Update(noon, frame(""), state())
		v.open(newDetails(&v, []*live.Conn{&p.Conn}, 0))
		v.Update(noon, frame(""), state())
		assert.Contains(t, texts(&v), "coordinates\n"+want)
	}
}

func TestDetails(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0), conn(2, paris, 1))
	st.Conns[0].Process.Exe, st.Conns[0].Process.Container = "/usr/bin/prog1", "c0ffee"
	v.Update(noon, frame(""), st)
	v.open(newDetails(&v, st.Conns, 0))
	x, y := 0.0, 0.0
	require.Equal(t, []Effect{FindFirst{1, st.Conns[0].Peer.Addr(), "prog1"}}, v.Update(noon, mouse(x, y), st))
	in := frame("")
	in.Answers = []Answer{First{Ask: 1, Seen: noon.Add(-24 * time.Hour), Count: 1234}}
	v.Update(noon, in, st)
	shown := texts(&v)
	for _, want := range []string{"203.0.113.1:443 · 1 of 2", "address\n203.0.113.1", "ports\n443, local 40000", "program\nprog1, pid 7", "exe\n/usr/bin/prog1",
		"container\nc0ffee", "agent\nnas", "bytes\n↓ 3.2 MB  ↑ 88 kB", "RTT\n41 ms", "organisation\nExample Networks", "ASN\nAS64500", "place\nParis, France",
		"first seen\n2026-02-28 12:00:00", "count\n1,234 openings", "rule\nWeb", "protocol\ntcp, out", "coordinates\n48.8500, 2.3500", "opened\n2026-03-01 12:00:00 UTC\n"} {
		assert.Contains(t, shown, want)
	}
	// Its bytes grow, and it says that it has closed.
	more := *st.Conns[0]
	more.Rx = 5_000_000
	v.Update(noon, frame(""), state(&more, st.Conns[1]))
	assert.Contains(t, texts(&v), "↓ 5 MB")
	v.Update(noon, frame(""), state(st.Conns[1]))
	assert.Contains(t, texts(&v), "2026-03-01 12:00:00 UTC, closed\n")
	// The next one, and round.
	assert.Empty(t, v.Update(noon, press(ui.KeyRight), v.st), "not before one rests")
	assert.Equal(t, []Effect{FindFirst{2, st.Conns[1].Peer.Addr(), "prog2"}}, v.Update(v.Next(), frame(""), v.st))
	assert.Contains(t, texts(&v), "203.0.113.2:443 · 2 of 2")
	assert.Contains(t, texts(&v), "first seen\nlooking into the history\n")
	in = frame("")
	in.Answers = []Answer{First{Ask: 1, Count: 7}, First{Ask: 2}}
	v.Update(noon, in, v.st)
	assert.Contains(t, texts(&v), "first seen\nnot in the history\n")
	v.Update(noon, press(ui.KeyRight), v.st)
	assert.Contains(t, texts(&v), "1 of 2")
	// What is clicked is copied, and Enter opens the report.
	x, y = at(t, &v, "/usr/bin/prog1")
	assert.Equal(t, []Effect{Copy{"/usr/bin/prog1"}}, v.Update(noon, click(x, y), v.st))
	assert.Equal(t, []Effect{Whois{Ask: 3, Addr: st.Conns[0].Peer.Addr()}}, v.Update(noon, press(ui.KeyEnter), v.st))
}

func TestListCompares(t *testing.T) {
	a, b := conn(1, paris, 0), conn(2, rio, 1)
	b.Agent, b.Org, b.Direction, b.Rx, b.Tx, b.RTT, b.Opened = "zoo", "Zebra", conntrack.Unknown, a.Rx+1, a.Tx+1, a.RTT+1, a.Opened+1e6
	b.Peer, b.Local = endpoint("203.0.113.2:444"), endpoint("198.51.100.1:40001")
	b.Place.City, b.Place.Country = "Zzz", ""
	b.Name = "example.com"
	p := []live.Past{{Conn: *a, Label: "Web", Count: 2, Seen: noon.Add(-time.Hour)}, {Conn: *b, Label: "Mail", Count: 3, Seen: noon.Add(-time.Minute)}}
	v := &View{}
	v.Update(noon, frame(""), state(a, b))
	r := connRows{v: v, past: p}
	for col := range listColumns {
		want := -1
		if col == colMark {
			continue
		}
		if col == colRule { // Web before Mail, by name
			want = 1
		}
		assert.Equal(t, want, r.Compare(0, 1, col), listColumns[col].Title)
		assert.Equal(t, -want, r.Compare(1, 0, col), listColumns[col].Title)
		assert.Zero(t, r.Compare(0, 0, col), listColumns[col].Title)
	}
}

// TestManyConnectionsAreThrottled: a new state of very many is not computed
// while one scrolls, but in the end it is.
func TestManyConnectionsAreThrottled(t *testing.T) {
	v, st := opened(t, freshConns+1)
	l := v.panels.Find("connection list").Body.(*connList)
	more := *st
	more.Conns = append(more.Conns[:len(more.Conns):len(more.Conns)], conn(1_000_000, rio, 1))
	in := mouse(500, 250)
	in.Wheel = -1
	v.Update(noon.Add(10*time.Millisecond), in, &more)
	assert.Len(t, l.live, freshConns+1)
	assert.Equal(t, freshConns+1, v.stacks.shown)
	require.False(t, v.Next().IsZero(), "it will be")
	at := v.Next()
	for range 5 {
		v.Update(at, mouse(500, 250), &more)
		if at = v.Next(); at.IsZero() {
			break
		}
	}
	assert.Len(t, l.live, freshConns+2)
	assert.Equal(t, freshConns+2, v.stacks.shown)
	// What the user asks for is done at once.
	v.Update(at.Add(time.Millisecond), frame("/rule:mail"), &more)
	assert.Less(t, v.stacks.shown, freshConns)
}

// BenchmarkTable scrolls a list of 100,000 connections, a frame each.
func BenchmarkTable(b *testing.B) {
	v, st := opened(b, 100_000)
	in := mouse(500, 250)
	b.Run("scroll", func(b *testing.B) {
		for i := range b.N {
			in.Wheel = -1
			if i/1000%2 == 1 {
				in.Wheel = 1
			}
			v.Update(noon, in, st)
		}
	})
	in.Wheel = 0
	b.Run("sort", func(b *testing.B) {
		l := v.panels.Find("connection list").Body.(*connList)
		for i := range b.N {
			l.table.SortBy(i % 3)
			v.Update(noon, in, st)
		}
	})
	b.Run("new state", func(b *testing.B) {
		for range b.N {
			more := *st
			v.Update(noon, in, &more)
		}
	})
}

// TestStoredRowsAreFiltered: and carry the rule that they were recorded with.
func TestStoredRowsAreFiltered(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0))
	v.Update(noon, frame(""), st)
	x, y := v.Scene().View.Pixel(rio.Lat, rio.Lon)
	in := mouse(x, y)
	in.Right = true
	ask := v.Update(noon, in, st)[0].(FindNearby).Ask
	a, b := live.Past{Conn: *conn(2, rio, 0), Label: "Mail"}, live.Past{Conn: *conn(3, rio, 0), Label: "Web"}
	b.Agent = "other"
	in = frame("")
	in.Answers = []Answer{Found{Ask: ask, Past: []live.Past{a, b}}}
	v.Update(noon, in, st)
	l := v.panels.Find("nearby list").Body.(*connList)
	assert.Equal(t, "Mail", l.rows.Cell(0, colRule))
	assert.Equal(t, green.Color, l.rows.Color(0))
	v.Update(noon, click(990, 480), st)
	v.Update(noon, frame("/host:other"), st)
	require.Equal(t, 1, l.rows.Len())
	assert.Equal(t, "other", l.rows.Cell(0, colAgent))
}
