package feed

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/connmapgo/connmap/conntrack/feed/frame"
)

// noKeySuffix is added to the name of an agent without a key if another agent has that name.
const noKeySuffix = " (no key)"

// checkProof returns the token that an agent has proven to have. It counts wrong ones when they
// are found to be wrong, so that many at once count like many in turn, and right ones do not
// count. A source with too many wrong ones does not learn whether its proof is right.
func (s *Server) checkProof(cs *tls.ConnectionState, w *joiningConn, theirs []byte) (Token, error) {
	if s.tooManyGuesses(w.source) {
		return Token{}, errGuesses
	}
	secrets := &s.Identity.secrets
	t, err := secrets.proven(cs, theirs, false)
	if errors.Is(err, ErrToken) && secrets.hasPassword() {
		// Passwords can be guessed, tokens cannot.
		if !s.mayTryPassword(-1) {
			return Token{}, errBusy
		}
		if t, err = secrets.proven(cs, theirs, true); err == nil {
			s.mayTryPassword(1)
		}
	}
	if err != nil && !errors.Is(err, ErrToken) {
		return Token{}, fmt.Errorf("%w: %w", errTrouble, err)
	}
	now := time.Now()
	s.mu.Lock()
	switch {
	case s.guesses.of(w.source, now) >= maxGuesses:
		err = errGuesses
	case err != nil && !s.guesses.take(w.source, maxGuesses, math.MaxInt, now):
		err = errGuesses
	}
	slow := s.guesses.of(allSources, now) > slowGuesses
	s.mu.Unlock()
	if errors.Is(err, ErrToken) && slow {
		wait := time.NewTimer(guessTime)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-w.evicted:
		}
	}
	return t, err
}

func (s *Server) tooManyGuesses(source netip.Prefix) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.guesses.of(source, time.Now()) >= maxGuesses
}

// mayTryPassword adds n, which is 1 or -1, to the number of passwords that may be tried now. It
// reports false, and adds nothing, if there is none left.
func (s *Server) mayTryPassword(n float64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.passwords = min(s.passwords+now.Sub(s.passwordsAt).Seconds()*passwordsPerSecond, passwordsBurst)
	s.passwordsAt = now
	if s.passwords+n < 0 {
		return false
	}
	s.passwords += n
	return true
}

// greet authenticates an agent and returns its key and its hello. It fails if the agent was
// evicted meanwhile.
func (s *Server) greet(conn *tls.Conn, w *joiningConn) (Key, frame.Hello, error) {
	key, err := s.authenticate(conn, w)
	var h frame.Hello
	if err == nil {
		h, err = readHello(conn)
	}
	if err != nil {
		select {
		case <-w.evicted:
			err = errEvicted
		default:
		}
	}
	return key, h, err
}

// authenticate returns the key of an agent, or zero if it has none. An agent whose key is in the
// registry needs no token.
func (s *Server) authenticate(conn *tls.Conn, w *joiningConn) (Key, error) {
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
			known, _ = s.Registry.lookup(key)
		}
	}
	if known.Key != (Key{}) && known.Revoked.IsZero() && !known.Waiting {
		w.stage.Store(isKnown)
	}
	t, body, err := frame.NewReader(conn).Next(frame.MaxGreeting)
	if err != nil {
		return Key{}, err
	}
	var p proofFrame
	if t != frame.TypeProof || frame.Decode(body, &p) != nil {
		return Key{}, frame.ErrDamaged
	}
	if !known.Revoked.IsZero() {
		return Key{}, refuse(conn, fmt.Errorf("agent %q: %w", known.Name, errRevoked))
	}
	if known.Key != (Key{}) && !known.Waiting {
		return key, frame.Write(conn, proofFrame{})
	}
	token, err := s.checkProof(&cs, w, p.Proof)
	if err != nil {
		return Key{}, refuse(conn, err)
	}
	mine, err := proof(&cs, token, roleServer)
	if err != nil {
		return Key{}, err
	}
	return key, frame.Write(conn, proofFrame{Proof: mine})
}

