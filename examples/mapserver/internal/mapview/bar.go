package mapview

import (
	"image/color"
	"math"
	"slices"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
)

const (
	barTime   = 3 * time.Second // that the bar is bright after the mouse has moved
	barHeight = 30
	barCell   = 28 // at most, of a button
	barLeast  = 14 // at least
	topLeast  = 260
)

// A tool is a button of the bar: a key for who has only a mouse.
type tool struct {
	what, key string
	does      Key
	on        func(v *View) bool
	icon      func(c *canvas, x, y float64, col color.NRGBA)
}

var tools = []tool{
	{"help", "?", '?', isOpen(helpName), func(c *canvas, x, y float64, col color.NRGBA) { c.sign(x, y, 15, col, "?") }},
	{"search", "/", '/', func(v *View) bool { return v.filter.editing || len(v.filter.terms) > 0 }, func(c *canvas, x, y float64, col color.NRGBA) {
		c.ring(x-1.2, y-1.2, 4.2, 1.5, col)
		c.line(x+2, y+2, x+5.5, y+5.5, 1.7, col)
	}},
	{"list of all connections", "Enter", KeyEnter, isOpen("connection list"), func(c *canvas, x, y float64, col color.NRGBA) {
		for i := -1.0; i <= 1; i++ {
			c.line(x-5.5, y+4*i, x+5.5, y+4*i, 1.5, col)
		}
	}},
	{"questions in SQL", "q", 'q', isOpen("sql"), func(c *canvas, x, y float64, col color.NRGBA) { c.sign(x, y, 10, col, "SQL") }},
	{"history", "h", 'h', func(v *View) bool { return v.History }, func(c *canvas, x, y float64, col color.NRGBA) {
		c.ring(x, y, 5.4, 1.4, col)
		c.line(x, y-3.4, x, y, 1.4, col)
		c.line(x, y, x+2.6, y+1.4, 1.4, col)
	}},
	{"replay of the history", "g", 'g', func(v *View) bool { return v.replay.ask != 0 }, func(c *canvas, x, y float64, col color.NRGBA) {
		c.line(x-3.5, y-5, x+5, y, 1.5, col)
		c.line(x+5, y, x-3.5, y+5, 1.5, col)
		c.line(x-3.5, y+5, x-3.5, y-5, 1.5, col)
	}},
	{"Hilbert curve", "z", 'z', isOpen("hilbert"), func(c *canvas, x, y float64, col color.NRGBA) {
		c.frame(box{x - 5.5, y - 5.5, 11, 11}, 1, 1.2, col)
		for _, d := range [...]float64{-1.8, 1.8} {
			c.line(x+d, y-5, x+d, y+5, 1, col)
			c.line(x-5, y+d, x+5, y+d, 1, col)
		}
	}},
	{"hosts", "i", 'i', isOpen("hosts"), func(c *canvas, x, y float64, col color.NRGBA) {
		c.frame(box{x - 6, y - 5.5, 12, 8.5}, 1.5, 1.3, col)
		c.line(x-3, y+5.5, x+3, y+5.5, 1.4, col)
	}},
	{"dark or light", "d", 'd', func(*View) bool { return false }, func(c *canvas, x, y float64, col color.NRGBA) {
		c.ring(x, y, 5, 1.3, col)
		c.arc(x, y, 2.5, 5, 0, 0.5, col)
	}},
	{"save and quit", "Esc", 0, func(*View) bool { return false }, func(c *canvas, x, y float64, col color.NRGBA) { c.cross(x, y, 4, 1.5, col) }},
}

func isOpen(name string) func(v *View) bool {
	return func(v *View) bool { return v.desk.find(name) != nil }
}

// sign writes a short text around a point.
func (c *canvas) sign(x, y, size float64, col color.NRGBA, s string) {
	c.text(x-c.width(typeface.Bold, size, s)/2, y+size*0.35, typeface.Bold, size, col, s)
}

