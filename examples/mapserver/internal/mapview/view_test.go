package mapview

import (
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"math"
	"math/rand/v2"
	"net/netip"
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
	"github.com/connmapgo/connmap/rules"
)

var (
	noon  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	blue  = rules.Rule{Label: "Web", Color: color.NRGBA{0, 0, 255, 255}}
	green = rules.Rule{Label: "Mail", Color: color.NRGBA{0, 255, 0, 255}}
	paris = geoip.Place{Lat: 48.85, Lon: 2.35, Country: "FR", City: "Paris", Precision: geoip.City}
	rio   = geoip.Place{Lat: -22.9, Lon: -43.2, Country: "BR", Precision: geoip.Country}
)

func conn(id uint64, p geoip.Place, rule int) *live.Conn {
	return &live.Conn{
		ID: id, Proto: conntrack.TCP, Direction: conntrack.Out,
		Local:   endpoint("198.51.100.1:40000"),
		Peer:    live.EndpointOf(netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(id)}), 443)),
		Process: &conntrack.Process{PID: 7, Comm: fmt.Sprint("prog", id)},
		RTT:     41 * time.Millisecond, Tx: 88_000, Rx: 3_200_000, Opened: live.StampOf(noon),
		Agent: "nas", Place: p, ASN: 64500, Org: "Example Networks", Rule: int32(rule),
	}
}

func endpoint(s string) live.Endpoint { return live.EndpointOf(netip.MustParseAddrPort(s)) }

func state(conns ...*live.Conn) *live.State {
	return &live.State{
		Seq: 1, Time: noon, Conns: conns, Rules: []rules.Rule{blue, green, rules.Other},
		Agents: []live.Agent{{Name: "nas", Backend: "diag", Conns: len(conns)}},
		Home:   geoip.Place{Lat: 52.5, Lon: 13.4, Precision: geoip.City},
		Geo:    live.Source{Name: "embedded", Date: noon, CountryLevel: true},
	}
}

func frame(keys string) Input {
	in := Input{Size: image.Pt(1000, 500), Scale: 1}
	for _, k := range keys {
		in.Keys = append(in.Keys, ui.Key(k))
	}
	return in
}

func mouse(x, y float64) Input {
	in := frame("")
	in.Inside, in.Cursor = true, image.Pt(int(x), int(y))
	return in
}

// press is the press of a key.
func press(keys ...ui.Key) Input {
	in := frame("")
	in.Keys = keys
	return in
}

// at returns where a text stands in the scene.
func at(t *testing.T, v *View, text string) (x, y float64) {
	t.Helper()
	for n := len(v.Scene().Items) - 1; n >= 0; n-- {
		if i := v.Scene().Items[n]; i.Shape == ui.Text && i.Text == text {
			return float64(i.X) + 3, float64(i.Y) - 4
		}
	}
	require.Fail(t, "not in the scene", "%q in\n%s", text, texts(v))
	return 0, 0
}

// texts returns all text of the scene, an item a line.
func texts(v *View) string {
	var b strings.Builder
	for _, i := range v.Scene().Items {
		if i.Shape == ui.Text {
			b.WriteString(i.Text + "\n")
		}
	}
	return b.String()
}

// discAt returns the topmost disc around a place, but for what hollows that of a country.
func discAt(v *View, p geoip.Place) (ui.Item, bool) {
	x, y := v.Scene().View.Pixel(p.Lat, p.Lon)
	for n := len(v.Scene().Items) - 1; n >= 0; n-- {
		i := v.Scene().Items[n]
		if i.Shape == ui.Disc && abs(float64(i.X)-x) < 1 && abs(float64(i.Y)-y) < 1 && i.Color.A == 255 {
			return i, true
		}
	}
	return ui.Item{}, false
}

func abs(v float64) float64 { return max(v, -v) }

func TestDiscInTheColourOfItsRule(t *testing.T) {
	for _, scale := range []float64{1, 2} {
		var v View
		in := frame("")
		in.Scale, in.Size = scale, image.Pt(int(1000*scale), int(500*scale))
		v.Update(noon, in, state(conn(1, paris, 0), conn(2, rio, 1)))
		d, ok := discAt(&v, paris)
		require.True(t, ok)
		assert.Equal(t, blue.Color, d.Color)
		d, ok = discAt(&v, rio)
		require.True(t, ok)
		assert.Equal(t, green.Color, d.Color)
		assert.GreaterOrEqual(t, float64(d.R), 3*scale)
	}
}

