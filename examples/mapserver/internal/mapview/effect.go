package mapview

import (
	"image"
	"net/netip"

	"github.com/connmapgo/connmap/history"
)

// An Effect is what a View asks its caller to do. One with a number, Ask, is answered with
// the same number.
type Effect interface {
	// Do calls the handler's method for the effect. Quit and MoveWindow have none: the
	// window does them itself.
	Do(h Handler)
}

// A Handler does what a View asks for. Its methods return at once.
type Handler interface {
	Beep()
	Copy(Copy)
	Paste()
	ReloadRules()
	ShowHistory(ShowHistory)
	ShowAddrs(ShowAddrs)
	ShowStats(ShowStats)
	SetRetention(SetRetention)
	ResetHistory()
	SaveHistory()
	LoadHistory()
	Export(Export)

	LookUp(LookUp)
	Whois(Whois)
	FindNearby(FindNearby)
	FindWithin(FindWithin)
	FindFiltered(FindFiltered)
	FindFirst(FindFirst)
	WriteSQL(WriteSQL)
	RunQuery(RunQuery)
	StartReplay(StartReplay)
	CancelQuery(CancelQuery)
}

type (
	// MoveWindow asks to move the window.
	MoveWindow struct{ By image.Point } // in pixels of the picture
	// Quit asks to save the counts of places and end the program.
	Quit struct{}
	// ReloadRules asks to read the rules file again.
	ReloadRules struct{}
	// ShowHistory asks to put the places of the stored history into the
	// State, or to leave them out.
	ShowHistory struct{ On bool }
	// ShowStats asks to put what is kept into the State, or to leave it out.
	ShowStats struct{ On bool }
	// SetRetention asks to keep so much from now on.
	SetRetention struct{ Retention history.Retention }
	// ResetHistory asks to delete all of the stored history.
	ResetHistory struct{}
	// SaveHistory asks to save the counts of places in a file.
	SaveHistory struct{}
	// Copy asks to put a text on the clipboard.
	Copy struct{ Text string }
	// Paste asks for the text that is on the clipboard, as Pasted.
	Paste struct{}
	// Whois asks for the report on an address, as Report.
	Whois struct {
		Ask  int
		Addr netip.Addr
	}
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
	// ShowAddrs asks to put the addresses of the stored history into the State,
	// or to leave them out.
	ShowAddrs struct{ On bool }
	// LookUp asks for the network of an address, as Named.
	LookUp struct {
		Ask  int
		Addr netip.Addr
	}
	// Beep asks for the sound.
	Beep struct{}
	// LoadHistory asks to load the counts of places from the file into the State
	// too.
	LoadHistory struct{}
)

func (MoveWindow) Do(Handler)       {}
func (Quit) Do(Handler)             {}
func (ReloadRules) Do(h Handler)    { h.ReloadRules() }
func (e ShowHistory) Do(h Handler)  { h.ShowHistory(e) }
func (e ShowStats) Do(h Handler)    { h.ShowStats(e) }
func (e SetRetention) Do(h Handler) { h.SetRetention(e) }
func (ResetHistory) Do(h Handler)   { h.ResetHistory() }
func (SaveHistory) Do(h Handler)    { h.SaveHistory() }
func (LoadHistory) Do(h Handler)    { h.LoadHistory() }
func (e Copy) Do(h Handler)         { h.Copy(e) }
func (Paste) Do(h Handler)          { h.Paste() }
func (e Whois) Do(h Handler)        { h.Whois(e) }
func (e FindNearby) Do(h Handler)   { h.FindNearby(e) }
func (e FindWithin) Do(h Handler)   { h.FindWithin(e) }
func (e FindFiltered) Do(h Handler) { h.FindFiltered(e) }
func (e FindFirst) Do(h Handler)    { h.FindFirst(e) }
func (e WriteSQL) Do(h Handler)     { h.WriteSQL(e) }
func (e RunQuery) Do(h Handler)     { h.RunQuery(e) }
func (e CancelQuery) Do(h Handler)  { h.CancelQuery(e) }
func (e Export) Do(h Handler)       { h.Export(e) }
func (e StartReplay) Do(h Handler)  { h.StartReplay(e) }
func (Beep) Do(h Handler)           { h.Beep() }
func (e ShowAddrs) Do(h Handler)    { h.ShowAddrs(e) }
func (e LookUp) Do(h Handler)       { h.LookUp(e) }

func (e Whois) numbered(n int) Effect        { e.Ask = n; return e }
func (e FindNearby) numbered(n int) Effect   { e.Ask = n; return e }
func (e FindWithin) numbered(n int) Effect   { e.Ask = n; return e }
func (e FindFiltered) numbered(n int) Effect { e.Ask = n; return e }
func (e FindFirst) numbered(n int) Effect    { e.Ask = n; return e }
func (e RunQuery) numbered(n int) Effect     { e.Ask = n; return e }
func (e StartReplay) numbered(n int) Effect  { e.Ask = n; return e }
func (e LookUp) numbered(n int) Effect       { e.Ask = n; return e }

// An Answer is what came of an Effect, or what else the caller has to say.
type Answer interface{ take(v *View) }

// Said is a short message for the user.
type Said struct{ Text string }

func (a Said) take(v *View) { v.say(a.Text) }
