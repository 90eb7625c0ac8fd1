package feed

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/connmapgo/connmap/conntrack"
)

// DefaultPort is the TCP port of map servers, as it was of connmapperl's. Where that is
// taken they listen at FallbackPort, which a client that is given no port tries next.
const (
	DefaultPort  = 6789
	FallbackPort = 10789
)

const (
	handshakeTime = 10 * time.Second // for all of TLS, proofs and greetings
	writeTime     = 10 * time.Second
	lastWords     = 2 * time.Second // when Run ends
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

// ErrToken says that client and server do not belong together: the token is
// not the server's. Errors of a token that a password made are ErrToken too,
// but speak of the password.
var ErrToken = errors.New("feed: wrong token: it is not the one that this map server prints; copy it again")

// ErrRevoked says that the server does not take this host any more.
var ErrRevoked = errors.New("feed: the map server has revoked the key of this machine")

// errShared is what an agent learns whose place another one took.
var errShared = errors.New("feed: another agent with the same key has joined: if this machine is a copy of another one, remove the file of the key on one of them")

var errNoServer = errors.New("feed: what answers is no map server of connmap")

var errClosed = errors.New("feed: the map server closed the link")

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
		return errors.New("feed: there is no token; the map server prints it when it starts")
	case c.Source == nil:
		return errors.New("feed: there is no source of connections")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &linker{Client: c, addrs: addrs, log: c.Logger, table: newTable(), boot: make([]byte, bootLen)}
	if c.Spool != "" {
		if l.table.spool, err = openSpool(c.Spool); err != nil {
			return err
		}
	}
	if c.Key != nil {
		if l.cert, err = certOf(c.Key); err != nil {
			return err
		}
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	rand.Read(l.boot)
	source := make(chan error, 1)
	go func() {
		err := l.table.read(ctx, c.Source)
		cancel()
		source <- err
	}()
	err = l.run(ctx)
	cancel()
	return errors.Join(<-source, err, l.table.store())
}

// read follows a source until ctx ends.
func (t *table) read(ctx context.Context, src Source) error {
	for e, err := range src.Events(ctx) {
		if err == nil {
			t.add(e)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return errors.New("feed: the source of connections ended")
}

// A linker is a running Client.
type linker struct {
	*Client
	addrs []string // to try in order; that which answered last comes first
	addr  string   // that which is tried
	log   *slog.Logger
	table *table
	boot  []byte
	cert  tls.Certificate // empty: there is no key
	seq   uint64
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

// hopeless reports whether another try is of no use as long as nobody changes anything.
func hopeless(err error) bool { return errors.Is(err, ErrToken) || errors.Is(err, ErrRevoked) }

// explain turns what goes wrong on a network into the same words each time:
// those of package net hold a local port that changes.
func explain(err error) error {
	var dns *net.DNSError
	var op *net.OpError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, ErrToken), errors.Is(err, ErrRevoked):
		return err
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Errorf("feed: there is no host %q: %w", dns.Name, err)
	case errors.As(err, &dns):
		return fmt.Errorf("feed: the address of %q cannot be found now: %s", dns.Name, dns.Err)
	case refused(err):
		return fmt.Errorf("feed: nothing listens there: %w", syscall.ECONNREFUSED)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return errors.New("feed: it does not answer")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return errClosed
	case errors.As(err, &record):
		return errNoServer
	case errors.As(err, &op):
		return fmt.Errorf("feed: %w", op.Err)
	}
	return err
}

// addresses returns where a server may listen: with the default ports, if there is none.
func addresses(addr string) ([]string, error) {
	ports := make([]string, 1, 2)
	host, port, err := net.SplitHostPort(addr)
	if ports[0] = port; err != nil {
		// There is no port, or the whole is a bare IPv6 address.
		host = strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]")
		ports = []string{strconv.Itoa(DefaultPort), strconv.Itoa(FallbackPort)}
	}
	n, err := strconv.ParseUint(ports[0], 10, 16)
	bad := err != nil || n == 0 || host == "" || strings.ContainsAny(host, " /[]")
	if strings.Contains(host, ":") {
		_, err := netip.ParseAddr(host)
		bad = bad || err != nil
	}
	if bad {
		return nil, fmt.Errorf("feed: expected the map server as HOST or HOST:PORT, found %q", addr)
	}
	for i, port := range ports {
		ports[i] = net.JoinHostPort(host, port)
	}
	return ports, nil
}

// firstOf calls f for one address after the other until it succeeds. Otherwise it returns
// the error that tells most, and its index: where nothing listens is no news.
func firstOf(addrs []string, f func(addr string) error) (int, error) {
	best, at := f(addrs[0]), 0
	for i := 1; i < len(addrs) && best != nil && !errors.Is(best, context.Canceled); i++ {
		switch err := f(addrs[i]); {
		case err == nil, hopeless(err) && !hopeless(best), refused(best) && !refused(err):
			best, at = err, i
		}
	}
	return at, best
}

func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// linkAny keeps a link to that of the addresses at which the server answers.
func (l *linker) linkAny(ctx context.Context, joined func()) error {
	linked := false
	var broken error
	at, err := firstOf(l.addrs, func(addr string) error {
		l.addr = addr
		err := l.link(ctx, func() {
			linked = true
			joined()
		})
		if linked || ctx.Err() != nil {
			broken = err
			return nil
		}
		return err
	})
	if err == nil {
		err = broken
	}
	l.addr = l.addrs[at]
	if linked {
		// There it is asked first the next time.
		l.addrs[0], l.addrs[at] = l.addrs[at], l.addrs[0]
	}
	return err
}

// link connects, greets and reports until something breaks.
func (l *linker) link(ctx context.Context, joined func()) error {
	dial := l.dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	handshake, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	raw, err := dial(handshake, "tcp", l.addr)
	if err != nil {
		return err
	}
	defer raw.Close()
	deadline, _ := handshake.Deadline()
	raw.SetDeadline(deadline)
	conn, server, err := l.greet(handshake, raw)
	if err != nil {
		return err
	}
	raw.SetDeadline(time.Time{})
	l.table.acked(server.Recorded)
	l.table.counted(server.Last)
	joined()

	broken := make(chan error, 1)
	var reader sync.WaitGroup
	reader.Go(func() { broken <- listen(conn, l.table.acked) })
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

// greet makes a link and returns what the server says of itself.
func (l *linker) greet(ctx context.Context, raw net.Conn) (*tls.Conn, welcome, error) {
	var none welcome
	conn := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{alpn},
		ServerName: serverName,
		// Not names and authorities are checked but the key itself, below.
		InsecureSkipVerify: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &l.cert, nil
		},
		VerifyConnection: func(cs tls.ConnectionState) error {
			if cs.NegotiatedProtocol != alpn {
				return errNoServer
			}
			if len(cs.PeerCertificates) == 0 || pinOf(cs.PeerCertificates[0]) != l.Token.pin {
				return l.Token.misses(l.addr)
			}
			return nil
		},
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, none, err
	}
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	cs := conn.ConnectionState()
	mine, err := proof(&cs, l.Token, roleAgent)
	if err != nil {
		return nil, none, err
	}
	theirs, err := proof(&cs, l.Token, roleServer)
	if err != nil {
		return nil, none, err
	}
	if err := writeFrame(conn, proofFrame{Type: frameProof, Proof: mine}); err != nil {
		return nil, none, err
	}
	kind, b, err := readFrame(conn, nil, smallFrame)
	if err != nil {
		return nil, none, err
	}
	if kind == frameBye {
		if err = farewell(b); err == ErrToken {
			err = l.Token.wrong()
		}
		return nil, none, err
	}
	var p proofFrame
	if kind != frameProof || decode(b, &p) != nil {
		return nil, none, l.Token.wrong()
	}
	// A server that knows the key of this host needs no token, nor proves that it has one:
	// its own key is right already.
	if known := l.Key != nil && len(p.Proof) == 0; !known && !hmac.Equal(p.Proof, theirs) {
		return nil, none, l.Token.wrong()
	}
	h := hello{Version: version, Name: cut(l.Name), Boot: l.boot, Wall: time.Now().UnixMicro()}
	if l.Info != nil {
		info := l.Info()
		h.Backend, h.Limited = cut(string(info.Backend)), cut(info.Limited)
	}
	if err := writeFrame(conn, helloFrame{Type: frameHello, Hello: h}); err != nil {
		return nil, none, err
	}
	if kind, b, err = readFrame(conn, b, smallFrame); err != nil {
		return nil, none, err
	}
	if kind == frameBye {
		return nil, none, farewell(b)
	}
	var w welcomeFrame
	if kind != frameWelcome || decode(b, &w) != nil || w.Welcome.Version != version || w.Welcome.Most < 0 {
		return nil, none, errors.New("feed: the server does not answer as one")
	}
	return conn, w.Welcome, nil
}

