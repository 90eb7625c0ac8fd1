package mapview

import (
	"maps"
	"math"
	"slices"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

const (
	titleHeight = 34
	panelAir    = 12 // inside of a panel
	gripReach   = 14 // of the corner that resizes
	leastWidth  = 220
	leastHeight = 110
)

// A body is what a panel shows. Bodies react to the mouse while they are drawn,
// as the user sees them.
type body interface {
	// name says which kind of panel it is. It is kept with the panel's place.
	name() string
	title(v *View) string
	// size returns how large the panel wants to be inside, as long as the user
	// has not said.
	size(v *View) (w, h float64)
	show(v *View, b ui.Box)
	// key takes in a key and reports whether it means something to the panel.
	key(v *View, k ui.Key) bool
}

// A panel is a window in the window.
type panel struct {
	body
	box    ui.Box
	placed bool   // has a place
	sized  bool   // has a size of the user's
	full   bool   // is as large as the window
	before ui.Box // it was
	aside  *aside // it makes way for what is on the map
}

// A desk holds the panels that are open.
type desk struct {
	panels []*panel // the front one last
	focus  *panel   // takes keys; nil: the map
	over   *panel   // under the mouse, or holding it since a press
	shown  *panel   // is being drawn
	held   bool     // over has the mouse until the button is up
	move   bool     // the panel follows the mouse
	resize bool     // its corner does
	grab   [2]float64
}

// find returns the panel of a kind, or nil.
func (d *desk) find(name string) *panel {
	for _, p := range d.panels {
		if p.name() == name {
			return p
		}
	}
	return nil
}

// open shows a panel in front of all others, in place of one of its kind.
func (v *View) open(b body) {
	d := &v.desk
	v.again = d.shown != nil || v.again // it is above what is being drawn
	p := d.find(b.name())
	if p == nil {
		p = &panel{}
		if at, ok := v.Panels[b.name()]; ok {
			p.box, p.placed, p.sized = ui.At(at[0], at[1], at[2], at[3]), true, true
		}
	}
	if c, ok := p.body.(closer); ok && p.body != b {
		c.close(v)
	}
	p.body = b
	d.raise(p)
}

// toggle opens a panel, or closes the one of its kind, and reports which.
func (v *View) toggle(b body) bool {
	if p := v.desk.find(b.name()); p != nil {
		v.closePanel(p)
		return false
	}
	v.open(b)
	return true
}

// raise brings a panel to the front, or adds it there.
func (d *desk) raise(p *panel) {
	d.panels = append(d.without(p), p)
	d.focus = p
}

// without returns a copy of the panels, since they may be being drawn.
func (d *desk) without(p *panel) []*panel {
	return slices.DeleteFunc(slices.Clone(d.panels), func(o *panel) bool { return o == p })
}

// A closer is a body that has something to do when it is closed, or another takes its place.
type closer interface{ close(v *View) }

func (v *View) closePanel(p *panel) {
	d := &v.desk
	if c, ok := p.body.(closer); ok {
		c.close(v)
	}
	d.panels = d.without(p)
	d.focus, d.over = nil, nil
	if n := len(d.panels); n > 0 {
		d.focus = d.panels[n-1]
	}
	d.move, d.resize, d.held = false, false, false
	v.again = true
}

// at returns the front panel at a point, or nil.
func (d *desk) at(x, y float64) *panel {
	for i := len(d.panels) - 1; i >= 0; i-- {
		if d.panels[i].box.Contains(x, y) {
			return d.panels[i]
		}
	}
	return nil
}

// mouse moves, resizes and raises panels.
func (d *desk) mouse(v *View) {
	x, y := v.cursor()
	if !v.in.Held || v.in.Press {
		d.held, d.move, d.resize = false, false, false
	}
	if !d.held {
		d.over = nil
		if v.in.Inside {
			d.over = d.at(x, y)
		}
	}
	p := d.over
	if v.in.Press {
		d.focus = p
		v.filter.editing = v.filter.editing && p == nil
		if p == nil {
			return
		}
		d.raise(p)
		d.held = true
		switch b := p.box; {
		case p.full, p.aside != nil && p.aside.small && y >= b.Y+titleHeight:
		case x > b.X+b.W-gripReach && y > b.Y+b.H-gripReach:
			d.resize, d.grab = true, [2]float64{b.X + b.W - x, b.Y + b.H - y}
		case y < b.Y+titleHeight && !closeBox(b).Contains(x, y) && !fullBox(b).Contains(x, y):
			d.move, d.grab = true, [2]float64{x - b.X, y - b.Y}
		}
	}
	if p == nil {
		return
	}
	if (d.move || d.resize) && p.aside != nil && !p.aside.small {
		p.aside = nil // it is where the user wants it
	}
	switch {
	case d.move:
		p.box.X, p.box.Y = x-d.grab[0], y-d.grab[1]
	case d.resize:
		p.sized = true
		p.box.W = min(max(x+d.grab[0]-p.box.X, leastWidth), v.size.W-4-p.box.X)
		p.box.H = min(max(y+d.grab[1]-p.box.Y, leastHeight), v.size.H-4-p.box.Y)
	default:
		return
	}
	p.box = p.box.Clamp(v.size)
	if p.sized {
		places := maps.Clone(v.Panels)
		if places == nil {
			places = make(map[string][4]float64)
		}
		places[p.name()] = [4]float64{p.box.X, p.box.Y, p.box.W, p.box.H}
		v.Panels = places
	}
}

func closeBox(b ui.Box) ui.Box { return ui.At(b.X+b.W-31, b.Y+5, 24, 24) }
func fullBox(b ui.Box) ui.Box  { return ui.At(b.X+b.W-57, b.Y+5, 24, 24) }

// An aside is how a panel was before it made way.
type aside struct {
	box   ui.Box
	full  bool
	small bool // it is but a strip of buttons for now
}

// back puts a panel where it was before it made way.
func (p *panel) back() {
	if p.aside != nil {
		p.box, p.full, p.aside = p.aside.box, p.aside.full, nil
	}
}

const stripWidth, stripHeight = 310, titleHeight + 26 + panelAir

// makeWay moves a panel off points of the map, or makes it a strip if it covers some
// wherever it is.
func (v *View) makeWay(p *panel, points [][2]float64) {
	covers := func(b ui.Box) (n float64) {
		for _, q := range points {
			if b.Grow(plotRadius).Contains(q[0], q[1]) {
				n++
			}
		}
		return n
	}
	p.back()
	if covers(p.box) == 0 {
		return
	}
	old := aside{box: p.box, full: p.full}
	upper := v.edge + 6
	if b := v.bar.box; b.W > 0 {
		upper = max(upper, b.Y+b.H+6)
	}
	// place puts a box of a size where it covers least.
	place := func(w, h float64) (best ui.Box, least float64) {
		least = math.Inf(1)
		low, right := max(v.size.H-34-h-upper, 0), max(v.size.W-16-w, 0)
		const steps = 10
		try := func(x, y float64) {
			b := ui.At(8+right*x/steps, upper+low*y/steps, w, h).Clamp(v.size.Grow(-4))
			n := covers(b)
			if b.Overlaps(v.legend.box) {
				n += 0.5 // rather that than a place
			}
			if n < least {
				best, least = b, n
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
		return best, least
	}
	b, n := place(p.box.W, p.box.H)
	if p.full || n > 0 {
		b, _ = place(min(stripWidth, v.size.W-16), stripHeight)
		old.small = true
	}
	p.box, p.full, p.aside = b, false, &old
	v.again = true
}

// fill makes a panel as large as the window, or as it was before.
func (v *View) fill(p *panel) {
	if p.full {
		p.box = p.before
	} else {
		p.before = p.box
	}
	p.full = !p.full
	v.again = true
}

// layout gives panels their place and size.
func (v *View) layout(p *panel) {
	room := v.size.Grow(-4)
	if p.aside != nil && len(v.plots.list) == 0 {
		p.back()
	}
	if p.aside != nil {
		p.box = p.box.Clamp(room)
		return
	}
	if p.full {
		p.box = room
		return
	}
	if !p.sized {
		w, h := p.size(v)
		p.box.W, p.box.H = w+2*panelAir, h+titleHeight+panelAir
	}
	// Also if what was remembered is no number.
	p.box.W, p.box.H = min(max(p.box.W, leastWidth), room.W), min(max(p.box.H, leastHeight), room.H)
	if !p.placed {
		p.box.X, p.box.Y = (v.size.W-p.box.W)/2, (v.size.H-p.box.H)/2
		// Not just over another one.
		for _, o := range v.desk.panels {
			if o != p && o.placed && o.box.X == p.box.X {
				p.box.X, p.box.Y = o.box.X+24, o.box.Y+24
			}
		}
		p.placed = true
	}
	p.box = p.box.Clamp(room)
}

func (v *View) drawPanels() {
	c, t, d := &v.canvas, v.theme, &v.desk
	for _, p := range d.panels {
		v.layout(p)
		b := p.box
		v.taken = append(v.taken, b)
		d.shown = p
		c.Rect(b, 6, ui.Opaque(t.Panel)) // text below would show through text
		c.Frame(b, 6, 1, t.Edge)
		title := t.Dim
		if d.focus == p {
			title = t.Text
		}
		c.Text(b.X+panelAir+2, b.Y+22.5, typeface.Bold, 13, title, c.Elide(typeface.Bold, 13, p.title(v), b.W-86))
		inner := ui.At(b.X+panelAir, b.Y+titleHeight, b.W-2*panelAir, b.H-titleHeight-panelAir)
		if inner.W > 20 && inner.H > 10 {
			p.show(v, inner)
		}
		x := closeBox(b)
		if v.hot(x) {
			c.Rect(x, 4, t.Edge)
			if v.in.Press {
				v.closePanel(p)
			}
		}
		c.Cross(x.X+12, x.Y+12, 4, 1.4, t.Dim)
		if p.aside != nil {
			continue
		}
		x = fullBox(b)
		if v.hot(x) {
			c.Rect(x, 4, t.Edge)
			if v.in.Press {
				v.fill(p)
			}
		}
		c.Frame(ui.At(x.X+7.5, x.Y+7.5, 9, 9), 1, 1.3, t.Dim)
		if p.full {
			c.Frame(ui.At(x.X+9.5, x.Y+9.5, 5, 5), 1, 1.1, t.Dim)
		}
		for i := range 2 {
			if p.full || p.aside != nil {
				break
			}
			by := float64(4 + 4*i)
			c.Line(b.X+b.W-3-by, b.Y+b.H-3, b.X+b.W-3, b.Y+b.H-3-by, 1, t.Edge)
		}
	}
	d.shown = nil
}

// hot reports whether the mouse is over a part of what is being drawn: of a
// panel, or of the map.
func (v *View) hot(b ui.Box) bool {
	d := &v.desk
	x, y := v.cursor()
	return v.in.Inside && d.over == d.shown && !d.move && !d.resize && b.Contains(x, y)
}

// clicked reports whether a part of what is being drawn is pressed.
func (v *View) clicked(b ui.Box) bool { return v.in.Press && v.hot(b) }

// focused reports whether keys go to what is being drawn.
func (v *View) focused() bool { return v.desk.shown != nil && v.desk.focus == v.desk.shown }
