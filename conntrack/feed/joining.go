package feed

import (
	"net"
	"sync/atomic"
	"time"
)

// A joiningConn is a connection on which no agent has joined yet.
type joiningConn struct {
	net.Conn
	origin
	pool    *fairPool[*joiningConn]
	since   time.Time
	stage   atomic.Int32  // see isSilent
	evicted chan struct{} // closed when another one got its place
}

// How far a joiningConn has come.
const (
	isSilent = iota
	isHeard  // it has sent something
	isKnown  // its key is in the registry
)

func newJoining(c net.Conn) *joiningConn {
	return &joiningConn{Conn: c, origin: originOf(c.RemoteAddr()), evicted: make(chan struct{})}
}

// Read notes that something came.
func (w *joiningConn) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if n > 0 {
		w.stage.CompareAndSwap(isSilent, isHeard)
	}
	return n, err
}

// evictBefore reports whether a is evicted rather than b of the same source: because it has not
// come as far, or has been there for longer.
func evictBefore(a, b *joiningConn) bool {
	if x, y := a.stage.Load(), b.stage.Load(); x != y {
		return x < y
	}
	return a.since.Before(b.since)
}

// startJoining gives a connection a place until it has joined, and reports whether it got one.
// Addresses from which an agent has joined before have places of their own besides those of all.
func (s *Server) startJoining(w *joiningConn) bool {
	known := s.Registry != nil && s.Registry.joinedFrom(w.source)
	w.since = time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	return known && s.addJoining(w, &s.joiningKnown) || s.addJoining(w, &s.joiningOthers)
}

// addJoining adds a connection to a pool, in place of another one if the pool is full. In one
// source the older connections stay for a while: if each new one evicted an older one, none
// would have the time to join.
func (s *Server) addJoining(w *joiningConn, pool *fairPool[*joiningConn]) bool {
	if len(pool.members) >= s.maxJoining() {
		old := pool.mostCrowded(evictBefore)
		if !pool.givesWay(old, &w.origin) && (old.source != w.source || w.since.Sub(old.since) < evictAfter) {
			return false
		}
		s.evict(old)
	}
	w.pool = pool
	pool.add(w)
	return true
}

// maxJoining returns how many connections may be in each of the two pools.
func (s *Server) maxJoining() int {
	if s.MaxFiles == 0 {
		return maxJoining
	}
	return min(max((s.MaxFiles-ownFiles-len(s.links))/2, minJoining), maxJoining)
}

// evict closes a connection that has not joined yet.
func (s *Server) evict(w *joiningConn) {
	w.pool.remove(w)
	close(w.evicted)
	w.Conn.Close()
}

// endJoining removes a connection that has joined, or failed to.
func (s *Server) endJoining(w *joiningConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.pool.remove(w)
}

// evictJoining closes a connection that has not joined yet, so that another one can have its
// file descriptor. It reports whether there was one.
func (s *Server) evictJoining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pool := range []*fairPool[*joiningConn]{&s.joiningOthers, &s.joiningKnown} {
		if len(pool.members) > 0 {
			s.evict(pool.mostCrowded(evictBefore))
			return true
		}
	}
	return false
}
