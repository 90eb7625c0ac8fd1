// Package viewtest has the scenes by which the map window is tested: on the CPU against
// golden pictures, and in a real window against those of the CPU.
package viewtest

import (
	"image"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/connmapgo/connmap/conntrack/conntracktest"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/rules"
)

// Noon is when all scenes are.
var Noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// cities are where the peers of the pictures are.
var cities = []geoip.Place{
	{Lat: 48.85, Lon: 2.35, Country: "FR", City: "Paris", Precision: geoip.City},
	{Lat: -22.9, Lon: -43.2, Country: "BR", Precision: geoip.Country},
	{Lat: 37.75, Lon: -97.82, Country: "US", Precision: geoip.Country},
	{Lat: 1.35, Lon: 103.82, Country: "SG", City: "Singapore", Precision: geoip.City},
	{Lat: 59.33, Lon: 18.07, Country: "SE", City: "Stockholm", Precision: geoip.City},
	{Lat: -33.87, Lon: 151.21, Country: "AU", City: "Sydney", Precision: geoip.City},
	{Lat: 35.68, Lon: 139.69, Country: "JP", City: "Tokyo", Precision: geoip.City},
	{},
}

var orgs = []string{"Example Networks", "Documentation Cloud Ltd", "Åland Telekom", "Rede Exemplo S.A.", "Transit & Sons"}

// Busy is a state with everything in it.
func Busy() *live.State {
	st := &live.State{
		Seq: 1, Time: Noon, Rules: rules.Default().Rules(),
		Home: geoip.Place{Lat: 50.11, Lon: 8.68, Precision: geoip.City},
		Geo:  live.Source{Name: "embedded", Date: Noon, CountryLevel: true},
		Agents: []live.Agent{
			{Name: "nas", Backend: "ebpf", Since: Noon.Add(-time.Hour)},
			{ID: 7, Name: "web1", Addr: netip.MustParseAddr("198.51.100.7"), Backend: "diag", Since: Noon.Add(-30 * time.Hour), Lost: 3,
				Limited: "ebpf does not work here: it needs root, or the capabilities CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; names of other users' programs need root"},
		},
		HistoryStats: &history.Stats{Rows: 1_234_567, Bytes: 474e6, Oldest: Noon.Add(-100 * 24 * time.Hour), Retention: history.Retention{Bytes: 4e9}},
	}
	for i, c := range conntracktest.Conns(60, 1) {
		c.Opened = Noon.Add(-time.Duration(i) * 7 * time.Minute)
		l := live.New(c, &c.Process)
		l.Agent, l.Place, l.ASN, l.Org = st.Agents[i%2].Name, cities[(i*5+i/8)%len(cities)], uint32(64496+i%5), orgs[i%5]
		l.Rule = int32(rules.Default().Index(rules.Conn{Local: c.Local.Port(), Peer: c.Peer.Port(), Comm: c.Process.Comm}))
		st.Conns = append(st.Conns, &l)
		st.Agents[i%2].Conns++
	}
	for i := range uint32(3000) {
		st.Addrs = append(st.Addrs, (i*2654435761^i<<7)&^0xe0000000)
	}
	st.Problems = []string{"connmaprc: line 3: expected a colour", "history: disk full", "geo: the table is damaged", "asn: too old"}
	return st
}

// A Screen is a window that only exists as scenes.
type Screen struct {
	mapview.View
	State *live.State
	// Mirror, if not nil, is told of all input.
	Mirror func(mapview.Input)

	in      mapview.Input
	answers []mapview.Answer
}

// NewScreen returns a window on Busy.
func NewScreen(size image.Point, scale float64, light bool) *Screen {
	s := &Screen{State: Busy(), in: mapview.Input{Size: size, Scale: scale}}
	s.Light, s.FirstQuery, s.Saved = light, FirstQuery, Saved
	s.Do()
	return s
}

// update hands input to the window, and answers what it asks for.
func (s *Screen) update(in mapview.Input) {
	if s.Mirror != nil {
		s.Mirror(in)
	}
	for {
		in.Answers, s.answers = s.answers, nil
		for _, e := range s.Update(Noon, in, s.State) {
			s.answers = append(s.answers, Answers(e)...)
		}
		if len(s.answers) == 0 {
			return
		}
		in = s.in
	}
}

// Do presses keys.
func (s *Screen) Do(keys ...ui.Key) {
	in := s.in
	in.Keys = keys
	s.update(in)
}

// Type types a text.
func (s *Screen) Type(text string) {
	for _, r := range text {
		k := ui.Key(r)
		if r == '\n' {
			k = ui.KeyEnter
		}
		s.Do(k)
	}
}

