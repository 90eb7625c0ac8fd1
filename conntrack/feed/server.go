package feed

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed/frame"
)

const (
	mostAgents   = 1000
	mostConns    = 20_000 // per agent
	mostWaiting  = 512    // connections that have not joined yet; as many more from where agents have joined before
	leastWaiting = 4      // likewise, however few file descriptors there are
	ownFiles     = 64     // file descriptors that the program needs besides
	leastNew     = 100    // keys within a minute from one source, whatever MaxAgents is

	mostFailures     = 5    // wrong tokens per source and minute
	crowdedGuesses   = 100  // of all sources, after which the answer to each takes guessTime
	passwordsASecond = 150  // that may be tried by all sources together
	passwordsBurst   = 1000 // likewise

	mostTotal     = 1_000_000 // connections of all agents
	framesASecond = 20
	framesBurst   = 60

	tellAgain     = 30 * time.Second // after it could not be recorded, at least
	patience      = 2 * time.Second  // with who has not joined while others of its source wait
	guessTime     = 2 * time.Second
	registryEvery = 2 * time.Second  // looked at for what others changed
	seenEvery     = 10 * time.Minute // written
	alive         = heartbeat + 5*time.Second
)

// An Agent is the far end of a link.
type Agent struct {
	ID      uint64 // of the link, unique in the life of a Server and never zero there
	Name    string // that of the registry; of an agent without a key, as it calls its host
	Addr    string // where it reports from, without port
	Backend string // how it reads its sockets
	Limited string // why it does not see all; empty: it does
	Since   time.Time
	Run     [16]byte // random, another one each time that the agent starts
}

// A Handler takes in what agents report. Calls for one agent come one after
// the other, Join first and Leave last; calls for different agents come at
// the same time. The slices belong to the Handler. All texts are safe to show.
type Handler interface {
	Join(Agent)                   // before its first connections
	Full(Agent, []conntrack.Conn) // all its connections: replaces what was known
	// What changed since, or was lost. Ends may come of connections that are not known,
	// also before the first Full, and after a break a second time: each tells all of its
	// connection.
	Delta(Agent, []conntrack.Event)
	Leave(Agent) // the link ended
}

// A Recorder is a Handler that stores what it is told. Agents keep what matters until
// it is recorded, and tell it again if the link or the server fails before.
type Recorder interface {
	// Recorded calls f, at once or later and from any goroutine, when all that the
	// Handler was told before by an agent is safe, up to a Delta that bears a number in
	// the run a.Run, which may be an earlier one of the agent. f does not block. It returns
	// false if that cannot be, since ends and losses had to be left out: the agent is then
	// asked after a while to join again, and tells them again.
	Recorded(a Agent, number uint64, f func()) bool
	// LastRecorded returns the number of the last Delta of an agent's run that is safe, or
	// zero: none is, or it is not known any more. It is asked before Join, and after
	// Recorded has called its f.
	LastRecorded(run [16]byte) uint64
}

// A Server lets agents join. Its fields must be set before Serve and not
// change afterwards; Identity and Handler are needed. Serve may be called for
// several listeners at the same time.
type Server struct {
	Identity  *Identity
	Registry  *Registry // of agents that are known by their keys; nil: all need a token each time
	Approve   bool      // take only agents that Registry knows and somebody has approved
	Name      string    // of this machine, which no other agent gets; empty: none
	Handler   Handler
	MaxAgents int          // linked at the same time; zero: 1,000
	MaxFiles  int          // file descriptors that the process may have; zero: enough for all
	MaxConns  int          // of an agent; zero: 20,000
	MaxTotal  int          // connections of all agents, for each of which to reckon 1 KB; zero: 1,000,000
	Logger    *slog.Logger // nil: discard

	ids      atomic.Uint64
	total    atomic.Int64 // connections of all links
	refusals refusals

	mu          sync.Mutex
	strangers   crowd[*waiter]
	neighbours  crowd[*waiter] // from where agents have joined before
	guesses     rate           // wrong tokens
	passwords   float64        // that may be tried at passwordsAt
	passwordsAt time.Time
	enrolments  rate // new keys
	links       map[frame.Run]*link
	keys        map[Key]*link
	keyed       crowd[*link]         // links with a key
	keyless     crowd[*link]         // and without
	shed        *link                // ends because all have too many connections; nil: none does
	handled     map[frame.Run]uint64 // number of the last delta, also of agents that left
}

