package mapview

import (
	"image"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
)

// A Key is the character that a key press typed, or one of the keys below.
type Key rune

// Keys that type no character.
const (
	KeyEscape Key = -1 - iota
	KeyEnter
	KeyBackspace
)

// Input is what happened at the window since the last Update, in pixels of
// the picture.
type Input struct {
	Size    image.Point // of the picture
	Scale   float64     // pixels of the picture per density-independent pixel; zero means 1
	Cursor  image.Point
	Inside  bool  // the cursor is over the window
	Press   bool  // the left button went down
	Release bool  // the left button went up
	Held    bool  // the left button is down
	Keys    []Key // pressed, in order

	Wheel      float64     // notches, away from the user positive
	MiddleHeld bool        // the middle button is down
	Arrows     image.Point // arrow keys that are down: right and down positive
}

// An Effect is what a View asks its caller to do.
type Effect interface{ effect() }

type (
	// MoveWindow asks to move the window.
	MoveWindow struct{ By image.Point } // in pixels of the picture
	// Quit asks to end the program.
	Quit struct{}
	// ReloadRules asks to read the rules file again.
	ReloadRules struct{}
	// ShowHistory asks to put the places of the stored history into the
	// State, or to leave them out.
	ShowHistory struct{ On bool }
	// ShowKept asks to put what is kept into the State, or to leave it out.
	ShowKept struct{ On bool }
	// SetRetention asks to keep so much from now on.
	SetRetention struct{ Retention live.Retention }
	// ResetHistory asks to delete all of the stored history.
	ResetHistory struct{}
	// SaveHistory asks to write the simple history.
	SaveHistory struct{}
	// LoadHistory asks to put the places of the simple history into the State
	// too.
	LoadHistory struct{}
)

func (MoveWindow) effect()  {}
func (Quit) effect()        {}
func (ReloadRules) effect() {}
func (ShowHistory) effect() {}

func (ShowKept) effect()     {}
func (SetRetention) effect() {}
func (ResetHistory) effect() {}
func (SaveHistory) effect()  {}
func (LoadHistory) effect()  {}
