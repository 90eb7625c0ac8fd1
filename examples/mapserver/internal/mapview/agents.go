package mapview

import (
	"fmt"
	"strconv"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
)

// agentsPanel lists the agents, and shows or hides their connections.
type agentsPanel struct {
	open    bool
	top     int // first row shown
	rows    []agentRow
	box     box
	hidden  map[string]bool // by name
	changed int             // grows with hidden
}

type agentRow struct {
	box
	name string
}

const agentRowHeight = 24

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

// mouse takes in the mouse over the panel, as it was drawn last.
func (p *agentsPanel) mouse(v *View) {
	x, y := v.cursor()
	if !p.open || !v.in.Inside || v.help || !p.box.contains(x, y) {
		return
	}
	if v.in.Wheel > 0 {
		p.top -= 3
	} else if v.in.Wheel < 0 {
		p.top += 3
	}
	if v.in.Press {
		for _, r := range p.rows {
			if r.contains(x, y) {
				p.toggle(r.name)
			}
		}
	}
}

// agentColumns are the columns of the panel: titles, and where they begin or, if
// negative, how far from the right edge they end.
var agentColumns = [...]struct {
	title string
	x     float64
}{
	{"host", 34}, {"address", 230}, {"link", 378}, {"since", 412}, {"capture", 510}, {"connections", -66}, {"lost", -14},
}

func agentCells(a *live.Agent, now time.Time) [len(agentColumns)]string {
	addr, id := a.Addr, strconv.FormatUint(a.ID, 10)
	if a.ID == 0 {
		addr, id = "this machine", ""
	}
	since := ""
	if !a.Since.IsZero() {
		layout := "15:04:05"
		if now.Sub(a.Since) > 20*time.Hour {
			layout = "2 Jan 15:04"
		}
		since = a.Since.In(now.Location()).Format(layout)
	}
	return [...]string{a.Name, addr, id, since, a.Backend, strconv.Itoa(a.Conns), strconv.FormatUint(a.Lost, 10)}
}

func (v *View) drawAgents() {
	c, t, p := &v.canvas, v.theme, &v.panel
	list := v.st.Agents
	w := min(720, v.size.w-16)
	most := max(1, int((v.size.h-100)/agentRowHeight))
	p.top = max(0, min(p.top, len(list)-most))
	shown := min(most, len(list)-p.top)
	h := float64(max(shown, 1))*agentRowHeight + 84
	p.box = box{(v.size.w - w) / 2, (v.size.h - h) / 2, w, h}.clamp(v.size.grow(-4))
	b := p.box
	p.rows = p.rows[:0]
	v.taken = append(v.taken, b)
	c.panel(b, t)
	title := plural(len(list), "host")
	if n := len(p.hidden); n > 0 {
		title += fmt.Sprintf(", %d hidden", n)
	}
	c.text(b.x+14, b.y+25, typeface.Bold, 13, t.text, title)
	cell := func(i int, y float64, s string, size float64, bright bool) {
		col := agentColumns[i]
		colour := t.text
		if !bright {
			colour = t.dim
		}
		if col.x < 0 {
			c.textRight(b.x+b.w+col.x, y, typeface.Regular, size, colour, s)
			return
		}
		end := b.w - 150
		if i+1 < len(agentColumns) && agentColumns[i+1].x > 0 {
			end = agentColumns[i+1].x
		}
		if room := min(end, b.w-150) - col.x - 8; room > 10 {
			c.text(b.x+col.x, y, typeface.Regular, size, colour, c.elide(typeface.Regular, size, s, room))
		}
	}
	for i, col := range agentColumns {
		cell(i, b.y+46, col.title, 11.5, false)
	}
	y := b.y + 54.0
	mx, my := v.cursor()
	for i := p.top; i < p.top+shown; i++ {
		a := &list[i]
		row := agentRow{box{b.x + 6, y, b.w - 12, agentRowHeight}, a.Name}
		p.rows = append(p.rows, row)
		if v.in.Inside && row.contains(mx, my) {
			c.rect(row.box, 4, t.edge)
		}
		hidden := p.hidden[a.Name]
		c.ring(b.x+20, y+12, 4.5, 1.4, t.accent)
		if !hidden {
			c.disc(b.x+20, y+12, 3.2, t.accent)
		}
		for k, s := range agentCells(a, v.now) {
			cell(k, y+16, s, 12.5, !hidden)
		}
		y += agentRowHeight
	}
	hint := "A click shows or hides a host's connections. i closes."
	if len(list) > shown {
		hint = fmt.Sprintf("%d to %d; the wheel goes on. ", p.top+1, p.top+shown) + hint
	}
	c.text(b.x+14, b.y+b.h-12, typeface.Regular, 12, t.dim, c.elide(typeface.Regular, 12, hint, b.w-28))
}
