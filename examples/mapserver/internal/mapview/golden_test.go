package mapview_test

import (
	"bytes"
	"flag"
	"fmt"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack/conntracktest"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	. "github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/examples/mapserver/internal/paint"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/rules"
)

var (
	update = flag.Bool("update", false, "write the golden pictures anew")
	all    = flag.String("all", "", "write pictures of all panels in many sizes into this `folder`")
	noon   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

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

func busy() *live.State {
	st := &live.State{
		Seq: 1, Time: noon, Rules: rules.Default().Rules(),
		Home: geoip.Place{Lat: 50.11, Lon: 8.68, Precision: geoip.City},
		Geo:  live.Source{Name: "embedded", Date: noon, CountryLevel: true},
		Agents: []live.Agent{
			{Name: "nas", Backend: "ebpf", Since: noon.Add(-time.Hour)},
			{ID: 7, Name: "web1", Addr: "198.51.100.7:40112", Backend: "diag", Since: noon.Add(-30 * time.Hour), Lost: 3},
		},
		Kept: &live.Kept{Rows: 1_234_567, Bytes: 474e6, Oldest: noon.Add(-100 * 24 * time.Hour), Retention: live.Retention{Bytes: 4e9}},
	}
	for i, c := range conntracktest.Conns(60, 1) {
		l := &live.Conn{Conn: c, Agent: st.Agents[i%2].Name, Place: cities[(i*5+i/8)%len(cities)], ASN: uint32(64496 + i%5), Org: orgs[i%5]}
		l.Opened = noon.Add(-time.Duration(i) * 7 * time.Minute)
		l.Rule = rules.Default().Index(rules.Conn{Local: c.Local.Port(), Peer: c.Peer.Port(), Comm: c.Process.Comm})
		st.Conns = append(st.Conns, l)
		st.Agents[i%2].Conns++
	}
	return st
}

// A screen is a window that only exists as pictures.
type screen struct {
	View
	in Input
	st *live.State
	t  *testing.T
}

func newScreen(t *testing.T, size image.Point, scale float64, light bool) *screen {
	s := &screen{in: Input{Size: size, Scale: scale}, st: busy(), t: t}
	s.Light = light
	s.do()
	return s
}

// do hands keys to the window and returns what it asks for.
func (s *screen) do(keys ...Key) []Effect {
	in := s.in
	in.Keys = keys
	return s.Update(noon, in, s.st)
}

func (s *screen) typed(text string) (e []Effect) {
	for _, r := range text {
		k := Key(r)
		if r == '\n' {
			k = KeyEnter
		}
		e = append(e, s.do(k)...)
	}
	return e
}

func (s *screen) answer(a Answer) {
	in := s.in
	in.Answers = []Answer{a}
	s.Update(noon, in, s.st)
}

// at returns where a text stands in the picture.
func (s *screen) at(text string) image.Point {
	s.t.Helper()
	for n := len(s.Scene().Items) - 1; n >= 0; n-- {
		if i := s.Scene().Items[n]; i.Shape == Text && i.Text == text {
			return image.Pt(int(i.X+3), int(i.Y-4))
		}
	}
	require.Fail(s.t, "not in the picture", "%q in %s", text, s.text())
	return image.Point{}
}

func (s *screen) text() string {
	var b strings.Builder
	for _, i := range s.Scene().Items {
		if i.Shape == Text {
			b.WriteString(i.Text + "\n")
		}
	}
	return b.String()
}

func (s *screen) point(p image.Point) {
	s.in.Cursor, s.in.Inside = p, true
	s.Update(noon, s.in, s.st)
}

func (s *screen) click(text string) []Effect {
	s.t.Helper()
	s.point(s.at(text))
	in := s.in
	in.Press, in.Held = true, true
	e := s.Update(noon, in, s.st)
	s.Update(noon, s.in, s.st)
	return e
}

func (s *screen) rightClick(p image.Point) []Effect {
	s.point(p)
	in := s.in
	in.Right = true
	return s.Update(noon, in, s.st)
}

// place returns where a place is in the picture.
func (s *screen) place(p geoip.Place) image.Point {
	x, y := s.Scene().View.Pixel(p.Lat, p.Lon)
	return image.Pt(int(x), int(y))
}

func past() (list []live.Past) {
	for i, c := range busy().Conns[:20] {
		p := live.Past{Conn: *c, Count: int64(i*i + 1), Seen: noon.Add(-time.Duration(i) * time.Hour)}
		p.ID = 0
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

func answer(ask int) Answered {
	t := live.Table{Elapsed: 18 * time.Millisecond}
	for _, c := range []string{"ip", "port", "programname", "orgname", "lat", "count"} {
		t.Columns = append(t.Columns, live.Column{Name: c, Number: c == "port" || c == "count" || c == "lat"})
	}
	for i, c := range busy().Conns {
		lat := any(c.Place.Lat)
		at := [2]float64{c.Place.Lat, c.Place.Lon}
		if c.Place.Precision == geoip.Unknown {
			lat, at = nil, [2]float64{math.NaN(), math.NaN()}
		}
		t.Rows = append(t.Rows, []any{c.Peer.Addr().String(), int64(c.Peer.Port()), c.Process.Comm, c.Org, lat, int64(i * i * 7)})
		t.Rules = append(t.Rules, c.Rule)
		t.Places = append(t.Places, at)
	}
	return Answered{Ask: ask, Table: t, Offset: -1}
}

// scenes are all panels, each with what brings it up.
var scenes = []struct {
	name string
	show func(s *screen)
}{
	{"help", func(s *screen) { s.do('?') }},
	{"hosts", func(s *screen) { s.do('i') }},
	{"retention", func(s *screen) { s.do('p') }},
	{"filter", func(s *screen) { s.typed("/port:443 -country:fr"); s.do(KeyEnter) }},
	{"nearby", func(s *screen) {
		for _, e := range s.rightClick(s.place(cities[0])) {
			if f, ok := e.(FindNearby); ok {
				s.answer(Found{Ask: f.Ask, Past: past(), SQL: "SELECT 1"})
			}
		}
		s.do(KeyDown)
	}},
	{"rule list", func(s *screen) { s.click(s.st.Rules[s.st.Conns[0].Rule].Label) }},
	{"connections", func(s *screen) { s.do(KeyEnter); s.click("program"); s.do(KeyDown, KeyDown, KeyRight) }},
	{"details", func(s *screen) {
		s.point(s.place(cities[3]))
		in := s.in
		in.Press = true
		for _, e := range s.Update(noon, in, s.st) {
			if f, ok := e.(FindFirst); ok {
				s.answer(First{Peer: f.Peer, Program: f.Program, Seen: noon.Add(-90 * 24 * time.Hour), Count: 4711})
			}
		}
	}},
	{"whois", func(s *screen) {
		s.do(KeyEnter)
		for _, e := range append(s.do(KeyDown), s.do(KeyEnter)...) {
			if w, ok := e.(Whois); ok {
				s.answer(Report{Addr: w.Addr, Text: report})
			}
		}
	}},
	{"sql", func(s *screen) {
		s.do('q')
		for _, e := range s.do(Ctrl | KeyEnter) {
			if q, ok := e.(RunQuery); ok {
				s.answer(answer(q.Ask))
			}
		}
		s.click("count")
		s.click("Plot on map")
		s.do(Ctrl | Shift | KeyHome)
	}},
	{"sql error", func(s *screen) {
		s.do('q', Ctrl|'a', KeyDelete)
		s.typed("SELECT ip, 'a text', 12.5 -- a comment\nFROM nothing")
		for _, e := range s.do(Ctrl | KeyEnter) {
			if q, ok := e.(RunQuery); ok {
				s.answer(Answered{Ask: q.Ask, Problem: "no such table: nothing", Offset: strings.Index(q.SQL, "nothing")})
			}
		}
	}},
	{"saved queries", func(s *screen) {
		s.Saved = []Query{{"alive", "what was seen in the last 30 seconds", "SELECT 1"}, {"newest", "the connections seen last", "SELECT 2"}}
		s.do('q')
		s.click("Saved")
	}},
	{"replay", func(s *screen) {
		for _, e := range s.do('g') {
			if r, ok := e.(StartReplay); ok {
				a := Replayed{Ask: r.Ask, At: noon.Add(-40 * 24 * time.Hour), Share: 0.4}
				for i, c := range cities[:7] {
					a.Events = append(a.Events, live.Event{Lat: c.Lat, Lon: c.Lon, Rule: i % 5})
				}
				s.answer(a)
			}
		}
	}},
	{"hilbert", func(s *screen) {
		for i := range uint32(3000) {
			s.st.Addrs = append(s.st.Addrs, live.AddrCount{Addr: (i*2654435761 ^ i<<7) &^ 0xe0000000, Count: 1})
		}
		s.do('h', 'z')
	}},
	{"hilbert zoomed", func(s *screen) {
		s.do('z')
		s.point(s.at("103").Add(image.Pt(8, 8)))
		for range 6 {
			in := s.in
			in.Wheel = 1
			s.Update(noon, in, s.st)
		}
	}},
	{"lines", func(s *screen) { s.do('o') }},
	{"several panels", func(s *screen) {
		s.do('i')
		s.do('p')
		s.do(KeyEnter)
	}},
	{"problems", func(s *screen) {
		s.st.Problems = []string{"connmaprc: line 3: expected a colour", "history: disk full", "geo: the table is damaged", "asn: too old"}
		s.do()
		s.click("asn: too old")
	}},
}

func TestGoldenPanels(t *testing.T) {
	for _, sc := range scenes {
		t.Run(sc.name, func(t *testing.T) {
			for theme, light := range map[string]bool{"dark": false, "light": true} {
				s := newScreen(t, image.Pt(1000, 500), 1, light)
				sc.show(s)
				var got bytes.Buffer
				require.NoError(t, paint.PNG(&got, s.Scene()))
				name := filepath.Join("testdata", strings.ReplaceAll(sc.name, " ", "-")+"-"+theme+".png")
				if *update {
					require.NoError(t, os.WriteFile(name, got.Bytes(), 0o666))
				}
				want, err := os.ReadFile(name)
				require.NoError(t, err, "-update writes it")
				same(t, want, got.Bytes(), name)
			}
		})
	}
	if *all == "" {
		return
	}
	for _, sc := range scenes {
		for _, size := range []struct {
			image.Point
			scale float64
		}{{image.Pt(1000, 500), 1}, {image.Pt(1920, 1080), 1}, {image.Pt(2000, 1000), 2}, {image.Pt(400, 240), 1}, {image.Pt(200, 100), 1}} {
			s := newScreen(t, size.Point, size.scale, false)
			func() {
				defer func() { recover() }() // a small window does not show what a scene clicks
				sc.show(s)
			}()
			var got bytes.Buffer
			require.NoError(t, paint.PNG(&got, s.Scene()))
			os.WriteFile(filepath.Join(*all, fmt.Sprintf("%s-%dx%d.png", sc.name, size.X, size.Y)), got.Bytes(), 0o666)
		}
	}
}

// same compares pictures, of which processors round some bytes otherwise.
func same(t *testing.T, want, got []byte, name string) {
	t.Helper()
	a, err := png.Decode(bytes.NewReader(want))
	require.NoError(t, err)
	b, err := png.Decode(bytes.NewReader(got))
	require.NoError(t, err)
	require.Equal(t, a.Bounds(), b.Bounds(), name)
	differ := 0
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			r1, g1, b1, _ := a.At(x, y).RGBA()
			r2, g2, b2, _ := b.At(x, y).RGBA()
			far := func(p, q uint32) bool { return max(p, q)-min(p, q) > 3<<8 }
			if far(r1, r2) || far(g1, g2) || far(b1, b2) {
				differ++
			}
		}
	}
	assert.LessOrEqual(t, differ, 20, "pixels of %s", name)
}
