package mapview

import (
	"fmt"
	"strconv"
	"time"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/internal/numbers"
)

// A detailsPanel shows all that is known of the connections at a place, one at a time.
type detailsPanel struct {
	conns []*live.Conn
	at    int
	st    *live.State // the connections were updated from
	open  bool        // the one that is shown is in st
	question
	first First // of the one that is shown

	lines   [][2]string // names and what they are
	box     ui.Box
	shown   int // lines
	buttons ui.Buttons
}

const detailRow = 20

// newDetails shows one of some connections first.
func newDetails(v *View, conns []*live.Conn, at int) *detailsPanel {
	p := &detailsPanel{conns: append([]*live.Conn(nil), conns...), at: at}
	p.turn(v, 0)
	return p
}

// turn shows another connection.
func (p *detailsPanel) turn(v *View, by int) {
	n := len(p.conns)
	p.at = ((p.at+by)%n + n) % n
	p.st = nil
	var due time.Time
	if by != 0 {
		due = v.now.Add(turnDelay)
	}
	c := p.conns[p.at]
	p.pose(p, FindFirst{Peer: c.Peer.Addr(), Program: c.Process.Comm}, due)
}

// turnDelay is how long a connection must have been shown before the history is asked about
// it, since a user may turn pages fast.
const turnDelay = 150 * time.Millisecond

// First tells since when, and how often, a program's connections to an address were
// seen.
type First struct {
	Ask     int
	Seen    time.Time // zero: never before
	Count   int64
	Problem string // for people, why that is not known
}

func (a First) take(v *View) { v.answer(a.Ask, a, true) }

func (p *detailsPanel) answered(_ *View, a Answer) { p.first = a.(First) }

const detailsName = "details"

func (p *detailsPanel) Name() string { return detailsName }

func (p *detailsPanel) Title(*View) string {
	s := peerText(p.conns[p.at])
	if len(p.conns) > 1 {
		s += fmt.Sprintf(" · %d of %d", p.at+1, len(p.conns))
	}
	return s
}

func (p *detailsPanel) Size(v *View) (w, h float64) {
	return 430, float64(len(p.fields(v)))*detailRow + footHeight + 4
}

// update looks for the connection in a new state, where its bytes may be more.
func (p *detailsPanel) update(v *View) {
	if p.st == v.st {
		return
	}
	p.st, p.open = v.st, false
	c := p.conns[p.at]
	if c.ID == 0 {
		return // of the history
	}
	for _, o := range v.st.Conns {
		if o.ID == c.ID && o.Agent == c.Agent && o.Peer == c.Peer {
			p.conns[p.at], p.open = o, true
			return
		}
	}
}

// fields are what is known: a name and what it is.
func (p *detailsPanel) fields(v *View) (list [][2]string) {
	p.update(v)
	c := p.conns[p.at]
	add := func(name, value string) {
		if value != "" {
			list = append(list, [2]string{name, value})
		}
	}
	if c.Name != "" {
		add("name", c.Name+", "+nameSources[c.NameSource])
	}
	add("address", c.Peer.Addr().String())
	if c.Peer.Port() != 0 || c.Local.Port() != 0 {
		add("ports", fmt.Sprintf("%d, local %d", c.Peer.Port(), c.Local.Port()))
	}
	add("local", c.Local.Addr().String())
	proto := c.Proto.String()
	if c.Direction != conntrack.Unknown {
		proto += ", " + c.Direction.String()
	}
	if c.State.BeingClosed() {
		proto += ", closing (" + c.State.String() + ")"
	}
	add("protocol", proto)
	rule, _ := v.ruleOf(c)
	add("rule", rule)
	prog := program(c)
	if c.Process.PID != 0 && c.Process.Comm != "" {
		prog += fmt.Sprintf(", pid %d", c.Process.PID)
	}
	add("program", prog)
	add("exe", c.Process.Exe)
	add("container", c.Process.Container)
	add("agent", c.Agent)
	add("bytes", "↓ "+numbers.Bytes(c.Rx)+"  ↑ "+numbers.Bytes(c.Tx))
	if c.RTT > 0 {
		add("RTT", fmt.Sprintf("%.3g ms", float64(c.RTT)/1e6))
	}
	add("organisation", c.Org)
	if c.ASN != 0 {
		add("ASN", "AS"+strconv.FormatUint(uint64(c.ASN), 10))
	}
	add("place", placeText(c))
	if c.Scope == live.Internet && c.Place.Precision != geoip.Unknown {
		level := ""
		switch {
		case c.Unsure:
			level = ", precision not recorded"
		case c.Place.Precision == geoip.Country:
			level = ", country level"
		case c.Place.Precision == geoip.Region:
			level = ", region level"
		}
		if c.Place.Radius > 0 {
			level += fmt.Sprintf(", within %d km", c.Place.Radius)
		}
		add("coordinates", fmt.Sprintf("%.4f, %.4f%s", c.Place.Lat, c.Place.Lon, level))
	}
	if c.Opened != 0 {
		s := c.Opened.Time().In(v.now.Location()).Format(history.LocalTime)
		if !p.open && c.ID != 0 {
			s += ", closed"
		}
		add("opened", s)
	}
	switch {
	case p.waiting:
		add("first seen", v.pendingText())
	case p.first.Problem != "":
		add("first seen", p.first.Problem)
	case p.first.Seen.IsZero():
		add("first seen", "not in the history")
	default:
		add("first seen", p.first.Seen.In(v.now.Location()).Format(history.LocalTime))
		add("count", numbers.Thousands(p.first.Count)+" openings by this program")
	}
	return list
}

