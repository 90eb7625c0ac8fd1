package conntrack

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"time"

	"github.com/connmapgo/connmap/internal/terminal"
)

// MarshalJSON returns the event as one flat object without line breaks. It has these fields,
// in this order:
//
//	event      "open", "update", "close" or "lost"
//	time       when that happened, RFC 3339 in UTC, with fractions of a second
//	proto      "tcp", "udp", "icmp", "icmpv6", "sctp", "udplite" or the number
//	state      of TCP, such as "established" or "close-wait"
//	direction  "in" or "out"
//	local      address and port, such as "192.0.2.1:443" or "[2001:db8::1]:443"
//	peer       likewise
//	peer_name  by which a program has asked for the peer
//	peer_name_source  "dns", "sni", "quic", "http" or "host"
//	pid        process ID
//	comm       the kernel's name of the process
//	exe        path of its executable, or the device of a tunnel of the kernel
//	uid        user that owns the socket
//	container  64 hexadecimal digits
//	sharers    other processes that hold the socket, an array of objects with pid, comm, exe and container
//	tx_bytes   payload bytes sent; absent if rx_bytes is zero too
//	rx_bytes   payload bytes received; absent if tx_bytes is zero too
//	rtt_us     smoothed round-trip time in microseconds
//	opened     when the connection opened or was first seen, as time
//
// Unknown fields are absent. Events of kind Lost have event, time and lost, the number of
// connections lost. Bytes of comm and exe that are not UTF-8 become U+FFFD.
func (e Event) MarshalJSON() ([]byte, error) { return e.appendJSON(make([]byte, 0, 512)), nil }

// appendJSON does not use encoding/json: an agent may print tens of thousands of events a second.
func (e *Event) appendJSON(b []byte) []byte {
	b = append(b, `{"event":"`...)
	b = append(b, e.Kind.String()...)
	b = appendTime(append(b, `","time":`...), e.Time)
	if e.Kind == Lost {
		b = strconv.AppendUint(append(b, `,"lost":`...), e.Lost, 10)
		return append(b, '}')
	}
	c := &e.Conn
	b = appendField(b, "proto", c.Proto.String())
	b = appendField(b, "state", c.State.String())
	if c.Direction != Unknown {
		b = appendField(b, "direction", c.Direction.String())
	}
	b = appendAddr(b, "local", c.Local)
	b = appendAddr(b, "peer", c.Peer)
	b = appendField(b, "peer_name", c.Name)
	b = appendField(b, "peer_name_source", c.NameSource.String())
	if c.Process.PID != 0 {
		b = strconv.AppendInt(append(b, `,"pid":`...), int64(c.Process.PID), 10)
	}
	b = appendField(b, "comm", c.Process.Comm)
	b = appendField(b, "exe", c.Process.Exe)
	if c.UID != unknownUID {
		b = strconv.AppendUint(append(b, `,"uid":`...), uint64(c.UID), 10)
	}
	b = appendField(b, "container", c.Process.Container)
	for i, p := range c.Sharers {
		if i == 0 {
			b = append(b, `,"sharers":[`...)
		} else {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, `{"pid":`...), int64(p.PID), 10)
		b = appendField(b, "comm", p.Comm)
		b = appendField(b, "exe", p.Exe)
		b = append(appendField(b, "container", p.Container), '}')
	}
	if len(c.Sharers) > 0 {
		b = append(b, ']')
	}
	if c.Tx != 0 || c.Rx != 0 {
		b = strconv.AppendUint(append(b, `,"tx_bytes":`...), c.Tx, 10)
		b = strconv.AppendUint(append(b, `,"rx_bytes":`...), c.Rx, 10)
	}
	if us := c.RTT.Microseconds(); us != 0 {
		b = strconv.AppendInt(append(b, `,"rtt_us":`...), us, 10)
	}
	if !c.Opened.IsZero() {
		b = appendTime(append(b, `,"opened":`...), c.Opened)
	}
	return append(b, '}')
}

func appendTime(b []byte, t time.Time) []byte {
	return append(t.UTC().AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}

func appendAddr(b []byte, name string, a netip.AddrPort) []byte {
	switch {
	case !a.IsValid():
		return b
	case a.Addr().Zone() != "": // a zone may contain characters to escape
		return appendField(b, name, a.String())
	}
	b = append(append(append(b, `,"`...), name...), `":"`...)
	return append(a.AppendTo(b), '"')
}

// appendField appends a field with a string, unless the string is empty.
func appendField(b []byte, name, s string) []byte {
	if s == "" {
		return b
	}
	b = append(append(append(b, `,"`...), name...), `":`...)
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // never fails for a string
			return terminal.EscapeJSON(b, quoted)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
