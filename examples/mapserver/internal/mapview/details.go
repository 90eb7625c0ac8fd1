package mapview

import (
	"fmt"
	"strconv"
	"time"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/history"
)

// A detailsPanel shows all that is known of the connections at a place, one at a time.
type detailsPanel struct {
	conns []*live.Conn
	at    int
	st    *live.State // that conns were looked for in
	open  bool        // the one that is shown is in st
	first First       // of the one that is shown
	ask   int         // number of the question for it
	asked bool        // and there is no answer yet
	due   time.Time   // when to ask; zero: it was asked
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
	p.close(v)
	n := len(p.conns)
	p.at = ((p.at+by)%n + n) % n
	p.first, p.asked, p.st, p.due = First{}, true, nil, v.now
	if by != 0 {
		p.due = v.now.Add(turnRest)
	}
	p.look(v)
}

// close drops the question of which nobody wants the answer any more.
func (p *detailsPanel) close(v *View) {
	if p.asked && p.due.IsZero() {
		v.ask(CancelQuery{Ask: p.ask})
	}
	p.asked = false
}

// turnRest is how long a connection must be shown before the history is asked: one may
// turn fast.
const turnRest = 150 * time.Millisecond

// look asks the history about the connection when it is time.
func (p *detailsPanel) look(v *View) {
	if p.due.IsZero() {
		return
	}
	if v.before(p.due, turnRest) {
		v.wake(p.due)
		return
	}
	p.due = time.Time{}
	c := p.conns[p.at]
	v.asks++
	p.ask = v.asks
	v.ask(FindFirst{Ask: p.ask, Peer: c.Peer.Addr(), Program: c.Process.Comm})
}

// First tells since when, and how often, a program's connections to an address were
// seen.
type First struct {
	Ask     int
	Seen    time.Time // zero: never before
	Count   int64
	Problem string // for people, why that is not known
}

func (a First) take(v *View) {
	if p := v.desk.find(detailsName); p != nil {
		if d := p.body.(*detailsPanel); d.asked && a.Ask == d.ask {
			d.first, d.asked = a, false
		}
	}
}

const detailsName = "details"

func (p *detailsPanel) name() string { return detailsName }

func (p *detailsPanel) title(v *View) string {
	p.update(v)
	s := peerText(p.conns[p.at])
	if len(p.conns) > 1 {
		s += fmt.Sprintf(" · %d of %d", p.at+1, len(p.conns))
	}
	return s
}

func (p *detailsPanel) size(v *View) (w, h float64) {
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
	add("host", c.Agent)
	add("bytes", "↓ "+bytesText(c.Rx)+"  ↑ "+bytesText(c.Tx))
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
		}
		add("coordinates", fmt.Sprintf("%.4f, %.4f%s", c.Place.Lat, c.Place.Lon, level))
	}
	if !c.Opened.IsZero() {
		s := c.Opened.In(v.now.Location()).Format(history.LocalTime)
		if !p.open && c.ID != 0 {
			s += ", closed"
		}
		add("opened", s)
	}
	switch {
	case p.asked:
		add("first seen", v.looking())
	case p.first.Problem != "":
		add("first seen", p.first.Problem)
	case p.first.Seen.IsZero():
		add("first seen", "not in the history")
	default:
		add("first seen", p.first.Seen.In(v.now.Location()).Format(history.LocalTime))
		add("count", thousands(p.first.Count)+" openings by this program")
	}
	return list
}

func (p *detailsPanel) show(v *View, b box) {
	p.look(v)
	c, t := &v.canvas, v.theme
	y := b.y
	for _, f := range p.fields(v) {
		row := box{b.x - 4, y, b.w + 8, detailRow}
		if row.y+row.h > b.y+b.h-footHeight+6 {
			break
		}
		if v.hot(row) {
			c.rect(row, 4, t.edge)
			if v.in.Press {
				v.ask(Copy{Text: f[1]})
			}
		}
		font := typeface.Regular
		if f[0] == "address" || f[0] == "ports" || f[0] == "local" || f[0] == "coordinates" {
			font = typeface.Mono
		}
		c.text(b.x, y+14, typeface.Regular, 12, t.dim, c.elide(typeface.Regular, 12, f[0], 84))
		c.text(b.x+92, y+14, font, 12.5, t.text, c.elide(font, 12.5, f[1], b.w-94))
		y += detailRow
	}
	labels := []string{"Whois", "Copy"}
	if len(p.conns) > 1 {
		labels = append(labels, "Previous", "Next")
	}
	switch pressed, _ := v.buttons(box{b.x, b.y + b.h - 24, b.w, 26}, labels...); pressed {
	case 0:
		v.openReport(p.conns[p.at])
	case 1:
		p.copy(v)
	case 2:
		p.turn(v, -1)
		v.again = true
	case 3:
		p.turn(v, 1)
		v.again = true
	}
}

func (p *detailsPanel) copy(v *View) {
	s := ""
	for _, f := range p.fields(v) {
		s += f[0] + "\t" + oneLine.Replace(f[1]) + "\n"
	}
	v.ask(Copy{Text: s})
}

func (p *detailsPanel) key(v *View, k Key) bool {
	switch k {
	case KeyEnter:
		v.openReport(p.conns[p.at])
	case KeyLeft:
		p.turn(v, -1)
	case KeyRight:
		p.turn(v, 1)
	case Ctrl | 'c', Ctrl | 'a':
		p.copy(v)
	default:
		return false
	}
	return true
}