// TestDiscOfACountryIsHollow: a disc is full where more than the country is known of one of its
// peers, and of what is in the own network or was stored without saying.
func TestDiscOfACountryIsHollow(t *testing.T) {
	city, lan, unsure, country := conn(1, rio, 1), conn(2, rio, 1), conn(3, rio, 1), conn(4, rio, 0)
	city.Place.Precision, lan.Scope, unsure.Unsure = geoip.City, live.LAN, true
	for _, tt := range []struct {
		conns  []*live.Conn
		hollow bool
	}{
		{[]*live.Conn{country}, true},
		{[]*live.Conn{country, conn(5, rio, 1)}, true},
		{[]*live.Conn{country, city}, false},
		{[]*live.Conn{lan}, false},
		{[]*live.Conn{unsure, country}, false},
	} {
		v := View{Settings: Settings{Local: true}}
		v.Update(noon, frame(""), state(tt.conns...))
		x, y := v.Scene().View.Pixel(rio.Lat, rio.Lon)
		hollow := false
		for _, i := range v.Scene().Items {
			hollow = hollow || i.Shape == ui.Disc && abs(float64(i.X)-x) < 1 && abs(float64(i.Y)-y) < 1 && i.Color.A < 255
		}
		assert.Equal(t, tt.hollow, hollow)
	}
}

func TestOriginalsPixel(t *testing.T) {
	var v View
	v.Update(noon, frame(""), state(conn(1, paris, 0)))
	x, y := v.Scene().View.Pixel(paris.Lat, paris.Lon)
	wx, wy := worldmap.Point(paris.Lat, paris.Lon)
	assert.InDelta(t, wx, x, 1e-6)
	assert.InDelta(t, wy, y, 1e-6)
}

func TestLegendCountsByLabel(t *testing.T) {
	st := state(conn(1, paris, 0), conn(2, paris, 0), conn(3, rio, 1))
	st.Rules = []rules.Rule{blue, green, {Label: "Web", Color: blue.Color}, rules.Other}
	st.Conns = append(st.Conns, conn(4, rio, 2))
	var v View
	v.Update(noon, frame(""), st)
	assert.Contains(t, texts(&v), "Web\n3\nMail\n1\n")
	assert.NotContains(t, texts(&v), "Other", "rules without connections take no room")
	v.Update(noon, frame(""), state(conn(1, paris, 0)))
	assert.Contains(t, texts(&v), "Web\n1\nMail\n0\n", "a label that was seen stays")
}

func TestLocalPeersAreHiddenUntilM(t *testing.T) {
	lan := conn(2, geoip.Place{}, 1)
	lan.Scope = live.LAN
	st := state(conn(1, paris, 0), lan)
	lan.Place = st.Home
	var v View
	v.Update(noon, frame(""), st)
	assert.Contains(t, texts(&v), "1 live · 1 local hidden")
	v.Update(noon, frame("m"), st)
	assert.Contains(t, texts(&v), "2 live ·")
	assert.Contains(t, texts(&v), "\nMail\n1\n", "in the legend at once")
	d, ok := discAt(&v, st.Home)
	require.True(t, ok)
	assert.Equal(t, green.Color, d.Color)
}

func TestUnknownPlacesAreShown(t *testing.T) {
	var v View
	v.Update(noon, frame(""), state(conn(1, geoip.Place{}, 0), conn(2, geoip.Place{}, 0)))
	assert.Contains(t, texts(&v), "2 unknown places")
	assert.Contains(t, texts(&v), "2 live")
	x, y := v.unknownSpot()
	v.Update(noon, mouse(x+2, y), state(conn(1, geoip.Place{}, 0)))
	assert.Contains(t, texts(&v), "203.0.113.1:443")
	assert.Contains(t, texts(&v), "place unknown")

	// They are a stack like others: its rules are to be seen, and cycle near the mouse.
	st := state(conn(1, geoip.Place{}, 0), conn(2, geoip.Place{}, 1))
	colors := func() map[color.NRGBA]bool {
		seen := map[color.NRGBA]bool{}
		for _, i := range v.Scene().Items {
			if bx, by := float64(i.X), float64(i.Y); math.Hypot(bx-x, by-y) < 1 && (i.Color == blue.Color || i.Color == green.Color) && i.Shape == ui.Disc {
				seen[i.Color] = true
			}
		}
		return seen
	}
	in := frame("")
	in.Inside = false
	v.Update(noon, in, st)
	assert.Equal(t, map[color.NRGBA]bool{blue.Color: true}, colors())
	seen := map[color.NRGBA]bool{}
	for n := range 4 {
		v.Update(noon.Add(time.Duration(n)*cycleTime), mouse(x+20, y), st)
		for c := range colors() {
			seen[c] = true
		}
		assert.NotContains(t, texts(&v), "2x", "the count stands below")
	}
	assert.Equal(t, map[color.NRGBA]bool{blue.Color: true, green.Color: true}, seen)
}

