package conntrack

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/connmapgo/connmap/conntrack/internal/names"
)

// A Proto is an IANA protocol number.
type Proto uint8

// The protocols that have a name. Sockets of other protocols are reported too.
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

// ParseProto returns the protocol whose String is s, and whether there is one.
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

// ParseDirection returns the direction whose String is s, and whether there is one.
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

// The states of connections, named as in RFC 9293. The state is zero for other protocols and
// for backends that do not report it.
const (
	Established State = 1
	FinWait1    State = 4
	FinWait2    State = 5
	Closed      State = 7
	CloseWait   State = 8
	LastAck     State = 9
	Closing     State = 11
)

// BeingClosed reports whether one side or both have closed the connection. It then carries no
// new data in at least one direction, but its socket may exist for long. It is false for
// Established, Closed and the zero State.
func (s State) BeingClosed() bool {
	switch s {
	case FinWait1, FinWait2, CloseWait, LastAck, Closing:
		return true
	}
	return false
}

// String returns the name of RFC 9293 in lower case, such as "fin-wait-1". Other states are a
// number, and zero is empty.
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

// A Process is the program that owns a socket. The zero Process is unknown, such as one that
// the Collector is not allowed to inspect. Traffic of the kernel itself, as for a network file
// system, has PID 0 and Comm "kernel". For a tunnel, Exe is the name of its device. Only EBPF
// knows it.
type Process struct {
	PID       int
	Comm      string // the kernel's name of the process, at most 15 bytes, 16 on macOS; on Windows the name of its executable
	Exe       string // path of the executable, empty if unreadable
	Container string // 64 hexadecimal digits, empty outside containers
}

// A Conn is one connection: an established or closing TCP socket, or a flow, which is the
// datagrams between one socket and one peer.
type Conn struct {
	// ID is unique among the present connections of the host, and stable while the
	// connection lives. EBPF and Diag use the socket cookie, which a socket keeps when it
	// connects anew. Flows of a socket with several peers have numbers from 1<<63 on.
	// PCBList uses the generation count of the socket. Proc and IPHelper make numbers from
	// the addresses, and Proc from the inode.
	ID        uint64
	Proto     Proto
	State     State
	Direction Direction
	// NameSource is where Name is from.
	NameSource NameSource
	// Local is never an IPv4-mapped IPv6 address. The zone of a link-local address is the
	// index of the network device in the socket's namespace, in decimal digits. Proc and
	// IPHelper do not know it.
	Local   netip.AddrPort
	Peer    netip.AddrPort // as Local
	Process Process        // the owner: the last process known to send or receive
	Sharers []Process      // other processes that hold the socket, by PID; nil: none known. Read only
	UID     uint32         // user that owns the socket; 1<<32 - 1: unknown, as on Windows, whose users have no numbers
	Tx, Rx  uint64         // payload bytes sent and received; both zero: none, or unknown
	RTT     time.Duration  // smoothed round-trip time; zero: unknown
	Opened  time.Time      // when it opened, or when the Collector first saw it if that was later
	// Name is by which name a program of this host has asked for the peer, in lower case; other
	// scripts are in Punycode. It is empty if unknown, as of connections that the peer opened. It is
	// what somebody said: nobody has verified it.
	Name string
}

// A NameSource says how a name was learnt. A name that the connection itself says (NameSNI, NameQUIC,
// NameHTTP) counts before one that its process asked for (NameDNS), and that before one that
// another process of this host asked for (NameHost). Where a ClientHello is encrypted, the name
// outside it gives way to one that the process asked for, unless it asked for that name too.
type NameSource = names.Source

// The sources of names. The zero NameSource is none.
const (
	NameDNS  = names.DNS  // an answer of DNS to the process
	NameSNI  = names.SNI  // the server name in the ClientHello of TLS
	NameQUIC = names.QUIC // that of QUIC
	NameHTTP = names.HTTP // the Host of a request of HTTP
	NameHost = names.Host // an answer to another process of this host, such as its resolver, or of mDNS
)

// ParseNameSource returns the source of names whose String is s, and whether there is one.
func ParseNameSource(s string) (NameSource, bool) { return names.ParseSource(s) }

// zoned returns a link-local IPv6 address with the index of its device as zone; zero: unknown.
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
		c.Name == d.Name && c.NameSource == d.NameSource &&
		c.UID == d.UID && c.Tx == d.Tx && c.Rx == d.Rx && c.RTT == d.RTT && c.Opened.Equal(d.Opened)
}

// A Kind says what happened to a connection.
type Kind uint8

// The kinds of events.
const (
	Open   Kind = iota + 1 // a connection appeared, or was present at the start
	Update                 // owners, direction, state or counters changed; a new RTT alone is no event
	Close                  // a connection ended; Conn has the last counters known
	Lost                   // connections were dropped and are never reported; Event.Lost is how many
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

const unknownUID = 1<<32 - 1 // POSIX reserves it

// An Event is a change of one connection.
type Event struct {
	Kind Kind
	Time time.Time // when it happened; of an Open of a connection that was there before, when Events began
	Conn Conn      // all of it, also in an Update, with all bytes so far; zero if Kind is Lost
	Lost uint64    // how many connections were lost, if Kind is Lost; see [Info]
}