func (c *canvas) cross(x, y, r, w float64, col color.NRGBA) {
	c.line(x-r, y-r, x+r, y+r, w, col)
	c.line(x+r, y-r, x-r, y+r, w, col)
}

// A bar is the row of buttons in the upper right corner.
type bar struct {
	box   box
	seen  bool // the mouse was over the window
	at    [2]float64
	moved time.Time // the mouse
}

// layoutBar places the bar, and notes whether the mouse moves.
func (v *View) layoutBar() {
	b := &v.bar
	x, y := v.cursor()
	if v.in.Inside && (!b.seen || b.at != [2]float64{x, y}) {
		b.moved = v.now
	}
	b.seen, b.at = v.in.Inside, [2]float64{x, y}
	cell := min(barCell, (v.size.w-24)/float64(len(tools)))
	b.box = box{}
	if cell < barLeast || v.size.h < 5*barHeight {
		return
	}
	w := cell*float64(len(tools)) + 8
	b.box = box{v.size.w - w - 8, 8, w, barHeight}
	v.taken = append(v.taken, b.box)
}

// top is the room at the upper edge that the bar leaves.
func (v *View) top() box {
	b := v.bar.box
	if b.w == 0 || b.x-16 >= topLeast {
		w := v.size.w - 16
		if b.w > 0 {
			w = b.x - 16
		}
		return box{8, 8, w, 0}
	}
	return box{8, b.y + b.h + 6, v.size.w - 16, 0}
}

// drawBar draws the bar: dim until the mouse moves.
func (v *View) drawBar() {
	b := v.bar.box
	if b.w == 0 {
		return
	}
	c, t := &v.canvas, v.theme
	over := v.hot(b)
	bright := over || v.in.Inside && v.before(v.bar.moved.Add(barTime), barTime)
	if bright {
		c.panel(b, t)
		if !over {
			v.wake(v.bar.moved.Add(barTime))
		}
	}
	cell := (b.w - 8) / float64(len(tools))
	for i, k := range tools {
		at := box{b.x + 4 + float64(i)*cell, b.y + 3, cell, b.h - 6}
		col := t.dim
		switch {
		case k.on(v):
			col = t.accent
		case v.hot(at):
			col = t.text
		case !bright:
			col = fade(t.dim, 0.55)
		}
		if v.hot(at) {
			c.rect(at, 4, t.edge)
		}
		x, y := math.Round(at.x+at.w/2), at.y+at.h/2
		k.icon(c, x, y, col)
	}
}

// useBar presses what is under the mouse, and names it over all else on the map.
func (v *View) useBar() {
	b := v.bar.box
	if b.w == 0 || !v.hot(b) {
		return
	}
	x, _ := v.cursor()
	cell := (b.w - 8) / float64(len(tools))
	i := int((x - b.x - 4) / cell)
	if i < 0 || i >= len(tools) {
		return
	}
	k := tools[i]
	c, t := &v.canvas, v.theme
	w, keyed := c.width(typeface.Regular, 12, k.what), c.width(typeface.Bold, 12, k.key)
	tip := box{b.x + 4 + (float64(i)+0.5)*cell - (w+keyed+30)/2, b.y + b.h + 5, w + keyed + 30, 24}.clamp(v.size.grow(-8))
	tip = v.tip(tip)
	c.rect(tip, 6, opaque(t.panel))
	c.frame(tip, 6, 1, t.edge)
	c.text(tip.x+10, tip.y+16.5, typeface.Regular, 12, t.text, k.what)
	c.text(tip.x+20+w, tip.y+16.5, typeface.Bold, 12, t.accent, k.key)
	if !v.in.Press {
		return
	}
	v.again = true
	switch {
	case k.does == 0:
		v.ask(Quit{})
	case k.does == '/' && k.on(v):
		v.filter = filter{}
	default:
		at := slices.IndexFunc(Bindings, func(b Binding) bool { return slices.Contains(b.keys, k.does) })
		Bindings[at].do(v)
	}
}
