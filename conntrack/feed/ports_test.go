package feed

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAddresses(t *testing.T) {
	for in, want := range map[string][]string{
		"map": {"map:6789", "map:10789"}, "192.0.2.1": {"192.0.2.1:6789", "192.0.2.1:10789"},
		"map:1": {"map:1"}, "192.0.2.1:65535": {"192.0.2.1:65535"},
		"2001:db8::1": {"[2001:db8::1]:6789", "[2001:db8::1]:10789"}, "[2001:db8::1]": {"[2001:db8::1]:6789", "[2001:db8::1]:10789"},
		"[2001:db8::1]:2": {"[2001:db8::1]:2"}, "fe80::1%eth0": {"[fe80::1%eth0]:6789", "[fe80::1%eth0]:10789"},
	} {
		got, err := addresses(in)
		require.NoError(t, err, in)
		assert.Equal(t, want, got, in)
	}
	for _, in := range []string{"", ":1", "map:", "map:0", "map:65536", "map:http", "http://map", "map:1:2]", "map:1:2", "a b", "[]"} {
		_, err := addresses(in)
		assert.Error(t, err, in)
	}
}

// TestBothPorts: without a port a server is found at either, and what is said of a failure
// is of the port where something answers.
func TestBothPorts(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	wrong := fmt.Errorf("%w (another server answers)", ErrToken)
	tests := []struct {
		name          string
		first, second error
		want          error
		at            int
	}{
		{"the first", nil, refused, nil, 0},
		{"the second", refused, nil, nil, 1},
		{"another program at the first", errNoServer, nil, nil, 1},
		{"nothing", refused, refused, refused, 0},
		{"another program and nothing", errNoServer, refused, errNoServer, 0},
		{"nothing and a wrong token", refused, wrong, wrong, 1},
		{"a wrong token and nothing", wrong, refused, wrong, 0},
		{"a wrong token and the right server", wrong, nil, nil, 1},
		{"silence and a wrong token", os.ErrDeadlineExceeded, wrong, wrong, 1},
		{"a wrong token and silence", wrong, os.ErrDeadlineExceeded, wrong, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			value, at, err := firstOf(t.Context(), []string{"1", "2"}, func(_ context.Context, addr string) (string, error) {
				return "of " + addr, map[string]error{"1": test.first, "2": test.second}[addr]
			})
			if test.want == nil {
				assert.Equal(t, []string{"of 1", "of 2"}[test.at], value)
			}
			assert.Equal(t, test.want, err)
			assert.Equal(t, test.at, at)
		})
	}

	// A server at the second port behind one of another program at the first, as when
	// connmapperl's still runs: the link comes up, and is asked for there first from then on.
	id := identity(t)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer other.Close()
	asked := make(chan struct{}, 100)
	go func() {
		for {
			c, err := other.Accept()
			if err != nil {
				return
			}
			asked <- struct{}{}
			// Its protocol is TLS too, with the same certificate.
			tls.Server(c, &tls.Config{Certificates: []tls.Certificate{id.cert}}).Handshake()
			c.Close()
		}
	}()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	h := newHub()
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { assert.NoError(t, (&Server{Identity: id, Handler: h}).Serve(ctx, l)) })
	to := map[string]string{"map.example.com:6789": other.Addr().String(), "map.example.com:10789": l.Addr().String()}
	c := &Client{Addr: "map.example.com", Token: id.Token(), Source: make(script), dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, to[addr])
	}}
	work.Go(func() { assert.NoError(t, c.Run(ctx)) })
	require.Eventually(t, func() bool { return h.counts().joins == 1 }, time.Minute, 5*time.Millisecond)
	cancel()
	work.Wait()
	assert.Len(t, asked, 1)
}

// TestSilentPort: a port at which something accepts and says nothing costs a moment, not
// the time of a handshake. A server that listens at both ports is joined once.
func TestSilentPort(t *testing.T) {
	id := identity(t)
	for _, test := range []struct {
		name          string
		first, second func(ctx context.Context, l *pipeListener) (net.Conn, error)
		after         time.Duration // of the join
	}{
		{"silent after it accepts", silentDial, serverDial, headStart},
		{"a packet filter that drops", dropDial, serverDial, headStart},
		{"the server at the first port", serverDial, silentDial, 0},
		{"both are the server's", slowDial, slowDial, slowTime},
		{"refused", refusedDial, serverDial, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				h, l := newHub(), newPipeListener()
				var work sync.WaitGroup
				work.Go(func() { assert.NoError(t, (&Server{Identity: id, Handler: h}).Serve(ctx, l)) })
				begin := time.Now()
				c := &Client{Addr: "server", Token: id.Token(), Source: make(script), dial: func(ctx context.Context, _, addr string) (net.Conn, error) {
					if strings.HasSuffix(addr, ":6789") {
						return test.first(ctx, l)
					}
					return test.second(ctx, l)
				}}
				work.Go(func() { assert.NoError(t, c.Run(ctx)) })
				time.Sleep(test.after + time.Millisecond)
				synctest.Wait()
				assert.Equal(t, 1, h.counts().joins, "after %v", time.Since(begin))
				time.Sleep(time.Minute)
				assert.Equal(t, 1, h.counts().joins, "and no second time")
				cancel()
				work.Wait()
			})
		})
	}
}

const slowTime = time.Second

func serverDial(ctx context.Context, l *pipeListener) (net.Conn, error) { return l.dial(ctx, "", "") }

func slowDial(ctx context.Context, l *pipeListener) (net.Conn, error) {
	time.Sleep(slowTime)
	return l.dial(ctx, "", "")
}

func silentDial(ctx context.Context, _ *pipeListener) (net.Conn, error) {
	near, far := net.Pipe()
	go io.Copy(io.Discard, far)
	return near, nil
}

func dropDial(ctx context.Context, _ *pipeListener) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func refusedDial(context.Context, *pipeListener) (net.Conn, error) {
	return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
}