// Serve accepts agents until ctx ends, which is no error, or the listener
// fails. It closes the listener and returns when all links have ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer l.Close()
	log := s.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	switch {
	case s.Identity == nil:
		return errors.New("feed: a Server needs an Identity")
	case s.Approve && s.Registry == nil:
		return errors.New("feed: a Server that approves agents needs a Registry")
	case s.Registry != nil && !s.Approve:
		if n := s.Registry.unapproved(); n > 0 {
			log.Warn("agents wait for approval, and this server does not ask for it: they may report for good when they come with a token that works", "count", n)
		}
	}
	// The house is kept until the last link has ended.
	kept := make(chan struct{})
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer func() { stop(); <-kept }()
	go func() {
		defer close(kept)
		s.keepHouse(keeping, log)
	}()
	var links sync.WaitGroup
	defer links.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	config := s.tlsConfig()
	delay := time.Duration(0)
	for {
		raw, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				raw.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("feed: %w", err)
		case err != nil:
			delay = s.acceptLater(ctx, delay, err, log)
			continue
		}
		delay = 0
		raw.SetDeadline(time.Now().Add(handshakeTime))
		w := newWaiter(raw)
		if !s.enter(w) {
			raw.Close()
			s.refusals.add(log, w.source.Addr(), errCrowded, time.Now())
			continue
		}
		links.Go(func() {
			defer raw.Close()
			defer context.AfterFunc(ctx, func() { raw.Close() })()
			if err := s.accept(w, config, log); err != nil && ctx.Err() == nil {
				s.refusals.add(log, w.source.Addr(), err, time.Now())
			}
		})
	}
}

func (s *Server) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{alpn},
		Certificates:           []tls.Certificate{s.Identity.cert},
		SessionTicketsDisabled: true,
		// A key is believed for what the registry knows of it.
		ClientAuth: tls.RequestClientCert,
	}
}

// acceptLater is for when no connection could be accepted, such as when there are no file
// descriptors left. A connection that is still joining gives way, or else time may help: then
// it waits, longer than the delay before, and returns how long.
func (s *Server) acceptLater(ctx context.Context, delay time.Duration, err error, log *slog.Logger) time.Duration {
	s.refusals.add(log, netip.Addr{}, fmt.Errorf("%w: %w", errAccept, err), time.Now())
	if s.makeRoom() {
		return delay
	}
	delay = min(max(2*delay, 5*time.Millisecond), time.Second)
	select {
	case <-ctx.Done():
	case <-time.After(delay):
	}
	return delay
}

// accept lets an agent join and takes in what it reports. The error says why the agent was
// refused or dismissed.
func (s *Server) accept(w *waiter, config *tls.Config, log *slog.Logger) error {
	defer s.leave(w)
	conn := tls.Server(w, config)
	key, hello, err := s.greet(conn, w)
	if err != nil {
		return err
	}
	now := time.Now().Round(0)
	a := agentOf(&hello, w.RemoteAddr(), now)
	known, err := s.admit(key, a, w, log)
	if err != nil {
		return bye(conn, err)
	}
	a.Name = known.Name
	l := &link{conn: w, origin: origin{source: w.source, network: w.network}, boot: a.Run, before: hello.Before, Registered: known, since: now, left: make(chan struct{})}
	l.heard.Store(now.UnixNano())
	if err := s.join(l, log); err != nil {
		return bye(conn, err)
	}
	defer s.part(l)
	s.leave(w)
	session := s.newSession(conn, l, a, log)
	if err := session.welcome(); err != nil {
		return err
	}
	w.SetDeadline(time.Time{})
	session.setClock(now, &hello)
	return session.run()
}

// agentOf is what an agent says of itself, made safe to show.
func agentOf(h *frame.Hello, addr net.Addr, now time.Time) Agent {
	a := Agent{Name: cleanName(h.Name), Backend: clean(h.Backend), Limited: clean(h.Limited), Since: now, Run: h.Run}
	if t, ok := addr.(*net.TCPAddr); ok {
		a.Addr = t.AddrPort().Addr().Unmap().String()
	}
	if a.Name == "" {
		a.Name = a.Addr
	}
	return a
}
