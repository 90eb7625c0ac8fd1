package feed

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/conntracktest"
	"github.com/connmapgo/connmap/conntrack/feed/frame"
)

var _, _, _ Acknowledger = (*recorder)(nil), (*ledger)(nil), (*simServer)(nil)

// A hub is a Handler that keeps what it receives.
type hub struct {
	mu     sync.Mutex
	agents map[uint64]Agent
	conns  map[uint64]map[uint64]conntrack.Conn
	calls
	lost uint64
}

// calls counts those of a Handler.
type calls struct{ joins, fulls, deltas int }

func (h *hub) counts() calls {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls
}

func newHub() *hub {
	return &hub{agents: map[uint64]Agent{}, conns: map[uint64]map[uint64]conntrack.Conn{}}
}

func (h *hub) Join(a Agent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.agents[a.ID], h.conns[a.ID] = a, map[uint64]conntrack.Conn{}
	h.joins++
}

func (h *hub) Full(a Agent, conns []conntrack.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.conns[a.ID])
	h.fulls++
	for _, c := range conns {
		h.conns[a.ID][c.ID] = c
	}
}

func (h *hub) Delta(a Agent, events []conntrack.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deltas++
	for _, e := range events {
		switch e.Kind {
		case conntrack.Close:
			delete(h.conns[a.ID], e.Conn.ID)
		case conntrack.Lost:
			h.lost += e.Lost
		default:
			h.conns[a.ID][e.Conn.ID] = e.Conn
		}
	}
}

func (h *hub) Leave(a Agent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.agents, a.ID)
	delete(h.conns, a.ID)
}

// total returns how many connections of how many agents there are.
func (h *hub) total() (conns, agents int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		conns += len(c)
	}
	return conns, len(h.agents)
}

// A script is a Source that yields what is sent to it.
type script chan conntrack.Event

func (s script) Events(ctx context.Context) iter.Seq2[conntrack.Event, error] {
	return func(yield func(conntrack.Event, error) bool) {
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-s:
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// A failing Source ends with its error, if there is one.
type failing struct{ error }

func (f failing) Events(context.Context) iter.Seq2[conntrack.Event, error] {
	return func(yield func(conntrack.Event, error) bool) {
		if f.error != nil {
			yield(conntrack.Event{}, f.error)
		}
	}
}

func serve(t *testing.T, id *Identity, h Handler, addr string) (string, func()) {
	t.Helper()
	var l net.Listener
	var err error
	// Somebody else may try the port at this moment, to find a free one.
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if l, err = net.Listen("tcp", addr); !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(end) {
			break
		}
	}
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s := &Server{Identity: id, Handler: h}
	go func() { done <- s.Serve(ctx, l) }()
	stop := sync.OnceFunc(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

// freeAddr returns an address to listen at that nobody takes while nobody
// listens: the kernel gives others ports that are higher.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000)))
		if err == nil {
			require.NoError(t, l.Close())
			return l.Addr().String()
		}
	}
	t.Fatal("no free port between 10000 and 30000")
	return ""
}

func identity(t *testing.T) *Identity {
	t.Helper()
	id, err := LoadIdentity(t.TempDir())
	require.NoError(t, err)
	return id
}

func report(t *testing.T, c *Client) (done chan error, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done = make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(cancel)
	return done, cancel
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, time.Minute, 10*time.Millisecond, what)
}

// newTable is a table of an agent without a spool.
func newTable(t testing.TB) *frame.Table {
	t.Helper()
	table, err := frame.OpenTable(frame.TableOptions{})
	require.NoError(t, err)
	return table
}

func testConn(id uint64, port uint16) conntrack.Conn {
	return conntrack.Conn{ID: id, Proto: conntrack.TCP, Direction: conntrack.Out,
		Local: netip.MustParseAddrPort("192.0.2.1:1000"), Peer: netip.AddrPortFrom(netip.MustParseAddr("2001:db8::1"), port),
		Process: conntrack.Process{PID: 5, Comm: "ssh", Exe: "/usr/bin/ssh", Container: strings.Repeat("ab", 32)},
		UID:     1000, Tx: 1, Rx: 2, RTT: 3 * time.Microsecond, Opened: time.UnixMicro(time.Now().UnixMicro())}
}

