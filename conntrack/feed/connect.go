package feed

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/connmapgo/connmap/conntrack/feed/frame"
)

// A joinedConn is a connection on which the server has welcomed the client.
type joinedConn struct {
	raw    net.Conn
	conn   *tls.Conn
	server frame.Welcome
}

// connect joins at the address at which the server answers first, and reports there until the
// connection breaks. A host may have two servers that accept the token, or one server at both
// ports. So it greets one address at a time, and no other one after the first that has answered.
func (l *connector) connect(ctx context.Context, joined func()) error {
	turn := make(chan bool, 1) // holds whether a greeting was answered, unless one goes on
	turn <- false
	c, at, err := firstOf(ctx, l.addrs, func(ctx context.Context, addr string) (joinedConn, error) {
		ctx, cancel := context.WithTimeout(ctx, handshakeTime)
		defer cancel()
		raw, err := l.dialTCP(ctx, addr)
		if err != nil {
			return joinedConn{}, err
		}
		conn, err := l.handshake(ctx, raw, addr)
		if err != nil {
			raw.Close()
			return joinedConn{}, err
		}
		var server frame.Welcome
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case answered := <-turn:
			if err = context.Canceled; !answered {
				server, err = l.greet(ctx, raw, conn, l.hello)
			}
			turn <- answered || err == nil
		}
		if err != nil {
			raw.Close()
			return joinedConn{}, err
		}
		return joinedConn{raw, conn, server}, nil
	})
	l.addr = l.addrs[at]
	if err != nil {
		return err
	}
	// The next time this one comes first.
	l.addrs[0], l.addrs[at] = l.addrs[at], l.addrs[0]
	return l.use(ctx, c, joined)
}

// dialTCP connects to an address. The connection keeps the deadline of ctx.
func (l *connector) dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	dial := l.dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	raw, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	raw.SetDeadline(deadline)
	return raw, nil
}

// handshake makes sure that the server is the one of the token.
func (l *connector) handshake(ctx context.Context, raw net.Conn, addr string) (*tls.Conn, error) {
	conn := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{alpn},
		ServerName: serverName,
		// The key itself is checked below, instead of names and authorities.
		InsecureSkipVerify: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &l.cert, nil
		},
		VerifyConnection: func(cs tls.ConnectionState) error {
			if cs.NegotiatedProtocol != alpn {
				return errNoServer
			}
			if len(cs.PeerCertificates) == 0 || pinOf(cs.PeerCertificates[0]) != l.Token.pin {
				return l.Token.misses(addr)
			}
			return nil
		},
	})
	return conn, conn.HandshakeContext(ctx)
}

// greet proves that this agent may join, says hello and returns the server's welcome.
func (l *connector) greet(ctx context.Context, raw net.Conn, conn *tls.Conn, hello func() frame.Hello) (frame.Welcome, error) {
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	if err := l.authenticate(conn); err != nil {
		return frame.Welcome{}, err
	}
	if err := frame.Write(conn, hello()); err != nil {
		return frame.Welcome{}, err
	}
	t, body, err := frame.NewReader(conn).Next(frame.MaxGreeting)
	if err != nil {
		return frame.Welcome{}, err
	}
	if t == frame.TypeBye {
		if err = byeError(body); err == errApproveThere && l.Key != nil {
			err = fmt.Errorf("feed: somebody has to approve this agent where the map server runs: mapserver agents approve %.12s", Key(l.Key.Public().(ed25519.PublicKey)))
		}
		return frame.Welcome{}, err
	}
	var w frame.Welcome
	if t != frame.TypeWelcome || frame.Decode(body, &w) != nil || w.Version != frame.Version || w.MaxConns < 0 {
		return frame.Welcome{}, errors.New("feed: not a connmap server, or one of another version")
	}
	return w, nil
}

// authenticate proves to the server that this agent has the token, and checks that the server
// has it too, unless it knows the agent's key: the server's own key is right already.
func (l *connector) authenticate(conn *tls.Conn) error {
	cs := conn.ConnectionState()
	mine, err := proof(&cs, l.Token, roleAgent)
	if err != nil {
		return err
	}
	want, err := proof(&cs, l.Token, roleServer)
	if err != nil {
		return err
	}
	if err := frame.Write(conn, proofFrame{Proof: mine}); err != nil {
		return err
	}
	t, body, err := frame.NewReader(conn).Next(frame.MaxGreeting)
	if err != nil {
		return err
	}
	if t == frame.TypeBye {
		if err = byeError(body); err == ErrToken {
			err = l.Token.wrong()
		}
		return err
	}
	var p proofFrame
	if t != frame.TypeProof || frame.Decode(body, &p) != nil {
		return l.Token.wrong()
	}
	if known := l.Key != nil && len(p.Proof) == 0; !known && !hmac.Equal(p.Proof, want) {
		return l.Token.wrong()
	}
	return nil
}

// hello is what this agent says of itself.
func (l *connector) hello() frame.Hello {
	h := l.table.Hello(time.Now())
	h.Name = l.Name
	if l.Info != nil {
		info := l.Info()
		h.Backend, h.Limited = string(info.Backend), info.Limited
	}
	return h
}
