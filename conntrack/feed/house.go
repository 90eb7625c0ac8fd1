package feed

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/connmapgo/connmap/conntrack/feed/frame"
)

// refusalsEvery is how often a log line is written about one reason.
const refusalsEvery = time.Minute

// Why agents are refused or dismissed.
var (
	errGuesses    = errors.New("feed: too many wrong passwords or tokens from one address: for a minute it needs a known key")
	errAgents     = errors.New("feed: there are as many agents as may be")
	errApproval   = errors.New("feed: nobody has approved it yet: mapserver agents approve")
	errEnrolments = errors.New("feed: too many agents are new within a minute, from its address or in all")
	errRevoked    = errors.New("feed: its key is revoked")
	errTotal      = errors.New("feed: all agents together have more connections than may be, and it has the most")
	errCrowded    = errors.New("feed: its place was needed for a newer one, as it had not said who it is")
	errReplaced   = errors.New("feed: it has joined anew")
	errBusy       = errors.New("feed: so many wrong passwords come from everywhere that not all are tried")
	errAccept     = errors.New("feed: a connection could not be accepted")
	errTrouble    = errors.New("feed: this server cannot take in agents now")
	errEnded      = errors.New("feed: the server ends the link")
	errFast       = errors.New("feed: it sends faster than is taken, and has to wait")
	errKnock      = errors.New("feed: it is no agent, or gave up")
)

// refusals are counted, and logged rarely: anybody can knock, as often as he likes. So are
// agents that are slowed down.
type refusals struct {
	mu   sync.Mutex
	last map[error]*refusal // by reason
}

type refusal struct {
	said   time.Time // when the last line was written
	untold int       // since
	addr   netip.Addr
	err    error // of the last
}

// reasonOf returns one of few reasons.
func reasonOf(err error) (level slog.Level, reason error) {
	for _, r := range []error{ErrToken, errTrouble, errGuesses, errRevoked, errAgents, errApproval, errEnrolments, errBusy, errAccept, errTotal, errFast, frame.ErrDamaged} {
		if errors.Is(err, r) {
			return slog.LevelWarn, r
		}
	}
	if errors.Is(err, errCrowded) {
		return slog.LevelInfo, errCrowded
	}
	return slog.LevelInfo, errKnock
}

func (r *refusals) add(log *slog.Logger, addr netip.Addr, err error, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = make(map[error]*refusal)
	}
	_, reason := reasonOf(err)
	f := r.last[reason]
	if f == nil {
		f = &refusal{}
		r.last[reason] = f
	}
	f.untold++
	f.addr, f.err = addr, err
	r.tell(log, reason, f, now)
}

// tell writes a line if it is time.
func (r *refusals) tell(log *slog.Logger, reason error, f *refusal, now time.Time) {
	if f.untold == 0 || now.Sub(f.said) < refusalsEvery {
		return
	}
	level, _ := reasonOf(reason)
	what := "refused"
	if reason == errFast {
		what = "slowed down"
	}
	text := "agent " + what
	if f.untold > 1 {
		text = "agents " + what + "; the last one"
	}
	log.Log(context.Background(), level, text, "count", f.untold, "addr", f.addr.String(), "error", explainAgent(f.err))
	f.said, f.untold = now, 0
}

// explainAgent is explain for those who read of an agent.
func explainAgent(err error) error {
	var record tls.RecordHeaderError
	if errors.Is(err, frame.ErrDamaged) {
		return err // which may be that it ends too early
	}
	if errors.As(err, &record) {
		return errKnock
	}
	if err = explain(err); err == errClosed {
		return errors.New("feed: it closed the link")
	}
	return err
}

// flush tells what was held back.
func (r *refusals) flush(log *slog.Logger, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for reason, f := range r.last {
		r.tell(log, reason, f, now)
	}
}

// keepHouse does until ctx ends what is to be done from time to time: it ends links of
// agents that were revoked or renamed by another process, notes when agents were seen,
// and tells of refusals.
func (s *Server) keepHouse(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(registryEvery)
	defer tick.Stop()
	saved, said := time.Now(), ""
	trouble := func(err error) {
		if err == nil {
			said = ""
		} else if err.Error() != said {
			said = err.Error()
			log.Warn("the registry of agents", "error", err)
		}
	}
	for {
		select {
		case <-ctx.Done():
			s.saveSeen(trouble)
			s.refusals.flush(log, time.Now().Add(refusalsEvery))
			return
		case <-tick.C:
		}
		s.refusals.flush(log, time.Now())
		if s.Registry == nil {
			continue
		}
		_, err := s.Registry.refresh()
		trouble(err)
		s.dismissChanged()
		if time.Since(saved) > seenEvery {
			saved = time.Now()
			s.saveSeen(trouble)
		}
	}
}

// dismissChanged ends links of agents that are no longer what they were. Who has
// another name comes back under it.
func (s *Server) dismissChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, l := range s.keys {
		switch r, known := s.Registry.of(key); {
		case known && !r.Revoked.IsZero():
			l.end(byeRevoked)
		case r.Name != l.Name:
			l.end(byeChanged)
		}
	}
	for _, l := range s.keyless.members {
		if s.Registry.named(l.Name) {
			l.end(byeChanged) // an agent with a key has the name now
		}
	}
}

func (s *Server) saveSeen(trouble func(error)) {
	if s.Registry == nil {
		return
	}
	now := time.Now()
	s.mu.Lock()
	for key := range s.keys {
		s.Registry.saw(key, "", now)
	}
	s.mu.Unlock()
	if err := s.Registry.save(); err != nil {
		trouble(err)
	}
}
