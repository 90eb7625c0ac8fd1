package names

import (
	"net/netip"
	"strings"
	"time"
)

const (
	maxAsked  = 4096     // questions that wait for an answer
	maxLearnt = 64 << 10 // addresses that are known, of processes and of the host
	maxNames  = 16 << 10 // names that answers were about
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
	id     uint16 // zero in mDNS
	name   string
}

// An asker is who has asked a question, and whom.
type asker struct {
	who    PID
	server netip.Addr
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
	asked     cache[question, asker]
	streams   cache[direction, *stream]
	addresses cache[address, learnt]
	names     cache[string, time.Time] // those of addresses, and until when
}

// Read reads a DNS message that a socket of a process has sent or received. An answer counts only
// if the socket has asked for the name with the same ID. What mDNS says of a name in .local that
// the socket has asked for counts for the host.
func (t *Table) Read(cookie uint64, who PID, sent bool, peer netip.AddrPort, message []byte, now time.Time) {
	m, ok := ParseDNS(message)
	if !ok {
		return
	}
	t.asked.max = maxAsked
	switch {
	case peer.Port() == mdnsPort:
		t.readMulticast(cookie, who, sent, &m, message, now)
	case sent && !m.Response:
		t.asked.put(question{cookie, m.ID, m.Name}, asker{who, peer.Addr()})
	case !sent && m.Response:
		q := question{cookie, m.ID, m.Name}
		asker, ok := t.asked.get(q)
		if !ok {
			return
		}
		// An answer from elsewhere may be one that a proxy or NAT has moved, or a lie, which
		// the true answer replaces.
		if peer.Addr() == asker.server {
			t.asked.remove(q)
		}
		t.learn(asker.who, m.Addresses, now)
		t.learn(0, m.Addresses, now)
	}
}

// readMulticast reads a message of mDNS, where anybody may answer at any time, more than once.
func (t *Table) readMulticast(cookie uint64, who PID, sent bool, m *Message, message []byte, now time.Time) {
	switch {
	case sent && !m.Response:
		for _, name := range questions(message) {
			if strings.HasSuffix(name, ".local") {
				t.asked.put(question{cookie: cookie, name: name}, asker{who: who})
			}
		}
	case !sent && m.Response:
		for _, a := range m.Addresses {
			if _, ok := t.asked.get(question{cookie: cookie, name: a.Name}); ok {
				t.learn(0, []Address{a}, now)
			}
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
	t.addresses.max, t.names.max = maxLearnt, maxNames
	for _, a := range list {
		kept := min(max(a.TTL, minKept), maxKept) + grace
		t.addresses.put(address{who, a.Addr}, learnt{a.Name, now.Add(kept)})
		t.names.put(a.Name, now.Add(kept))
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

// Asked reports whether there was an answer with addresses of a name.
func (t *Table) Asked(name string, now time.Time) bool {
	until, ok := t.names.get(name)
	return ok && now.Before(until)
}

// Dropped returns how many names gave way to others.
func (t *Table) Dropped() uint64 { return t.addresses.dropped }
