package mapview

import (
	"maps"
	"math"
	"slices"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
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
	show(v *View, b box)
	// key takes in a key and reports whether it means something to the panel.
	key(v *View, k Key) bool
}

// A panel is a window in the window.
type panel struct {
	body
	box    box
	placed bool   // has a place
	sized  bool   // has a size of the user's
	full   bool   // is as large as the window
	before box    // it was
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
			p.box, p.placed, p.sized = box{at[0], at[1], at[2], at[3]}, true, true
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
		if d.panels[i].box.contains(x, y) {
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
		case p.full, p.aside != nil && p.aside.small && y >= b.y+titleHeight:
		case x > b.x+b.w-gripReach && y > b.y+b.h-gripReach:
			d.resize, d.grab = true, [2]float64{b.x + b.w - x, b.y + b.h - y}
		case y < b.y+titleHeight && !closeBox(b).contains(x, y) && !fullBox(b).contains(x, y):
			d.move, d.grab = true, [2]float64{x - b.x, y - b.y}
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
		p.box.x, p.box.y = x-d.grab[0], y-d.grab[1]
	case d.resize:
		p.sized = true
		p.box.w = min(max(x+d.grab[0]-p.box.x, leastWidth), v.size.w-4-p.box.x)
		p.box.h = min(max(y+d.grab[1]-p.box.y, leastHeight), v.size.h-4-p.box.y)
	default:
		return
	}
	p.box = p.box.clamp(v.size)
	if p.sized {
		places := maps.Clone(v.Panels)
		if places == nil {
			places = make(map[string][4]float64)
		}
		places[p.name()] = [4]float64{p.box.x, p.box.y, p.box.w, p.box.h}
		v.Panels = places
	}
}

func closeBox(b box) box { return box{b.x + b.w - 31, b.y + 5, 24, 24} }
func fullBox(b box) box  { return box{b.x + b.w - 57, b.y + 5, 24, 24} }

// An aside is how a panel was before it made way.
type aside struct {
	box   box
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
	covers := func(b box) (n float64) {
		for _, q := range points {
			if b.grow(plotRadius).contains(q[0], q[1]) {
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
	if b := v.bar.box; b.w > 0 {
		upper = max(upper, b.y+b.h+6)
	}
	// place puts a box of a size where it covers least.
	place := func(w, h float64) (best box, least float64) {
		least = math.Inf(1)
		low, right := max(v.size.h-34-h-upper, 0), max(v.size.w-16-w, 0)
		const steps = 10
		try := func(x, y float64) {
			b := box{8 + right*x/steps, upper + low*y/steps, w, h}.clamp(v.size.grow(-4))
			n := covers(b)
			if b.overlaps(v.legend.box) {
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
	b, n := place(p.box.w, p.box.h)
	if p.full || n > 0 {
		b, _ = place(min(stripWidth, v.size.w-16), stripHeight)
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
	room := v.size.grow(-4)
	if p.aside != nil && len(v.plots.list) == 0 {
		p.back()
	}
	if p.aside != nil {
		p.box = p.box.clamp(room)
		return
	}
	if p.full {
		p.box = room
		return
	}
	if !p.sized {
		w, h := p.size(v)
		p.box.w, p.box.h = w+2*panelAir, h+titleHeight+panelAir
	}
	// Also if what was remembered is no number.
	p.box.w, p.box.h = min(max(p.box.w, leastWidth), room.w), min(max(p.box.h, leastHeight), room.h)
	if !p.placed {
		p.box.x, p.box.y = (v.size.w-p.box.w)/2, (v.size.h-p.box.h)/2
		// Not just over another one.
		for _, o := range v.desk.panels {
			if o != p && o.placed && o.box.x == p.box.x {
				p.box.x, p.box.y = o.box.x+24, o.box.y+24
			}
		}
		p.placed = true
	}
	p.box = p.box.clamp(room)
}

func (v *View) drawPanels() {
	c, t, d := &v.canvas, v.theme, &v.desk
	for _, p := range d.panels {
		v.layout(p)
		b := p.box
		v.taken = append(v.taken, b)
		d.shown = p
		c.rect(b, 6, opaque(t.panel)) // text below would show through text
		c.frame(b, 6, 1, t.edge)
		title := t.dim
		if d.focus == p {
			title = t.text
		}
		c.text(b.x+panelAir+2, b.y+22.5, typeface.Bold, 13, title, c.elide(typeface.Bold, 13, p.title(v), b.w-86))
		inner := box{b.x + panelAir, b.y + titleHeight, b.w - 2*panelAir, b.h - titleHeight - panelAir}
		if inner.w > 20 && inner.h > 10 {
			p.show(v, inner)
		}
		x := closeBox(b)
		if v.hot(x) {
			c.rect(x, 4, t.edge)
			if v.in.Press {
				v.closePanel(p)
			}
		}
		c.cross(x.x+12, x.y+12, 4, 1.4, t.dim)
		if p.aside != nil {
			continue
		}
		x = fullBox(b)
		if v.hot(x) {
			c.rect(x, 4, t.edge)
			if v.in.Press {
				v.fill(p)
			}
		}
		c.frame(box{x.x + 7.5, x.y + 7.5, 9, 9}, 1, 1.3, t.dim)
		if p.full {
			c.frame(box{x.x + 9.5, x.y + 9.5, 5, 5}, 1, 1.1, t.dim)
		}
		for i := range 2 {
			if p.full || p.aside != nil {
				break
			}
			by := float64(4 + 4*i)
			c.line(b.x+b.w-3-by, b.y+b.h-3, b.x+b.w-3, b.y+b.h-3-by, 1, t.edge)
		}
	}
	d.shown = nil
}

// hot reports whether the mouse is over a part of what is being drawn: of a
// panel, or of the map.
func (v *View) hot(b box) bool {
	d := &v.desk
	x, y := v.cursor()
	return v.in.Inside && d.over == d.shown && !d.move && !d.resize && b.contains(x, y)
}

// clicked reports whether a part of what is being drawn is pressed.
func (v *View) clicked(b box) bool { return v.in.Press && v.hot(b) }

// focused reports whether keys go to what is being drawn.
func (v *View) focused() bool { return v.desk.shown != nil && v.desk.focus == v.desk.shown }