func TestHoverNamesAll(t *testing.T) {
	var v View
	st := state(conn(1, rio, 0))
	v.Update(noon, frame(""), st)
	assert.NotContains(t, texts(&v), "203.0.113.1")
	x, y := v.Scene().View.Pixel(rio.Lat, rio.Lon)
	v.Update(noon, mouse(x+5, y), st)
	for _, want := range []string{"203.0.113.1:443", "Web", "prog1 on nas", "tcp out", "41 ms", "↓ 3.2 MB ↑ 88 kB",
		"AS64500 Example Networks", "Brazil", "country level"} {
		assert.Contains(t, texts(&v), want)
	}
	in := mouse(x+5, y)
	in.Inside = false
	v.Update(noon, in, st)
	assert.NotContains(t, texts(&v), "203.0.113.1", "the mouse left the window")
}

func TestStackCyclesNearTheMouse(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0), conn(2, paris, 1), conn(3, paris, 1))
	v.Update(noon, frame(""), st)
	assert.NotContains(t, texts(&v), "3x")
	assert.True(t, v.Next().IsZero(), "nothing moves by itself")

	x, y := v.Scene().View.Pixel(paris.Lat, paris.Lon)
	seen := map[color.NRGBA]bool{}
	for n := range 4 {
		v.Update(noon.Add(time.Duration(n)*cycleTime), mouse(x+20, y), st)
		assert.Contains(t, texts(&v), "3x")
		d, ok := discAt(&v, paris)
		require.True(t, ok)
		seen[d.Color] = true
		assert.False(t, v.Next().IsZero(), "the next colour comes by itself")
	}
	assert.Equal(t, map[color.NRGBA]bool{blue.Color: true, green.Color: true}, seen)

	v.Update(noon, frame("f"), st)
	assert.Contains(t, texts(&v), "3x", "f cycles everywhere")
}

func TestLabels(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0), conn(2, rio, 1))
	v.Update(noon, frame("t"), st)
	assert.Contains(t, texts(&v), "prog1 203.0.113.1:443")
	v.Update(noon, frame("ta"), st)
	assert.Equal(t, 2, strings.Count(texts(&v), "Web"), "in the legend and at the place")
	// What a rule asks for holds until somebody says otherwise.
	shown := *st
	shown.Rules = []rules.Rule{{Label: "Web", Color: blue.Color, ShowText: true}, green, rules.Other}
	count := func(keys string) int {
		v.Update(noon, frame(keys), &shown)
		return strings.Count(texts(&v), "Web")
	}
	v = View{}
	assert.Equal(t, 2, count(""), "the rule asks for text")
	v.write(false, "Web")
	assert.Equal(t, 1, count("h"), "in the legend alone")
	b, err := json.Marshal(v.Settings)
	require.NoError(t, err)
	v = View{}
	require.NoError(t, json.Unmarshal(b, &v.Settings))
	assert.Equal(t, 1, count(""), "also after a restart")
	assert.Equal(t, 2, count("a"), "all")
	assert.Equal(t, 1, count("a"), "none")
	assert.Equal(t, 2, count("a"), "all again")
}

func TestLabelsNeverOverlap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var conns []*live.Conn
	for n := range 300 {
		conns = append(conns, conn(uint64(n), geoip.Place{Lat: r.Float64()*100 - 40, Lon: r.Float64()*340 - 170, Precision: geoip.City}, n%3))
	}
	var v View
	v.Update(noon, frame("ta"), state(conns...))
	var boxes []ui.Box
	for _, i := range v.Scene().Items {
		if i.Shape == ui.Text && i.Size == 11 {
			boxes = append(boxes, ui.At(float64(i.X), float64(i.Y)-9, v.canvas.Width(i.Font, 11, i.Text), 11))
		}
	}
	require.Greater(t, len(boxes), 15)
	for i, a := range boxes {
		for _, b := range boxes[:i] {
			assert.False(t, a.Overlaps(b), "%v %v", a, b)
		}
	}
}

