package feed

import (
	"context"
	"crypto/hmac"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connmapgo/connmap/conntrack"
)

const (
	mostAgents    = 1000
	mostConns     = 20_000 // per agent
	mostWaiting   = 256    // connections before authentication
	mostSource    = 8      // of them from one IPv4 address or IPv6 /64
	mostFailures  = 5      // wrong tokens per address and minute
	framesASecond = 20
	framesBurst   = 60
	byeToken      = "wrong token"
)

// An Agent is the far end of a link.
type Agent struct {
	ID      uint64 // of the link, unique in the life of a Server and never zero there
	Name    string // as the agent calls its host
	Addr    string // where it reports from, without port
	Backend string // how it reads its sockets
	Limited string // why it does not see all; empty: it does
	Since   time.Time
}

// A Handler takes in what agents report. Calls for one agent come one after
// the other, Join first and Leave last; calls for different agents come at
// the same time. The slices belong to the Handler. All texts are safe to show.
type Handler interface {
	Join(Agent)                     // before its first connections
	Full(Agent, []conntrack.Conn)   // all its connections: replaces what was known
	Delta(Agent, []conntrack.Event) // what changed since, or was lost
	Leave(Agent)                    // the link ended
}

// A Server lets agents join. Its fields must be set before Serve and not
// change afterwards.
type Server struct {
	Identity *Identity
	Handler  Handler
	Logger   *slog.Logger // nil: silent

	ids    atomic.Uint64
	agents atomic.Int64

	mu       sync.Mutex
	waiting  []*waiter // oldest first
	failures map[netip.Prefix]failure
}

// A waiter is a connection that is not authenticated yet.
type waiter struct {
	conn   net.Conn
	source netip.Prefix
}

type failure struct {
	count int
	until time.Time
}

// Serve accepts agents until ctx ends, which is no error, or the listener
// fails. It closes the listener and returns when all links have ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	log := s.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	var links sync.WaitGroup
	defer links.Wait()
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	config := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{alpn},
		Certificates:           []tls.Certificate{s.Identity.cert},
		SessionTicketsDisabled: true,
	}
	for delay := time.Duration(0); ; {
		raw, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				raw.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			// Such as no file descriptors left: wait for better times.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			log.Warn("cannot accept an agent", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(delay):
			}
			continue
		}
		delay = 0
		links.Go(func() {
			defer raw.Close()
			defer context.AfterFunc(ctx, func() { raw.Close() })()
			if err := s.link(raw, config, log); err != nil && ctx.Err() == nil {
				log.Info("agent refused or lost", "addr", raw.RemoteAddr().String(), "error", err)
			}
		})
	}
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

// enter takes a slot for a connection before authentication. Who is silent
// must not keep others out: the oldest of the same source, or of all, goes.
func (s *Server) enter(w *waiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.failures[w.source]; f.count >= mostFailures && time.Now().Before(f.until) {
		return false
	}
	same, oldest := 0, -1
	for i, o := range s.waiting {
		if o.source == w.source {
			if same == 0 {
				oldest = i
			}
			same++
		}
	}
	if same < mostSource {
		oldest = -1
		if len(s.waiting) >= mostWaiting {
			oldest = 0
		}
	}
	if oldest >= 0 {
		s.waiting[oldest].conn.Close()
		s.waiting = append(s.waiting[:oldest], s.waiting[oldest+1:]...)
	}
	s.waiting = append(s.waiting, w)
	return true
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

func (s *Server) link(raw net.Conn, config *tls.Config, log *slog.Logger) error {
	w := &waiter{raw, sourceOf(raw.RemoteAddr())}
	if !s.enter(w) {
		return errors.New("feed: too many wrong tokens, refused for a minute")
	}
	defer s.leave(w)
	raw.SetDeadline(time.Now().Add(handshakeTime))
	conn := tls.Server(raw, config)
	if err := s.authenticate(conn, w.source); err != nil {
		return err
	}
	s.leave(w)
	kind, buf, err := readFrame(conn, nil, largeFrame)
	if err != nil {
		return err
	}
	var hello helloFrame
	if kind != frameHello {
		return errors.New("feed: no hello")
	}
	if err := decode(buf, &hello); err != nil {
		return err
	}
	if s.agents.Add(1) > mostAgents {
		s.agents.Add(-1)
		writeFrame(conn, byeFrame{Type: frameBye, Reason: "it has as many agents as it takes"})
		return errors.New("feed: too many agents")
	}
	defer s.agents.Add(-1)
	if err := writeFrame(conn, welcomeFrame{Type: frameWelcome, Most: mostConns}); err != nil {
		return err
	}
	raw.SetDeadline(time.Time{})
	a := Agent{
		ID: s.ids.Add(1), Name: clean(hello.Name), Addr: w.source.Addr().String(),
		Backend: clean(hello.Backend), Limited: clean(hello.Limited), Since: time.Now(),
	}
	if t, ok := raw.RemoteAddr().(*net.TCPAddr); ok {
		a.Addr = t.AddrPort().Addr().Unmap().String()
	}
	if a.Name == "" {
		a.Name = a.Addr
	}
	log.Info("agent joined", "agent", a.Name, "addr", a.Addr)
	stop := make(chan struct{})
	var beat sync.WaitGroup
	beat.Go(func() { heartbeats(conn, stop) })
	s.Handler.Join(a)
	err = s.serve(conn, a, buf)
	s.Handler.Leave(a)
	close(stop)
	raw.Close()
	beat.Wait()
	return err
}

func (s *Server) authenticate(conn *tls.Conn, source netip.Prefix) error {
	if err := conn.Handshake(); err != nil {
		return err
	}
	cs := conn.ConnectionState()
	if cs.NegotiatedProtocol != alpn {
		return errors.New("feed: the agent does not speak connmap/1")
	}
	theirs, err := proof(&cs, s.Identity.token, roleAgent)
	if err != nil {
		return err
	}
	kind, b, err := readFrame(conn, nil, smallFrame)
	if err != nil {
		return err
	}
	var p proofFrame
	if kind != frameProof || decode(b, &p) != nil || !hmac.Equal(p.Proof, theirs) {
		s.failed(source)
		writeFrame(conn, byeFrame{Type: frameBye, Reason: byeToken})
		return ErrToken
	}
	mine, err := proof(&cs, s.Identity.token, roleServer)
	if err != nil {
		return err
	}
	return writeFrame(conn, proofFrame{Type: frameProof, Proof: mine})
}

func heartbeats(conn *tls.Conn, stop <-chan struct{}) {
	t := time.NewTicker(heartbeat)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			conn.SetWriteDeadline(time.Now().Add(writeTime))
			if writeFrame(conn, pingFrame{Type: framePing}) != nil {
				return
			}
		}
	}
}

