package mapview

import (
	"fmt"
	"image/color"
	"strconv"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

// agentsPanel lists the agents, and shows or hides their connections.
type agentsPanel struct {
	scroller
	hidden  map[string]bool // by name
	changed int             // grows with hidden
	why     []string        // hosts see less, of whyOf
	whyOf   struct {
		st *live.State
		w  float64
	}
}

const (
	agentRowHeight = 24
	agentHead      = 22 // above the rows
	agentFoot      = 20 // below
	agentWidth     = 780
	mostReasons    = 30
)

// toggle shows or hides the connections of an agent.
func (p *agentsPanel) toggle(name string) {
	if p.hidden == nil {
		p.hidden = make(map[string]bool)
	}
	p.hidden[name] = !p.hidden[name]
	if !p.hidden[name] {
		delete(p.hidden, name)
	}
	p.changed++
}

func (*agentsPanel) name() string { return "hosts" }

func (p *agentsPanel) title(v *View) string {
	title := plural(len(v.st.Agents), "host")
	if n := len(p.hidden); n > 0 {
		title += fmt.Sprintf(", %d hidden", n)
	}
	return title
}

func (p *agentsPanel) size(v *View) (w, h float64) {
	n := min(max(len(v.st.Agents)+len(p.reasons(v, agentWidth)), 1), 20)
	return agentWidth, float64(n)*agentRowHeight + agentHead + agentFoot
}

func (p *agentsPanel) key(v *View, k ui.Key) bool {
	return (k == ui.KeyUp || k == ui.KeyDown || k == ui.KeyPageUp || k == ui.KeyPageDown || k == ui.KeyHome || k == ui.KeyEnd) && p.keys(k, 15)
}

// agentColumns are the columns of the panel: titles, and where they begin or, if
// negative, how far from the right edge they end.
var agentColumns = [...]struct {
	title string
	x     float64
}{
	{"host", 22}, {"address", 196}, {"link", 344}, {"since", 378}, {"capture", 506}, {"connections", -66}, {"lost", -14},
}

func agentCells(a *live.Agent, now time.Time) [len(agentColumns)]string {
	addr, id := a.Addr, strconv.FormatUint(a.ID, 10)
	if a.ID == 0 {
		addr, id = "this machine", ""
	}
	since := ""
	if !a.Since.IsZero() {
		since = sinceText(a.Since, now)
	}
	capture := a.Backend
	if a.Limited != "" {
		capture += ", limited"
	}
	return [...]string{a.Name, addr, id, since, capture, strconv.Itoa(a.Conns), strconv.FormatUint(a.Lost, 10)}
}

func (p *agentsPanel) show(v *View, b ui.Box) {
	c, t, list := &v.canvas, v.theme, v.st.Agents
	cell := func(i int, y float64, s string, size float64, col color.NRGBA) {
		const counts = 150 // room of the columns at the right
		at := agentColumns[i].x
		if at < 0 {
			c.TextRight(b.X+b.W+at, y, typeface.Regular, size, col, s)
			return
		}
		end := b.W - counts
		if next := agentColumns[i+1].x; next > 0 {
			end = min(next, end)
		}
		if room := end - at - 8; room > 10 {
			c.Text(b.X+at, y, typeface.Regular, size, col, c.Elide(typeface.Regular, size, s, room))
		}
	}
	for i, col := range agentColumns {
		cell(i, b.Y+12, col.title, 11.5, t.Dim)
	}
	rows := ui.At(b.X-6, b.Y+agentHead, b.W+12, b.H-agentHead-agentFoot)
	why := p.reasons(v, b.W)
	n := p.scroller.show(v, rows, len(list)+len(why), agentRowHeight)
	y := rows.Y
	for i := p.top; i < p.top+n; i++ {
		if i >= len(list) {
			c.Text(b.X+2, y+16, typeface.Regular, 12.5, t.Dim, why[i-len(list)])
			y += agentRowHeight
			continue
		}
		a := &list[i]
		row := ui.At(rows.X, y, rows.W-barWidth, agentRowHeight)
		if v.hot(row) {
			c.Rect(row, 4, t.Edge)
			if v.in.Press {
				p.toggle(a.Name)
				v.again = true
			}
		}
		text := t.Text
		if p.hidden[a.Name] {
			text = t.Dim
		} else {
			c.Disc(b.X+8, y+12, 3.2, t.Accent)
		}
		c.Ring(b.X+8, y+12, 4.5, 1.4, t.Accent)
		for k, s := range agentCells(a, v.now) {
			cell(k, y+16, s, 12.5, text)
		}
		y += agentRowHeight
	}
	if rows.H < agentRowHeight {
		return
	}
	hint := "A click shows or hides a host's connections."
	c.Text(b.X+2, b.Y+b.H-2, typeface.Regular, 12, t.Dim, c.Elide(typeface.Regular, 12, hint, b.W-4))
}

// reasons are the lines that say in full why hosts see less.
func (p *agentsPanel) reasons(v *View, w float64) []string {
	of := p.whyOf
	of.st, of.w = v.st, w
	if of == p.whyOf {
		return p.why
	}
	p.whyOf, p.why = of, nil
	hosts := map[string][]string{}
	var order []string
	for i := range v.st.Agents {
		a := &v.st.Agents[i]
		if a.Limited == "" {
			continue
		}
		if hosts[a.Limited] == nil {
			if len(order) == mostReasons {
				continue
			}
			order = append(order, a.Limited)
		}
		hosts[a.Limited] = append(hosts[a.Limited], a.Name)
	}
	for _, why := range order {
		who := hosts[why][0]
		if n := len(hosts[why]) - 1; n > 0 {
			who += fmt.Sprintf(" and %s", plural(n, "other host"))
		}
		p.why = append(p.why, v.canvas.Wrap(typeface.Regular, 12.5, who+" sees less: "+why, w-barWidth-8, 6)...)
	}
	return p.why
}