func TestReportAndFollow(t *testing.T) {
	id, h, src := identity(t), newHub(), make(script)
	addr, _ := serve(t, id, h, "127.0.0.1:0")
	done, stop := report(t, &Client{Addr: addr, Token: id.Token(), Name: "nas", Source: src,
		Info: func() conntrack.Info { return conntrack.Info{Backend: "diag", Limited: "root"} }})
	a, b := testConn(1, 443), testConn(2, 80)
	src <- conntrack.Event{Kind: conntrack.Open, Conn: a}
	src <- conntrack.Event{Kind: conntrack.Open, Conn: b}
	eventually(t, "both arrive", func() bool { n, _ := h.total(); return n == 2 })
	h.mu.Lock()
	for _, agent := range h.agents {
		assert.Equal(t, "nas", agent.Name)
		assert.Equal(t, netip.MustParseAddr("127.0.0.1"), agent.Addr)
		assert.Equal(t, "diag", agent.Backend)
		assert.Equal(t, "root", agent.Limited)
		assert.Equal(t, a, h.conns[agent.ID][1])
		assert.Equal(t, b, h.conns[agent.ID][2])
	}
	h.mu.Unlock()

	a.Tx = 1000
	src <- conntrack.Event{Kind: conntrack.Update, Conn: a}
	src <- conntrack.Event{Kind: conntrack.Close, Conn: b}
	src <- conntrack.Event{Kind: conntrack.Lost, Lost: 9}
	eventually(t, "changes arrive", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, conns := range h.conns {
			return len(conns) == 1 && conns[1].Tx == 1000 && h.lost == 9
		}
		return false
	})
	stop()
	require.NoError(t, <-done)
	eventually(t, "the agent leaves", func() bool { _, n := h.total(); return n == 0 })
}

func TestReconnectAfterRestart(t *testing.T) {
	id, h, src := identity(t), newHub(), make(script)
	addr, stop := serve(t, id, h, freeAddr(t))
	report(t, &Client{Addr: addr, Token: id.Token(), Name: "nas", Source: src})
	src <- conntrack.Event{Kind: conntrack.Open, Conn: testConn(1, 1)}
	eventually(t, "joined", func() bool { n, _ := h.total(); return n == 1 })
	stop()
	src <- conntrack.Event{Kind: conntrack.Open, Conn: testConn(2, 2)}
	src <- conntrack.Event{Kind: conntrack.Close, Conn: testConn(1, 1)}
	src <- conntrack.Event{Kind: conntrack.Open, Conn: testConn(3, 3)}
	serve(t, id, h, addr)
	eventually(t, "joined again with what is true now", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, conns := range h.conns {
			return len(conns) == 2 && conns[2].ID == 2 && conns[3].ID == 3
		}
		return false
	})
}

func TestManyConnections(t *testing.T) {
	id, h := identity(t), newHub()
	addr, _ := serve(t, id, h, "127.0.0.1:0")
	src := make(script)
	report(t, &Client{Addr: addr, Token: id.Token(), Name: "big", Source: src})
	for _, c := range conntracktest.Conns(defaultMaxConns+500, 1) {
		src <- conntrack.Event{Kind: conntrack.Open, Conn: c}
	}
	eventually(t, "as many as are taken", func() bool { n, _ := h.total(); return n == defaultMaxConns })
	eventually(t, "the others are counted", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.lost >= 500
	})
	n, agents := h.total()
	assert.LessOrEqual(t, n, defaultMaxConns)
	assert.Equal(t, 1, agents)
	assert.Equal(t, 1, h.counts().joins, "it honours what the server takes")
}

func TestWrongToken(t *testing.T) {
	id, other, h := identity(t), identity(t), newHub()
	addr, _ := serve(t, id, h, "127.0.0.1:0")
	secret := id.Token()
	secret.secret[0] ^= 1
	for name, token := range map[string]Token{"another server's": other.Token(), "wrong secret": secret} {
		t.Run(name, func(t *testing.T) {
			done, _ := report(t, &Client{Addr: addr, Token: token, Source: make(script)})
			select {
			case err := <-done:
				assert.ErrorIs(t, err, ErrToken)
				assert.NotContains(t, err.Error(), "\n")
			case <-time.After(time.Minute):
				t.Fatal("the client goes on")
			}
		})
	}
	_, agents := h.total()
	assert.Zero(t, agents)
	assert.Zero(t, h.joins)
}

