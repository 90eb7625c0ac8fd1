package mapview

import (
	"math"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
)

// button draws a button, the main one of its panel in colour, and reports whether it is
// pressed.
func (v *View) button(b box, label string, main bool) bool {
	if p := v.desk.shown; p != nil && b.y+b.h > p.box.y+p.box.h {
		return false // the panel is too low for it
	}
	c, t := &v.canvas, v.theme
	hot := v.hot(b)
	text := t.text
	if main {
		c.rect(b, 5, t.accent)
		text = t.onAccent
	} else {
		if hot {
			c.rect(b, 5, t.alternate)
		}
		c.frame(b, 5, 1, t.edge)
	}
	if hot {
		c.frame(b, 5, 1.4, t.text)
	}
	s := c.elide(typeface.Regular, 12.5, label, b.w-8)
	c.text(b.x+(b.w-c.width(typeface.Regular, 12.5, s))/2, b.y+b.h/2+4.5, typeface.Regular, 12.5, text, s)
	return hot && v.in.Press
}

// buttons lays out a row of buttons and returns the one that is pressed, or -1, and
// where the row ends. Where there is no room for all of them, the last one shows others.
func (v *View) buttons(b box, labels ...string) (pressed int, x float64) {
	const gap = 8
	width := func(s string) float64 { return v.canvas.width(typeface.Regular, 12.5, s) + 22 }
	all := -float64(gap)
	for _, s := range labels {
		all += width(s) + gap
	}
	from, more, room := 0, width(moreButtons), b.w
	if all > b.w {
		from = v.turned[labels[0]] % len(labels)
		room -= gap + more
	}
	pressed, x = -1, b.x
	next := from
	for ; next < len(labels) && x+width(labels[next]) <= b.x+room; next++ {
		w := width(labels[next])
		if v.button(box{x, b.y, w, b.h}, labels[next], false) {
			pressed = next
		}
		x += w + gap
	}
	if all > b.w && x+more <= b.x+b.w {
		if v.button(box{x, b.y, more, b.h}, moreButtons, false) {
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
func (s *scroller) show(v *View, b box, n int, row float64) (shown int) {
	fit := max(int(b.h/row), 1)
	if v.in.Wheel != 0 && v.hot(b) {
		s.moved -= 3 * v.in.Wheel
		by := math.Trunc(s.moved)
		s.top += int(by)
		s.moved -= by
	}
	if n > fit {
		c, t := &v.canvas, v.theme
		track := box{b.x + b.w - barWidth, b.y, barWidth, b.h}
		knob := track
		knob.h = max(b.h*float64(fit)/float64(n), min(24, b.h))
		if v.clicked(track) {
			s.holding = true
		}
		if !v.in.Held {
			s.holding = false
		}
		if s.holding {
			_, y := v.cursor()
			share := (y - b.y - knob.h/2) / max(b.h-knob.h, 1)
			s.top = int(math.Round(min(max(share, 0), 1) * float64(n-fit)))
		}
		s.top = max(0, min(s.top, n-fit))
		knob.y += (b.h - knob.h) * float64(s.top) / float64(n-fit)
		c.rect(box{track.x + 3, track.y, barWidth - 4, track.h}, 2, t.alternate)
		col := t.edge
		if s.holding || v.hot(track) {
			col = t.dim
		}
		c.rect(box{knob.x + 3, knob.y, barWidth - 4, knob.h}, 2, col)
	}
	s.top = max(0, min(s.top, n-fit))
	return min(fit, n-s.top)
}

// keys moves by keys as readers do, and reports whether it was one of those.
func (s *scroller) keys(k Key, page int) bool {
	switch k {
	case KeyUp:
		s.top--
	case KeyDown:
		s.top++
	case KeyPageUp:
		s.top -= page
	case KeyPageDown, ' ':
		s.top += page
	case KeyHome:
		s.top = 0
	case KeyEnd:
		s.top = math.MaxInt32
	default:
		return false
	}
	s.top = max(s.top, 0)
	return true
}
