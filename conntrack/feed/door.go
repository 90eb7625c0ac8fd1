package feed

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// A waiter is a connection that is not authenticated yet.
type waiter struct {
	conn   net.Conn
	source netip.Prefix
	since  time.Time
}

type failure struct {
	count int
	until time.Time
}

// sourceOf returns what is counted as one source: an IPv4 address or the
// network of a host with IPv6.
func sourceOf(a net.Addr) netip.Prefix {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := t.AddrPort().Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// enter takes a slot for a connection before authentication. Who is silent must not keep
// others out: if there is none left, the oldest of the source that has the most goes.
// It reports whether the source may try a token; a key that is known is welcome
// from everywhere.
func (s *Server) enter(w *waiter) (guesses bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.failures[w.source]
	guesses = f.count < mostFailures || time.Now().After(f.until)
	now := time.Now()
	if len(s.waiting) >= mostWaiting {
		// Of the source that has the most.
		count := map[netip.Prefix]int{w.source: 1}
		for _, o := range s.waiting {
			count[o.source]++
		}
		rude := w.source
		for source, n := range count {
			if n > count[rude] {
				rude = source
			}
		}
		for i, o := range s.waiting {
			if o.source != rude {
				continue
			}
			if rude == w.source && now.Sub(o.since) < patience {
				// So many come from one network that all are new. Who has begun is to
				// end, or none would get in; the others will come again.
				w.conn.Close()
				return false
			}
			o.conn.Close()
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			break
		}
	}
	w.since = now
	s.waiting = append(s.waiting, w)
	return guesses
}

func (s *Server) leave(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, o := range s.waiting {
		if o == w {
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			return
		}
	}
}

// failed counts a wrong token.
func (s *Server) failed(source netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.failures == nil || len(s.failures) > 10_000 {
		s.failures = make(map[netip.Prefix]failure)
	}
	f := s.failures[source]
	if now.After(f.until) {
		f = failure{until: now.Add(time.Minute)}
	}
	f.count++
	s.failures[source] = f
}

// authenticate returns the key that an agent has shown, zero if none that matters. The
// registry vouches for a key that it knows, without a token: so tokens can change.
func (s *Server) authenticate(conn *tls.Conn, source netip.Prefix, guesses bool) (Key, error) {
	if err := conn.Handshake(); err != nil {
		return Key{}, err
	}
	cs := conn.ConnectionState()
	if cs.NegotiatedProtocol != alpn {
		return Key{}, errors.New("feed: the agent does not speak connmap/1")
	}
	var key Key
	var known Registered
	if s.Registry != nil {
		if key = keyOf(&cs); key != (Key{}) {
			known, _ = s.Registry.of(key)
		}
	}
	kind, b, err := readFrame(conn, nil, smallFrame)
	if err != nil {
		return Key{}, err
	}
	var p proofFrame
	if kind != frameProof || decode(b, &p) != nil {
		return Key{}, errFrame
	}
	if !known.Revoked.IsZero() {
		writeFrame(conn, goodbyeFrame{Type: frameBye, Code: byeRevoked})
		return Key{}, fmt.Errorf("agent %q: %w", known.Name, errRevoked)
	}
	if known.Key != (Key{}) {
		return key, writeFrame(conn, proofFrame{Type: frameProof})
	}
	if !guesses {
		writeFrame(conn, goodbyeFrame{Type: frameBye, Code: byeGuesses})
		return Key{}, errGuesses
	}
	token, err := s.Identity.secrets.proven(&cs, p.Proof)
	if errors.Is(err, ErrToken) {
		s.failed(source)
		writeFrame(conn, goodbyeFrame{Type: frameBye, Code: byeToken})
		return Key{}, err
	} else if err != nil {
		return Key{}, fmt.Errorf("%w: %w", errTrouble, err)
	}
	mine, err := proof(&cs, token, roleServer)
	if err != nil {
		return Key{}, err
	}
	return key, writeFrame(conn, proofFrame{Type: frameProof, Proof: mine})
}

// register returns the name of an agent that has shown a key.
func (s *Server) register(key Key, a Agent, log *slog.Logger) (string, error) {
	if r, known := s.Registry.of(key); known {
		s.Registry.saw(key, a.Addr, a.Since)
		return r.Name, nil
	}
	r, err := s.Registry.enrol(key, a.Name, a.Addr, a.Since)
	if err != nil {
		return "", err
	}
	if r.Name != a.Name {
		log.Warn("a new agent has the name of another one", "agent", a.Name, "addr", a.Addr, "called", r.Name)
	} else {
		log.Info("a new agent has joined", "agent", r.Name, "addr", a.Addr, "key", key.String())
	}
	return r.Name, nil
}
