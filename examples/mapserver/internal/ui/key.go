package ui

import "unicode/utf8"

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

// Split returns k without its place on the keyboard, and what a US keyboard types there
// with the same modifiers, zero if that is not known.
func (k Key) Split() (typed, at Key) {
	typed, at = k&(1<<atBits-1), k>>atBits
	if at != 0 {
		at |= typed & (Shift | Ctrl | Repeat)
	}
	return typed, at
}

// Rune returns the character that a key types into a text, or 0.
func (k Key) Rune() rune {
	if k < ' ' || k == 0x7f || k > utf8.MaxRune || !utf8.ValidRune(rune(k)) {
		return 0
	}
	return rune(k)
}