// A proofFrame shows that its sender knows the secret.
type proofFrame struct {
	_     struct{} `cbor:",toarray"`
	Proof []byte
}

// Type implements frame.Frame.
func (proofFrame) Type() frame.Type { return frame.TypeProof }

// A byeFrame says why the server closes the connection.
type byeFrame struct {
	_    struct{} `cbor:",toarray"`
	Code byeCode
}

// Type implements frame.Frame.
func (byeFrame) Type() frame.Type { return frame.TypeBye }

type byeCode uint8

const (
	byeToken byeCode = iota + 1
	byeAgents
	byeDamaged
	byeRevoked
	byeReplaced
	byeTotal
	byeChanged
	byeGuesses
	byeApproval
	byeEnrolments
	byeBusy
)

// refuse sends an agent why it may not join, and returns that error.
func refuse(conn *tls.Conn, err error) error {
	code := byeCode(0)
	for reason, c := range map[error]byeCode{
		ErrToken: byeToken, errGuesses: byeGuesses, errRevoked: byeRevoked, errAgents: byeAgents,
		errApproval: byeApproval, errEnrolments: byeEnrolments, errBusy: byeBusy, frame.ErrDamaged: byeDamaged,
	} {
		if errors.Is(err, reason) {
			code = c
		}
	}
	if code != 0 {
		frame.Write(conn, byeFrame{Code: code})
	}
	return err
}

// admit returns what the registry knows of an authenticated agent, and adds it if it is new. An
// agent without a key has only a name.
func (s *Server) admit(key Key, a Agent, w *joiningConn, log *slog.Logger) (Registered, error) {
	if key == (Key{}) {
		if s.Approve {
			return Registered{}, errApproval
		}
		r := Registered{Name: a.Name}
		if s.Registry != nil && s.Registry.hasName(a.Name) || lookAlike(a.Name, s.Name) {
			r.Name = clean(a.Name[:min(len(a.Name), frame.MaxText-len(noKeySuffix))]) + noKeySuffix
			log.Warn("an agent without a key has the name of a known one", "agent", a.Name, "addr", a.Addr, "called", r.Name)
		}
		return r, nil
	}
	r, known := s.Registry.lookup(key)
	if known && (!r.Waiting || s.Approve) {
		s.Registry.noteSeen(key, a.Addr, a.Since)
		if r.Waiting {
			return r, fmt.Errorf("agent %q, key %.12s: %w", r.Name, key, errApproval)
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
	ok := s.enrolments.take(w.source, max(s.maxAgents()/2, minNewKeys), max(s.maxAgents(), 2*minNewKeys), a.Since)
	s.mu.Unlock()
	if !ok {
		return Registered{}, errEnrolments
	}
	r, err := s.Registry.enrol(Registered{Key: key, Name: a.Name, Addr: a.Addr.String(), Joined: a.Since, Waiting: s.Approve}, s.Name)
	if err != nil {
		return Registered{}, fmt.Errorf("%w: %w", errTrouble, err)
	}
	switch {
	case r.Waiting:
		return r, fmt.Errorf("agent %q, key %.12s: %w", r.Name, key, errApproval)
	case !strings.HasPrefix(a.Name, r.Name): // one that is too long is cut
		log.Warn("a new agent has the name of another one", "agent", a.Name, "addr", a.Addr, "called", r.Name)
	default:
		log.Info("a new agent has joined", "agent", r.Name, "addr", a.Addr, "key", key.String())
	}
	return r, nil
}

// readHello reads the hello of an authenticated agent.
func readHello(conn *tls.Conn) (frame.Hello, error) {
	t, body, err := frame.NewReader(conn).Next(frame.MaxSize)
	if err != nil {
		return frame.Hello{}, err
	}
	var h frame.Hello
	if t != frame.TypeHello || frame.Decode(body, &h) != nil || h.Version < 1 || h.Run == (frame.Run{}) {
		return frame.Hello{}, refuse(conn, frame.ErrDamaged)
	}
	return h, nil
}
