package conntrack

import (
	"net/netip"
	"strconv"
	"time"
)

// A Proto is an IANA protocol number.
type Proto uint8

// The protocols reported today.
const (
	TCP Proto = 6
	UDP Proto = 17
)

// String returns "tcp", "udp" or the number.
func (p Proto) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	}
	return strconv.Itoa(int(p))
}

// A Direction says which side opened a connection.
type Direction uint8

// The directions. The zero value is Unknown.
const (
	Unknown Direction = iota
	In                // the peer connected to this host
	Out               // this host connected to the peer
)

// String returns "unknown", "in" or "out".
func (d Direction) String() string {
	switch d {
	case In:
		return "in"
	case Out:
		return "out"
	}
	return "unknown"
}

// A Process is the program that owns a socket. The zero Process is unknown:
// the socket belongs to the kernel, or to a process this one may not look at.
type Process struct {
	PID       int
	Comm      string // the kernel's name of the process, 15 bytes at most
	Exe       string // path of the executable, empty if unreadable
	Container string // 64 hexadecimal digits, empty outside containers
}

// A Conn is one connection: a TCP socket in an established state or a UDP
// socket with a peer. It is a comparable value.
type Conn struct {
	ID        uint64 // socket cookie: stable for the life of the socket, unique on its host; a socket that connects anew keeps it
	Proto     Proto
	Direction Direction
	Local     netip.AddrPort // never an IPv4-mapped IPv6 address
	Peer      netip.AddrPort // never an IPv4-mapped IPv6 address
	Process   Process
	UID       uint32        // user that owns the socket
	Tx, Rx    uint64        // payload bytes sent and received; zero for UDP
	RTT       time.Duration // smoothed round-trip time; zero: unknown
	Opened    time.Time     // when the collector first saw it, also for connections older than the collector
}

// A Kind says what happened to a connection.
type Kind uint8

// The kinds of events.
const (
	Open   Kind = iota + 1 // a connection appeared; those present at the start open too
	Update                 // its owner or counters changed; a new round-trip time alone is no event
	Close                  // it ended; the Conn holds the last counters known
	Lost                   // events were lost: Event.Lost says how many
)

// String returns "open", "update", "close" or "lost".
func (k Kind) String() string {
	switch k {
	case Open:
		return "open"
	case Update:
		return "update"
	case Close:
		return "close"
	case Lost:
		return "lost"
	}
	return "kind " + strconv.Itoa(int(k))
}

// An Event is a change of one connection.
type Event struct {
	Kind Kind
	Time time.Time
	Conn Conn   // zero if Kind is Lost
	Lost uint64 // number of events lost, if Kind is Lost
}
