// Package live has the values that the monitor publishes for the views: the state of all
// connections of all agents at one moment.
// It has no behaviour: monitor makes a State, mapview shows it.
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
	Loopback       // loopback
)

// A Conn is a connection of an agent, enriched once when it opened. It is
// immutable: a changed connection is a new Conn.
//
// There are many of them, so that they are small: they share what is the same, and have types
// of their own for addresses and times.
type Conn struct {
	ID          uint64 // as in conntrack.Conn, and so are the others up to RTT
	Local, Peer Endpoint
	Proto       conntrack.Proto
	State       conntrack.State
	Direction   conntrack.Direction
	NameSource  conntrack.NameSource
	Scope       Scope // how far away the peer is
	Unsure      bool  // the precision of a stored Place is unknown: Place.Precision is Country, but may be wrong
	Rule        int32 // index into State.Rules
	ASN         uint32
	Process     *conntrack.Process // never nil
	Tx, Rx      uint64
	RTT         time.Duration
	Opened      Stamp
	// Bytes a second between the last two updates, and the time of the last one.
	TxRate, RxRate float32
	Counted        Stamp
	Agent          string      // name of the agent, as shown
	Place          geoip.Place // Precision is geoip.Unknown if no table knows the peer; the home place if Scope is not Internet
	Org            string      // holder of the ASN, which is zero if it is unknown
	Name           string      // by which a program asked for the peer, as in conntrack.Conn
}

// New returns a connection that is not enriched yet. process is c.Process, which others share.
func New(c conntrack.Conn, process *conntrack.Process) Conn {
	return Conn{
		ID: c.ID, Local: EndpointOf(c.Local), Peer: EndpointOf(c.Peer), Proto: c.Proto, State: c.State, Direction: c.Direction,
		Process: process, Tx: c.Tx, Rx: c.Rx, RTT: c.RTT, Opened: StampOf(c.Opened), Name: c.Name, NameSource: c.NameSource,
	}
}

// An Endpoint is an address without a zone, and a port. It takes less memory than a
// netip.AddrPort, and none elsewhere. It is comparable; the zero Endpoint is none.
type Endpoint struct {
	ip   [16]byte
	port uint16
	bits uint8 // of the address: 0, 32 or 128
}

// EndpointOf returns the Endpoint of an address and a port.
func EndpointOf(a netip.AddrPort) Endpoint {
	if !a.IsValid() {
		return Endpoint{}
	}
	return Endpoint{a.Addr().As16(), a.Port(), uint8(a.Addr().BitLen())}
}

// Addr returns the address.
func (e Endpoint) Addr() netip.Addr {
	switch e.bits {
	case 0:
		return netip.Addr{}
	case 32:
		return netip.AddrFrom16(e.ip).Unmap()
	}
	return netip.AddrFrom16(e.ip)
}

// Port returns the port.
func (e Endpoint) Port() uint16 { return e.port }

// AddrPort returns both.
func (e Endpoint) AddrPort() netip.AddrPort { return netip.AddrPortFrom(e.Addr(), e.port) }

// String returns both as netip.AddrPort does.
func (e Endpoint) String() string { return e.AddrPort().String() }

// A Stamp is a time in µs since 1970 in UTC, a third of the size of a time.Time; zero: none.
type Stamp int64

// StampOf returns the Stamp of a time. That of the zero time is zero.
func StampOf(t time.Time) Stamp {
	if t.IsZero() {
		return 0
	}
	return Stamp(t.UnixMicro())
}

// Time returns the time.
func (s Stamp) Time() time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(s))
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
	Addr    netip.Addr // from which it reports; invalid: this process
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
	NetworksDate time.Time      // of the newest table of networks; zero: unknown
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
