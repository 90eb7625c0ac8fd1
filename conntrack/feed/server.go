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
	"github.com/connmapgo/connmap/internal/terminal"
)

const (
	defaultMaxAgents = 1000
	defaultMaxConns  = 20_000 // per agent
	defaultMaxTotal  = 1_000_000

	maxJoining = 512 // connections that have not joined yet; as many more from where agents have joined before
	minJoining = 4   // likewise, if there are few file descriptors
	ownFiles   = 64  // file descriptors for all else in the process
	minNewKeys = 100 // that one source may add within a minute, however small MaxAgents is

	maxGuesses         = 5    // wrong tokens within a minute from one source
	slowGuesses        = 100  // likewise from all sources, before each answer takes guessTime
	passwordsPerSecond = 150  // that all sources together may try
	passwordsBurst     = 1000 // likewise

	framesPerSecond = 20 // of one agent, before it is throttled
	framesBurst     = 60

	rejoinAfter   = 30 * time.Second // until an agent must send again what could not be recorded
	evictAfter    = 2 * time.Second  // until one source's newer connection evicts an older one
	guessTime     = 2 * time.Second
	registryEvery = 2 * time.Second  // between two looks at changes of other processes
	seenEvery     = 10 * time.Minute // between two writes of when agents were seen
	aliveTime     = heartbeat + 5*time.Second
)

// An Agent is an agent that has joined, and its connection.
type Agent struct {
	ID      uint64     // of the connection; a Server gives each another one, and never zero
	Name    string     // in the registry; of an agent without a key, the name that it asks for
	Addr    netip.Addr // from which it reports
	Backend string     // how it reads its sockets
	Limited string     // why it does not see all; empty: it does
	Since   time.Time
	Run     [16]byte // random, and new each time that the agent starts
}

// A Handler receives what agents report. Calls for one agent come one after the other, Join
// first and Leave last. Calls for different agents come at the same time. The slices belong to
// the Handler. All texts are safe to show.
type Handler interface {
	Join(Agent)                   // before its first connections
	Full(Agent, []conntrack.Conn) // all its connections: they replace those of before
	// What changed since, and how many events were lost. A Close holds its whole connection.
	// It may refer to an unknown connection, may come before the first Full, and may repeat
	// after a reconnect.
	Delta(Agent, []conntrack.Event)
	Leave(Agent) // the connection of the agent has ended
}

// An Acknowledger is a Handler that stores what it receives. Agents keep Close and Lost events until
// they are recorded, and send them again if the connection or the server fails before.
type Acknowledger interface {
	// Recorded calls f when all is recorded that the Handler has received from the agent,
	// up to the Delta with a number in the run a.Run, which may be an earlier run of the
	// agent. It may call f at once or later, from any goroutine; f does not block. If the
	// Handler has left out Close or Lost events, Recorded returns false: the agent then has
	// to join again after a while, and sends them again.
	Recorded(a Agent, number uint64, f func()) bool
	// LastRecorded returns the number of the last recorded Delta of a run; zero: none, or
	// it is unknown. The Server asks before Join, and after Recorded has called f.
	LastRecorded(run [16]byte) uint64
}

// A Server lets agents join. Its fields must be set before Serve and not change afterwards;
// Identity and Handler are needed. Serve may be called for several listeners at the same time.
type Server struct {
	Identity  *Identity
	Registry  *Registry // of agents that are known by their keys; nil: all need a token each time
	Approve   bool      // whether somebody must approve an agent in Registry before it may report
	Name      string    // of this machine, which no agent gets; empty: none
	Handler   Handler
	NoNames   bool         // whether agents keep the names of peers to themselves
	MaxAgents int          // at the same time; zero: 1,000
	MaxFiles  int          // file descriptors that the process may have; zero: enough for all
	MaxConns  int          // of an agent; zero: 20,000
	MaxTotal  int          // connections of all agents, of about 1 KB each; zero: 1,000,000
	Logger    *slog.Logger // nil: discard

	ids      atomic.Uint64
	total    atomic.Int64 // connections of all links
	refusals refusals

	mu            sync.Mutex
	joiningOthers fairPool[*joiningConn]
	joiningKnown  fairPool[*joiningConn] // from where agents have joined before
	guesses       rate                   // wrong tokens
	passwords     float64                // that could be tried at passwordsAt
	passwordsAt   time.Time
	enrolments    rate // new keys
	links         map[frame.Run]*link
	keys          map[Key]*link
	withKey       fairPool[*link]      // links with a key
	withoutKey    fairPool[*link]      // and without
	dismissing    *link                // is being dismissed because there are too many connections; nil: none
	heardByRun    map[frame.Run]uint64 // number of the last delta, also of agents that have left
}

// Serve accepts agents until ctx ends, which is no error, or the listener fails. It closes the
// listener, and returns when all connections of agents have ended.
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
	// Until the last link has ended.
	var maintenance sync.WaitGroup
	defer maintenance.Wait()
	maintenanceCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	maintenance.Go(func() { s.maintain(maintenanceCtx, log) })
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
		w := newJoining(raw)
		if !s.startJoining(w) {
			raw.Close()
			s.refusals.add(log, w.source.Addr(), errEvicted, time.Now())
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
		// A client is who the registry says its key is.
		ClientAuth: tls.RequestClientCert,
	}
}

// acceptLater is for when no connection could be accepted, such as when there are no file
// descriptors left. It evicts a connection that has not joined yet. If there is none it waits,
// longer than the delay before, and returns how long.
func (s *Server) acceptLater(ctx context.Context, delay time.Duration, err error, log *slog.Logger) time.Duration {
	s.refusals.add(log, netip.Addr{}, fmt.Errorf("%w: %w", errAccept, err), time.Now())
	if s.evictJoining() {
		return delay
	}
	delay = min(max(2*delay, 5*time.Millisecond), time.Second)
	select {
	case <-ctx.Done():
	case <-time.After(delay):
	}
	return delay
}

// accept lets an agent join and receives what it reports. The error says why the agent was
// refused or dismissed.
func (s *Server) accept(w *joiningConn, config *tls.Config, log *slog.Logger) error {
	defer s.endJoining(w)
	conn := tls.Server(w, config)
	key, hello, err := s.greet(conn, w)
	if err != nil {
		return err
	}
	now := time.Now().Round(0)
	a := agentOf(&hello, w.RemoteAddr(), now)
	known, err := s.admit(key, a, w, log)
	if err != nil {
		return refuse(conn, err)
	}
	a.Name = known.Name
	l := &link{conn: w, origin: origin{source: w.source, network: w.network}, run: a.Run, before: hello.Before, Registered: known, since: now, done: make(chan struct{})}
	l.heardAt.Store(now.UnixNano())
	if err := s.addLink(l, log); err != nil {
		return refuse(conn, err)
	}
	defer s.endLink(l)
	s.endJoining(w)
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
	a := Agent{Name: cleanName(h.Name), Backend: clean(h.Backend), Limited: terminal.Clean(h.Limited, frame.MaxLimited), Since: now, Run: h.Run}
	if t, ok := addr.(*net.TCPAddr); ok {
		a.Addr = t.AddrPort().Addr().Unmap()
	}
	if a.Name == "" && a.Addr.IsValid() {
		a.Name = a.Addr.String()
	}
	return a
}
