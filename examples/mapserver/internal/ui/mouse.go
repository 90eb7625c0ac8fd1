package ui

// A Mouse is what the mouse does in a frame, in density-independent pixels.
type Mouse struct {
	X, Y   float64
	Press  bool    // the left button went down
	Right  bool    // the right button went down
	Held   bool    // the left button is down
	Middle bool    // the middle button is down
	Shift  bool    // is down
	Wheel  float64 // notches, away from the user positive
}

// Over reports whether the mouse is over a box.
func (m Mouse) Over(b Box) bool { return b.Contains(m.X, m.Y) }

// Clicked reports whether a box is pressed.
func (m Mouse) Clicked(b Box) bool { return m.Press && m.Over(b) }