// TestRelay: a relay with a certificate of its own learns nothing and cannot pass a proof on,
// even from a client that does not check the certificate.
func TestRelay(t *testing.T) {
	id, relay, h := identity(t), identity(t), newHub()
	addr, _ := serve(t, id, h, "127.0.0.1:0")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	seen := make(chan int, 10)
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			in := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{relay.cert}, NextProtos: []string{alpn}})
			if in.Handshake() != nil {
				seen <- 0
				raw.Close()
				continue
			}
			out, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}})
			if err != nil {
				return
			}
			go io.Copy(in, out)
			n, _ := io.Copy(out, in)
			seen <- int(n)
		}
	}()
	done, _ := report(t, &Client{Addr: l.Addr().String(), Token: id.Token(), Source: make(script)})
	assert.ErrorIs(t, <-done, ErrToken)

	// A client that trusts the relay's certificate, with the right secret.
	token := id.Token()
	token.pin = relay.Token().pin
	done, _ = report(t, &Client{Addr: l.Addr().String(), Token: token, Source: make(script)})
	assert.ErrorIs(t, <-done, ErrToken)
	assert.Zero(t, h.joins)
}

func TestServerIsDown(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	// Its port is none that the servers of other tests get.
	c := &Client{Addr: freeAddr(t), Token: identity(t).Token(), Source: make(script), Logger: slog.New(slog.NewTextHandler(&log, nil))}
	require.NoError(t, c.Run(ctx))
	assert.Equal(t, 1, strings.Count(log.String(), "\n"), "said once: %s", log.String())
}

// TestRudePeers: neither garbage nor silence keeps an honest agent out.
func TestRudePeers(t *testing.T) {
	id, h := identity(t), newHub()
	addr, _ := serve(t, id, h, "127.0.0.1:0")
	for range 100 {
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		defer c.Close()
	}
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	io.Copy(io.Discard, c)
	c.Close()
	tc, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}})
	require.NoError(t, err)
	tc.Write([]byte{0xff, 0xff, 0xff, 0xff})
	_, err = tc.Read(make([]byte, 1))
	assert.Error(t, err, "a frame too large is refused")
	tc.Close()
	src := make(script, 1)
	src <- conntrack.Event{Kind: conntrack.Open, Conn: testConn(1, 1)}
	report(t, &Client{Addr: addr, Token: id.Token(), Name: "honest", Source: src})
	eventually(t, "the honest agent joins", func() bool { n, _ := h.total(); return n == 1 })
}

// TestGuessing: after a few wrong tokens an address is refused for a while.
func TestGuessing(t *testing.T) {
	id, h := identity(t), newHub()
	addr, _ := serve(t, id, h, "127.0.0.1:0")
	wrong := id.Token()
	wrong.secret[3]++
	for n := range maxGuesses + 1 {
		c := &connector{Client: &Client{Token: wrong}, addr: addr}
		raw, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		_, _, err = c.securelyGreet(raw)
		raw.Close()
		assert.Equal(t, n < maxGuesses, errors.Is(err, ErrToken), "attempt %d: %v", n, err)
	}
}

func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	id, err := LoadIdentity(dir)
	require.NoError(t, err)
	again, err := LoadIdentity(dir)
	require.NoError(t, err)
	assert.Equal(t, id.Token(), again.Token())
	for name, mode := range map[string]os.FileMode{"server-key.pem": 0o600, "server-secret": 0o600, "server-cert.pem": 0o644} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, mode, info.Mode().Perm(), name)
		kept, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("damaged"), 0o600))
		_, err = LoadIdentity(dir)
		assert.ErrorContains(t, err, name)
		b, _ := os.ReadFile(filepath.Join(dir, name))
		assert.Equal(t, "damaged", string(b), "nothing is overwritten")
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), kept, 0o600))
	}
	require.NoError(t, os.Remove(filepath.Join(dir, "server-key.pem")))
	_, err = LoadIdentity(dir)
	assert.ErrorContains(t, err, "server-key.pem", "half a pair is no reason to make a new one")
	left, _ := filepath.Glob(filepath.Join(dir, "*.*.*"))
	assert.Empty(t, left, "no temporary files")
}

func TestToken(t *testing.T) {
	want := identity(t).Token()
	s := want.String()
	assert.Len(t, s, 52)
	got, err := ParseToken(" " + s + "\n")
	require.NoError(t, err)
	assert.Equal(t, want, got)
	for _, bad := range []string{"", "cm1_", "cm2_" + s[4:], s[:51], s + "x", "cm1_" + strings.Repeat("é", 24), strings.ToUpper(s)} {
		_, err := ParseToken(bad)
		assert.Error(t, err, bad)
	}
	for i := 4; i < len(s); i++ {
		b := []byte(s)
		b[i] = map[bool]byte{true: 'A', false: 'B'}[b[i] != 'A']
		_, err := ParseToken(string(b))
		assert.Error(t, err, "character %d", i)
	}
}
