package conntrack

import (
	"encoding/json"
	"net/netip"
	"time"
)

// eventJSON is an event as one line of JSON. Its field names are read by other
// programs and do not change.
type eventJSON struct {
	Event     string         `json:"event"`
	Time      string         `json:"time"`
	Proto     string         `json:"proto,omitzero"`
	State     string         `json:"state,omitzero"`
	Direction string         `json:"direction,omitzero"`
	Local     netip.AddrPort `json:"local,omitzero"`
	Peer      netip.AddrPort `json:"peer,omitzero"`
	PID       int            `json:"pid,omitzero"`
	Comm      string         `json:"comm,omitzero"`
	Exe       string         `json:"exe,omitzero"`
	UID       *uint32        `json:"uid,omitzero"`
	Container string         `json:"container,omitzero"`
	Sharers   []processJSON  `json:"sharers,omitempty"`
	TxBytes   *uint64        `json:"tx_bytes,omitzero"`
	RxBytes   *uint64        `json:"rx_bytes,omitzero"`
	RTT       int64          `json:"rtt_us,omitzero"`
	Opened    string         `json:"opened,omitzero"`
	Lost      *uint64        `json:"lost,omitzero"`
}

type processJSON struct {
	PID       int    `json:"pid"`
	Comm      string `json:"comm,omitzero"`
	Exe       string `json:"exe,omitzero"`
	Container string `json:"container,omitzero"`
}

// MarshalJSON returns the event as one flat object without line breaks, in this
// order and with these names only:
//
//	event      "open", "update", "close" or "lost"
//	time       when that happened, RFC 3339 in UTC, with fractions of a second
//	proto      "tcp", "udp", "icmp", "icmpv6", "sctp" or the number
//	state      of TCP, such as "established" or "close-wait"
//	direction  "in" or "out"
//	local      address and port, such as "192.0.2.1:443" or "[2001:db8::1]:443"
//	peer       likewise
//	pid        process ID
//	comm       the kernel's name of the process
//	exe        path of its executable
//	uid        user that owns the socket
//	container  64 hexadecimal digits
//	sharers    other processes that hold the socket, an array of objects with pid, comm, exe and container
//	tx_bytes   payload bytes sent; absent if rx_bytes is zero too
//	rx_bytes   payload bytes received; absent if tx_bytes is zero too
//	rtt_us     smoothed round-trip time in microseconds
//	opened     when the connection opened or was first seen, as time
//
// What is unknown is absent. Events of kind Lost have event, time and lost, the
// number of events lost. Bytes of comm and exe that are not UTF-8 become U+FFFD.
func (e Event) MarshalJSON() ([]byte, error) {
	j := eventJSON{Event: e.Kind.String(), Time: e.Time.UTC().Format(time.RFC3339Nano)}
	if e.Kind == Lost {
		j.Lost = &e.Lost
		return json.Marshal(j)
	}
	c := &e.Conn
	j.Proto = c.Proto.String()
	if c.Direction != Unknown {
		j.Direction = c.Direction.String()
	}
	j.Local, j.Peer = c.Local, c.Peer
	j.State = c.State.String()
	j.PID, j.Comm, j.Exe, j.Container = c.Process.PID, c.Process.Comm, c.Process.Exe, c.Process.Container
	for _, p := range c.Sharers {
		j.Sharers = append(j.Sharers, processJSON(p))
	}
	j.UID = &c.UID
	if c.Tx != 0 || c.Rx != 0 {
		j.TxBytes, j.RxBytes = &c.Tx, &c.Rx
	}
	j.RTT = c.RTT.Microseconds()
	if !c.Opened.IsZero() {
		j.Opened = c.Opened.UTC().Format(time.RFC3339Nano)
	}
	return json.Marshal(j)
}
