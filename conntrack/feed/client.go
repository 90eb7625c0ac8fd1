package feed

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"iter"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed/frame"
)

const (
	handshakeTime     = 10 * time.Second       // for all of TLS, proofs and greetings
	headStart         = 250 * time.Millisecond // of one address before the next (RFC 8305, section 5)
	writeTime         = 10 * time.Second
	finishTime        = 500 * time.Millisecond // for the last changes when Run ends; programs end within a second
	heartbeat         = 10 * time.Second
	silence           = 30 * time.Second // after which the other side is gone
	firstBackoff      = time.Second
	lastBackoff       = 5 * time.Minute
	resetBackoffAfter = time.Minute // of a connection
)

// A Source yields the connections of a machine: an Open for each that is there, then what
// changes. *conntrack.Collector is one.
type Source interface {
	Events(context.Context) iter.Seq2[conntrack.Event, error]
}

// A Client reports the connections of a source to a map server. Its fields
// must be set before Run and not change afterwards.
type Client struct {
	Addr   string                // host or host:port of the server; without a port DefaultPort and FallbackPort are tried
	Token  Token                 // of the server
	Key    ed25519.PrivateKey    // by which the server knows this machine once it has joined with the token; nil: it needs a working token each time
	Name   string                // of this machine on the map; empty: its address
	Source Source                // what to report
	Info   func() conntrack.Info // how Source reads and why it does not see all, asked at each connect; nil: unknown
	Spool  string                // folder for 64 MiB of close events that are not recorded when memory is full or Run ends; empty: none
	Names  func(string) string   // returns what is reported of a name of a peer, empty: nothing; nil: all of it
	Logger *slog.Logger          // nil: discard

	dial func(ctx context.Context, network, addr string) (net.Conn, error) // nil: by net.Dialer
	room frame.TableOptions                                                // of the table; set by tests
}

// Run reports until ctx ends, which is no error. If the connection breaks, it reconnects by
// itself, first after a second, later every five minutes, and logs each problem once. It fails
// if the source does or ends. Before it has joined for the first time it also fails at once if
// a retry is of no use: with ErrToken if the token is wrong and with a *net.DNSError if there
// is no such host. A client must not run twice at the same time.
func (c *Client) Run(ctx context.Context) error {
	addrs, err := addresses(c.Addr)
	switch {
	case err != nil:
		return err
	case c.Token == Token{}:
		return errors.New("feed: there is no token; mapserver token prints it")
	case c.Source == nil:
		return errors.New("feed: there is no source of connections")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &connector{Client: c, addrs: addrs, log: c.Logger, sourceEnded: make(chan struct{})}
	o := c.room
	o.Spool, o.Names = c.Spool, c.Names
	if l.table, err = frame.OpenTable(o); err != nil {
		return err
	}
	if c.Key != nil {
		if l.cert, err = certOf(c.Key); err != nil {
			return err
		}
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	source := make(chan error, 1)
	go func() {
		defer close(l.sourceEnded)
		err := l.readSource(ctx)
		cancel()
		source <- err
	}()
	err = l.run(ctx)
	cancel()
	return errors.Join(<-source, err, l.table.Close())
}

// readSource follows the source until it ends, as it does soon after ctx. What happened
// before that is reported.
func (l *connector) readSource(ctx context.Context) error {
	for e, err := range l.Source.Events(ctx) {
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err != nil {
			return nil
		}
		l.table.Add(e)
	}
	if ctx.Err() != nil {
		return nil
	}
	return errors.New("feed: the source of connections ended")
}

// A connector is a running Client. It connects, and reconnects when the connection breaks.
type connector struct {
	*Client
	addrs       []string // to try, each headStart after the one before; the one that answered last comes first
	addr        string   // of the last connection, or of the last error
	log         *slog.Logger
	table       *frame.Table
	sourceEnded chan struct{}   // closed when the source has ended
	cert        tls.Certificate // empty: there is no key
}

// run keeps a connection up until ctx ends.
func (l *connector) run(ctx context.Context) error {
	backoff, joinedOnce, logged := firstBackoff, false, ""
	for {
		var since time.Time // when it joined
		err := l.connect(ctx, func() {
			level := slog.LevelInfo
			if logged != "" {
				// The log has a warning of the problem, so it gets one of its end.
				level = slog.LevelWarn
			}
			l.log.Log(ctx, level, "connected", "server", l.addr)
			since, joinedOnce, logged = time.Now(), true, ""
		})
		if ctx.Err() != nil {
			return nil
		}
		var dns *net.DNSError
		if !joinedOnce && (permanent(err) || errors.As(err, &dns) && dns.IsNotFound) {
			return explain(err)
		}
		if !since.IsZero() && time.Since(since) >= resetBackoffAfter {
			backoff = firstBackoff
		}
		if permanent(err) || errors.Is(err, errShared) {
			backoff = lastBackoff
		}
		if why := explain(err).Error(); why != logged {
			l.log.Warn("not connected, trying again", "server", l.addr, "error", strings.TrimPrefix(why, "feed: "))
			logged = why
		}
		select {
		case <-ctx.Done():
			return nil
		// Random, so that not all agents reconnect at once.
		case <-time.After(backoff/10 + mathrand.N(backoff-backoff/10)):
		}
		backoff = min(2*backoff, lastBackoff)
	}
}
