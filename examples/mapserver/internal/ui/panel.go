package ui

import (
	"slices"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
)

// Measures of panels.
const (
	TitleHeight = 34
	PanelAir    = 12 // inside of a panel
	MinWidth    = 220
	MinHeight   = 110
	gripReach   = 14 // of the corner that resizes
	panelEdge   = 4  // between a panel and the edge of the window
)

// A Body is what a panel shows. V is what it shows something of. In a frame, Mouse and Key
// change it, Layout gives it its place, and Draw only reads. The key that opens a panel reaches
// its Key before Size and Layout: a Body that needs what v is takes it in there too.
type Body[V any] interface {
	// Name says which kind of panel it is. It is kept with the panel's place.
	Name() string
	Title(v V) string
	// Size takes in what v is now, and returns how large the panel wants to be inside. It is
	// not called for one that the user has resized.
	Size(v V) (w, h float64)
	// Layout takes in what v is now. b is where the body is drawn.
	Layout(v V, b Box)
	// Mouse takes in what the mouse did over the panel, as it was laid out last, or since
	// a button went down on it.
	Mouse(v V, m Mouse)
	Draw(v V, c *Canvas, b Box)
	// Key takes in a key and reports whether it means something to the panel.
	Key(v V, k Key) bool
}

// A Panel is a window in the window.
type Panel[V any] struct {
	Body[V]
	Box    Box
	Placed bool // has a place
	Sized  bool // has a size of the user's
	Full   bool // is as large as the window
	// Aside, if not nil, is how the panel was before it made way for something.
	Aside  *Aside
	before Box // it was full
}

// An Aside is how a panel was before it made way.
type Aside struct {
	Box   Box
	Full  bool
	Strip bool // the panel is but a strip of buttons for now
}

// MakeWay has a panel stand elsewhere until GoBack.
func (p *Panel[V]) MakeWay(to Box, strip bool) {
	p.Box, p.Full, p.Aside = to, false, &Aside{Box: p.Box, Full: p.Full, Strip: strip}
}

// GoBack puts a panel where it was before it made way.
func (p *Panel[V]) GoBack() {
	if p.Aside != nil {
		p.Box, p.Full, p.Aside = p.Aside.Box, p.Aside.Full, nil
	}
}

// Fill makes a panel as large as the window, or as it was before.
func (p *Panel[V]) Fill() {
	if p.Full {
		p.Box = p.before
	} else {
		p.before = p.Box
	}
	p.Full = !p.Full
}

// CloseBox is where the cross is.
func (p *Panel[V]) CloseBox() Box { return At(p.Box.X+p.Box.W-31, p.Box.Y+5, 24, 24) }

// FillBox is where the square is that makes the panel as large as the window.
func (p *Panel[V]) FillBox() Box { return At(p.Box.X+p.Box.W-57, p.Box.Y+5, 24, 24) }
func (p *Panel[V]) grip() Box {
	return At(p.Box.X+p.Box.W-gripReach, p.Box.Y+p.Box.H-gripReach, gripReach, gripReach)
}

// inner is where the body is, and whether it has room.
func (p *Panel[V]) inner() (Box, bool) {
	b := p.Box
	in := At(b.X+PanelAir, b.Y+TitleHeight, b.W-2*PanelAir, b.H-TitleHeight-PanelAir)
	return in, in.W > 20 && in.H > 10
}

// Panels are the panels that are open. The zero Panels has none.
type Panels[V any] struct {
	List  []*Panel[V] // the front one last
	Focus *Panel[V]   // takes keys; nil: none does
	Over  *Panel[V]   // under the mouse, or holding it since a press

	held   bool // Over has the mouse until the button is up
	move   bool // Over follows the mouse
	resize bool // its corner does
	grab   [2]float64
}

// Find returns the panel of a kind, or nil.
func (d *Panels[V]) Find(name string) *Panel[V] {
	for _, p := range d.List {
		if p.Name() == name {
			return p
		}
	}
	return nil
}

// Open shows a body in front of all others, in place of one of its kind.
func (d *Panels[V]) Open(b Body[V]) *Panel[V] {
	p := d.Find(b.Name())
	if p == nil {
		p = &Panel[V]{}
	}
	p.Body = b
	d.raise(p)
	return p
}

// raise brings a panel to the front, or adds it there.
func (d *Panels[V]) raise(p *Panel[V]) {
	d.remove(p)
	d.List = append(d.List, p)
	d.Focus = p
}

func (d *Panels[V]) remove(p *Panel[V]) {
	d.List = slices.DeleteFunc(d.List, func(o *Panel[V]) bool { return o == p })
}

// Front returns the front panel, or nil.
func (d *Panels[V]) Front() *Panel[V] {
	if n := len(d.List); n > 0 {
		return d.List[n-1]
	}
	return nil
}

// Close closes a panel.
func (d *Panels[V]) Close(p *Panel[V]) {
	d.remove(p)
	d.Focus, d.Over = d.Front(), nil
	d.move, d.resize, d.held = false, false, false
}

// at returns the front panel at a point, or nil.
func (d *Panels[V]) at(x, y float64) *Panel[V] {
	for _, p := range slices.Backward(d.List) {
		if p.Box.Contains(x, y) {
			return p
		}
	}
	return nil
}

// Point takes in where the mouse is. inside says that it is in the window.
func (d *Panels[V]) Point(v V, m Mouse, inside bool) {
	if d.held && !m.Held {
		// What was held is let go, wherever the mouse is.
		d.Over.Mouse(v, Mouse{X: m.X, Y: m.Y})
	}
	if !m.Held || m.Press {
		d.held, d.move, d.resize = false, false, false
	}
	if !d.held {
		d.Over = nil
		if inside {
			d.Over = d.at(m.X, m.Y)
		}
	}
}