// farewell turns a server's reason for closing into an error.
func farewell(b []byte) error {
	var f goodbyeFrame
	if err := decode(b, &f); err != nil {
		return err
	}
	switch f.Code {
	case byeToken:
		return ErrToken
	case byeAgents:
		return errors.New("feed: the map server has as many agents as it takes")
	case byeGuesses:
		return errors.New("feed: too many wrong passwords or tokens came from this address: the map server takes none for a minute")
	case byeRevoked:
		return ErrRevoked
	case byeReplaced:
		return errShared
	case byeTotal:
		return errors.New("feed: the map server has as many connections as it takes, and this machine the most")
	case byeFrame:
		return errors.New("feed: the map server could not read what was sent; is it of the same version?")
	}
	return errClosed
}

// listen reads heartbeats and acknowledgements until the server falls silent or says
// farewell.
func listen(conn *tls.Conn, acked func(seq uint64)) error {
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
			acked(f.Seq)
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
	delta := func(events []conntrack.Event, spooled bool) error {
		if len(events) == 0 && lost == 0 {
			return nil
		}
		// All of it is noted first, for it may be that the first part breaks the link.
		first, told := l.seq+1, lost
		size := func(e *conntrack.Event) int { return rowSize(&e.Conn) + eventExtra }
		for part := range parts(events, size) {
			l.seq++
			l.table.sending(l.seq, part, told, spooled)
			told = 0
		}
		told = lost
		if server.Acks {
			lost = 0
		}
		seq := first
		for part := range parts(events, size) {
			f := deltaFrame{Type: frameDelta, Seq: seq, Lost: told, Events: make([]eventRow, len(part))}
			for i, e := range part {
				if !server.States {
					e.Conn.State = 0
				}
				f.Events[i] = eventRowOf(e)
			}
			if err := send(f); err != nil {
				return err
			}
			lost, told = 0, 0
			seq++
		}
		return nil
	}
	full := func() error {
		conns, before, gone := l.table.follow(server.Most, server.Acks)
		lost += gone
		if err := delta(before, false); err != nil {
			return err
		}
		l.seq++
		for part, more := range parts(conns, rowSize) {
			f := fullFrame{Type: frameFull, Seq: l.seq, More: more, Rows: make([]row, len(part))}
			for i, c := range part {
				if !server.States {
					c.State = 0
				}
				f.Rows[i] = rowOf(c)
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
	ping, again := time.NewTicker(heartbeat), time.NewTicker(fullEvery)
	defer ping.Stop()
	defer again.Stop()
	flush := time.NewTimer(0)
	defer flush.Stop()
	var lastDelta, lastCounters time.Time
	for {
		select {
		case <-ctx.Done():
			return l.finish(ctx, broken, func() error {
				events, gone := l.table.take(true)
				lost += gone
				return delta(events, false)
			})
		case err := <-broken:
			return err
		case <-ping.C:
			err = send(pingFrame{Type: framePing})
		case <-again.C:
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
				err = delta(events, false)
				lastDelta = now
				if all {
					lastCounters = now
				}
			}
			if events, gone := l.table.unspool(); err == nil && (len(events) > 0 || gone > 0) {
				lost += gone
				err = delta(events, true)
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
