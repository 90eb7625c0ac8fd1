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
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/connmapgo/connmap/conntrack"
)

const (
	handshakeTime = 10 * time.Second       // for all of TLS, proofs and greetings
	headStart     = 250 * time.Millisecond // of one address before the next (RFC 8305, section 5)
	writeTime     = 10 * time.Second
	lastWords     = 500 * time.Millisecond // when Run ends; programs end within a second
	heartbeat     = 10 * time.Second
	silence       = 30 * time.Second      // after which the other side is gone
	gatherTime    = 25 * time.Millisecond // a poll yields many events at once
	deltaEvery    = 250 * time.Millisecond
	countersEvery = time.Second // of counters alone
	fullEvery     = 5 * time.Minute
	firstBackoff  = time.Second
	lastBackoff   = 5 * time.Minute
	healthy       = time.Minute // a link this old resets the backoff
)

// A Source yields the connections of a host: an Open for each that is there,
// then what changes. *conntrack.Collector is one.
type Source interface {
	Events(context.Context) iter.Seq2[conntrack.Event, error]
}

// A Client reports the connections of a source to a map server. Its fields
// must be set before Run and not change afterwards.
type Client struct {
	Addr   string                // host or host:port of the server; without a port DefaultPort and FallbackPort are tried
	Token  Token                 // of the server
	Key    ed25519.PrivateKey    // by which the server knows this host once the token has let it in; nil: it needs a token that works each time
	Name   string                // by which the map calls this host; empty: its address
	Source Source                // what to report
	Info   func() conntrack.Info // how Source reads and why it does not see all, asked at each connect; nil: unknown
	Spool  string                // folder for 64 MiB of what memory has no room for while there is no server, and of what was not told when Run ends; empty: none
	Logger *slog.Logger          // nil: discard

	dial func(ctx context.Context, network, addr string) (net.Conn, error) // nil: by net.Dialer
	tune func(*table)                                                      // gives it less room; nil: nobody
}

// Run reports until ctx ends, which is no error. If the link breaks, it tries
// again by itself, first after a second, at last every five minutes, and logs
// each trouble once. It fails if the source does or ends. As long as no server
// has ever taken it in, it also fails at once, with ErrToken if the token is
// wrong and with a *net.DNSError if there is no such host: waiting mends
// neither. A client must not run twice at the same time.
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
	l := &linker{Client: c, addrs: addrs, log: c.Logger, table: newTable(), read: make(chan struct{})}
	if c.Spool != "" {
		if l.table.spool, err = openSpool(c.Spool); err != nil {
			return err
		}
		l.before = l.table.spool.begin(l.table.run)
	}
	if c.tune != nil {
		c.tune(l.table)
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
		defer close(l.read)
		err := l.table.read(ctx, c.Source)
		cancel()
		source <- err
	}()
	err = l.run(ctx)
	cancel()
	return errors.Join(<-source, err, l.table.store())
}

// read follows a source until it ends, as it does soon after ctx: what happened before that
// is told.
func (t *table) read(ctx context.Context, src Source) error {
	for e, err := range src.Events(ctx) {
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err != nil {
			return nil
		}
		t.add(e)
	}
	if ctx.Err() != nil {
		return nil
	}
	return errors.New("feed: the source of connections ended")
}

// A linker is a running Client.
type linker struct {
	*Client
	addrs  []string // to try, each headStart after the one before; that which answered last comes first
	addr   string   // that of the last link or, while there is none, of the error
	log    *slog.Logger
	table  *table
	read   chan struct{}   // closed when the source has ended
	before []byte          // the run before this one; nil: it is not known
	cert   tls.Certificate // empty: there is no key
	seq    uint64
}

