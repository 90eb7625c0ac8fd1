// Package live holds the values that the server core hands to the view: the
// state of all connections of all agents at one moment.
// It does nothing: monitor makes a State, mapview shows it.
package live

import (
	"net/netip"
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
	Host           // loopback
)

// A Conn is a connection of an agent, enriched once when it opened. It is
// immutable: a changed connection is a new Conn.
type Conn struct {
	conntrack.Conn
	Agent  string      // name of the agent, as shown
	Place  geoip.Place // Precision is geoip.Unknown if no table knows the peer; the home place if Scope is not Internet
	Scope  Scope       // how far away the peer is
	Unsure bool        // a stored Place without its precision: Place.Precision, which is Country, is not to be claimed
	ASN    uint32      // zero: unknown
	Org    string      // holder of the ASN
	Rule   int         // index into State.Rules
	// Bytes a second between the last two counts, and when the last one was.
	TxRate, RxRate float32
	Counted        time.Time
}

// A Past is a connection of the stored history. Its Conn has no ID; Opened is
// its first opening, and Tx and Rx are those of all of them.
type Past struct {
	Conn
	Label string    // of its rule when it was recorded
	Count int64     // of openings
	Seen  time.Time // when it was last known to be open
}

// An Agent is a host that reports connections.
type Agent struct {
	ID      uint64 // of its link; zero: this process
	Name    string
	Addr    netip.Addr // from which it reports; invalid: this process
	Since   time.Time
	Backend string // how it reads its sockets, such as "diag"
	Limited string // why it does not see all, such as "other users' programs need root"; empty: it does
	Lost    uint64 // events lost since it connected
	Conns   int    // its connections but for those that are being closed
}

// A Source names a look-up table.
type Source struct {
	Name         string    // file name, or "embedded"
	Date         time.Time // of the data; zero: unknown
	CountryLevel bool      // places are countries, not cities
}

// A State is what the server knows at one moment. It is immutable, also what
// its slices and pointers lead to: readers need no lock. State.Rules ends with
// the rule for connections that match no other.
type State struct {
	Seq      uint64 // grows with every published state
	Time     time.Time
	Conns    []*Conn // in order of opening
	Agents   []Agent // by name
	Rules    []rules.Rule
	Home     geoip.Place
	Geo      Source
	ASN      Source
	Marks    []history.Mark // history by place, nil until it is asked for
	Addrs    []uint32       // IPv4 addresses of the history as numbers, nil until they are asked for
	Kept     *history.Stats // nil until it is asked for, and if nothing is recorded
	Beeps    uint64         // connections so far whose rule wants a sound
	Others   uint64         // connections so far that match no rule
	Opening  bool           // the history is being taken over: what is asked of it waits
	Problems []string       // what is wrong and what to do, for people; newest last
}

// An Event is a connection of the history that opened.
type Event struct {
	Lat, Lon float64
	Label    string // of its rule when it was recorded
}