func TestKeysHaveEffects(t *testing.T) {
	var v View
	st := state()
	assert.Equal(t, []Effect{ReloadRules{}}, v.Update(noon, frame("c"), st))
	assert.Equal(t, []Effect{ShowHistory{On: true}}, v.Update(noon, frame("h"), st))
	assert.Equal(t, []Effect{ShowHistory{On: false}}, v.Update(noon, frame("h"), st))

	v.Update(noon, frame("?"), st)
	assert.Contains(t, texts(&v), "Keys and mouse")
	esc := frame("")
	esc.Keys = []ui.Key{ui.KeyEscape}
	assert.Empty(t, v.Update(noon, esc, st), "closes the panel first")
	assert.NotContains(t, texts(&v), "Keys and mouse")
	assert.Equal(t, []Effect{Quit{}}, v.Update(noon, esc, st))
}

func TestHistoryIsDrawnWhenAskedFor(t *testing.T) {
	st := state()
	st.Marks = []history.Mark{{Lat: 0, Lon: 0, Count: 1}, {Lat: 10, Lon: 10, Count: 1000}}
	var v View
	v.Update(noon, frame(""), st)
	before := len(v.Scene().Items)
	v.Update(noon, frame("h"), st)
	var marks []ui.Item
	for _, i := range v.Scene().Items {
		if i.Shape == ui.Disc && i.Color == dark.mark {
			marks = append(marks, i)
		}
	}
	require.Len(t, marks, 2)
	assert.Greater(t, len(v.Scene().Items), before)
	assert.Greater(t, marks[1].R, marks[0].R, "more connections, larger disc")
}

func TestDragMovesTheWindow(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0))
	v.Update(noon, frame(""), st)
	step := func(x, y float64, press, held bool) []Effect {
		in := mouse(x, y)
		in.Press, in.Held = press, held
		return v.Update(noon, in, st)
	}
	assert.Empty(t, step(500, 400, true, true))
	assert.Empty(t, step(502, 401, false, true), "within the slack of a click")
	assert.Equal(t, []Effect{MoveWindow{By: image.Pt(10, 5)}}, step(510, 405, false, true))
	assert.Empty(t, step(500, 400, false, true), "the window has moved under the mouse")
	assert.Empty(t, step(520, 400, false, false), "released")

	x, y := v.Scene().View.Pixel(paris.Lat, paris.Lon)
	step(x, y, true, true)
	assert.Empty(t, step(x+50, y, false, true), "pressed on a disc")
	step(20, 460, true, true)
	assert.Empty(t, step(70, 460, false, true), "pressed on the legend")
}

func TestNothingChangesNothingToDraw(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0))
	v.Update(noon, frame(""), st)
	rev := v.Scene().Rev
	same := *st
	same.Seq, same.Conns = 2, []*live.Conn{conn(1, paris, 0)}
	same.Conns[0].Rx += 1000
	v.Update(noon.Add(time.Second), frame(""), &same)
	assert.Equal(t, rev, v.Scene().Rev, "bytes are not on the map")
	same.Conns = append(same.Conns, conn(2, rio, 1))
	more := same
	v.Update(noon.Add(time.Second), frame(""), &more)
	assert.Greater(t, v.Scene().Rev, rev)
}

func TestProblemsAndNotes(t *testing.T) {
	st := state()
	st.Problems = []string{"connmaprc: line 3: expected a colour"}
	st.Agents[0].Limited, st.Agents[0].Lost = "names of other users' programs need root", 5
	var v View
	v.Update(noon, frame(""), st)
	assert.Contains(t, texts(&v), "connmaprc: line 3")
	// The lines of one problem stay lines, and the first may need more than one.
	st.Problems = []string{strings.Repeat("rules ", 30) + "\nline 2: want a label\nline 9: " + strings.Repeat("long ", 50) + "\nand 4 more bad lines"}
	v.Update(noon, frame(""), st)
	assert.Contains(t, texts(&v), "rules\nline 2: want a label\nline 9: long long ")
	assert.Contains(t, texts(&v), "…\nand 4 more bad lines\n")
	assert.Contains(t, texts(&v), "1 agent · 0 live · diag · 5 lost · geo 2026-03, country level: connmap-data update · ? keys")
	for days, want := range map[int]string{100: "geo 2026-03 · ? keys", 101: "geo 2026-03, old: connmap-data update · ? keys"} {
		later := *st
		later.Geo.CountryLevel, later.Geo.Date, later.Seq = false, noon, st.Seq+1
		later.Time = noon.AddDate(0, 0, days)
		v.Update(later.Time, frame(""), &later)
		assert.Contains(t, texts(&v), want)
		later.Geo.Date, later.NetworksDate, later.Seq = later.Time, noon, later.Seq+1
		v.Update(later.Time, frame(""), &later)
		assert.Equal(t, days > 100, strings.Contains(texts(&v), " · networks 2026-03, old: connmap-data update · ? keys"))
	}
}

