// Package live has the values that the monitor publishes for the views: the state of all
// connections of all agents at one moment.
// It has no behaviour: monitor makes a State, mapview shows it.
package live

import (
	"time"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/rules"
)

// A Scope says how far away a peer is.
type Scope uint8

// The scopes. The zero value is Internet.
const (
	Internet Scope = iota
	LAN            // private, link-local, multicast or another local address
	Loopback       // loopback
)

// A Conn is a connection of an agent, enriched once when it opened. It is
// immutable: a changed connection is a new Conn.
type Conn struct {
	conntrack.Conn
	Agent  string      // name of the agent, as shown
	Place  geoip.Place // of the peer; Precision is geoip.Unknown if no table knows it; the home place if Scope is not Internet
	Scope  Scope       // how far away the peer is
	Unsure bool        // the precision of a stored Place is unknown: Place.Precision is Country, but may be wrong
	ASN    uint32      // zero: unknown
	Org    string      // holder of the ASN
	Rule   int         // index into State.Rules
	// Bytes a second between the last two updates, and the time of the last one.
	TxRate, RxRate float32
	Counted        time.Time
}

// A Past is a connection of the stored history: a history.Row with the values that views show,
// such as the Scope and the current rule. Its Conn has no ID; Opened is the first opening, Tx
// and Rx are the sums over all openings.
type Past struct {
	Conn
	Label string    // of its rule when it was recorded
	Count int64     // number of openings
	Seen  time.Time // when it was last known to be open
}

// An Agent reports the connections of one machine.
type Agent struct {
	ID      uint64 // of its connection to the server; zero: this process
	Name    string
	Addr    string // network address it reports from; empty: this process
	Since   time.Time
	Backend string // how it reads sockets, such as "diag"
	Limited string // why it does not see everything, such as "other users' programs need root"; empty: it does
	Lost    uint64 // events lost since it connected
	Conns   int    // number of connections, without those that are being closed
}

// A Source names a look-up table.
type Source struct {
	Name         string    // file name, or "embedded"
	Date         time.Time // of the data; zero: unknown
	CountryLevel bool      // places are countries, not cities
}

// A State is what the server knows at one moment. It is immutable, with all that its slices
// and pointers refer to: readers need no lock. The last of Rules is for connections that match
// no other.
type State struct {
	Seq          uint64 // grows with every published state
	Time         time.Time
	Conns        []*Conn // in order of opening
	Agents       []Agent // by name
	Rules        []rules.Rule
	Home         geoip.Place
	Geo          Source
	ASN          Source
	Marks        []history.Mark // places of the history, nil unless ShowHistory
	Addrs        []uint32       // IPv4 addresses of the history as numbers, nil unless ShowAddrs
	HistoryStats *history.Stats // nil unless ShowStats, and if nothing is recorded
	Beeps        uint64         // connections so far whose rule wants a sound
	Others       uint64         // connections so far that match no rule
	Opening      bool           // the history is being opened or upgraded: queries wait
	Problems     []string       // what is wrong and what to do, for people; newest last
}

// An Event of a replay: a connection of the history that opened.
type Event struct {
	Lat, Lon float64
	Label    string // of its rule when it was recorded
}
