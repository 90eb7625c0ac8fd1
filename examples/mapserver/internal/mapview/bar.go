package mapview

import (
	"image/color"
	"math"
	"slices"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

const (
	barTime    = 3 * time.Second // that the bar is bright after the mouse has moved
	barHeight  = 30
	barCell    = 28 // at most, of a button
	minBarCell = 14 // at least
	minTop     = 260
)

// A tool is a button of the bar: a key for who has only a mouse.
type tool struct {
	what, key string
	does      ui.Key
	on        func(v *View) bool
	icon      func(c *ui.Canvas, x, y float64, col color.NRGBA)
}

var tools = []tool{
	{"help", "?", '?', isOpen(helpName), func(c *ui.Canvas, x, y float64, col color.NRGBA) { c.Sign(x, y, 15, col, "?") }},
	{"search", "/", '/', func(v *View) bool { return v.filter.editing || len(v.filter.terms) > 0 }, func(c *ui.Canvas, x, y float64, col color.NRGBA) {
		c.Ring(x-1.2, y-1.2, 4.2, 1.5, col)
		c.Line(x+2, y+2, x+5.5, y+5.5, 1.7, col)
	}},
	{"list of all connections", "Enter", ui.KeyEnter, isOpen("connection list"), func(c *ui.Canvas, x, y float64, col color.NRGBA) {
		for i := -1.0; i <= 1; i++ {
			c.Line(x-5.5, y+4*i, x+5.5, y+4*i, 1.5, col)
		}
	}},
	{"questions in SQL", "q", 'q', isOpen("sql"), func(c *ui.Canvas, x, y float64, col color.NRGBA) { c.Sign(x, y, 10, col, "SQL") }},
	{"history", "h", 'h', func(v *View) bool { return v.History }, func(c *ui.Canvas, x, y float64, col color.NRGBA) {
		c.Ring(x, y, 5.4, 1.4, col)
		c.Line(x, y-3.4, x, y, 1.4, col)
		c.Line(x, y, x+2.6, y+1.4, 1.4, col)
	}},
	{"replay of the history", "g", 'g', func(v *View) bool { return v.replay.runs() }, func(c *ui.Canvas, x, y float64, col color.NRGBA) {
		c.Line(x-3.5, y-5, x+5, y, 1.5, col)
		c.Line(x+5, y, x-3.5, y+5, 1.5, col)
		c.Line(x-3.5, y+5, x-3.5, y-5, 1.5, col)
	}},
	{"Hilbert curve", "z", 'z', isOpen(curveName), func(c *ui.Canvas, x, y float64, col color.NRGBA) {
		c.Frame(ui.At(x-5.5, y-5.5, 11, 11), 1, 1.2, col)
		for _, d := range [...]float64{-1.8, 1.8} {
			c.Line(x+d, y-5, x+d, y+5, 1, col)
			c.Line(x-5, y+d, x+5, y+d, 1, col)
		}
	}},
	{"agents", "i", 'i', isOpen(agentsName), func(c *ui.Canvas, x, y float64, col color.NRGBA) {
		c.Frame(ui.At(x-6, y-5.5, 12, 8.5), 1.5, 1.3, col)
		c.Line(x-3, y+5.5, x+3, y+5.5, 1.4, col)
	}},
	{"dark or light", "d", 'd', func(*View) bool { return false }, func(c *ui.Canvas, x, y float64, col color.NRGBA) {
		c.Ring(x, y, 5, 1.3, col)
		c.Arc(x, y, 2.5, 5, 0, 0.5, col)
	}},
	{"save and quit", "Esc", 0, func(*View) bool { return false }, func(c *ui.Canvas, x, y float64, col color.NRGBA) { c.Cross(x, y, 4, 1.5, col) }},
}

func isOpen(name string) func(v *View) bool {
	return func(v *View) bool { return v.panels.Find(name) != nil }
}

// A bar is the row of buttons in the upper right corner.
type bar struct {
	box   ui.Box
	tip   ui.Box // that names the button under the mouse
	seen  bool   // the mouse was over the window
	at    [2]float64
	moved time.Time // the mouse
}

// mouse notes whether the mouse moves.
func (b *bar) mouse(v *View, m ui.Mouse) {
	if v.in.Inside && (!b.seen || b.at != [2]float64{m.X, m.Y}) {
		b.moved = v.now
	}
	b.seen, b.at = v.in.Inside, [2]float64{m.X, m.Y}
}

// layoutBar places the bar.
func (v *View) layoutBar() {
	b := &v.bar
	cell := min(barCell, (v.size.W-24)/float64(len(tools)))
	b.box = ui.Box{}
	if cell < minBarCell || v.size.H < 5*barHeight {
		return
	}
	w := cell*float64(len(tools)) + 8
	b.box = ui.At(v.size.W-w-8, 8, w, barHeight)
	v.room.taken = append(v.room.taken, b.box)
}

// top is the room at the upper edge that the bar leaves.
func (v *View) top() ui.Box {
	b := v.bar.box
	if b.W == 0 || b.X-16 >= minTop {
		w := v.size.W - 16
		if b.W > 0 {
			w = b.X - 16
		}
		return ui.At(8, 8, w, 0)
	}
	return ui.At(8, b.Y+b.H+6, v.size.W-16, 0)
}

// drawBar draws the bar: dim until the mouse moves.
func (v *View) drawBar() {
	b := v.bar.box
	if b.W == 0 {
		return
	}
	c, t := &v.canvas, v.theme
	over := c.Hot(b)
	bright := over || v.in.Inside && v.before(v.bar.moved.Add(barTime), barTime)
	if bright {
		c.Panel(b)
		if !over {
			v.wake(v.bar.moved.Add(barTime))
		}
	}
	cell := (b.W - 8) / float64(len(tools))
	for i, k := range tools {
		at := ui.At(b.X+4+float64(i)*cell, b.Y+3, cell, b.H-6)
		col := t.Dim
		switch {
		case k.on(v):
			col = t.Accent
		case c.Hot(at):
			col = t.Text
		case !bright:
			col = ui.Fade(t.Dim, 0.55)
		}
		c.Highlight(at)
		x, y := math.Round(at.X+at.W/2), at.Y+at.H/2
		k.icon(c, x, y, col)
	}
}

// tool returns the button at a point.
func (b *bar) tool(x, y float64) (i int, ok bool) {
	if b.box.W == 0 || !b.box.Contains(x, y) {
		return 0, false
	}
	i = int((x - b.box.X - 4) / ((b.box.W - 8) / float64(len(tools))))
	return i, i >= 0 && i < len(tools)
}

// layoutToolTip places the name of the button under the mouse.
func (v *View) layoutToolTip() {
	v.bar.tip = ui.Box{}
	i, ok := v.bar.tool(v.cursor())
	if !ok || !v.onMap() {
		return
	}
	b, k, c := v.bar.box, tools[i], &v.canvas
	cell := (b.W - 8) / float64(len(tools))
	w := c.Width(typeface.Regular, 12, k.what) + c.Width(typeface.Bold, 12, k.key) + 30
	v.bar.tip = v.placeTip(ui.At(b.X+4+(float64(i)+0.5)*cell-w/2, b.Y+b.H+5, w, 24).Clamp(v.size.Grow(-8)))
}

// drawToolTip names the button under the mouse, over all else on the map.
func (v *View) drawToolTip() {
	tip := v.bar.tip
	if tip.W == 0 {
		return
	}
	i, _ := v.bar.tool(v.cursor())
	c, t, k := &v.canvas, v.theme, tools[i]
	c.Rect(tip, 6, ui.Opaque(t.Panel))
	c.Frame(tip, 6, 1, t.Edge)
	c.Text(tip.X+10, tip.Y+16.5, typeface.Regular, 12, t.Text, k.what)
	c.Text(tip.X+20+c.Width(typeface.Regular, 12, k.what), tip.Y+16.5, typeface.Bold, 12, t.Accent, k.key)
}

// pressTool does what the button under the mouse says.
func (v *View) pressTool(m ui.Mouse) {
	i, ok := v.bar.tool(m.X, m.Y)
	if !ok {
		return
	}
	switch k := tools[i]; {
	case k.does == 0:
		v.ask(Quit{})
	case k.does == '/' && k.on(v):
		v.filter = filter{}
	default:
		at := slices.IndexFunc(Bindings, func(b Binding) bool { return slices.Contains(b.keys, k.does) })
		Bindings[at].do(v)
	}
}
