package feed

import (
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/connmapgo/connmap/conntrack/feed/frame"
)

// A link is the connection of an agent that has joined.
type link struct {
	conn   net.Conn
	run    frame.Run
	before frame.Run // the run before; zero: unknown
	origin
	Registered // only a name if the agent has no key
	since      time.Time
	heardAt    atomic.Int64  // when the last frame came, in ns of Unix time
	conns      atomic.Int64  // in memory
	code       atomic.Uint32 // why the server dismisses the agent; zero: it does not
	done       chan struct{} // closed when the Handler knows that it ended
}

// dismiss closes the connection, and tells the agent why.
func (l *link) dismiss(code byeCode) {
	l.code.CompareAndSwap(0, uint32(code))
	// This wakes the session, which sends the code.
	l.conn.SetReadDeadline(time.Now())
}

func (s *Server) maxAgents() int {
	n := s.MaxAgents
	if n == 0 {
		n = defaultMaxAgents
	}
	if s.MaxFiles > 0 {
		n = min(n, max(s.MaxFiles-ownFiles-2*minJoining, 1))
	}
	return n
}

func (s *Server) maxConns() int {
	if s.MaxConns == 0 {
		return defaultMaxConns
	}
	return s.MaxConns
}

func (s *Server) maxTotal() int64 {
	if s.MaxTotal == 0 {
		return defaultMaxTotal
	}
	return int64(s.MaxTotal)
}

// poolOf returns the pool of a link: agents with a key have one apart from those without.
func (s *Server) poolOf(l *link) *fairPool[*link] {
	if l.Key == (Key{}) {
		return &s.withoutKey
	}
	return &s.withKey
}

// addLink adds a link. It first ends an older one of the same run of an agent, of the run before
// or of the same key, which a network that failed may have left half open. It waits for that, so
// that the welcome counts all that came by it.
func (s *Server) addLink(l *link, log *slog.Logger) error {
	s.mu.Lock()
	var old []*link
	code := byeReplaced
	if o := s.links[l.run]; o != nil {
		old = append(old, o)
	}
	if o := s.links[l.before]; o != nil && l.before != l.run && l.before != (frame.Run{}) {
		old = append(old, o)
	}
	if k := s.keys[l.Key]; k != nil && !slices.Contains(old, k) {
		old = append(old, k)
		if time.Since(time.Unix(0, k.heardAt.Load())) < aliveTime {
			log.Warn("an agent has joined anew while it was there; if that goes on, two machines share one key: remove its file on one of them", "agent", l.Name)
		}
	}
	if len(old) == 0 && len(s.links) >= s.maxAgents() {
		o := s.evictable(l)
		if o == nil {
			s.mu.Unlock()
			return errAgents
		}
		old, code = append(old, o), byeAgents
	}
	for _, o := range old {
		s.remove(o)
	}
	if s.links == nil {
		s.links, s.keys = make(map[frame.Run]*link), make(map[Key]*link)
	}
	s.links[l.run] = l
	if l.Key != (Key{}) {
		s.keys[l.Key] = l
	}
	s.poolOf(l).add(l)
	s.mu.Unlock()
	for _, o := range old {
		o.dismiss(code)
		select {
		case <-o.done:
		case <-time.After(time.Second):
			o.conn.Close() // sending it why may be stuck
			<-o.done
		}
	}
	return nil
}

// evictable returns the link that gives way to a new one; nil: none does. Links without a key
// give way to all that have one, and to those of a source that has fewer of them. Links with a
// key give way to older keys: who has the token can make keys, but no old ones.
func (s *Server) evictable(l *link) *link {
	if len(s.withoutKey.members) > 0 {
		old := s.withoutKey.mostCrowded(func(a, b *link) bool { return a.since.After(b.since) })
		if l.Key != (Key{}) || s.withoutKey.givesWay(old, &l.origin) {
			return old
		}
	} else if l.Key != (Key{}) && len(s.withKey.members) > 0 {
		old := s.withKey.sample(func(a, b *link) bool { return a.Joined.After(b.Joined) })
		if old.Joined.After(l.Joined) {
			return old
		}
	}
	return nil
}

// remove removes a link from all maps.
func (s *Server) remove(l *link) {
	if s.links[l.run] == l {
		delete(s.links, l.run)
	}
	if s.keys[l.Key] == l {
		delete(s.keys, l.Key)
	}
	s.poolOf(l).remove(l)
}

// endLink is for when the Handler knows that the agent has left.
func (s *Server) endLink(l *link) {
	s.mu.Lock()
	s.remove(l)
	if s.dismissing == l {
		s.dismissing = nil
	}
	s.mu.Unlock()
	close(l.done)
}

// lastHeard returns the number of a run's last delta that the Handler has received; zero: unknown.
func (s *Server) lastHeard(run frame.Run) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heardByRun[run]
}

// lastRecorded returns the number of a run's last delta that is recorded, or that the Handler has
// received.
func (s *Server) lastRecorded(run frame.Run) uint64 {
	last := s.lastHeard(run)
	if r, ok := s.Handler.(Acknowledger); ok {
		last = max(last, r.LastRecorded(run))
	}
	return last
}

// noteHeard notes that the Handler has received a delta of a run.
func (s *Server) noteHeard(run frame.Run, seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.heardByRun == nil {
		s.heardByRun = make(map[frame.Run]uint64)
	}
	if len(s.heardByRun) > 10*max(defaultMaxAgents, s.maxAgents()) {
		// For agents that have left it is as if the server were restarted.
		maps.DeleteFunc(s.heardByRun, func(run frame.Run, _ uint64) bool { return s.links[run] == nil })
	}
	s.heardByRun[run] = seq
}

// countConns notes how many connections of a link are in memory. If all links together have too
// many, it dismisses the agent with the most.
func (s *Server) countConns(l *link, n int) {
	total := s.total.Add(int64(n) - l.conns.Swap(int64(n)))
	if total <= s.maxTotal() || n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dismissing != nil {
		return // one agent at a time
	}
	most := l
	for _, o := range s.links {
		if o.conns.Load() > most.conns.Load() {
			most = o
		}
	}
	s.dismissing = most
	most.dismiss(byeTotal)
}