// At returns where a text stands in the scene; the upper left corner if nowhere.
func (s *Screen) At(text string) image.Point {
	for _, i := range slices.Backward(s.Scene().Items) {
		if i.Shape == ui.Text && i.Text == text {
			return image.Pt(int(i.X+3), int(i.Y-4))
		}
	}
	return image.Point{}
}

// Point moves the mouse.
func (s *Screen) Point(p image.Point) {
	s.in.Cursor, s.in.Inside = p, true
	s.update(s.in)
}

// Press moves the mouse and presses its left button.
func (s *Screen) Press(p image.Point) {
	s.Point(p)
	in := s.in
	in.Press, in.Held = true, true
	s.update(in)
	in.Press, in.Held, in.Release = false, false, true
	s.update(in)
}

// Click presses a text.
func (s *Screen) Click(text string) { s.Press(s.At(text)) }

// RightClick moves the mouse and presses its right button.
func (s *Screen) RightClick(p image.Point) {
	s.Point(p)
	in := s.in
	in.Right = true
	s.update(in)
}

// Wheel turns the wheel.
func (s *Screen) Wheel(notches float64) {
	in := s.in
	in.Wheel = notches
	s.update(in)
}

// Place returns where a place is in the picture.
func (s *Screen) Place(p geoip.Place) image.Point {
	x, y := s.Scene().View.Pixel(p.Lat, p.Lon)
	return image.Pt(int(x), int(y))
}

// FirstQuery is what the SQL panel of a Screen begins with.
const FirstQuery = "SELECT timestamp, ip, peer_name, port, programname, orgname, country, agent, rule, count\nFROM detailed_history ORDER BY timestamp DESC LIMIT 500"

// Saved are the queries that a Screen offers.
var Saved = []history.SavedQuery{
	{Name: "alive", About: "what was seen in the last 30 seconds", SQL: "SELECT 1"},
	{Name: "newest", About: "the connections seen last", SQL: "SELECT 2"},
}

// Answers are what a caller of the window says to an effect, always the same.
func Answers(e mapview.Effect) []mapview.Answer {
	switch e := e.(type) {
	case mapview.FindNearby:
		return []mapview.Answer{mapview.Found{Ask: e.Ask, Past: past()}}
	case mapview.FindFiltered:
		return []mapview.Answer{mapview.Found{Ask: e.Ask, Since: Noon.Add(-30 * 24 * time.Hour),
			Past: slices.DeleteFunc(past(), func(p live.Past) bool { return !e.Filter.Fits(&p) })}}
	case mapview.FindFirst:
		return []mapview.Answer{mapview.First{Ask: e.Ask, Seen: Noon.Add(-90 * 24 * time.Hour), Count: 4711}}
	case mapview.LookUp:
		return []mapview.Answer{mapview.Named{Ask: e.Ask, Text: "AS64500 Example Networks"}}
	case mapview.Whois:
		return []mapview.Answer{mapview.Report{Ask: e.Ask, Text: report}}
	case mapview.RunQuery:
		if at := strings.Index(e.SQL, "nothing"); at >= 0 {
			return []mapview.Answer{mapview.Answered{Ask: e.Ask, Problem: "no such table: nothing", Offset: at}}
		}
		return []mapview.Answer{answer(e.Ask)}
	case mapview.StartReplay:
		a := mapview.Replayed{Ask: e.Ask, At: Noon.Add(-40 * 24 * time.Hour), Share: 0.4}
		for i, c := range cities[:7] {
			a.Events = append(a.Events, live.Event{Lat: c.Lat, Lon: c.Lon, Label: rules.Default().Rules()[i%5].Label})
		}
		return []mapview.Answer{a}
	}
	return nil
}

func past() (list []live.Past) {
	for i, c := range Busy().Conns[:20] {
		p := live.Past{Conn: *c, Label: rules.Default().Rules()[c.Rule].Label, Count: int64(i*i + 1), Seen: Noon.Add(-time.Duration(i) * time.Hour)}
		p.ID = 0
		p.Local = live.EndpointOf(netip.AddrPortFrom(p.Local.Addr(), p.Local.Port()-1))
		list = append(list, p)
	}
	return list
}

const report = `question        203.0.113.77

  1 Delegation    apnic, ALLOCATED, 203.0.113.0/24, 2010-01-04  [delegated-apnic-extended, 2026-06-25]
  2 Organisation  Example Networks, SG, EX-APNIC  [as-org2info, 2026-01-01]
  3 AS numbers    AS64496, AS64500-AS64511
  4 Place         1.35, 103.82, Singapore, city  [GeoLite2-City.mmdb, 2026-06-01]
  5 AS            AS64500 Example Networks
  6 aut-num       % no record of AS64500 in apnic.db.aut-num.gz
`

