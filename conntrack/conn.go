package conntrack

import (
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// A Proto is an IANA protocol number.
type Proto uint8

// The protocols with a name. Sockets of others are reported too.
const (
	ICMP    Proto = 1
	TCP     Proto = 6
	UDP     Proto = 17
	ICMPv6  Proto = 58
	SCTP    Proto = 132
	UDPLite Proto = 136
)

// String returns "tcp", "udp", "icmp", "icmpv6", "sctp", "udplite" or the number.
func (p Proto) String() string {
	switch p {
	case ICMP:
		return "icmp"
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case ICMPv6:
		return "icmpv6"
	case SCTP:
		return "sctp"
	case UDPLite:
		return "udplite"
	}
	return strconv.Itoa(int(p))
}

// ParseProto returns the protocol whose String is s; false: there is none.
func ParseProto(s string) (Proto, bool) {
	for _, p := range [...]Proto{TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite} {
		if p.String() == s {
			return p, true
		}
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if p := Proto(n); err == nil && p.String() == s {
		return p, true
	}
	return 0, false
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

// ParseDirection returns the direction whose String is s; false: there is none.
func ParseDirection(s string) (Direction, bool) {
	for d := Unknown; d <= Out; d++ {
		if d.String() == s {
			return d, true
		}
	}
	return Unknown, false
}

// A State is the state of a TCP socket. The values are the Linux kernel's.
type State uint8

// The states a connection can be in, named as in RFC 9293. The zero State is
// that of other protocols and of backends that do not tell it.
const (
	Established State = 1
	FinWait1    State = 4
	FinWait2    State = 5
	Closed      State = 7
	CloseWait   State = 8
	LastAck     State = 9
	Closing     State = 11
)

// BeingClosed reports whether one side or both have closed: the connection carries no new
// data in at least one direction, though its socket may stay for long. It is false for
// Established, Closed and the zero State.
func (s State) BeingClosed() bool {
	switch s {
	case FinWait1, FinWait2, CloseWait, LastAck, Closing:
		return true
	}
	return false
}

// String returns the name of RFC 9293 in lower case, such as "fin-wait-1", the
// number of other states, and nothing for zero.
func (s State) String() string {
	switch s {
	case 0:
		return ""
	case Established:
		return "established"
	case FinWait1:
		return "fin-wait-1"
	case FinWait2:
		return "fin-wait-2"
	case Closed:
		return "closed"
	case CloseWait:
		return "close-wait"
	case LastAck:
		return "last-ack"
	case Closing:
		return "closing"
	}
	return strconv.Itoa(int(s))
}

// A Process is the program that owns a socket. The zero Process is unknown, such as one
// that this process may not look at. The kernel itself, as for a network file system, has
// the PID 0 and the Comm "kernel", and of a tunnel the name of the device as Exe; only the
// backend EBPF knows it.
type Process struct {
	PID       int
	Comm      string // the kernel's name of the process, 15 bytes at most, 16 on macOS; on Windows the name of its executable
	Exe       string // path of the executable, empty if unreadable
	Container string // 64 hexadecimal digits, empty outside containers
}

// A Conn is one connection: a TCP socket from its being established until it has
// closed, or a flow: the datagrams between a socket and one peer.
type Conn struct {
	// ID is unique among the connections of the host at one time, and stable
	// while the connection lives. It is the socket cookie, or, for the flows
	// of a socket with several peers, a number from 1<<63 on. A socket that
	// connects anew keeps its cookie. With PCBList it is the generation count
	// of the socket. The backends Proc and IPHelper know no cookies and make
	// other numbers, from the addresses, and Proc from the inode.
	ID        uint64
	Proto     Proto
	State     State
	Direction Direction
	// Local is never an IPv4-mapped IPv6 address. A link-local one has as its zone the
	// index of the network device in the namespace of the socket, in decimal digits. Proc
	// and IPHelper do not know it.
	Local   netip.AddrPort
	Peer    netip.AddrPort // likewise
	Process Process        // the last known to send or receive
	Sharers []Process      // the others that hold the socket, by PID; nil: none known. It must not be changed
	UID     uint32         // user that owns the socket; 1<<32 - 1: not known, as on Windows, whose users have no numbers
	Tx, Rx  uint64         // payload bytes sent and received; both zero: none, or not known
	RTT     time.Duration  // smoothed round-trip time; zero: unknown
	Opened  time.Time      // when it opened, or when the collector first saw it if that was later
}

// zoned returns a link-local address of IPv6 with the index of its device; zero: not known.
func zoned(a netip.Addr, device uint32) netip.Addr {
	if device == 0 || !a.Is6() || !a.IsLinkLocalUnicast() && !a.IsLinkLocalMulticast() {
		return a
	}
	return a.WithZone(strconv.FormatUint(uint64(device), 10))
}

// Equal reports whether c and d are the same in every field.
func (c Conn) Equal(d Conn) bool {
	return c.ID == d.ID && c.Proto == d.Proto && c.State == d.State && c.Direction == d.Direction &&
		c.Local == d.Local && c.Peer == d.Peer && c.Process == d.Process && slices.Equal(c.Sharers, d.Sharers) &&
		c.UID == d.UID && c.Tx == d.Tx && c.Rx == d.Rx && c.RTT == d.RTT && c.Opened.Equal(d.Opened)
}

// A Kind says what happened to a connection.
type Kind uint8

// The kinds of events.
const (
	Open   Kind = iota + 1 // a connection appeared; those present at the start open too
	Update                 // its owners, direction, state or counters changed; a new round-trip time alone is no event
	Close                  // it ended; the Conn holds the last counters known
	Lost                   // connections were dropped that are never reported: Event.Lost says how many
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

const unknownUID = 1<<32 - 1 // which POSIX lets no user have

// An Event is a change of one connection.
type Event struct {
	Kind Kind
	Time time.Time
	Conn Conn   // zero if Kind is Lost
	Lost uint64 // number of connections lost, if Kind is Lost; see [Info]
}
