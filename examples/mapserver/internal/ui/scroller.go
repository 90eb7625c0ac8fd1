package ui

import "math"

// BarWidth is the width of the bar of a Scroller.
const BarWidth = 8

// A Scroller shows a part of many rows. The zero Scroller begins with the first.
type Scroller struct {
	Top     int     // the first row that is shown
	moved   float64 // part of a row, of wheels that turn by less
	holding bool    // the mouse holds the bar

	box    Box
	n, fit int // rows, and those that have room
}

// Layout takes n rows of a height into a box, and returns how many of them are shown, all
// whole.
func (s *Scroller) Layout(b Box, n int, row float64) (shown int) {
	s.box, s.n, s.fit = b, n, max(int(b.H/row), 1)
	s.Top = max(0, min(s.Top, n-s.fit))
	return min(s.fit, n-s.Top)
}

// track is where the bar moves.
func (s *Scroller) track() Box { return At(s.box.X+s.box.W-BarWidth, s.box.Y, BarWidth, s.box.H) }

// knob is the bar at the upper end of its track.
func (s *Scroller) knob() Box {
	k := s.track()
	k.H = max(k.H*float64(s.fit)/float64(s.n), min(24, k.H))
	return k
}

// Mouse takes in the wheel over the rows, and the bar.
func (s *Scroller) Mouse(m Mouse) {
	if m.Wheel != 0 && m.Over(s.box) {
		s.moved -= 3 * m.Wheel
		by := math.Trunc(s.moved)
		s.Top += int(by)
		s.moved -= by
	}
	s.holding = m.Held && s.n > s.fit && (s.holding || m.Clicked(s.track()))
	if s.holding {
		b, k := s.track(), s.knob()
		share := (m.Y - b.Y - k.H/2) / max(b.H-k.H, 1)
		s.Top = int(math.Round(min(max(share, 0), 1) * float64(s.n-s.fit)))
	}
}

// Moves reports whether the mouse scrolls.
func (s *Scroller) Moves(m Mouse) bool { return m.Wheel != 0 || s.holding }

// Draw draws the bar, if there are more rows than have room.
func (s *Scroller) Draw(c *Canvas) {
	if s.n <= s.fit {
		return
	}
	track, k := s.track(), s.knob()
	k.Y += (s.box.H - k.H) * float64(s.Top) / float64(s.n-s.fit)
	c.Rect(At(track.X+3, track.Y, BarWidth-4, track.H), 2, c.Theme.Alternate)
	col := c.Theme.Edge
	if s.holding || c.Hot(track) {
		col = c.Theme.Dim
	}
	c.Rect(At(k.X+3, k.Y, BarWidth-4, k.H), 2, col)
}

// Key moves by keys as readers do, and reports whether it was one of those.
func (s *Scroller) Key(k Key, page int) bool {
	switch k {
	case KeyUp:
		s.Top--
	case KeyDown:
		s.Top++
	case KeyPageUp:
		s.Top -= page
	case KeyPageDown, ' ':
		s.Top += page
	case KeyHome:
		s.Top = 0
	case KeyEnd:
		s.Top = math.MaxInt32
	default:
		return false
	}
	s.Top = max(s.Top, 0)
	return true
}