func (p *detailsPanel) Layout(v *View, b ui.Box) {
	p.lines, p.box = p.fields(v), b
	p.shown = max(0, min(len(p.lines), int((b.H-footHeight+6)/detailRow)))
	labels := []string{"Whois", "Copy", "Previous", "Next"}
	if len(p.conns) == 1 {
		labels = labels[:2]
	}
	p.buttons.Layout(&v.canvas, foot(b), labels...)
}

// nameSources say how a name was learnt.
var nameSources = [...]string{
	conntrack.NameDNS: "by DNS", conntrack.NameSNI: "by TLS", conntrack.NameQUIC: "by QUIC", conntrack.NameHTTP: "by HTTP",
	conntrack.NameHost: "by DNS of another program",
}

// row is where a line is.
func (p *detailsPanel) row(i int) ui.Box {
	return ui.At(p.box.X-4, p.box.Y+float64(i)*detailRow, p.box.W+8, detailRow)
}

func (p *detailsPanel) Mouse(v *View, m ui.Mouse) {
	for i, f := range p.lines[:p.shown] {
		if m.Clicked(p.row(i)) {
			v.ask(Copy{Text: f[1]})
		}
	}
	switch p.buttons.Mouse(m) {
	case "Whois":
		v.openReport(p.conns[p.at])
	case "Copy":
		p.copy(v)
	case "Previous":
		p.turn(v, -1)
	case "Next":
		p.turn(v, 1)
	}
}

func (p *detailsPanel) Draw(v *View, c *ui.Canvas, b ui.Box) {
	t := v.theme
	for i, f := range p.lines[:p.shown] {
		row := p.row(i)
		c.Highlight(row)
		font := typeface.Regular
		if f[0] == "address" || f[0] == "ports" || f[0] == "local" || f[0] == "coordinates" {
			font = typeface.Mono
		}
		c.Text(b.X, row.Y+14, typeface.Regular, 12, t.Dim, c.Elide(typeface.Regular, 12, f[0], 84))
		c.Text(b.X+92, row.Y+14, font, 12.5, t.Text, c.Elide(font, 12.5, f[1], b.W-94))
	}
	p.buttons.Draw(c)
}

func (p *detailsPanel) copy(v *View) {
	s := ""
	for _, f := range p.fields(v) {
		s += f[0] + "\t" + ui.OneLine(f[1]) + "\n"
	}
	v.ask(Copy{Text: s})
}

func (p *detailsPanel) Key(v *View, k ui.Key) bool {
	switch k {
	case ui.KeyEnter:
		v.openReport(p.conns[p.at])
	case ui.KeyLeft:
		p.turn(v, -1)
	case ui.KeyRight:
		p.turn(v, 1)
	case ui.Ctrl | 'c', ui.Ctrl | 'a':
		p.copy(v)
	default:
		return false
	}
	return true
}