// TestHostileStates: nothing panics and nothing leaves the picture, whatever agents
// report, whatever is open and however small the window is.
func TestHostileStates(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	long := strings.Repeat("very long ñ漢字 \u202e\u200f\x1b[31m\x00\n👾 ", 500)
	places := []geoip.Place{{}, paris, {Lat: 90, Lon: 180, Precision: geoip.City}, {Lat: -90, Lon: -180, Precision: geoip.Country, City: long, Country: "XX"},
		{Lat: 0, Lon: 179.9999, Precision: geoip.City}}
	hostile := func(n int) *live.State {
		var conns []*live.Conn
		for i := range n {
			c := conn(uint64(i), places[i%len(places)], i%5)
			c.Agent, c.Org, c.Process.Comm, c.Process.Exe, c.Process.Container = long, long, long, long, long
			conns = append(conns, c)
		}
		st := state(conns...)
		st.Agents[0].Name, st.Agents[0].Backend, st.Agents[0].Limited = long, long, long
		st.Problems = []string{long, "x", strings.Repeat("x", 5000), long}
		st.Rules[0].Label = long
		st.HistoryStats = &history.Stats{Rows: 1 << 62, Bytes: 1 << 62, Oldest: noon, Retention: history.Retention{Age: 1<<63 - 1, Rows: 1<<63 - 1, Bytes: 1<<63 - 1}}
		st.Addrs = []uint32{1<<32 - 1, 0}
		st.Marks = []history.Mark{{Lat: 90, Lon: 180, Count: 1 << 62}, {Lat: -90, Lon: -180, Count: -5}}
		return st
	}
	answers := func(e Effect) []Answer {
		switch e := e.(type) {
		case RunQuery:
			return []Answer{Answered{Ask: e.Ask, Table: history.Table{
				Columns: []history.Column{{Name: long}, {Name: "ip"}, {Name: ""}},
				Rows:    [][]any{{long, long, math.Inf(1)}, {[]byte(long), nil, math.NaN()}, {int64(1), "192.0.2.1", 1e308}}, Cut: long,
			}, Labels: []string{long, "", "Web"}, Places: [][2]float64{{90, 180}, {math.NaN(), 0}, {1e308, -1e308}}}}
		case Whois:
			return []Answer{Report{Ask: e.Ask, Text: long}}
		case FindNearby:
			return []Answer{Found{Ask: e.Ask, Past: []live.Past{{Conn: *hostile(1).Conns[0], Count: -1}}}}
		case WriteSQL:
			return []Answer{Written{SQL: long}}
		case FindFiltered:
			past := live.Past{Conn: *hostile(2).Conns[1], Label: long, Count: -1}
			past.ID, past.Local = 0, live.Endpoint{}
			return []Answer{Found{Ask: e.Ask, Past: []live.Past{past, past}, Since: noon.Add(-1 << 62)}}
		case StartReplay:
			return []Answer{Replayed{Ask: e.Ask, Share: math.NaN(), Events: []live.Event{{Lat: 90, Lon: 1e300, Label: long}, {Lat: math.NaN()}}}}
		case LookUp:
			return []Answer{Named{Ask: e.Ask, Text: long}}
		case Copy:
			return []Answer{Said{long}, Pasted{long}}
		}
		return nil
	}
	scripts := [][]ui.Key{
		{}, {'t'}, {'a'}, {'h', 'f', 'm'}, {'?'}, {'i'}, {'p', '1', '2', '3', '4'}, {'/', 'v', ui.KeyEnter, ui.KeyEnter, 'v'},
		{ui.KeyEnter, ui.KeyEnd, ui.KeyEnd, ui.KeyRight, ui.KeyEnter}, {'q', ui.Ctrl | ui.KeyEnter, ui.Ctrl | 'v'}, {'z', 'h', '+', '+', '+'}, {'g'}, {'o'},
		{ui.KeyEnter, ui.KeyDown, ui.Ctrl | 'a'}, {'q', 'i', 'z', 'p', ui.KeyEscape, ui.KeyEscape}, {'+', '+', '+', '+', ui.KeyLeft}, {ui.Ctrl | '+', ui.Ctrl | '+', 'i'},
	}
	for _, size := range []image.Point{{}, {1, 1}, {200, 100}, {1000, 500}, {3840, 2160}} {
		for _, n := range []int{0, 1, 12, 3000} {
			if n > 12 && size.X != 1000 {
				continue // as with 12, but slower
			}
			st := hostile(n)
			for _, script := range scripts {
				if n > 12 && len(script) > 3 {
					continue
				}
				v := View{FirstQuery: firstQuery}
				in := mouse(float64(size.X)/2, float64(size.Y)/2)
				in.Size = size
				step := func(in Input) {
					in.Answers = nil
					for range 3 {
						effects := v.Update(noon, in, st)
						in.Keys, in.Press, in.Right, in.Answers = nil, false, false, nil
						for _, e := range effects {
							in.Answers = append(in.Answers, answers(e)...)
						}
					}
				}
				step(in)
				for _, k := range script {
					in.Keys = []ui.Key{k}
					step(in)
				}
				in.Keys = nil
				in.Right = true
				step(in)
				in.Right, in.Press, in.Held, in.Wheel = false, true, true, -3
				step(in)
				if size.X >= 200 {
					within(t, &v)
				}
			}
		}
	}
}