func answer(ask int) mapview.Answered {
	a := mapview.Answered{Ask: ask, Offset: -1, Table: history.Table{Elapsed: 18 * time.Millisecond}}
	for _, c := range [][2]string{{"ip", "text"}, {"port", "integer"}, {"programname", "text"}, {"orgname", "text"}, {"lat", "real"}, {"count", "integer"}} {
		a.Table.Columns = append(a.Table.Columns, history.Column{Name: c[0], Type: c[1]})
	}
	for i, c := range Busy().Conns {
		lat := any(c.Place.Lat)
		at := [2]float64{c.Place.Lat, c.Place.Lon}
		if c.Place.Precision == geoip.Unknown {
			lat, at = nil, [2]float64{math.NaN(), math.NaN()}
		}
		a.Table.Rows = append(a.Table.Rows, []any{c.Peer.Addr().String(), int64(c.Peer.Port()), c.Process.Comm, c.Org, lat, int64(i * i * 7)})
		a.Labels = append(a.Labels, rules.Default().Rules()[c.Rule].Label)
		a.Places = append(a.Places, at)
	}
	return a
}

// Scenes are all panels, each with what brings it up.
var Scenes = []struct {
	Name string
	Show func(s *Screen)
}{
	{"map", func(*Screen) {}},
	{"labels", func(s *Screen) { s.Do('t') }},
	{"hover", func(s *Screen) { s.Point(s.Place(cities[3])) }},
	{"hover one", func(s *Screen) {
		s.Type("/name:mail app:firefox\n")
		s.Point(s.Place(cities[3]))
	}},
	{"palette", func(s *Screen) { s.Do('v') }},
	{"help", func(s *Screen) { s.Do('?') }},
	{"agents", func(s *Screen) { s.Do('i') }},
	{"retention", func(s *Screen) { s.Do('p') }},
	{"filter", func(s *Screen) { s.Type("/port:443 -country:fr\n") }},
	{"search list", func(s *Screen) {
		s.Type("/port:443 -country:fr\n")
		s.Do(ui.KeyEnter)
	}},
	{"nearby", func(s *Screen) {
		s.RightClick(s.Place(cities[0]))
		s.Do(ui.KeyDown)
	}},
	{"rule list", func(s *Screen) { s.Click("Webserver") }},
	{"connections", func(s *Screen) {
		s.Do(ui.KeyEnter)
		s.Click("program")
		s.Do(ui.KeyDown)
		s.Do(ui.KeyDown)
		s.Do(ui.KeyRight)
	}},
	{"place", func(s *Screen) { s.Press(s.Place(cities[3])) }},
	{"details", func(s *Screen) {
		s.Press(s.Place(cities[3]))
		s.Do(ui.KeyDown)
		s.Click("Details")
	}},
	{"whois", func(s *Screen) {
		s.Do(ui.KeyEnter)
		s.Do(ui.KeyDown)
		s.Do(ui.KeyEnter)
	}},
	{"sql", func(s *Screen) {
		s.Do('q')
		s.Do(ui.Ctrl | ui.KeyEnter)
		s.Click("count")
		s.Do(ui.Ctrl | ui.Shift | ui.KeyHome)
	}},
	{"plots beside sql", func(s *Screen) {
		s.Do('q')
		s.Do(ui.Ctrl | ui.KeyEnter)
		s.Click("Plot on map")
	}},
	{"sql error", func(s *Screen) {
		s.Do('q')
		s.Do(ui.Ctrl | 'a')
		s.Do(ui.KeyDelete)
		s.Type("SELECT ip, 'a text', 12.5 -- a comment\nFROM nothing")
		s.Do(ui.Ctrl | ui.KeyEnter)
	}},
	{"saved queries", func(s *Screen) {
		s.Do('q')
		s.Click("Saved")
	}},
	{"replay", func(s *Screen) { s.Do('g') }},
	{"hilbert", func(s *Screen) {
		s.Do('h')
		s.Do('z')
	}},
	{"hilbert zoomed", func(s *Screen) {
		s.Do('z')
		s.Point(s.At("103").Add(image.Pt(8, 8)))
		for range 6 {
			s.Wheel(1)
		}
	}},
	{"bar", func(s *Screen) { s.Point(image.Pt(890, 23)) }},
	{"full panel", func(s *Screen) {
		s.Press(image.Pt(890, 23))
		s.Press(image.Pt(670, 21))
	}},
	{"lines", func(s *Screen) { s.Do('o') }},
	{"several panels", func(s *Screen) {
		s.Do('i')
		s.Do('p')
		s.Do(ui.KeyEnter)
	}},
	{"problems", func(s *Screen) { s.Click("asn: too old") }},
}