// Mouse moves, resizes, raises and closes panels in a window of a size, and hands the mouse to
// the body under it. It returns the panel whose place or size the user changes, or nil.
func (d *Panels[V]) Mouse(v V, m Mouse, size Box) (changed *Panel[V]) {
	if m.Press {
		d.press(m)
	}
	p := d.Over
	switch {
	case p == nil:
	case d.move || d.resize:
		d.drag(m, size)
		return p
	case m.Clicked(p.CloseBox()):
		d.Close(p)
	case p.Aside == nil && m.Clicked(p.FillBox()):
		p.Fill()
	default:
		if _, ok := p.inner(); ok {
			p.Mouse(v, m)
		}
	}
	return nil
}

// press raises the panel under the mouse. Its title moves it, its corner resizes it.
func (d *Panels[V]) press(m Mouse) {
	p := d.Over
	d.Focus = p
	if p == nil {
		return
	}
	d.raise(p)
	d.held = true
	b := p.Box
	switch inTitle := m.Y < b.Y+TitleHeight; {
	case p.Full, p.Aside != nil && p.Aside.Strip && !inTitle:
	case m.Over(p.grip()):
		d.resize, d.grab = true, [2]float64{b.X + b.W - m.X, b.Y + b.H - m.Y}
	case inTitle && !m.Over(p.CloseBox()) && !m.Over(p.FillBox()):
		d.move, d.grab = true, [2]float64{m.X - b.X, m.Y - b.Y}
	}
}

// drag has the panel, or its corner, follow the mouse.
func (d *Panels[V]) drag(m Mouse, size Box) {
	p := d.Over
	if p.Aside != nil && !p.Aside.Strip {
		p.Aside = nil // it is where the user wants it
	}
	if d.move {
		p.Box.X, p.Box.Y = m.X-d.grab[0], m.Y-d.grab[1]
	} else {
		p.Sized = true
		p.Box.W = min(max(m.X+d.grab[0]-p.Box.X, MinWidth), size.W-panelEdge-p.Box.X)
		p.Box.H = min(max(m.Y+d.grab[1]-p.Box.Y, MinHeight), size.H-panelEdge-p.Box.Y)
	}
	p.Box = p.Box.Clamp(size)
}

// Layout gives panels their place in a window of a size, and lays out what is in them.
func (d *Panels[V]) Layout(v V, size Box) {
	for _, p := range d.List {
		d.place(v, p, size)
		if in, ok := p.inner(); ok {
			p.Layout(v, in)
		}
	}
}

func (d *Panels[V]) place(v V, p *Panel[V], size Box) {
	room := size.Grow(-panelEdge)
	switch {
	case p.Aside != nil:
		p.Box = p.Box.Clamp(room)
		return
	case p.Full:
		p.Box = room
		return
	case !p.Sized:
		w, h := p.Size(v)
		p.Box.W, p.Box.H = w+2*PanelAir, h+TitleHeight+PanelAir
	}
	// Also if what was remembered is no number.
	p.Box.W, p.Box.H = min(max(p.Box.W, MinWidth), room.W), min(max(p.Box.H, MinHeight), room.H)
	if !p.Placed {
		p.Box.X, p.Box.Y = (size.W-p.Box.W)/2, (size.H-p.Box.H)/2
		// Not just over another one.
		for _, o := range d.List {
			if o != p && o.Placed && o.Box.X == p.Box.X {
				p.Box.X, p.Box.Y = o.Box.X+24, o.Box.Y+24
			}
		}
		p.Placed = true
	}
	p.Box = p.Box.Clamp(room)
}

// Draw draws the panels, the front one last.
func (d *Panels[V]) Draw(v V, c *Canvas) {
	for _, p := range d.List {
		c.Hover, c.Focused = d.Over == p && !d.move && !d.resize, d.Focus == p
		p.drawFrame(c, p.Title(v))
		if in, ok := p.inner(); ok {
			p.Draw(v, c, in)
		}
		p.drawControls(c)
	}
	c.Hover, c.Focused = d.Over == nil, false
}

func (p *Panel[V]) drawFrame(c *Canvas, title string) {
	b, t := p.Box, c.Theme
	c.Rect(b, 6, Opaque(t.Panel)) // text below would show through text
	c.Frame(b, 6, 1, t.Edge)
	col := t.Dim
	if c.Focused {
		col = t.Text
	}
	c.Text(b.X+PanelAir+2, b.Y+22.5, typeface.Bold, 13, col, c.Elide(typeface.Bold, 13, title, b.W-86))
}

// drawControls draws what closes, fills and resizes the panel.
func (p *Panel[V]) drawControls(c *Canvas) {
	b, t := p.Box, c.Theme
	x := p.CloseBox()
	c.Highlight(x)
	c.Cross(x.X+12, x.Y+12, 4, 1.4, t.Dim)
	if p.Aside != nil {
		return
	}
	x = p.FillBox()
	c.Highlight(x)
	c.Frame(At(x.X+7.5, x.Y+7.5, 9, 9), 1, 1.3, t.Dim)
	if p.Full {
		c.Frame(At(x.X+9.5, x.Y+9.5, 5, 5), 1, 1.1, t.Dim)
		return
	}
	for _, by := range [...]float64{4, 8} {
		c.Line(b.X+b.W-3-by, b.Y+b.H-3, b.X+b.W-3, b.Y+b.H-3-by, 1, t.Edge)
	}
}
