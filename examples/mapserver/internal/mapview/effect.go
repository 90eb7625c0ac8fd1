package mapview

import (
	"image"
	"net/netip"

	"github.com/connmapgo/connmap/history"
)

// An Effect is what a View asks its caller to do.
type Effect interface{ effect() }

type (
	// MoveWindow asks to move the window.
	MoveWindow struct{ By image.Point } // in pixels of the picture
	// Quit asks to save the simple history and end the program.
	Quit struct{}
	// ReloadRules asks to read the rules file again.
	ReloadRules struct{}
	// ShowHistory asks to put the places of the stored history into the
	// State, or to leave them out.
	ShowHistory struct{ On bool }
	// ShowKept asks to put what is kept into the State, or to leave it out.
	ShowKept struct{ On bool }
	// SetRetention asks to keep so much from now on.
	SetRetention struct{ Retention history.Retention }
	// ResetHistory asks to delete all of the stored history.
	ResetHistory struct{}
	// SaveHistory asks to write the simple history.
	SaveHistory struct{}
	// Copy asks to put a text on the clipboard.
	Copy struct{ Text string }
	// Paste asks for the text that is on the clipboard, as Pasted.
	Paste struct{}
	// Whois asks for the report on an address, as Report.
	Whois struct{ Addr netip.Addr }
	// FindNearby asks for stored connections around a place, as Found.
	FindNearby struct {
		Ask int
		history.Circle
	}
	// FindWithin asks for stored connections to a prefix, as Found.
	FindWithin struct {
		Ask    int
		Prefix netip.Prefix // of 8, 16, 24 or 32 bits
	}
	// FindFiltered asks for the newest stored connections that fit, as Found.
	FindFiltered struct {
		Ask    int
		Filter Filter
	}
	// FindFirst asks since when a program's connections to an address are
	// known, as First.
	FindFirst struct {
		Ask     int
		Peer    netip.Addr
		Program string
	}
	// WriteSQL asks for the question in SQL that finds stored connections, as Written.
	WriteSQL struct{ Of history.Selection }
	// RunQuery asks a question in SQL about the stored history, for Answered.
	RunQuery struct {
		Ask int
		SQL string
	}
	// CancelQuery ends a question of any kind; there is an answer all the same.
	CancelQuery struct{ Ask int }
	// Export asks to write the whole answer to a question into a file.
	Export struct {
		SQL    string
		Format string // csv or json
	}
	// StartReplay asks for the stored history run through in half a minute, as
	// Replayed.
	StartReplay struct{ Ask int }
	// StopReplay asks for no more of it.
	StopReplay struct{ Ask int }
	// ShowAddrs asks to put the addresses of the stored history into the State,
	// or to leave them out.
	ShowAddrs struct{ On bool }
	// LookUp asks for the network of an address, as Named.
	LookUp struct{ Addr netip.Addr }
	// Beep asks for the sound.
	Beep struct{}
	// LoadHistory asks to put the places of the simple history into the State
	// too.
	LoadHistory struct{}
)

func (MoveWindow) effect()   {}
func (Quit) effect()         {}
func (ReloadRules) effect()  {}
func (ShowHistory) effect()  {}
func (ShowKept) effect()     {}
func (SetRetention) effect() {}
func (ResetHistory) effect() {}
func (SaveHistory) effect()  {}
func (LoadHistory) effect()  {}
func (Copy) effect()         {}
func (Paste) effect()        {}
func (Whois) effect()        {}
func (FindNearby) effect()   {}
func (FindWithin) effect()   {}
func (FindFiltered) effect() {}
func (FindFirst) effect()    {}
func (WriteSQL) effect()     {}
func (RunQuery) effect()     {}
func (CancelQuery) effect()  {}
func (Export) effect()       {}
func (StartReplay) effect()  {}
func (StopReplay) effect()   {}
func (Beep) effect()         {}
func (ShowAddrs) effect()    {}
func (LookUp) effect()       {}

// An Answer is what came of an Effect, or what else the caller has to say.
type Answer interface{ take(v *View) }

// Said is a short message for the user.
type Said struct{ Text string }

func (a Said) take(v *View) { v.say(a.Text) }
