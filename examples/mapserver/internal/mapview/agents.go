package mapview

import (
	"cmp"
	"fmt"
	"image/color"
	"strconv"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/internal/numbers"
)

const agentsName = "agents"

// agentsPanel lists the agents, and shows or hides their connections.
type agentsPanel struct {
	tablePanel
	rows    agentRows
	hidden  map[string]bool // by name
	version int             // grows with hidden

	text    ui.Lines // why agents see less
	reasons []string // in lines
	made    struct {
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
var agentColumns = []ui.Column{
	{Title: "", Link: true}, {Title: "agent", Link: true}, {Title: "address", Mono: true}, {Title: "link", Right: true},
	{Title: "since"}, {Title: "capture"}, {Title: "connections", Right: true}, {Title: "lost", Right: true},
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
	p.version++
}

func (*agentsPanel) Name() string { return agentsName }

func (p *agentsPanel) Title(v *View) string {
	title := numbers.Count(len(v.st.Agents), "agent", "agents")
	if n := len(p.hidden); n > 0 {
		title += fmt.Sprintf(", %d hidden", n)
	}
	return title
}

func (p *agentsPanel) Size(v *View) (w, h float64) {
	p.update(v)
	n := min(max(p.rows.Len(), 1), 16)
	return agentWidth, ui.TableHead + float64(n)*ui.TableRow + footHeight + p.reasonsHeight(v, agentWidth, v.size.H)
}

// update takes in a new state.
func (p *agentsPanel) update(v *View) {
	p.table.Columns = agentColumns
	if p.rows.st == v.st || p.rows.st != nil && p.throttle.early(v) {
		return
	}
	p.throttle.ran(v)
	p.rows, p.table.Changed = agentRows{v: v, st: v.st, hidden: &p.hidden}, true
}

func (p *agentsPanel) Layout(v *View, b ui.Box) {
	p.update(v)
	foot, h := foot(b), p.reasonsHeight(v, b.W, b.H/2)
	p.table.Layout(&v.canvas, ui.At(b.X, b.Y, b.W, b.H-footHeight-h), p.rows)
	p.text.Font, p.text.Size, p.text.Row = typeface.Regular, 12.5, reasonRow
	p.text.Layout(ui.At(b.X, foot.Y-8-h, b.W, h), p.explain(v, b.W))
	p.buttons.Layout(&v.canvas, foot, "Show or hide", "Copy cell", "Copy row", "Copy all")
}

func (p *agentsPanel) Mouse(v *View, m ui.Mouse) {
	p.text.Mouse(m)
	row, col, label := p.mouse(v, m, p.rows)
	switch {
	case row >= 0 && col <= agentName:
		p.toggle(p.rows.agent(row).Name)
	case label == "Show or hide":
		p.toggleSelected(v)
	}
}

func (p *agentsPanel) Draw(v *View, c *ui.Canvas, b ui.Box) {
	p.draw(c, p.rows)
	p.text.Draw(c, func(string) color.NRGBA { return v.theme.Dim })
	const hint = "A click on a name, or Enter, shows or hides its connections."
	right := b.X + b.W
	c.TextRight(right-2, foot(b).Y+17, typeface.Regular, 12, v.theme.Dim, c.Elide(typeface.Regular, 12, hint, right-p.buttons.End()-4))
}

// toggleSelected shows or hides the connections of the agent at the cursor.
func (p *agentsPanel) toggleSelected(v *View) {
	if at := p.table.Selected(); at >= 0 {
		p.toggle(p.rows.agent(at).Name)
	} else {
		v.say("choose a row first")
	}
}

func (p *agentsPanel) Key(v *View, k ui.Key) bool {
	if p.rows.st == nil {
		p.update(v) // it was opened by the key before
	}
	if k == ui.KeyEnter && p.table.Selected() >= 0 {
		p.toggleSelected(v)
		return true
	}
	return v.tableKey(&p.table, k, p.rows)
}

// reasonsHeight is the room for the reasons: for all of them, or at most so much.
func (p *agentsPanel) reasonsHeight(v *View, w, limit float64) float64 {
	n := min(float64(len(p.explain(v, w))), max(float64(int(limit/reasonRow)), 1))
	if n == 0 {
		return 0
	}
	return n*reasonRow + 8
}

// explain returns the lines that say in full why agents see less.
func (p *agentsPanel) explain(v *View, w float64) []string {
	made := p.made
	made.st, made.w = v.st, w
	if made == p.made {
		return p.reasons
	}
	p.made, p.reasons = made, nil
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
		who, sees := names[reason][0], " sees less: "
		if n := len(names[reason]) - 1; n > 0 {
			who += fmt.Sprintf(" and %s", numbers.Count(n, "other agent", "other agents"))
			sees = " see less: "
		}
		p.reasons = append(p.reasons, v.canvas.Wrap(typeface.Regular, 12.5, who+sees+reason, w-ui.BarWidth-8, 6)...)
	}
	return p.reasons
}

// agentRows are the agents of a state.
type agentRows struct {
	v      *View
	st     *live.State
	hidden *map[string]bool
}

func (r agentRows) Len() int {
	if r.st == nil {
		return 0
	}
	return len(r.st.Agents)
}

func (r agentRows) agent(row int) *live.Agent { return &r.st.Agents[row] }

func (r agentRows) Key(row int) any {
	a := r.agent(row)
	return agentKey{a.ID, a.Name}
}

// An agentKey identifies an agent across states.
type agentKey struct {
	id   uint64
	name string
}

func (agentRows) Color(int) color.NRGBA { return color.NRGBA{} }

// Faded reports whether the connections of an agent are hidden.
func (r agentRows) Faded(row int) bool { return (*r.hidden)[r.agent(row).Name] }

func (r agentRows) Cell(row, col int) string {
	a := r.agent(row)
	switch col {
	case agentMark:
		if r.Faded(row) {
			return markPast
		}
		return markLive
	case agentName:
		return a.Name
	case agentAddress:
		if a.ID == 0 {
			return "this machine"
		}
		return a.Addr.String()
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

func (r agentRows) Compare(a, b, col int) int {
	x, y := r.agent(a), r.agent(b)
	switch col {
	case agentAddress:
		return x.Addr.Compare(y.Addr)
	case agentLink:
		return cmp.Compare(x.ID, y.ID)
	case agentSince:
		return x.Since.Compare(y.Since)
	case agentConns:
		return cmp.Compare(x.Conns, y.Conns)
	case agentLost:
		return cmp.Compare(x.Lost, y.Lost)
	}
	return cmp.Compare(r.Cell(a, col), r.Cell(b, col))
}
