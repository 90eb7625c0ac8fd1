package ui

import "github.com/connmapgo/connmap/examples/mapserver/internal/typeface"

// A Button is a button. The main one of a panel is drawn in colour.
type Button struct {
	Box
	Label string
	Main  bool
}

const (
	buttonSize = 12.5
	buttonGap  = 8
)

// Draw draws the button.
func (b Button) Draw(c *Canvas) {
	t := c.Theme
	hot := c.Hot(b.Box)
	text := t.Text
	if b.Main {
		c.Rect(b.Box, 5, t.Accent)
		text = t.OnAccent
	} else {
		if hot {
			c.Rect(b.Box, 5, t.Alternate)
		}
		c.Frame(b.Box, 5, 1, t.Edge)
	}
	if hot {
		c.Frame(b.Box, 5, 1.4, t.Text)
	}
	s := c.Elide(typeface.Regular, buttonSize, b.Label, b.W-8)
	c.Text(b.X+(b.W-c.Width(typeface.Regular, buttonSize, s))/2, b.Y+b.H/2+4.5, typeface.Regular, buttonSize, text, s)
}

// Buttons is a row of buttons. Where there is no room for all of them, the last one,
// MoreButtons, shows others. The zero Buttons has none.
type Buttons struct {
	shown []Button
	first int // label that is shown, of those that have no room
	next  int // label that MoreButtons shows first
	end   float64
}

// MoreButtons is the label of the button that shows others.
const MoreButtons = "»"

// Layout places buttons of these labels in a box.
func (r *Buttons) Layout(c *Canvas, b Box, labels ...string) {
	width := func(s string) float64 { return c.Width(typeface.Regular, buttonSize, s) + 22 }
	all := -float64(buttonGap)
	for _, s := range labels {
		all += width(s) + buttonGap
	}
	from, more, room := 0, width(MoreButtons), b.W
	if all > b.W {
		from = r.first % len(labels)
		room -= buttonGap + more
	}
	r.shown = r.shown[:0]
	x := b.X
	place := func(label string, w float64) {
		r.shown = append(r.shown, Button{Box: At(x, b.Y, w, b.H), Label: label})
		x += w + buttonGap
	}
	next := from
	for ; next < len(labels) && x+width(labels[next]) <= b.X+room; next++ {
		place(labels[next], width(labels[next]))
	}
	r.next = max(next, from+1)
	if all > b.W && x+more <= b.X+b.W {
		place(MoreButtons, more)
	}
	r.end = x
}

// Mouse returns the label of the button that is pressed, or "".
func (r *Buttons) Mouse(m Mouse) string {
	for _, b := range r.shown {
		if !m.Clicked(b.Box) {
			continue
		}
		if b.Label == MoreButtons {
			r.first = r.next
			return ""
		}
		return b.Label
	}
	return ""
}

// Draw draws the buttons.
func (r *Buttons) Draw(c *Canvas) {
	for _, b := range r.shown {
		b.Draw(c)
	}
}

// End returns where the row ends.
func (r *Buttons) End() float64 { return r.end }
