package names

import (
	"net/netip"
	"time"
)

const (
	maxAsked  = 4096     // questions that wait for an answer
	maxLearnt = 64 << 10 // addresses that are known, of processes and of the host
	minKept   = 10 * time.Minute
	maxKept   = 24 * time.Hour
	grace     = 10 * time.Minute // programs keep addresses longer than they may
	mdnsPort  = 5353
)

// A PID is that of a process that asks for names. Zero is the host: what any of its processes has
// asked for. A later process may have the PID of an earlier one, and gets what that has asked for: it
// is what the host has asked for, too.
type PID uint32

// A question waits for its answer on the socket that asked.
type question struct {
	cookie uint64
	id     uint16
	name   string
}

type address struct {
	who  PID
	addr netip.Addr
}

type learnt struct {
	name  string
	until time.Time
}

// A direction is one of the two streams of a TCP connection.
type direction struct {
	cookie uint64
	sent   bool
}

// A Table knows the names that answers of DNS gave to addresses. The zero Table is empty; it is not
// safe for concurrent use.
type Table struct {
	asked     cache[question, PID]
	streams   cache[direction, *stream]
	addresses cache[address, learnt]
}

// Read reads a DNS message that a socket of a process has sent or received. An answer counts only
// if the socket has asked for the name with the same ID; what mDNS says counts for the host.
func (t *Table) Read(cookie uint64, who PID, sent bool, peer netip.AddrPort, message []byte, now time.Time) {
	m, ok := ParseDNS(message)
	if !ok {
		return
	}
	t.asked.max = maxAsked
	switch {
	case peer.Port() == mdnsPort:
		if m.Response {
			t.learn(0, m.Addresses, now)
		}
	case sent && !m.Response:
		t.asked.put(question{cookie, m.ID, m.Name}, who)
	case !sent && m.Response:
		q := question{cookie, m.ID, m.Name}
		if asker, ok := t.asked.get(q); ok {
			t.asked.remove(q)
			t.learn(asker, m.Addresses, now)
			t.learn(0, m.Addresses, now)
		}
	}
}

// ReadTCP is Read of DNS over TCP, where each message stands behind its length.
func (t *Table) ReadTCP(cookie uint64, who PID, sent bool, peer netip.AddrPort, seq uint32, data []byte, now time.Time) {
	t.streams.max = maxStreams
	d := direction{cookie, sent}
	s, ok := t.streams.get(d)
	if !ok {
		s = &stream{next: seq}
	}
	if _, ok := s.add(seq, data); !ok {
		t.streams.remove(d)
		return
	}
	t.streams.put(d, s)
	for len(s.data) >= 2 {
		n := int(s.data[0])<<8 | int(s.data[1])
		if len(s.data) < 2+n {
			return
		}
		t.Read(cookie, who, sent, peer, s.data[2:2+n], now)
		s.data = s.data[2+n:]
	}
}

func (t *Table) learn(who PID, list []Address, now time.Time) {
	t.addresses.max = maxLearnt
	for _, a := range list {
		kept := min(max(a.TTL, minKept), maxKept) + grace
		t.addresses.put(address{who, a.Addr}, learnt{a.Name, now.Add(kept)})
	}
}

// Lookup returns the name by which a process, or else another one of the host, has asked for an
// address.
func (t *Table) Lookup(who PID, addr netip.Addr, now time.Time) (Name, bool) {
	for _, of := range [...]PID{who, 0} {
		if l, ok := t.addresses.get(address{of, addr}); ok && now.Before(l.until) {
			source := DNS
			if of == 0 {
				source = Host
			}
			return Name{Name: l.name, Source: source}, true
		}
	}
	return Name{}, false
}

// Dropped returns how many names gave way to others.
func (t *Table) Dropped() uint64 { return t.addresses.dropped }
