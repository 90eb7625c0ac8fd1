package feed

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connmapgo/connmap/conntrack"
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
	bootLen       = 16

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
	links       map[[bootLen]byte]*link
	keys        map[Key]*link
	keyed       crowd[*link]             // links with a key
	keyless     crowd[*link]             // and without
	shed        *link                    // ends because all have too many connections; nil: none does
	handled     map[[bootLen]byte]uint64 // number of the last delta, also of agents that left
}

// Serve accepts agents until ctx ends, which is no error, or the listener
// fails. It closes the listener and returns when all links have ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer l.Close()
	if s.Identity == nil {
		return errors.New("feed: a Server needs an Identity")
	}
	log := s.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if s.Approve && s.Registry == nil {
		return errors.New("feed: a Server that approves agents needs a Registry")
	}
	if s.Registry != nil && !s.Approve {
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
	config := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{alpn},
		Certificates:           []tls.Certificate{s.Identity.cert},
		SessionTicketsDisabled: true,
		// A key is believed for what the registry knows of it.
		ClientAuth: tls.RequestClientCert,
	}
	delay := time.Duration(0)
	for {
		raw, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				raw.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("feed: %w", err)
			}
			// Such as no file descriptors left: whoever has not joined yet gives way, else
			// wait for better times.
			s.refusals.add(log, netip.Addr{}, fmt.Errorf("%w: %w", errAccept, err), time.Now())
			if s.makeRoom() {
				continue
			}
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			select {
			case <-ctx.Done():
			case <-time.After(delay):
			}
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

// accept authenticates an agent and serves it. Its error says why it was refused, or
// dismissed.
func (s *Server) accept(w *waiter, config *tls.Config, log *slog.Logger) error {
	defer s.leave(w)
	conn := tls.Server(w, config)
	key, err := s.authenticate(conn, w)
	var h hello
	if err == nil {
		h, err = readHello(conn)
	}
	if err != nil {
		select {
		case <-w.displaced:
			return errCrowded
		default:
			return err
		}
	}
	now := time.Now().Round(0)
	a := Agent{Name: cleanName(h.Name), Backend: clean(h.Backend), Limited: clean(h.Limited), Since: now, Run: [bootLen]byte(h.Boot)}
	if t, ok := w.RemoteAddr().(*net.TCPAddr); ok {
		a.Addr = t.AddrPort().Addr().Unmap().String()
	}
	if a.Name == "" {
		a.Name = a.Addr
	}
	known, err := s.admit(key, a, w, log)
	if err != nil {
		return bye(conn, err)
	}
	a.Name = known.Name
	l := &link{conn: w, origin: origin{source: w.source, network: w.network}, boot: a.Run, Registered: known, since: now, left: make(chan struct{})}
	if isRun(h.Before) {
		l.before = [bootLen]byte(h.Before)
	}
	l.heard.Store(now.UnixNano())
	if err := s.join(l, log); err != nil {
		return bye(conn, err)
	}
	defer s.part(l)
	s.leave(w)
	greeting := welcome{Version: version, Most: s.maxConns(), Acks: true, States: true, Runs: true, Last: s.last(l.boot)}
	greeting.Heard = greeting.Last
	if r, ok := s.Handler.(Recorder); ok {
		greeting.Recorded = r.LastRecorded(l.boot)
	}
	if err := writeFrame(conn, welcomeFrame{Type: frameWelcome, Welcome: greeting}); err != nil {
		return err
	}
	w.SetDeadline(time.Time{})
	a.ID = s.ids.Add(1)
	log.Info("agent joined", "agent", a.Name, "addr", a.Addr)
	skew := skewOf(now, h.Wall)
	if skew != 0 {
		log.Warn("the clock of an agent is wrong; its times are corrected", "agent", a.Name, "behind", skew.Round(time.Second))
	}
	s.Handler.Join(a)
	err = s.serve(conn, a, skew, greeting.Heard, l, log)
	s.Handler.Leave(a)
	code := byeCode(l.code.Load())
	if errors.Is(err, errFrame) || errors.Is(err, errRow) {
		code = byeFrame
	}
	if code != 0 {
		conn.SetWriteDeadline(time.Now().Add(time.Second))
		writeFrame(conn, goodbyeFrame{Type: frameBye, Code: code})
	}
	switch code {
	case byeFrame:
		return fmt.Errorf("agent %q: %w", a.Name, err)
	case byeRevoked:
		return fmt.Errorf("agent %q: %w", a.Name, errRevoked)
	case byeTotal:
		return fmt.Errorf("agent %q: %w", a.Name, errTotal)
	case byeAgents:
		return fmt.Errorf("agent %q: %w", a.Name, errAgents)
	case byeReplaced:
		err = errReplaced
	}
	log.Info("agent left", "agent", a.Name, "addr", a.Addr, "error", explainAgent(err))
	return nil
}

