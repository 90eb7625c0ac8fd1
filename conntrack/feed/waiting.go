package feed

import (
	"net"
	"sync/atomic"
	"time"
)

// A waiter is a connection that has not joined yet.
type waiter struct {
	net.Conn
	origin
	room      *crowd[*waiter]
	since     time.Time
	stage     atomic.Int32  // see isSilent
	displaced chan struct{} // closed when another one needed its place
}

// How far a waiter has come.
const (
	isSilent = iota
	isHeard  // it has sent something
	isKnown  // it has a key that the registry knows
)

func newWaiter(c net.Conn) *waiter {
	return &waiter{Conn: c, origin: originOf(c.RemoteAddr()), displaced: make(chan struct{})}
}

// Read notes that something came.
func (w *waiter) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if n > 0 {
		w.stage.CompareAndSwap(isSilent, isHeard)
	}
	return n, err
}

// quieter reports whether one waiter gives way rather than another of its source: one that
// says nothing, or has been there for longer.
func quieter(a, b *waiter) bool {
	if x, y := a.stage.Load(), b.stage.Load(); x != y {
		return x < y
	}
	return a.since.Before(b.since)
}

// enter gives a connection a place to wait at until it has joined, and reports whether
// there is one. Whoever comes from an address from which an agent has joined before has
// places apart from all others, and those of others too.
func (s *Server) enter(w *waiter) bool {
	known := s.Registry != nil && s.Registry.knows(w.source)
	w.since = time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	return known && s.wait(w, &s.neighbours) || s.wait(w, &s.strangers)
}

// wait gives a connection one of the places of a room. If so many come from one source
// that all of them are new, who has begun is to end: none would get in otherwise, and the
// others will come again.
func (s *Server) wait(w *waiter, room *crowd[*waiter]) bool {
	if len(room.members) >= s.places() {
		old := room.candidate(quieter)
		if !room.yields(old, &w.origin) && (old.source != w.source || w.since.Sub(old.since) < patience) {
			return false
		}
		s.displace(old)
	}
	w.room = room
	room.add(w)
	return true
}

// places returns how many connections may wait in one of the two rooms.
func (s *Server) places() int {
	if s.MaxFiles == 0 {
		return mostWaiting
	}
	return min(max((s.MaxFiles-ownFiles-len(s.links))/2, leastWaiting), mostWaiting)
}

// displace ends the connection of a waiter.
func (s *Server) displace(w *waiter) {
	w.room.remove(w)
	close(w.displaced)
	w.Conn.Close()
}

func (s *Server) leave(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.room.remove(w)
}

// makeRoom ends a connection that waits, if there is one, so that another one can have its
// file descriptor.
func (s *Server) makeRoom() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, room := range []*crowd[*waiter]{&s.strangers, &s.neighbours} {
		if len(room.members) > 0 {
			s.displace(room.candidate(quieter))
			return true
		}
	}
	return false
}
