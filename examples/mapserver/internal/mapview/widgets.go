package mapview

import (
	"math"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

// button draws a button, the main one of its panel in colour, and reports whether it is
// pressed.
func (v *View) button(b ui.Box, label string, main bool) bool {
	if p := v.desk.shown; p != nil && b.Y+b.H > p.box.Y+p.box.H {
		return false // the panel is too low for it
	}
	c, t := &v.canvas, v.theme
	hot := v.hot(b)
	text := t.Text
	if main {
		c.Rect(b, 5, t.Accent)
		text = t.OnAccent
	} else {
		if hot {
			c.Rect(b, 5, t.Alternate)
		}
		c.Frame(b, 5, 1, t.Edge)
	}
	if hot {
		c.Frame(b, 5, 1.4, t.Text)
	}
	s := c.Elide(typeface.Regular, 12.5, label, b.W-8)
	c.Text(b.X+(b.W-c.Width(typeface.Regular, 12.5, s))/2, b.Y+b.H/2+4.5, typeface.Regular, 12.5, text, s)
	return hot && v.in.Press
}

// buttons lays out a row of buttons and returns the one that is pressed, or -1, and
// where the row ends. Where there is no room for all of them, the last one shows others.
func (v *View) buttons(b ui.Box, labels ...string) (pressed int, x float64) {
	const gap = 8
	width := func(s string) float64 { return v.canvas.Width(typeface.Regular, 12.5, s) + 22 }
	all := -float64(gap)
	for _, s := range labels {
		all += width(s) + gap
	}
	from, more, room := 0, width(moreButtons), b.W
	if all > b.W {
		from = v.turned[labels[0]] % len(labels)
		room -= gap + more
	}
	pressed, x = -1, b.X
	next := from
	for ; next < len(labels) && x+width(labels[next]) <= b.X+room; next++ {
		w := width(labels[next])
		if v.button(ui.At(x, b.Y, w, b.H), labels[next], false) {
			pressed = next
		}
		x += w + gap
	}
	if all > b.W && x+more <= b.X+b.W {
		if v.button(ui.At(x, b.Y, more, b.H), moreButtons, false) {
			if v.turned == nil {
				v.turned = make(map[string]int)
			}
			v.turned[labels[0]] = max(next, from+1)
			v.again = true
		}
		x += more + gap
	}
	return pressed, x
}

const moreButtons = "»"

// A scroller shows a part of many rows.
type scroller struct {
	top     int
	moved   float64 // part of a row, of wheels that turn by less
	holding bool
}

const barWidth = 8

// show takes in the wheel over b and the bar at its right edge, and returns how many
// whole rows there are.
func (s *scroller) show(v *View, b ui.Box, n int, row float64) (shown int) {
	fit := max(int(b.H/row), 1)
	if v.in.Wheel != 0 && v.hot(b) {
		s.moved -= 3 * v.in.Wheel
		by := math.Trunc(s.moved)
		s.top += int(by)
		s.moved -= by
	}
	if n > fit {
		c, t := &v.canvas, v.theme
		track := ui.At(b.X+b.W-barWidth, b.Y, barWidth, b.H)
		knob := track
		knob.H = max(b.H*float64(fit)/float64(n), min(24, b.H))
		if v.clicked(track) {
			s.holding = true
		}
		if !v.in.Held {
			s.holding = false
		}
		if s.holding {
			_, y := v.cursor()
			share := (y - b.Y - knob.H/2) / max(b.H-knob.H, 1)
			s.top = int(math.Round(min(max(share, 0), 1) * float64(n-fit)))
		}
		s.top = max(0, min(s.top, n-fit))
		knob.Y += (b.H - knob.H) * float64(s.top) / float64(n-fit)
		c.Rect(ui.At(track.X+3, track.Y, barWidth-4, track.H), 2, t.Alternate)
		col := t.Edge
		if s.holding || v.hot(track) {
			col = t.Dim
		}
		c.Rect(ui.At(knob.X+3, knob.Y, barWidth-4, knob.H), 2, col)
	}
	s.top = max(0, min(s.top, n-fit))
	return min(fit, n-s.top)
}

// keys moves by keys as readers do, and reports whether it was one of those.
func (s *scroller) keys(k ui.Key, page int) bool {
	switch k {
	case ui.KeyUp:
		s.top--
	case ui.KeyDown:
		s.top++
	case ui.KeyPageUp:
		s.top -= page
	case ui.KeyPageDown, ' ':
		s.top += page
	case ui.KeyHome:
		s.top = 0
	case ui.KeyEnd:
		s.top = math.MaxInt32
	default:
		return false
	}
	s.top = max(s.top, 0)
	return true
}
