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

// A link is that of an agent that said hello.
type link struct {
	conn   net.Conn
	boot   frame.Run
	before frame.Run // the run before that; zero: it is not known
	origin
	Registered // what the registry knows; if Key is zero, the name alone
	since      time.Time
	heard      atomic.Int64  // when, Unix time in ns
	conns      atomic.Int64  // that are held
	code       atomic.Uint32 // why the server ends it, if it does
	left       chan struct{} // closed when the Handler knows that it ended
}

// end closes a link and says why.
func (l *link) end(code byeCode) {
	l.code.CompareAndSwap(0, uint32(code))
	// Whoever reads from it is woken, and says farewell.
	l.conn.SetReadDeadline(time.Now())
}

func (s *Server) maxAgents() int {
	n := s.MaxAgents
	if n == 0 {
		n = mostAgents
	}
	if s.MaxFiles > 0 {
		n = min(n, max(s.MaxFiles-ownFiles-2*leastWaiting, 1))
	}
	return n
}

func (s *Server) maxConns() int {
	if s.MaxConns == 0 {
		return mostConns
	}
	return s.MaxConns
}

func (s *Server) maxTotal() int64 {
	if s.MaxTotal == 0 {
		return mostTotal
	}
	return int64(s.MaxTotal)
}

// crowd returns the links that l is one of. A link without a key gives way to one that has.
func (s *Server) crowd(l *link) *crowd[*link] {
	if l.Key == (Key{}) {
		return &s.keyless
	}
	return &s.keyed
}

// join enters a link, in place of an older one of the same run of an agent, of the run before
// or of the same key: a network that failed may have left it half open, and what comes by it
// is to be known before the agent is told what is.
func (s *Server) join(l *link, log *slog.Logger) error {
	s.mu.Lock()
	var old []*link
	code := byeReplaced
	if o := s.links[l.boot]; o != nil {
		old = append(old, o)
	}
	if o := s.links[l.before]; o != nil && l.before != l.boot && l.before != (frame.Run{}) {
		old = append(old, o)
	}
	if k := s.keys[l.Key]; k != nil && !slices.Contains(old, k) {
		old = append(old, k)
		if time.Since(time.Unix(0, k.heard.Load())) < alive {
			log.Warn("an agent has joined anew while it was there; if that goes on, two machines share one key: remove its file on one of them", "agent", l.Name)
		}
	}
	if len(old) == 0 && len(s.links) >= s.maxAgents() {
		o := s.yielding(l)
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
	s.links[l.boot] = l
	if l.Key != (Key{}) {
		s.keys[l.Key] = l
	}
	s.crowd(l).add(l)
	s.mu.Unlock()
	for _, o := range old {
		o.end(code)
		select {
		case <-o.left:
		case <-time.After(time.Second):
			o.conn.Close() // it may be that its farewell is stuck
			<-o.left
		}
	}
	return nil
}

// yielding returns the link that makes room for a new one; nil: none does. Links without
// a key give way to all that have one, and to those of a source that has fewer of them.
// Of keys, those that are known for a shorter time give way: who has the token can make
// keys, but no old ones.
func (s *Server) yielding(l *link) *link {
	if len(s.keyless.members) > 0 {
		old := s.keyless.candidate(func(a, b *link) bool { return a.since.After(b.since) })
		if l.Key != (Key{}) || s.keyless.yields(old, &l.origin) {
			return old
		}
	} else if l.Key != (Key{}) && len(s.keyed.members) > 0 {
		old := s.keyed.sample(func(a, b *link) bool { return a.Joined.After(b.Joined) })
		if old.Joined.After(l.Joined) {
			return old
		}
	}
	return nil
}

// remove forgets a link.
func (s *Server) remove(l *link) {
	if s.links[l.boot] == l {
		delete(s.links, l.boot)
	}
	if s.keys[l.Key] == l {
		delete(s.keys, l.Key)
	}
	s.crowd(l).remove(l)
}

func (s *Server) part(l *link) {
	s.mu.Lock()
	s.remove(l)
	if s.shed == l {
		s.shed = nil
	}
	s.mu.Unlock()
	close(l.left)
}

// last returns the number of the last delta of a run of an agent that the Handler was
// told, zero if that is not known.
func (s *Server) last(boot frame.Run) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handled[boot]
}

func (s *Server) handle(boot frame.Run, seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handled == nil {
		s.handled = make(map[frame.Run]uint64)
	}
	if len(s.handled) > 10*max(mostAgents, s.maxAgents()) {
		// Of those that left it is as if the server were new.
		maps.DeleteFunc(s.handled, func(run frame.Run, _ uint64) bool { return s.links[run] == nil })
	}
	s.handled[boot] = seq
}

// count notes how many connections of a link are held. If all are more than there is
// room for, the link that has the most must go.
func (s *Server) count(l *link, n int) {
	total := s.total.Add(int64(n) - l.conns.Swap(int64(n)))
	if total <= s.maxTotal() || n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shed != nil {
		return // it has not gone yet
	}
	most := l
	for _, o := range s.links {
		if o.conns.Load() > most.conns.Load() {
			most = o
		}
	}
	s.shed = most
	most.end(byeTotal)
}
