package feed

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed/frame"
)

// A serverSession receives what an agent reports over one connection, from its joining to the
// end of the connection.
type serverSession struct {
	server   *Server
	log      *slog.Logger
	conn     *tls.Conn
	link     *link
	agent    Agent
	recorder Acknowledger // nil: nobody records
	receiver frame.Receiver
	acks     *acks
	heard    uint64 // number of the last delta that came by earlier connections of this run

	credit    float64 // frames that the agent may send
	creditAt  time.Time
	throttled bool        // the log has a line about it
	behind    bool        // the Handler has left out events, which the agent must send again
	rejoin    *time.Timer // dismisses the agent then, so that it joins again; nil: not behind
}

func (s *Server) newSession(conn *tls.Conn, l *link, a Agent, log *slog.Logger) *serverSession {
	a.ID = s.ids.Add(1)
	r, _ := s.Handler.(Acknowledger)
	return &serverSession{
		server: s, log: log, conn: conn, link: l, agent: a, recorder: r, heard: s.lastHeard(l.run),
		receiver: frame.Receiver{MaxConns: s.maxConns()}, credit: framesBurst, creditAt: time.Now(),
	}
}

// welcome tells the agent that it has joined.
func (s *serverSession) welcome() error {
	w := frame.Welcome{
		Version: frame.Version, MaxConns: s.receiver.MaxConns, Acks: true, States: true, Runs: true, Names: !s.server.NoNames, Last: s.heard, Heard: s.heard,
	}
	if s.recorder != nil {
		w.Recorded = s.recorder.LastRecorded(s.agent.Run)
	}
	return frame.Write(s.conn, w)
}

// setClock corrects the agent's times if its clock is wrong.
func (s *serverSession) setClock(now time.Time, h *frame.Hello) {
	skew := h.Skew(now)
	if skew != 0 {
		s.log.Warn("the clock of an agent is wrong; its times are corrected", "agent", s.agent.Name, "behind", skew.Round(time.Second))
	}
	s.receiver.Skew = skew
}

// run receives frames until the connection breaks. The error says why the agent was dismissed,
// if it was.
func (s *serverSession) run() error {
	s.log.Info("agent joined", "agent", s.agent.Name, "addr", s.agent.Addr)
	s.server.Handler.Join(s.agent)
	err := s.receive()
	s.server.Handler.Leave(s.agent)
	return s.farewell(err)
}

func (s *serverSession) receive() error {
	defer s.server.countConns(s.link, 0)
	s.acks = newAcks(s.conn, s.server.lastRecorded)
	defer s.acks.stop()
	defer func() {
		if s.rejoin != nil {
			s.rejoin.Stop()
		}
	}()
	// The agent does not send again what came by earlier connections.
	if s.heard > 0 {
		acks, heard := s.acks, s.heard
		s.recorded(s.agent.Run, heard, func() { acks.acknowledge(heard) })
	}
	frames := frame.NewReader(s.conn)
	for {
		s.conn.SetReadDeadline(time.Now().Add(silence))
		if s.link.code.Load() != 0 {
			return errEnded
		}
		t, body, err := frames.Next(frame.MaxSize)
		if err != nil {
			return err
		}
		now := time.Now()
		s.link.heardAt.Store(now.UnixNano())
		s.throttle(now)
		if err := s.handle(t, body, now); err != nil {
			return err
		}
	}
}

// throttle has an agent wait that sends too fast. No other agent waits.
func (s *serverSession) throttle(now time.Time) {
	s.credit = min(s.credit+now.Sub(s.creditAt).Seconds()*framesPerSecond, framesBurst) - 1
	if s.creditAt = now; s.credit >= 0 {
		return
	}
	if !s.throttled {
		s.throttled = true
		s.server.refusals.add(s.log, s.link.source.Addr(), fmt.Errorf("agent %q: %w", s.agent.Name, errFast), now)
	}
	time.Sleep(time.Second / framesPerSecond)
}

