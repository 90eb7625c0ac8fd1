package feed

import (
	"context"
	"crypto/hmac"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"github.com/connmapgo/connmap/conntrack"
)

// DefaultPort is the TCP port of map servers.
const DefaultPort = 10789

const (
	handshakeTime = 10 * time.Second // for all of TLS, proofs and greetings
	writeTime     = 10 * time.Second
	heartbeat     = 10 * time.Second
	silence       = 30 * time.Second // after which the other side is gone
	flushEvery    = 250 * time.Millisecond
	countersEvery = time.Second // of updates alone
	fullEvery     = 5 * time.Minute
	firstBackoff  = time.Second
	lastBackoff   = 5 * time.Minute
	healthy       = time.Minute // a link this old resets the backoff
)

// ErrToken says that client and server do not belong together: the token is
// not the server's.
var ErrToken = errors.New("feed: wrong token: it is not the one that this map server prints; copy it again")

// A Source yields the connections of a host: an Open for each that is there,
// then what changes. *conntrack.Collector is one.
type Source interface {
	Events(context.Context) iter.Seq2[conntrack.Event, error]
}

// A Client reports the connections of a source to a map server. Its fields
// must be set before Run and not change afterwards.
type Client struct {
	Addr    string       // host or host:port of the server; without a port it is DefaultPort
	Token   Token        // of the server
	Name    string       // by which the map calls this host
	Backend string       // how the source reads, such as "diag"
	Limited string       // why the source does not see all; empty: it does
	Source  Source       // what to report
	Logger  *slog.Logger // nil: silent
}

// Run reports until ctx ends, which is no error. If the link breaks, it tries
// again by itself, first after a second, at last every five minutes. It fails
// if the source does, or at once with ErrToken if the first server it reaches
// refuses the token.
func (c *Client) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	log := c.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	t := newTable()
	failed := make(chan error, 1)
	go func() {
		for e, err := range c.Source.Events(ctx) {
			if err != nil {
				failed <- err
				cancel()
				return
			}
			t.add(e)
		}
		failed <- nil
	}()
	err := c.links(ctx, t, log)
	cancel()
	return errors.Join(<-failed, err)
}

// links keeps a link up.
func (c *Client) links(ctx context.Context, t *table, log *slog.Logger) error {
	backoff, joined, said := firstBackoff, false, ""
	for {
		began := time.Now()
		err := c.link(ctx, t, func() {
			log.Info("connected", "server", c.Addr)
			joined, said = true, ""
		})
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, ErrToken) {
			if !joined {
				return err
			}
			backoff = lastBackoff
		}
		if time.Since(began) > healthy {
			backoff = firstBackoff
		}
		// The same trouble is said once.
		if s := err.Error(); s != said {
			log.Warn("not connected, trying again", "server", c.Addr, "error", s)
			said = s
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rand.N(backoff) + backoff/10):
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// address adds the default port.
func address(addr string) string {
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	if len(addr) > 2 && addr[0] == '[' && addr[len(addr)-1] == ']' {
		addr = addr[1 : len(addr)-1]
	}
	return net.JoinHostPort(addr, strconv.Itoa(DefaultPort))
}

// link connects, greets and reports until something breaks.
func (c *Client) link(ctx context.Context, t *table, joined func()) error {
	dialer := net.Dialer{Timeout: handshakeTime}
	raw, err := dialer.DialContext(ctx, "tcp", address(c.Addr))
	if err != nil {
		return err
	}
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	raw.SetDeadline(time.Now().Add(handshakeTime))
	conn, err := c.greet(ctx, raw)
	if err != nil {
		return err
	}
	raw.SetDeadline(time.Time{})
	joined()

	broken := make(chan error, 1)
	go func() { broken <- c.listen(conn) }()
	err = c.report(ctx, conn, t, broken)
	raw.Close()
	return err
}

func (c *Client) greet(ctx context.Context, raw net.Conn) (*tls.Conn, error) {
	conn := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{alpn},
		ServerName: "connmap",
		// Not names and authorities are checked but the key itself, below.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 || pinOf(cs.PeerCertificates[0]) != c.Token.pin {
				return fmt.Errorf("%w (another server answers at %s)", ErrToken, c.Addr)
			}
			if cs.NegotiatedProtocol != alpn {
				return errors.New("feed: the server does not speak connmap/1")
			}
			return nil
		},
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	cs := conn.ConnectionState()
	mine, err := proof(&cs, c.Token, roleAgent)
	if err != nil {
		return nil, err
	}
	theirs, err := proof(&cs, c.Token, roleServer)
	if err != nil {
		return nil, err
	}
	if err := writeFrame(conn, proofFrame{Type: frameProof, Proof: mine}); err != nil {
		return nil, err
	}
	kind, b, err := readFrame(conn, nil, smallFrame)
	if err != nil {
		return nil, err
	}
	if kind == frameBye {
		return nil, farewell(b)
	}
	var p proofFrame
	if kind != frameProof || decode(b, &p) != nil || !hmac.Equal(p.Proof, theirs) {
		return nil, ErrToken
	}
	hello := helloFrame{Type: frameHello, Name: cut(c.Name), Backend: cut(c.Backend), Limited: cut(c.Limited), Wall: time.Now().UnixMicro()}
	if err := writeFrame(conn, hello); err != nil {
		return nil, err
	}
	if kind, b, err = readFrame(conn, b, largeFrame); err != nil {
		return nil, err
	}
	if kind == frameBye {
		return nil, farewell(b)
	}
	if kind != frameWelcome {
		return nil, errors.New("feed: the server does not answer as one")
	}
	return conn, nil
}