// serve takes in frames until the link breaks.
func (s *Server) serve(conn *tls.Conn, a Agent, buf []byte) error {
	known := make(map[uint64]bool) // connections handed to the Handler
	var full []conntrack.Conn
	var surplus uint64 // of full, beyond mostConns
	credit, last := float64(framesBurst), time.Now()
	for {
		conn.SetReadDeadline(time.Now().Add(silence))
		kind, b, err := readFrame(conn, buf, largeFrame)
		if err != nil {
			return err
		}
		buf = b
		now := time.Now()
		credit = min(credit+now.Sub(last).Seconds()*framesASecond, framesBurst) - 1
		if last = now; credit < 0 {
			// Who sends too fast waits; nobody else does.
			time.Sleep(time.Second / framesASecond)
		}
		switch kind {
		case framePing:
		case frameFull:
			var f fullFrame
			if err := decode(b, &f); err != nil {
				return err
			}
			for i := range f.Rows {
				c, err := f.Rows[i].conn(now)
				if err != nil {
					return err
				}
				if len(full) == mostConns {
					surplus++
					continue
				}
				full = append(full, c)
			}
			if f.More {
				continue
			}
			clear(known)
			for _, c := range full {
				known[c.ID] = true
			}
			s.Handler.Full(a, full)
			if surplus > 0 {
				s.Handler.Delta(a, []conntrack.Event{{Kind: conntrack.Lost, Time: now, Lost: surplus}})
			}
			full, surplus = nil, 0
		case frameDelta:
			events, err := delta(b, now, known)
			if err != nil {
				return err
			}
			s.Handler.Delta(a, events)
		default:
			return errors.New("feed: unexpected frame")
		}
	}
}

// delta decodes a delta frame. What goes beyond the connections that an agent
// may have is counted as lost.
func delta(b []byte, now time.Time, known map[uint64]bool) ([]conntrack.Event, error) {
	var f deltaFrame
	if err := decode(b, &f); err != nil {
		return nil, err
	}
	events := make([]conntrack.Event, 0, len(f.Events)+1)
	for i := range f.Events {
		e := conntrack.Event{Kind: conntrack.Kind(f.Events[i].Kind), Time: now}
		if e.Kind < conntrack.Open || e.Kind > conntrack.Close {
			return nil, errRow
		}
		var err error
		if e.Conn, err = f.Events[i].Row.conn(now); err != nil {
			return nil, err
		}
		switch {
		case e.Kind == conntrack.Close:
			delete(known, e.Conn.ID)
		case known[e.Conn.ID]:
		case len(known) >= mostConns:
			f.Lost++
			continue
		default:
			known[e.Conn.ID] = true
		}
		events = append(events, e)
	}
	if f.Lost > 0 {
		events = append(events, conntrack.Event{Kind: conntrack.Lost, Time: now, Lost: f.Lost})
	}
	return events, nil
}
