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

// tell logs how many names have been forgotten since New, at most once in an hour.
func (n *peerNames) tell(log *slog.Logger, forgotten uint64, now time.Time) {
	if forgotten == n.told || now.Before(n.nextTold) {
		return
	}
	n.told, n.nextTold = forgotten, now.Add(time.Hour)
	log.Info("conntrack: there were more names of peers than can be kept; some connections have none", "forgotten", forgotten)
}

const dnsPort, mdnsPort, llmnrPort = 53, 5353, 5355

// readPayload reads what may name a peer in a packet.
func (e *ebpf) readPayload(s *bpf.Payload) {
	who := names.PID(s.Owner.PID)
	var n names.Name
	switch port := s.Peer.Port(); {
	case Proto(s.Proto) == TCP && port == dnsPort:
		e.names.answers.ReadTCP(s.Cookie, who, s.Sent, s.Peer, s.Seq, s.Data, time.Now())
	case Proto(s.Proto) == TCP:
		n, _ = e.names.openings.TCP(s.Cookie, s.Seq, s.Data)
	case port == dnsPort || port == mdnsPort || port == llmnrPort:
		e.names.answers.Read(s.Cookie, who, s.Sent, s.Peer, s.Data, time.Now())
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

// nameNew gives a connection that is new in the table the name that is known.
func (e *ebpf) nameNew(t *tracked, cookie uint64) {
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
	e.nameByAnswer(t)
}

// nameByAnswer gives a connection without a name the one that its process has asked for, or another
// process of this host.
func (e *ebpf) nameByAnswer(t *tracked) {
	if !e.names.on || t.conn.Direction == In || t.conn.Name != "" && t.conn.NameSource != NameHost {
		return
	}
	if n, ok := e.answer(t); ok {
		e.setName(t, n)
	}
}

// answer returns the name that the process of a connection, or another one, has asked for.
func (e *ebpf) answer(t *tracked) (names.Name, bool) {
	return e.names.answers.Lookup(names.PID(t.conn.Process.PID), t.conn.Peer.Addr(), time.Now())
}

// setName sets the name of a connection, and reports whether that is a change.
func (e *ebpf) setName(t *tracked, n names.Name) bool {
	if n.Outer && !e.names.answers.Asked(n.Name, time.Now()) {
		// Nobody has asked for it, so that it is the name of a server in front. One that was
		// asked for is that of the peer: browsers say that a name is encrypted when none is.
		if asked, ok := e.answer(t); ok && asked.Source == names.DNS {
			n = asked
		}
	}
	if t.conn.Name == n.Name && t.conn.NameSource == n.Source {
		return false
	}
	t.conn.Name, t.conn.NameSource = n.Name, n.Source
	return true
}
