package names

import (
	"net/netip"
	"strings"
	"time"
)

const (
	maxAsked  = 4096     // questions that wait for an answer
	maxLearnt = 32 << 10 // addresses that are known, of processes and of the host
	maxNames  = 8 << 10  // names that processes have got answers about
	minKept   = 10 * time.Minute
	maxKept   = 24 * time.Hour
	grace     = 10 * time.Minute // programs keep addresses longer than they may
	mdnsPort  = 5353
)

// A PID is that of a process that asks for names. Zero is the host: what any of its processes has
// asked for. A later process may have the PID of an earlier one; see Lookup.
type PID uint32

// A question waits for its answer on the socket that asked.
type question struct {
	cookie uint64
	id     uint16 // zero in mDNS
	kind   uint16 // of the records that are asked for, likewise
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
	name      string
	at, until int64 // ns since 1970
}

// An asking is a name and who has asked for it.
type asking struct {
	who  PID
	name string
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
	names     cache[asking, int64] // those of addresses, and until when
}

// Read reads a DNS message that a socket of a process has sent or received. An answer counts only
// if the socket has asked the one that answers for the name, with the same ID and type. One that is
// not whole may be followed by another. What mDNS says of a name in .local that the socket has asked
// for counts for the host.
func (t *Table) Read(cookie uint64, who PID, sent bool, peer netip.AddrPort, message []byte, now time.Time) {
	t.read(cookie, who, sent, peer, peer.Addr(), message, now)
}

// read is Read of a message with a server.
func (t *Table) read(cookie uint64, who PID, sent bool, peer netip.AddrPort, server netip.Addr, message []byte, now time.Time) {
	m, ok := ParseDNS(message)
	if !ok {
		return
	}
	t.asked.max = maxAsked
	switch {
	case peer.Port() == mdnsPort:
		t.readMulticast(cookie, who, sent, &m, message, now)
	case sent && !m.Response:
		t.asked.put(question{cookie, m.ID, m.Type, m.Name}, asker{who, server})
	case !sent && m.Response:
		q := question{cookie, m.ID, m.Type, m.Name}
		asker, ok := t.asked.get(q)
		if !ok || server != asker.server {
			return
		}
		if m.Whole {
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

// ReadTCP is Read of DNS over TCP, where each message stands behind its length. The data of a new
// connection of the socket begins.
func (t *Table) ReadTCP(cookie uint64, who PID, sent, begins bool, peer netip.AddrPort, seq uint32, data []byte, now time.Time) {
	t.streams.max = maxStreams
	d := direction{cookie, sent}
	s, ok := t.streams.get(d)
	if !ok || begins {
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
		// A connection has one server, whose address may be another on the way there.
		t.read(cookie, who, sent, peer, netip.Addr{}, s.data[2:2+n], now)
		s.data = s.data[2+n:]
	}
}

func (t *Table) learn(who PID, list []Address, now time.Time) {
	t.addresses.max, t.names.max = maxLearnt, maxNames
	for _, a := range list {
		until := now.Add(min(max(a.TTL, minKept), maxKept) + grace).UnixNano()
		t.addresses.put(address{who, a.Addr}, learnt{a.Name, now.UnixNano(), until})
		if who != 0 {
			t.names.put(asking{who, a.Name}, until)
		}
	}
}

// Lookup returns the name for which a process, or the host, has last got an address, if that was
// from one time to another. A process is not older than what it has asked for.
func (t *Table) Lookup(who PID, addr netip.Addr, from, to, now time.Time) (Name, bool) {
	l, ok := t.addresses.get(address{who, addr})
	if !ok || now.UnixNano() >= l.until || l.at > to.UnixNano() || !from.IsZero() && l.at < from.UnixNano() {
		return Name{}, false
	}
	if who == 0 {
		return Name{Name: l.name, Source: Host}, true
	}
	return Name{Name: l.name, Source: DNS}, true
}

// Asked reports whether a process has got addresses of a name.
func (t *Table) Asked(who PID, name string, now time.Time) bool {
	until, ok := t.names.get(asking{who, name})
	return ok && now.UnixNano() < until
}

// Dropped returns how many names gave way to others.
func (t *Table) Dropped() uint64 { return t.addresses.dropped }
