//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"log/slog"
	"time"

	"github.com/connmapgo/connmap/conntrack/internal/bpf"
	"github.com/connmapgo/connmap/conntrack/internal/names"
)

const maxUnclaimed = 1024 // names of connections that are not in the table yet

// peerNames are the names that programs have sent to peers, or have asked DNS for.
type peerNames struct {
	on        bool
	openings  names.Openings
	answers   names.Table
	unclaimed map[bpf.FlowKey]names.Name
	dropped   uint64 // of unclaimed
	told      uint64 // names that were forgotten, as last logged
	nextTold  time.Time
}

// forgotten returns how many names gave way to others.
func (n *peerNames) forgotten() uint64 { return n.dropped + n.answers.Dropped() }

// tell logs how many names have been forgotten since New: at most once in an hour, or when there are
// ten times as many.
func (n *peerNames) tell(log *slog.Logger, forgotten uint64, now time.Time) {
	if forgotten == n.told || now.Before(n.nextTold) && forgotten < 10*n.told {
		return
	}
	n.told, n.nextTold = forgotten, now.Add(time.Hour)
	log.Warn("conntrack: there were more names of peers than can be kept; some connections have none", "forgotten", forgotten)
}

const dnsPort, mdnsPort, llmnrPort = 53, 5353, 5355

// readPayload reads what may name a peer in a packet.
func (e *ebpf) readPayload(s *bpf.Payload) {
	who := names.PID(s.Owner.PID)
	var n names.Name
	switch port := s.Peer.Port(); {
	case Proto(s.Proto) == TCP:
		// Other protocols can be spoken on the port of DNS, too.
		if port == dnsPort && !(s.Begins && names.IsHello(s.Data)) && !e.names.openings.Reads(s.Cookie) {
			e.names.answers.ReadTCP(s.Cookie, who, s.Sent, s.Begins, s.Peer, s.Seq, s.Data, time.Now())
			return
		}
		n, _ = e.names.openings.TCP(s.Cookie, s.Begins, s.Seq, s.Data)
	case (port == dnsPort || port == mdnsPort || port == llmnrPort) && !names.IsInitial(s.Data):
		e.names.answers.Read(s.Cookie, who, s.Sent, s.Peer, s.Data, time.Now())
		return
	default:
		n, _ = e.names.openings.UDP(s.Cookie, s.Peer, s.Data)
	}
	if n.Name == "" {
		return
	}
	key := bpf.KeyOf(s.Cookie, s.Proto, s.Peer)
	t := e.flows[key]
	if Proto(s.Proto) == TCP {
		t = e.conns[s.Cookie]
	}
	switch {
	case t == nil:
		if e.names.unclaimed == nil || len(e.names.unclaimed) >= maxUnclaimed {
			e.names.dropped += uint64(len(e.names.unclaimed))
			e.names.unclaimed = make(map[bpf.FlowKey]names.Name)
		}
		e.names.unclaimed[key] = n
	case t.conn.Direction == In:
		// It is this machine that was asked for.
	case e.setName(t, n):
		e.update(t, time.Now().Round(0))
	}
}

// nameNew gives a connection that is new in the table the name that is known. Its process started
// at a time of the kernel's clock.
func (e *ebpf) nameNew(t *tracked, cookie uint64, started int64) {
	if !e.names.on || t.conn.Direction == In {
		return
	}
	if len(e.names.unclaimed) > 0 {
		key := bpf.KeyOf(cookie, uint8(t.conn.Proto), t.conn.Peer)
		if n, ok := e.names.unclaimed[key]; ok {
			delete(e.names.unclaimed, key)
			e.setName(t, n)
		}
	}
	// An earlier process may have had its number.
	e.nameByAnswer(t, e.wall(started), time.Time{})
}

// nameLate gives a nameless connection that ends the name that was read too late for its opening.
func (e *ebpf) nameLate(t *tracked) {
	if t.conn.Name == "" {
		opened := t.conn.Opened.Add(-lateAnswer)
		e.nameByAnswer(t, opened, opened)
	}
}

// lateAnswer is how much later than the opening of a connection the answer may be read that its program
// got before. What is asked for later is about other connections.
const lateAnswer = 2 * time.Second

// nameByAnswer gives a connection without a name the one that its process has asked for from one time
// on, or another process of this host from another.
func (e *ebpf) nameByAnswer(t *tracked, own, host time.Time) {
	if !e.names.on || t.conn.Direction == In || t.conn.Name != "" {
		return
	}
	n, ok := e.answer(t, names.PID(t.conn.Process.PID), own)
	if !ok {
		n, ok = e.answer(t, 0, host)
	}
	if ok {
		e.setName(t, n)
	}
}

// answer returns the name for which a process, or the host, has got the address of a connection's
// peer from a time on, before the connection opened.
func (e *ebpf) answer(t *tracked, who names.PID, from time.Time) (names.Name, bool) {
	return e.names.answers.Lookup(who, t.conn.Peer.Addr(), from, t.conn.Opened.Add(lateAnswer), time.Now())
}

// setName sets the name of a connection, and reports whether that is a change.
func (e *ebpf) setName(t *tracked, n names.Name) bool {
	if who := names.PID(t.conn.Process.PID); n.Outer && !e.names.answers.Asked(who, n.Name, time.Now()) {
		// If its process has asked for another name at this address, that is the one inside, and
		// this one that of a server in front. What the process has asked for is the peer's: browsers
		// say that a name is encrypted when none is.
		if asked, ok := e.answer(t, who, time.Time{}); ok {
			n = asked
		}
	}
	if t.conn.Name == n.Name && t.conn.NameSource == n.Source {
		return false
	}
	t.conn.Name, t.conn.NameSource = n.Name, n.Source
	return true
}
