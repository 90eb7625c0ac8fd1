package mapview

import (
	"image"
	"unicode/utf8"
)

// A Key is the character that a key press typed, or one of the keys below, with
// the modifiers that were held. A character comes without Shift: it is in it.
type Key rune

// Keys that type no character.
const (
	KeyEscape Key = utf8.MaxRune + 1 + iota
	KeyEnter
	KeyBackspace
	KeyDelete
	KeyTab
	KeyLeft
	KeyRight
	KeyUp
	KeyDown
	KeyHome
	KeyEnd
	KeyPageUp
	KeyPageDown
)

// Modifiers, to be added to a Key.
const (
	Shift Key = 1 << 24
	Ctrl  Key = 1 << 25
	// Repeat says that the key is held: it counts again where one types.
	Repeat Key = 1 << 26
)

// char returns the character that a key types into a text, or 0.
func (k Key) char() rune {
	if k < ' ' || k == 0x7f || k > utf8.MaxRune || !utf8.ValidRune(rune(k)) {
		return 0
	}
	return rune(k)
}

// Input is what happened at the window since the last Update, in pixels of
// the picture.
type Input struct {
	Size    image.Point // of the picture
	Scale   float64     // pixels of the picture per density-independent pixel; zero means 1
	Cursor  image.Point
	Hidden  bool  // nobody sees the window: the scene stays as it is
	Inside  bool  // the cursor is over the window
	Press   bool  // the left button went down
	Release bool  // the left button went up
	Held    bool  // the left button is down
	Right   bool  // the right button went down
	Shift   bool  // is down
	Keys    []Key // pressed, in order, and repeated while they are held

	Wheel      float64     // notches, away from the user positive
	MiddleHeld bool        // the middle button is down
	Arrows     image.Point // arrow keys that are down: right and down positive

	Answers []Answer // to effects of before
}
