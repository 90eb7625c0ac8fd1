package mapview

import (
	"cmp"
	"fmt"
	"image/color"
	"net/netip"
	"strconv"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

// agentsPanel lists the agents, and shows or hides their connections.
type agentsPanel struct {
	table
	rows     agentRows
	throttle pace
	hidden   map[string]bool // by name
	changed  int             // grows with hidden

	reasons  []string // agents see less, of reasonsOf
	scroller scroller // of reasons
	of       struct {
		st *live.State
		w  float64
	}
}

const (
	agentWidth = 780
	reasonRow  = 18
	maxReasons = 30
)

// agentColumns are the columns of the panel. A click on the mark or the name shows or hides
// the connections of an agent.
var agentColumns = []column{
	{title: "", link: true}, {title: "host", link: true}, {title: "address", mono: true}, {title: "link", right: true},
	{title: "since"}, {title: "capture"}, {title: "connections", right: true}, {title: "lost", right: true},
}

const (
	agentMark = iota
	agentName
	agentAddress
	agentLink
	agentSince
	agentCapture
	agentConns
	agentLost
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
	p.update(v)
	n := min(max(p.rows.len(), 1), 16)
	return agentWidth, tableHead + float64(n)*tableRow + footHeight + p.reasonsHeight(v, agentWidth, v.size.H)
}

// update takes in a new state.
func (p *agentsPanel) update(v *View) {
	p.columns = agentColumns
	if p.rows.st == v.st || p.rows.st != nil && p.throttle.early(v) {
		return
	}
	p.throttle.made(v)
	p.rows, p.table.changed = agentRows{v: v, st: v.st, hidden: &p.hidden}, true
}

func (p *agentsPanel) show(v *View, b ui.Box) {
	p.update(v)
	foot := ui.At(b.X, b.Y+b.H-24, b.W, 26)
	h := p.reasonsHeight(v, b.W, b.H/2)
	if row, col := p.table.show(v, ui.At(b.X, b.Y, b.W, b.H-footHeight-h), p.rows); row >= 0 && col <= agentName {
		p.toggle(p.rows.agent(row).Name)
	}
	if v.in.Wheel != 0 || p.holding {
		p.throttle.rest(v)
	}
	p.showReasons(v, ui.At(b.X, foot.Y-8-h, b.W, h))
	pressed, x := v.buttons(foot, "Show or hide", "Copy cell", "Copy row", "Copy all")
	switch pressed {
	case 0:
		p.toggleSelected(v)
	case 1:
		p.copy(v, p.rows, copyCell)
	case 2:
		p.copy(v, p.rows, copyRow)
	case 3:
		p.copy(v, p.rows, copyAll)
	}
	const hint = "A click on a name, or Enter, shows or hides its connections."
	v.canvas.TextRight(b.X+b.W-2, foot.Y+17, typeface.Regular, 12, v.theme.Dim, v.canvas.Elide(typeface.Regular, 12, hint, b.X+b.W-x-4))
}

// toggleSelected shows or hides the connections of the agent at the cursor.
func (p *agentsPanel) toggleSelected(v *View) {
	if at := p.selected(); at >= 0 {
		p.toggle(p.rows.agent(at).Name)
		v.again = true
	} else {
		v.say("choose a row first")
	}
}

func (p *agentsPanel) key(v *View, k ui.Key) bool {
	p.update(v)
	if k == ui.KeyEnter && p.selected() >= 0 {
		p.toggleSelected(v)
		return true
	}
	return p.keys(v, k, p.rows)
}

// reasonsHeight is the room for the reasons: for all of them, or at most so much.
func (p *agentsPanel) reasonsHeight(v *View, w, most float64) float64 {
	n := min(float64(len(p.explain(v, w))), max(float64(int(most/reasonRow)), 1))
	if n == 0 {
		return 0
	}
	return n*reasonRow + 8
}

func (p *agentsPanel) showReasons(v *View, b ui.Box) {
	lines := p.explain(v, b.W)
	if len(lines) == 0 {
		return
	}
	n := p.scroller.show(v, b, len(lines), reasonRow)
	for i, s := range lines[p.scroller.top : p.scroller.top+n] {
		v.canvas.Text(b.X+2, b.Y+14+float64(i)*reasonRow, typeface.Regular, 12.5, v.theme.Dim, s)
	}
}

// explain returns the lines that say in full why agents see less.
func (p *agentsPanel) explain(v *View, w float64) []string {
	of := p.of
	of.st, of.w = v.st, w
	if of == p.of {
		return p.reasons
	}
	p.of, p.reasons = of, nil
	names := map[string][]string{} // by reason
	var order []string
	for i := range v.st.Agents {
		a := &v.st.Agents[i]
		if a.Limited == "" {
			continue
		}
		if names[a.Limited] == nil {
			if len(order) == maxReasons {
				continue
			}
			order = append(order, a.Limited)
		}
		names[a.Limited] = append(names[a.Limited], a.Name)
	}
	for _, reason := range order {
		who := names[reason][0]
		if n := len(names[reason]) - 1; n > 0 {
			who += fmt.Sprintf(" and %s", plural(n, "other host"))
		}
		p.reasons = append(p.reasons, v.canvas.Wrap(typeface.Regular, 12.5, who+" sees less: "+reason, w-barWidth-8, 6)...)
	}
	return p.reasons
}

// agentRows are the agents of a state.
type agentRows struct {
	v      *View
	st     *live.State
	hidden *map[string]bool
}

func (r agentRows) len() int {
	if r.st == nil {
		return 0
	}
	return len(r.st.Agents)
}

func (r agentRows) agent(row int) *live.Agent { return &r.st.Agents[row] }

func (r agentRows) key(row int) any {
	a := r.agent(row)
	return agentKey{a.ID, a.Name}
}

// An agentKey tells an agent in different states.
type agentKey struct {
	id   uint64
	name string
}

func (agentRows) color(int) color.NRGBA { return color.NRGBA{} }

// faded reports whether the connections of an agent are hidden.
func (r agentRows) faded(row int) bool { return (*r.hidden)[r.agent(row).Name] }

func (r agentRows) cell(row, col int) string {
	a := r.agent(row)
	switch col {
	case agentMark:
		if r.faded(row) {
			return markPast
		}
		return markLive
	case agentName:
		return a.Name
	case agentAddress:
		if a.ID == 0 {
			return "this machine"
		}
		return a.Addr
	case agentLink:
		if a.ID == 0 {
			return ""
		}
		return strconv.FormatUint(a.ID, 10)
	case agentSince:
		if a.Since.IsZero() {
			return ""
		}
		return sinceText(a.Since, r.v.now)
	case agentCapture:
		if a.Limited != "" {
			return a.Backend + ", limited"
		}
		return a.Backend
	case agentConns:
		return strconv.Itoa(a.Conns)
	case agentLost:
		return strconv.FormatUint(a.Lost, 10)
	}
	return ""
}

func (r agentRows) compare(a, b, col int) int {
	x, y := r.agent(a), r.agent(b)
	switch col {
	case agentAddress:
		p, _ := netip.ParseAddrPort(x.Addr)
		q, _ := netip.ParseAddrPort(y.Addr)
		return cmp.Or(p.Compare(q), cmp.Compare(x.Addr, y.Addr))
	case agentLink:
		return cmp.Compare(x.ID, y.ID)
	case agentSince:
		return x.Since.Compare(y.Since)
	case agentConns:
		return cmp.Compare(x.Conns, y.Conns)
	case agentLost:
		return cmp.Compare(x.Lost, y.Lost)
	}
	return cmp.Compare(r.cell(a, col), r.cell(b, col))
}