// farewell turns a server's reason for closing into an error.
func farewell(b []byte) error {
	var f byeFrame
	if err := decode(b, &f); err != nil {
		return err
	}
	if f.Reason == byeToken {
		return ErrToken
	}
	return errors.New("feed: the server closed: " + clean(f.Reason))
}

// listen reads heartbeats until the server falls silent or says farewell.
func (c *Client) listen(conn *tls.Conn) error {
	var buf []byte
	for {
		conn.SetReadDeadline(time.Now().Add(silence))
		kind, b, err := readFrame(conn, buf, largeFrame)
		buf = b
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("feed: the server closed the connection")
		case err != nil:
			return err
		case kind == frameBye:
			return farewell(b)
		}
	}
}

// report sends the whole table, then what changes.
func (c *Client) report(ctx context.Context, conn *tls.Conn, t *table, broken <-chan error) error {
	send := func(frame any) error {
		conn.SetWriteDeadline(time.Now().Add(writeTime))
		return writeFrame(conn, frame)
	}
	flush := time.NewTicker(flushEvery)
	defer flush.Stop()
	var full, ping, counters time.Time
	for {
		now := time.Now()
		if now.Sub(full) >= fullEvery || t.overflowed() {
			conns, lost := t.snapshot()
			for first := true; first || len(conns) > 0; first = false {
				n := min(len(conns), rowsAFrame)
				f := fullFrame{Type: frameFull, More: n < len(conns), Rows: make([]row, n)}
				for i, c := range conns[:n] {
					f.Rows[i] = rowOf(c)
				}
				conns = conns[n:]
				if err := send(f); err != nil {
					return err
				}
			}
			if lost > 0 {
				if err := send(deltaFrame{Type: frameDelta, Lost: lost}); err != nil {
					return err
				}
			}
			full, ping = now, now
		}
		withCounters := now.Sub(counters) >= countersEvery
		events, lost := t.take(withCounters)
		if withCounters {
			counters = now
		}
		for len(events) > 0 || lost > 0 {
			n := min(len(events), rowsAFrame)
			f := deltaFrame{Type: frameDelta, Events: make([]eventRow, n), Lost: lost}
			for i, e := range events[:n] {
				f.Events[i] = eventRow{Kind: uint8(e.Kind), Row: rowOf(e.Conn)}
			}
			events, lost = events[n:], 0
			if err := send(f); err != nil {
				return err
			}
			ping = now
		}
		if now.Sub(ping) >= heartbeat {
			if err := send(pingFrame{Type: framePing}); err != nil {
				return err
			}
			ping = now
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-broken:
			return err
		case <-flush.C:
		}
	}
}