// serve takes in frames until the link breaks.
func (s *Server) serve(conn *tls.Conn, a Agent, skew time.Duration, heard uint64, l *link, log *slog.Logger) error {
	most := s.maxConns()
	defer func() { s.count(l, 0) }()
	known := make(map[uint64]struct{}) // connections handed to the Handler
	var full []conntrack.Conn          // so far
	var buf []byte
	var seq uint64
	behind := false // something is to be told again
	fast := false   // it was told of
	recorder, records := s.Handler.(Recorder)
	acks := newAcks(conn, func(run [bootLen]byte) uint64 {
		last := s.last(run)
		if records {
			last = max(last, recorder.LastRecorded(run))
		}
		return last
	})
	defer acks.stop()
	var again *time.Timer
	defer func() {
		if again != nil {
			again.Stop()
		}
	}()
	// recorded calls f when all that was told up to a delta of a run is recorded.
	recorded := func(run [bootLen]byte, number uint64, f func()) {
		if !records {
			f()
			return
		}
		of := a
		if of.Run = run; recorder.Recorded(of, number, f) || behind {
			return
		}
		behind = true
		again = time.AfterFunc(tellAgain+rand.N(tellAgain), func() { l.end(byeChanged) })
	}
	// What the links before have told does not come again.
	if heard > 0 {
		recorded(a.Run, heard, func() { acks.acked(heard) })
	}
	credit, last := float64(framesBurst), time.Now()
	for {
		conn.SetReadDeadline(time.Now().Add(silence))
		if l.code.Load() != 0 {
			return errEnded
		}
		kind, b, err := readFrame(conn, buf, largeFrame)
		if err != nil {
			return err
		}
		buf = b
		now := time.Now()
		l.heard.Store(now.UnixNano())
		credit = min(credit+now.Sub(last).Seconds()*framesASecond, framesBurst) - 1
		if last = now; credit < 0 {
			// Who sends too fast waits; nobody else does.
			if !fast {
				fast = true
				s.refusals.add(log, l.source.Addr(), fmt.Errorf("agent %q: %w", a.Name, errFast), now)
			}
			time.Sleep(time.Second / framesASecond)
		}
		c := clock{now.Round(0), skew}
		switch kind {
		case framePing:
			conn.SetWriteDeadline(now.Add(writeTime))
			if err := writeFrame(conn, pingFrame{Type: framePing}); err != nil {
				return err
			}
		case frameFull:
			var f fullHead
			if err := decode(b, &f); err != nil {
				return err
			}
			// All parts of one full have the same number.
			if full == nil && f.Seq <= seq || full != nil && f.Seq != seq {
				return errFrame
			}
			seq = f.Seq
			if full, err = appendConns(full, f.Rows, c); err != nil {
				return err
			}
			if len(full) > most {
				return fmt.Errorf("%w: more than %d connections", errFrame, most)
			}
			s.count(l, max(len(known), len(full)))
			if f.More {
				if full == nil {
					return errFrame
				}
				continue
			}
			clear(known)
			for _, c := range full {
				known[c.ID] = struct{}{}
			}
			s.Handler.Full(a, full)
			full = nil
			s.count(l, len(known))
		case frameAsk:
			var f askFrame
			if err := decode(b, &f); err != nil {
				return err
			}
			if !isRun(f.Run) {
				return errFrame
			}
			run := [bootLen]byte(f.Run)
			recorded(run, s.last(run), func() { acks.answer(run) })
		case frameDelta, frameAgain:
			f, err := decodeDelta(kind, b)
			if err != nil {
				return err
			}
			if f.Seq <= seq || full != nil {
				return errFrame
			}
			seq = f.Seq
			events, err := decodeEvents(f.Events, c)
			if err != nil {
				return err
			}
			for _, e := range events {
				if e.Kind == conntrack.Close {
					delete(known, e.Conn.ID)
				} else {
					known[e.Conn.ID] = struct{}{}
				}
				if len(known) > most {
					return fmt.Errorf("%w: more than %d connections", errFrame, most)
				}
			}
			s.count(l, len(known))
			if f.Lost > 0 {
				events = append(events, conntrack.Event{Kind: conntrack.Lost, Time: c.now, Lost: f.Lost})
			}
			if len(events) > 0 {
				s.Handler.Delta(a, events)
			}
			if slices.ContainsFunc(events, final) { // else there is nothing that the agent keeps
				if kind == frameAgain {
					// Before that of this run, so that none is told again of which only that is known.
					recorded([bootLen]byte(f.Run), f.Number, func() {})
				}
				told := f.Seq // of f nothing else is to be kept until then
				recorded(l.boot, told, func() { acks.acked(told) })
			}
			// What was left out, and all after it, is as if it had not come.
			if !behind {
				s.handle(l.boot, seq)
				if kind == frameAgain {
					s.handle([bootLen]byte(f.Run), f.Number)
				}
			}
		}
	}
}

// isRun reports whether bytes can name a run of an agent.
func isRun(b []byte) bool { return len(b) == bootLen && [bootLen]byte(b) != [bootLen]byte{} }

// decodeDelta decodes a delta, and one of another run.
func decodeDelta(kind frameType, b []byte) (f againHead, err error) {
	if kind == frameAgain {
		if err = decode(b, &f); err == nil && (!isRun(f.Run) || f.Number == 0) {
			err = errFrame
		}
		return f, err
	}
	var d deltaHead
	err = decode(b, &d)
	return againHead{Seq: d.Seq, Events: d.Events, Lost: d.Lost}, err
}

// final reports whether an event cannot be told again by what lives.
func final(e conntrack.Event) bool { return e.Kind == conntrack.Close || e.Kind == conntrack.Lost }
