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
	errAgents     = errors.New("feed: there are as many agents as this server takes")
	errApproval   = errors.New("feed: nobody has approved it yet: mapserver agents approve")
	errEnrolments = errors.New("feed: too many agents are new within a minute, from its address or in all")
	errRevoked    = errors.New("feed: its key is revoked")
	errTotal      = errors.New("feed: all agents together have more connections than this server takes, and it has the most")
	errEvicted    = errors.New("feed: its place was needed for a newer connection, as it had not joined yet")
	errReplaced   = errors.New("feed: it has joined again")
	errBusy       = errors.New("feed: so many wrong passwords come from everywhere that not all are tried")
	errAccept     = errors.New("feed: a connection could not be accepted")
	errTrouble    = errors.New("feed: this server cannot take in agents now")
	errEnded      = errors.New("feed: the server ends the link")
	errFast       = errors.New("feed: it sends too fast, and has to wait")
	errNoAgent    = errors.New("feed: it is not an agent, or gave up")
)

// refusals counts connections that were refused and agents that are throttled. It logs a line
// about each reason once a minute at most, because anybody can connect at any rate.
type refusals struct {
	mu   sync.Mutex
	last map[error]*refusal // by reason
}

type refusal struct {
	loggedAt time.Time // the last time
	count    int       // since then
	addr     netip.Addr
	err      error // of the last
}

// reasonOf returns one of the reasons above, and the level to log it at.
func reasonOf(err error) (level slog.Level, reason error) {
	for _, r := range []error{ErrToken, errTrouble, errGuesses, errRevoked, errAgents, errApproval, errEnrolments, errBusy, errAccept, errTotal, errFast, frame.ErrDamaged} {
		if errors.Is(err, r) {
			return slog.LevelWarn, r
		}
	}
	if errors.Is(err, errEvicted) {
		return slog.LevelInfo, errEvicted
	}
	return slog.LevelInfo, errNoAgent
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
	f.count++
	f.addr, f.err = addr, err
	r.log(log, reason, f, now)
}

// log writes a line if it is time.
func (r *refusals) log(log *slog.Logger, reason error, f *refusal, now time.Time) {
	if f.count == 0 || now.Sub(f.loggedAt) < refusalsEvery {
		return
	}
	level, _ := reasonOf(reason)
	what := "refused"
	if reason == errFast {
		what = "slowed down"
	}
	text := "agent " + what
	if f.count > 1 {
		text = "agents " + what + "; the last one"
	}
	log.Log(context.Background(), level, text, "count", f.count, "addr", f.addr.String(), "error", explainAgent(f.err))
	f.loggedAt, f.count = now, 0
}

// explainAgent is explain for the log of a server.
func explainAgent(err error) error {
	var record tls.RecordHeaderError
	if errors.Is(err, frame.ErrDamaged) {
		return err // it may wrap io.ErrUnexpectedEOF
	}
	if errors.As(err, &record) {
		return errNoAgent
	}
	if err = explain(err); err == errClosed {
		return errors.New("feed: it closed the link")
	}
	return err
}

// flush logs what was held back.
func (r *refusals) flush(log *slog.Logger, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for reason, f := range r.last {
		r.log(log, reason, f, now)
	}
}
