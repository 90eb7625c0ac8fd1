package mapview

import "image"

import "github.com/connmapgo/connmap/examples/mapserver/internal/ui"

// Input is what happened at the window since the last Update, in pixels of
// the picture.
type Input struct {
	Size    image.Point // of the picture
	Scale   float64     // pixels of the picture per density-independent pixel; zero means 1
	Cursor  image.Point
	Hidden  bool     // nobody sees the window: the scene stays as it is
	Inside  bool     // the cursor is over the window
	Press   bool     // the left button went down
	Release bool     // the left button went up
	Held    bool     // the left button is down
	Right   bool     // the right button went down
	Shift   bool     // is down
	Keys    []ui.Key // pressed, in order, and repeated while they are held

	Wheel      float64     // notches, away from the user positive
	MiddleHeld bool        // the middle button is down
	Arrows     image.Point // arrow keys that are down: right and down positive

	Answers []Answer // to effects of before
}
