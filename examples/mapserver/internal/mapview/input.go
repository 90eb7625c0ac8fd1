package mapview

import (
	"image"
	"unicode/utf8"
)

// A Key is the character that a key press typed, or one of the keys below, with
// the modifiers that were held. A character comes without Shift: it is in it. Where the
// layout types no ASCII, it may also say At which key it was typed.
type Key int64

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

// atBits is where a Key keeps its place on the keyboard.
const atBits = 32

// At returns k as typed by the key that types c on a US keyboard. Commands then go by
// that key, texts by k.
func (k Key) At(c rune) Key { return k | Key(c)<<atBits }

// split returns k without its place on the keyboard, and what a US keyboard types there
// with the same modifiers, zero if that is not known.
func (k Key) split() (typed, at Key) {
	typed, at = k&(1<<atBits-1), k>>atBits
	if at != 0 {
		at |= typed & (Shift | Ctrl | Repeat)
	}
	return typed, at
}

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
