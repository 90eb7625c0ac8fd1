package ui

import (
	"image/color"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
)

// Lines is a text, of which as many lines are shown as have room.
type Lines struct {
	Font typeface.Font
	Size float64
	Row  float64 // height of a line

	scroller Scroller
	box      Box
	lines    []string
	shown    int
}

// Layout places lines in a box.
func (l *Lines) Layout(b Box, lines []string) {
	l.box, l.lines, l.shown = b, lines, 0
	if b.H >= l.Row {
		l.shown = l.scroller.Layout(b, len(lines), l.Row)
	}
}

// Mouse scrolls.
func (l *Lines) Mouse(m Mouse) { l.scroller.Mouse(m) }

// Key scrolls, and reports whether it was a key for that.
func (l *Lines) Key(k Key) bool { return l.scroller.Key(k, max(l.shown-1, 1)) }

// Draw writes the lines, each in its colour.
func (l *Lines) Draw(c *Canvas, color func(line string) color.NRGBA) {
	if l.shown == 0 {
		return
	}
	l.scroller.Draw(c)
	for i, s := range l.lines[l.scroller.Top : l.scroller.Top+l.shown] {
		c.Text(l.box.X+2, l.box.Y+l.Row-4+float64(i)*l.Row, l.Font, l.Size, color(s), c.Elide(l.Font, l.Size, s, l.box.W-BarWidth-4))
	}
}