// run keeps a link up.
func (l *linker) run(ctx context.Context) error {
	backoff, ever, said := firstBackoff, false, ""
	for {
		var since time.Time // of the link
		err := l.linkAny(ctx, func() {
			level := slog.LevelInfo
			if said != "" {
				// Who read of the trouble is to read of its end.
				level = slog.LevelWarn
			}
			l.log.Log(ctx, level, "connected", "server", l.addr)
			since, ever, said = time.Now(), true, ""
		})
		if ctx.Err() != nil {
			return nil
		}
		var dns *net.DNSError
		if !ever && (hopeless(err) || errors.As(err, &dns) && dns.IsNotFound) {
			return explain(err)
		}
		if !since.IsZero() && time.Since(since) >= healthy {
			backoff = firstBackoff
		}
		if hopeless(err) || errors.Is(err, errShared) {
			backoff = lastBackoff
		}
		if why := explain(err).Error(); why != said {
			l.log.Warn("not connected, trying again", "server", l.addr, "error", strings.TrimPrefix(why, "feed: "))
			said = why
		}
		select {
		case <-ctx.Done():
			return nil
		// Random, so that agents do not come back all at once.
		case <-time.After(backoff/10 + mathrand.N(backoff-backoff/10)):
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// use reports on a link until something breaks.
func (l *linker) use(ctx context.Context, c channel, joined func()) error {
	raw, conn, server := c.raw, c.conn, c.server
	defer raw.Close()
	raw.SetDeadline(time.Time{})
	l.table.joined(server.Recorded, server.Heard)
	joined()

	broken := make(chan error, 1)
	var reader sync.WaitGroup
	reader.Go(func() { broken <- listen(conn, l.table) })
	defer reader.Wait()
	defer raw.Close()
	defer func() {
		if ctx.Err() != nil {
			conn.Close() // unlike that of raw, this says farewell
		}
	}()
	defer context.AfterFunc(ctx, func() { raw.SetDeadline(time.Now().Add(lastWords)) })()
	return l.report(ctx, conn, server, broken)
}

// listen reads heartbeats, acknowledgements and answers until the server falls silent or
// says farewell.
func listen(conn *tls.Conn, t *table) error {
	var buf []byte
	for {
		conn.SetReadDeadline(time.Now().Add(silence))
		kind, b, err := readFrame(conn, buf, largeFrame)
		if err != nil {
			return err
		}
		buf = b
		switch kind {
		case frameBye:
			return farewell(b)
		case frameAck:
			var f ackFrame
			if err := decode(b, &f); err != nil {
				return err
			}
			t.acked(f.Seq)
		case frameAnswer:
			var f answerFrame
			if err := decode(b, &f); err != nil {
				return err
			}
			t.answered(f.Run, f.Recorded)
		}
	}
}

// report sends the whole table, then what changes.
func (l *linker) report(ctx context.Context, conn *tls.Conn, server welcome, broken <-chan error) (err error) {
	var lost uint64 // taken from the table, but not yet told
	defer func() { l.table.unfollow(lost) }()
	send := func(frame any) error {
		if ctx.Err() == nil {
			conn.SetWriteDeadline(time.Now().Add(writeTime))
		}
		return writeFrame(conn, frame)
	}
	buf := make([]eventRow, 0, 1) // also of none: nil is not an array
	rows := func(events []conntrack.Event) []eventRow {
		buf = slices.Grow(buf[:0], len(events))[:len(events)]
		for i, e := range events {
			if !server.States {
				e.Conn.State = 0
			}
			buf[i] = eventRowOf(e)
		}
		return buf
	}
	delta := func(events []conntrack.Event) error {
		if len(events) == 0 && lost == 0 {
			return nil
		}
		// All of it is noted first, for it may be that the first part breaks the link.
		seq, told := l.seq, lost
		for part := range parts(events, eventSize) {
			l.seq++
			l.table.sending(l.seq, part, told)
			told = 0
		}
		told = lost
		if server.Acks {
			lost = 0
		}
		for part := range parts(events, eventSize) {
			seq++
			if err := send(deltaFrame{Type: frameDelta, Seq: seq, Lost: told, Events: rows(part)}); err != nil {
				return err
			}
			lost, told = 0, 0
		}
		return nil
	}
	// again sends the oldest batch of the spool, or first asks what is recorded of its run.
	again := func() error {
		run, deltas := l.table.unspool(l.seq, server.Runs)
		if deltas == nil && run != nil {
			return send(askFrame{Type: frameAsk, Run: run})
		}
		seq := l.seq
		l.seq += uint64(len(deltas))
		for _, d := range deltas {
			seq++
			frame := any(deltaFrame{Type: frameDelta, Seq: seq, Lost: d.lost, Events: rows(d.ends)})
			if server.Runs {
				frame = againFrame{Type: frameAgain, Seq: seq, Lost: d.lost, Events: rows(d.ends), Run: run, Number: d.number}
			}
			if err := send(frame); err != nil {
				return err
			}
		}
		return nil
	}
	full := func() error {
		ids, before, gone := l.table.follow(server.Most, server.Acks)
		lost += gone
		if err := delta(before); err != nil {
			return err
		}
		l.seq++
		f := fullFrame{Type: frameFull, Seq: l.seq, More: true, Rows: []row{}} // nil is not an array
		var conns []conntrack.Conn
		for f.More {
			conns, ids = l.table.part(conns[:0], ids)
			f.More, f.Rows = len(ids) > 0, f.Rows[:0]
			for _, c := range conns {
				if !server.States {
					c.State = 0
				}
				f.Rows = append(f.Rows, rowOf(c))
			}
			if err := send(f); err != nil {
				return err
			}
		}
		return nil
	}
	if err := full(); err != nil {
		return err
	}
	ping, anew := time.NewTicker(heartbeat), time.NewTicker(fullEvery)
	defer ping.Stop()
	defer anew.Stop()
	flush := time.NewTimer(0)
	defer flush.Stop()
	var lastDelta, lastCounters time.Time
	for {
		select {
		case <-ctx.Done():
			select {
			case <-l.read:
			case <-time.After(lastWords / 2):
			}
			return l.finish(ctx, broken, func() error {
				events, gone := l.table.take(true)
				lost += gone
				return delta(events)
			})
		case err := <-broken:
			return err
		case <-ping.C:
			err = send(pingFrame{Type: framePing})
		case <-anew.C:
			err = full()
		case <-l.table.wake:
		case <-flush.C:
			now := time.Now()
			urgency, follows := l.table.waiting()
			all := now.Sub(lastCounters) >= countersEvery
			switch {
			case !follows:
				err = full()
			case urgency == soon || urgency == counters && all:
				var events []conntrack.Event
				var gone uint64
				events, gone = l.table.take(all)
				lost += gone
				err = delta(events)
				l.table.giveBack(events)
				lastDelta = now
				if all {
					lastCounters = now
				}
			}
			if err == nil {
				err = again()
			}
		}
		if err != nil {
			return err
		}
		now := time.Now()
		at := now.Add(gatherTime)
		switch urgency, follows := l.table.waiting(); {
		case urgency == idle && follows:
			continue
		case urgency == counters:
			at = later(at, lastCounters.Add(countersEvery))
		}
		flush.Reset(later(at, lastDelta.Add(deltaEvery)).Sub(now))
	}
}

// finish tells what is left to tell when Run ends, and waits a little for the server to
// record it.
func (l *linker) finish(ctx context.Context, broken <-chan error, tell func() error) error {
	if err := tell(); err != nil {
		return err
	}
	for end := time.Now().Add(lastWords); !l.table.landedAll() && time.Now().Before(end); {
		select {
		case err := <-broken:
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
	return ctx.Err()
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