// TestManyAgentNames: a hundred thousand agents.
func TestManyAgentNames(t *testing.T) {
	var v View
	st := hosts(100_000)
	st.Conns = st.Conns[:10]
	v.Update(noon, frame("i"), st)
	v.Update(noon, press(ui.KeyEnd), st)
	assert.Contains(t, texts(&v), "host99999\n")
	assert.Contains(t, texts(&v), "100000 agents")
}

func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{500, 10_000} {
		var conns []*live.Conn
		r := rand.New(rand.NewPCG(1, 2))
		for i := range n {
			conns = append(conns, conn(uint64(i), geoip.Place{Lat: r.Float64()*100 - 40, Lon: r.Float64()*340 - 170, Precision: geoip.City}, i%3))
		}
		b.Run(fmt.Sprintf("conns=%d/same", n), func(b *testing.B) {
			var v View
			st := state(conns...)
			b.ReportAllocs()
			for b.Loop() {
				v.Update(noon, frame(""), st)
			}
		})
		b.Run(fmt.Sprintf("conns=%d/changed", n), func(b *testing.B) {
			var v View
			b.ReportAllocs()
			for b.Loop() {
				v.Update(noon, frame(""), state(conns...))
			}
		})
	}
}

func TestPeer(t *testing.T) {
	for want, c := range map[string]live.Conn{
		"192.0.2.1:443":     {Proto: conntrack.TCP, Peer: endpoint("192.0.2.1:443")},
		"192.0.2.1:443/udp": {Proto: conntrack.UDP, Peer: endpoint("192.0.2.1:443")},
		"192.0.2.1/icmp":    {Proto: conntrack.ICMP, Peer: endpoint("192.0.2.1:0")},
		"example.com:443":   {Proto: conntrack.TCP, Peer: endpoint("192.0.2.1:443"), Name: "example.com"},
		"…" + strings.Repeat("a", 27-len(".example.com")) + ".example.com:443": {Proto: conntrack.TCP, Peer: endpoint("192.0.2.1:443"), Name: strings.Repeat("a", 60) + ".example.com"},
		"example.com/icmp": {Proto: conntrack.ICMP, Peer: endpoint("192.0.2.1:0"), Name: "example.com"},
	} {
		assert.Equal(t, want, peerText(&c))
	}
}

// TestUnknownPlaceAtAKnownOne: a place of the map may lie where unknown ones are shown.
func TestUnknownPlaceAtAKnownOne(t *testing.T) {
	for _, first := range []bool{true, false} {
		var v View
		v.Update(noon, frame(""), state())
		x, y := v.unknownSpot()
		lat, lon := v.world.Place(x, y)
		known := conn(1, geoip.Place{Lat: lat, Lon: lon, Precision: geoip.City}, 0)
		conns := []*live.Conn{known, conn(2, geoip.Place{}, 1)}
		if !first {
			conns[0], conns[1] = conns[1], conns[0]
		}
		v.Update(noon, frame(""), state(conns...))
		assert.Contains(t, texts(&v), "1 unknown place\n")
		assert.Len(t, v.stacks.list, 2)
	}
}
