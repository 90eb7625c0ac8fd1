package feed

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"
)

// keyless ends the name of an agent that has none of its own in the registry, but bears
// one that another agent has.
const keyless = " (no key)"

// guess reports whether a source may show a token that may be wrong, which is counted as
// if it were: many that come at once are no more than as many that come one by one. After
// crowdedGuesses of all sources each has to wait a while.
func (s *Server) guess(w *waiter) error {
	now := time.Now()
	s.mu.Lock()
	ok := s.guesses.take(w.source, mostFailures, mostGuesses, now)
	slow := s.guesses.of(everySource, now) > crowdedGuesses
	s.mu.Unlock()
	if !ok {
		return errGuesses
	}
	if !slow {
		return nil
	}
	t := time.NewTimer(guessTime)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-w.displaced:
		return errCrowded
	}
}

// guessed takes back that a token was counted as wrong.
func (s *Server) guessed(source netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guesses.give(source, time.Now())
}

// authenticate returns the key that an agent has shown, zero if none that matters. The
// registry vouches for a key that it knows, without a token: so tokens can change.
func (s *Server) authenticate(conn *tls.Conn, w *waiter) (Key, error) {
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
		return Key{}, bye(conn, fmt.Errorf("agent %q: %w", known.Name, errRevoked))
	}
	if known.Key != (Key{}) && !known.Waiting {
		return key, writeFrame(conn, proofFrame{Type: frameProof})
	}
	if err := s.guess(w); err != nil {
		return Key{}, bye(conn, err)
	}
	token, err := s.Identity.secrets.proven(&cs, p.Proof)
	if errors.Is(err, ErrToken) {
		return Key{}, bye(conn, err)
	}
	s.guessed(w.source)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", errTrouble, err)
	}
	mine, err := proof(&cs, token, roleServer)
	if err != nil {
		return Key{}, err
	}
	return key, writeFrame(conn, proofFrame{Type: frameProof, Proof: mine})
}

// bye tells an agent why it is refused, and returns that.
func bye(conn *tls.Conn, err error) error {
	code := byeCode(0)
	for reason, c := range map[error]byeCode{
		ErrToken: byeToken, errGuesses: byeGuesses, errRevoked: byeRevoked, errAgents: byeAgents,
		errApproval: byeApproval, errEnrolments: byeEnrolments, errFrame: byeFrame,
	} {
		if errors.Is(err, reason) {
			code = c
		}
	}
	if code != 0 {
		writeFrame(conn, goodbyeFrame{Type: frameBye, Code: code})
	}
	return err
}

// admit returns what the registry knows of an agent that has authenticated itself, and
// takes it in if it is new. One without a key has but a name.
func (s *Server) admit(key Key, a Agent, w *waiter, log *slog.Logger) (Registered, error) {
	if key == (Key{}) {
		if s.Approve {
			return Registered{}, errApproval
		}
		r := Registered{Name: a.Name}
		if s.Registry != nil && s.Registry.named(a.Name) || strings.EqualFold(a.Name, s.Name) {
			r.Name = clean(a.Name[:min(len(a.Name), mostText-len(keyless))]) + keyless
			log.Warn("an agent without a key has the name of a known one", "agent", a.Name, "addr", a.Addr, "called", r.Name)
		}
		return r, nil
	}
	r, known := s.Registry.of(key)
	if known && (!r.Waiting || s.Approve) {
		s.Registry.saw(key, a.Addr, a.Since)
		if r.Waiting {
			return r, fmt.Errorf("agent %q: %w", r.Name, errApproval)
		}
		return r, nil
	}
	if known {
		if err := s.Registry.approve(key); err != nil {
			return Registered{}, fmt.Errorf("%w: %w", errTrouble, err)
		}
		return r, nil
	}
	s.mu.Lock()
	ok := s.enrolments.take(w.source, max(s.maxAgents()/2, 1), s.maxAgents(), a.Since)
	s.mu.Unlock()
	if !ok {
		return Registered{}, errEnrolments
	}
	r, err := s.Registry.enrol(Registered{Key: key, Name: a.Name, Addr: a.Addr, Joined: a.Since, Waiting: s.Approve}, s.Name)
	if err != nil {
		return Registered{}, fmt.Errorf("%w: %w", errTrouble, err)
	}
	switch {
	case r.Waiting:
		log.Warn("a new agent waits: mapserver agents approve lets it report", "agent", r.Name, "addr", a.Addr, "key", key.String())
		return r, fmt.Errorf("agent %q: %w", r.Name, errApproval)
	case r.Name != a.Name:
		log.Warn("a new agent has the name of another one", "agent", a.Name, "addr", a.Addr, "called", r.Name)
	default:
		log.Info("a new agent has joined", "agent", r.Name, "addr", a.Addr, "key", key.String())
	}
	return r, nil
}

// readHello reads what an agent that has authenticated itself says of itself.
func readHello(conn *tls.Conn) (hello, error) {
	kind, b, err := readFrame(conn, nil, largeFrame)
	if err != nil {
		return hello{}, err
	}
	var f helloFrame
	if kind != frameHello || decode(b, &f) != nil || f.Hello.Version < 1 || len(f.Hello.Boot) != bootLen {
		return hello{}, bye(conn, errFrame)
	}
	return f.Hello, nil
}