// handle dispatches a frame. It skips frames of unknown types.
func (s *serverSession) handle(t frame.Type, body []byte, now time.Time) error {
	switch t {
	case frame.TypePing:
		return s.ping(now)
	case frame.TypeFull:
		return s.full(body, now)
	case frame.TypeDelta, frame.TypeResend:
		return s.delta(t, body, now)
	case frame.TypeAsk:
		return s.ask(body)
	}
	return nil
}

func (s *serverSession) ping(now time.Time) error {
	s.conn.SetWriteDeadline(now.Add(writeTime))
	return frame.Write(s.conn, frame.Ping{})
}

func (s *serverSession) full(body []byte, now time.Time) error {
	conns, whole, err := s.receiver.Full(body, now)
	if err != nil {
		return err
	}
	s.server.countConns(s.link, s.receiver.Len())
	if whole {
		s.server.Handler.Full(s.agent, conns)
	}
	return nil
}

func (s *serverSession) delta(t frame.Type, body []byte, now time.Time) error {
	d, err := s.receiver.Delta(t, body, now)
	if err != nil {
		return err
	}
	s.server.countConns(s.link, s.receiver.Len())
	if len(d.Events) > 0 {
		s.server.Handler.Delta(s.agent, d.Events)
	}
	resent, run := t == frame.TypeResend, d.Run
	if slices.ContainsFunc(d.Events, isKept) {
		if resent {
			// First the number of the earlier run: if only that of this run were recorded, the
			// next run would send the events again.
			s.recorded(run, d.Number, func() {})
		}
		acks, seq := s.acks, d.Seq // an Acknowledger that takes its time must not keep the session, nor d
		s.recorded(s.agent.Run, seq, func() { acks.acknowledge(seq) })
	}
	// From the first events on that were left out, it is as if nothing had come.
	if !s.behind {
		s.server.noteHeard(s.agent.Run, d.Seq)
		if resent {
			s.server.noteHeard(run, d.Number)
		}
	}
	return nil
}

// isKept reports whether the agent keeps an event until it is recorded.
func isKept(e conntrack.Event) bool { return e.Kind == conntrack.Close || e.Kind == conntrack.Lost }

// ask answers what is recorded of an earlier run, once all is that came from it.
func (s *serverSession) ask(body []byte) error {
	var f frame.Ask
	if err := frame.Decode(body, &f); err != nil {
		return err
	}
	acks := s.acks
	s.recorded(f.Run, s.server.lastHeard(f.Run), func() { acks.answer(f.Run) })
	return nil
}

// recorded calls f when all deltas of a run up to a number are recorded.
func (s *serverSession) recorded(run frame.Run, number uint64, f func()) {
	if s.recorder == nil {
		f()
		return
	}
	a := s.agent
	if a.Run = run; s.recorder.Recorded(a, number, f) || s.behind {
		return
	}
	s.behind = true
	s.rejoin = time.AfterFunc(rejoinAfter+rand.N(rejoinAfter), func() { s.link.dismiss(byeChanged) })
}

// farewell sends the agent why the connection ends, and logs it unless the error says so.
func (s *serverSession) farewell(err error) error {
	code := byeCode(s.link.code.Load())
	if errors.Is(err, frame.ErrDamaged) {
		code = byeDamaged
	}
	if code != 0 {
		s.conn.SetWriteDeadline(time.Now().Add(time.Second))
		frame.Write(s.conn, byeFrame{Code: code})
	}
	switch code {
	case byeDamaged:
		return fmt.Errorf("agent %q: %w", s.agent.Name, err)
	case byeRevoked:
		return fmt.Errorf("agent %q: %w", s.agent.Name, errRevoked)
	case byeTotal:
		return fmt.Errorf("agent %q: %w", s.agent.Name, errTotal)
	case byeAgents:
		return fmt.Errorf("agent %q: %w", s.agent.Name, errAgents)
	case byeReplaced:
		err = errReplaced
	}
	s.log.Info("agent left", "agent", s.agent.Name, "addr", s.agent.Addr, "error", explainAgent(err))
	return nil
}
