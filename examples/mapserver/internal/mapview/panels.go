package mapview

import (
	"maps"
	"math"

	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

// A body is what a panel of the map shows.
type body = ui.Body[*View]

// A panel shows a body.
type panel = ui.Panel[*View]

// footHeight is the room below what a panel shows, for its buttons.
const footHeight = 38

// foot is where the buttons are.
func foot(b ui.Box) ui.Box { return ui.At(b.X, b.Y+b.H-24, b.W, 26) }

// A textPanel shows lines, and copies a text.
type textPanel struct {
	text    ui.Lines
	buttons ui.Buttons
	whole   string // what is copied
}

func (p *textPanel) layout(v *View, b ui.Box, lines []string, whole string) {
	p.whole = whole
	p.text.Layout(ui.At(b.X, b.Y, b.W, b.H-footHeight), lines)
	p.buttons.Layout(&v.canvas, foot(b), "Copy")
}

func (p *textPanel) Mouse(v *View, m ui.Mouse) {
	p.text.Mouse(m)
	if p.buttons.Mouse(m) == "Copy" {
		v.ask(Copy{Text: p.whole})
	}
}

func (p *textPanel) Key(v *View, k ui.Key) bool {
	if k == ui.Ctrl|'c' || k == ui.Ctrl|'a' {
		v.ask(Copy{Text: p.whole})
		return true
	}
	return p.text.Key(k)
}

// A tablePanel shows a table above a row of buttons. Some of them copy.
type tablePanel struct {
	table    ui.Table
	buttons  ui.Buttons
	throttle throttle // of its rows
}

// copyLabels are the buttons that copy a part of the table.
var copyLabels = map[string]ui.Part{"Copy cell": ui.Cell, "Copy row": ui.Row, "Copy all": ui.All}

// mouse returns the link in the table that is pressed, or -1, -1, and the button that is
// pressed, if that does not copy.
func (p *tablePanel) mouse(v *View, m ui.Mouse, r ui.Rows) (row, col int, label string) {
	row, col = p.table.Mouse(m, r)
	if p.table.Moves(m) {
		p.throttle.postpone(v)
	}
	label = p.buttons.Mouse(m)
	if part := copyLabels[label]; part != 0 {
		v.copyOf(&p.table, r, part)
	}
	return row, col, label
}

func (p *tablePanel) draw(c *ui.Canvas, r ui.Rows) {
	p.table.Draw(c, r)
	p.buttons.Draw(c)
}

// copyOf copies a part of a table.
func (v *View) copyOf(t *ui.Table, r ui.Rows, part ui.Part) {
	text, err := t.Text(r, part)
	if err != nil {
		v.say(err.Error())
		return
	}
	v.ask(Copy{Text: text})
}

// tableKey moves the cursor of a table, or copies.
func (v *View) tableKey(t *ui.Table, k ui.Key, r ui.Rows) bool {
	if part := ui.CopyKey(k); part != 0 && r.Len() > 0 {
		v.copyOf(t, r, part)
		return true
	}
	return t.Key(k, r)
}

// open shows a panel in front of all others, in place of one of its kind.
func (v *View) open(b body) {
	p := v.panels.Open(b)
	if at, ok := v.Panels[b.Name()]; ok && !p.Placed {
		p.Box, p.Placed, p.Sized = ui.At(at[0], at[1], at[2], at[3]), true, true
	}
}

// toggle opens a panel, or closes the one of its kind.
func (v *View) toggle(b body) {
	if p := v.panels.Find(b.Name()); p != nil {
		v.panels.Close(p)
		return
	}
	v.open(b)
}

// mousePanels hands the mouse to the panel under it, and reports whether there is one.
func (v *View) mousePanels(m ui.Mouse) bool {
	v.panels.Point(v, m, v.in.Inside)
	has := v.panels.Over != nil
	if m.Press {
		v.filter.editing = v.filter.editing && !has
	}
	if p := v.panels.Mouse(v, m, v.size); p != nil && p.Sized {
		// A copy, since settings are values.
		places := maps.Clone(v.Panels)
		if places == nil {
			places = make(map[string][4]float64)
		}
		places[p.Name()] = [4]float64{p.Box.X, p.Box.Y, p.Box.W, p.Box.H}
		v.Panels = places
	}
	return has
}

// layoutPanels places the panels. One that made way for plotted places goes back when they
// are gone.
func (v *View) layoutPanels() {
	if len(v.plots.list) == 0 {
		for _, p := range v.panels.List {
			p.GoBack()
		}
	}
	if v.panels.Find(curveName) == nil {
		v.curve.release()
	}
	v.panels.Layout(v, v.size)
}

const stripWidth, stripHeight = 310, ui.TitleHeight + 26 + ui.PanelAir

// makeWay moves a panel to where it covers none of some points of the map. If there is no
// such place, the panel becomes a strip.
func (v *View) makeWay(p *panel, points [][2]float64) {
	covers := func(b ui.Box) (n float64) {
		for _, q := range points {
			if b.Grow(plotRadius).Contains(q[0], q[1]) {
				n++
			}
		}
		return n
	}
	p.GoBack()
	if covers(p.Box) == 0 {
		return
	}
	upper := v.room.edge + 6
	if b := v.bar.box; b.W > 0 {
		upper = max(upper, b.Y+b.H+6)
	}
	// place puts a box of a size where it covers least.
	place := func(w, h float64) (best ui.Box, covered float64) {
		covered = math.Inf(1)
		low, right := max(v.size.H-34-h-upper, 0), max(v.size.W-16-w, 0)
		const steps = 10
		try := func(x, y float64) {
			b := ui.At(8+right*x/steps, upper+low*y/steps, w, h).Clamp(v.size.Grow(-4))
			n := covers(b)
			if b.Overlaps(v.legend.box) {
				n += 0.5 // rather that than a place
			}
			if n < covered {
				best, covered = b, n
			}
		}
		// The corners first, where it is the least in the way.
		for _, at := range [...][2]float64{{steps, 0}, {0, 0}, {steps, steps}, {2, steps}} {
			try(at[0], at[1])
		}
		for y := range steps + 1 {
			for x := range steps + 1 {
				try(float64(x), float64(y))
			}
		}
		return best, covered
	}
	b, n := place(p.Box.W, p.Box.H)
	strip := p.Full || n > 0
	if strip {
		b, _ = place(min(stripWidth, v.size.W-16), stripHeight)
	}
	p.MakeWay(b, strip)
}
