package feed

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed/frame"
)

// A pipeListener accepts the far ends of pipes: a network without a kernel,
// whose waits testing/synctest can see.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.done:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

// TestBackoff: a server that is down is asked less and less often.
func TestBackoff(t *testing.T) {
	id := identity(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Hour)
		defer cancel()
		var tries []time.Time
		ports := map[string]int{}
		var log strings.Builder
		c := &Client{Addr: "192.0.2.1", Token: id.Token(), Source: make(script), Logger: slog.New(slog.NewTextHandler(&log, nil)),
			dial: func(_ context.Context, network, addr string) (net.Conn, error) {
				ports[addr]++
				if addr == "192.0.2.1:6789" {
					tries = append(tries, time.Now())
				}
				return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
			}}
		require.NoError(t, c.Run(ctx))
		most := time.Second
		for i := 1; i < len(tries); i++ {
			wait := tries[i].Sub(tries[i-1])
			assert.LessOrEqual(t, wait, most, "try %d", i)
			assert.GreaterOrEqual(t, wait, most/10, "try %d", i)
			most = min(2*most, 5*time.Minute)
		}
		assert.InDelta(t, 6*60/2.75, len(tries), 50, "about every 165 s in the end")
		assert.Equal(t, map[string]int{"192.0.2.1:6789": len(tries), "192.0.2.1:10789": len(tries)}, ports)
		assert.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
	})
}

// TestHeartbeat: a link without news stays up, and one whose server has
// vanished does not.
func TestHeartbeat(t *testing.T) {
	id := identity(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		h, l := newHub(), newPipeListener()
		var work sync.WaitGroup
		work.Go(func() { assert.NoError(t, (&Server{Identity: id, Handler: h}).Serve(ctx, l)) })
		var mu sync.Mutex
		silent := false
		c := &Client{Addr: "server", Token: id.Token(), Source: make(script), dial: func(ctx context.Context, n, a string) (net.Conn, error) {
			conn, err := l.dial(ctx, n, a)
			return &deaf{Conn: conn, mu: &mu, silent: &silent}, err
		}}
		work.Go(func() { assert.NoError(t, c.Run(ctx)) })
		time.Sleep(59 * time.Minute)
		assert.Equal(t, 1, h.counts().joins, "one link all the time")
		assert.Equal(t, 12, h.counts().fulls, "the whole table every five minutes")
		mu.Lock()
		silent = true
		mu.Unlock()
		time.Sleep(31 * time.Second)
		_, agents := h.total()
		assert.Zero(t, agents, "gone within 30 s")
		mu.Lock()
		silent = false
		mu.Unlock()
		time.Sleep(15 * time.Second)
		_, agents = h.total()
		assert.Equal(t, 1, agents, "back")
		cancel()
		work.Wait()
	})
}

// A deaf connection swallows what is written to it while it is silent.
type deaf struct {
	net.Conn
	mu     *sync.Mutex
	silent *bool
}

func (d *deaf) Write(b []byte) (int, error) {
	d.mu.Lock()
	silent := *d.silent
	d.mu.Unlock()
	if silent {
		return len(b), nil
	}
	return d.Conn.Write(b)
}

// TestCountersAreCoalesced: counters that change all the time are sent once a
// second, what opens is not held up by that.
func TestCountersAreCoalesced(t *testing.T) {
	id := identity(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		h, l, src := newHub(), newPipeListener(), make(script)
		var work sync.WaitGroup
		work.Go(func() { (&Server{Identity: id, Handler: h}).Serve(ctx, l) })
		work.Go(func() { (&Client{Addr: "server", Token: id.Token(), Source: src, dial: l.dial}).Run(ctx) })
		synctest.Wait()
		for n := range uint64(1000) {
			c := testConn(1, 1)
			c.Tx = n
			src <- conntrack.Event{Kind: conntrack.Update, Conn: c}
			time.Sleep(10 * time.Millisecond)
		}
		assert.InDelta(t, 10, h.counts().deltas, 2, "in ten seconds")
		before := h.counts().deltas
		src <- conntrack.Event{Kind: conntrack.Open, Conn: testConn(2, 2)}
		time.Sleep(300 * time.Millisecond) // deltas are sent every 250 ms
		assert.Greater(t, h.counts().deltas, before)
		n, _ := h.total()
		assert.Equal(t, 2, n)
		before = h.counts().deltas
		time.Sleep(time.Minute)
		assert.LessOrEqual(t, h.counts().deltas, before+1, "nothing changed")
		cancel()
		work.Wait()
	})
}

// securelyGreet joins on a connection.
func (l *connector) securelyGreet(raw net.Conn) (*tls.Conn, frame.Welcome, error) {
	return l.securelyGreetAs(raw, l.hello)
}

func (l *connector) securelyGreetAs(raw net.Conn, hello func() frame.Hello) (*tls.Conn, frame.Welcome, error) {
	conn, err := l.handshake(context.Background(), raw, l.addr)
	if err != nil {
		return nil, frame.Welcome{}, err
	}
	server, err := l.greet(context.Background(), raw, conn, hello)
	return conn, server, err
}

// authenticated returns a link that has proven to know the token and has said
// hello, to misbehave on.
func authenticated(t *testing.T, addr string, token Token, run frame.Run, before ...frame.Run) *tls.Conn {
	t.Helper()
	raw, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { raw.Close() })
	raw.SetDeadline(time.Now().Add(time.Minute))
	conn, _, err := (&connector{Client: &Client{Token: token}, addr: addr}).securelyGreetAs(raw, func() frame.Hello {
		h := frame.Hello{Version: frame.Version, Name: "rogue", Run: run, Wall: time.Now().UnixMicro()}
		if len(before) > 0 {
			h.Before = before[0]
		}
		return h
	})
	require.NoError(t, err)
	return conn
}

func newRun() (run frame.Run) {
	rand.Read(run[:])
	return run
}

// TestHalfOpenLinkIsReplaced: an agent whose network failed comes back without
// being there twice until the old link is given up.
func TestHalfOpenLinkIsReplaced(t *testing.T) {
	id, h := identity(t), newHub()
	addr, _ := serve(t, id, h, "127.0.0.1:0")
	run := newRun()
	for range 3 {
		authenticated(t, addr, id.Token(), run)
	}
	eventually(t, "one agent", func() bool { _, n := h.total(); return n == 1 && h.counts().joins == 3 })
	other := newRun()
	authenticated(t, addr, id.Token(), other)
	eventually(t, "another one", func() bool { _, n := h.total(); return n == 2 })
	authenticated(t, addr, id.Token(), newRun(), other)
	eventually(t, "the next run of it", func() bool { _, n := h.total(); return n == 2 && h.counts().joins == 5 })
	authenticated(t, addr, id.Token(), run, run)
	eventually(t, "once more", func() bool { _, n := h.total(); return n == 2 && h.counts().joins == 6 })
}

// TestNoRun: a server refuses frames about a run that cannot be.
func TestNoRun(t *testing.T) {
	id, l := identity(t), newLedger()
	addr, _ := serve(t, id, l, "127.0.0.1:0")
	for name, f := range map[string][]byte{
		"ask of none": encoded(t, frame.Ask{}), "ask of a byte": damaged(t, frame.Ask{}, func(f []any) { f[1] = []byte{1} }),
		"resend without a run":    damaged(t, frame.Delta{Seq: 1, Lost: 1, Run: frame.Run{1}, Number: 1}, func(f []any) { f[4] = make([]byte, 16) }),
		"resend without a number": encoded(t, frame.Delta{Seq: 1, Lost: 1, Run: frame.Run{1}}),
	} {
		conn := authenticated(t, addr, id.Token(), newRun())
		_, err := conn.Write(f)
		require.NoError(t, err)
		kind, _, err := frame.NewReader(conn).Next(frame.MaxGreeting)
		require.NoError(t, err)
		assert.Equal(t, frame.TypeBye, kind, name)
	}
	assert.Empty(t, l.pages)
}

// TestHeardIsBounded: a server remembers what it has heard of ten times as many runs as it takes
// agents, and always of agents that are there.
func TestHeardIsBounded(t *testing.T) {
	for _, agents := range []int{1, defaultMaxAgents, 20 * defaultMaxAgents} {
		s, here := &Server{MaxAgents: agents}, frame.Run{1}
		s.links = map[frame.Run]*link{here: {run: here}}
		s.noteHeard(here, 7)
		bound := 10 * max(agents, defaultMaxAgents)
		for n := range 3 * bound / 2 {
			run := frame.Run{2, byte(n >> 16), byte(n >> 8), byte(n)}
			s.noteHeard(run, 1)
			require.LessOrEqual(t, len(s.heardByRun), bound+2)
			if n < bound-1 {
				require.Len(t, s.heardByRun, n+2, "nothing is forgotten too early")
			}
		}
		assert.EqualValues(t, 7, s.lastHeard(here))
	}
}

func TestTooManyAgents(t *testing.T) {
	id, h := identity(t), newHub()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- (&Server{Identity: id, Handler: h, MaxAgents: 2}).Serve(ctx, l) }()
	authenticated(t, l.Addr().String(), id.Token(), newRun())
	authenticated(t, l.Addr().String(), id.Token(), newRun())
	raw, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer raw.Close()
	_, _, err = (&connector{Client: &Client{Token: id.Token()}, table: newTable(t)}).securelyGreet(raw)
	assert.ErrorContains(t, err, "as many agents")
	cancel()
	assert.NoError(t, <-done)
}

// encoded returns a frame with its length.
func encoded(t *testing.T, f frame.Frame) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, frame.Write(&b, f))
	return b.Bytes()
}

// raw puts the length before a frame.
func raw(f string) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(f))), f...) }

// damaged returns a frame with its length, after f has changed its elements.
func damaged(t *testing.T, fr frame.Frame, f func([]any)) []byte {
	t.Helper()
	var elements []any
	require.NoError(t, cbor.Unmarshal(encoded(t, fr)[4:], &elements))
	f(elements)
	b, err := cbor.Marshal(elements)
	require.NoError(t, err)
	return raw(string(b))
}

// TestRogueAgent: an agent that sends damaged frames is dismissed, and the Handler receives
// nothing of them.
func TestRogueAgent(t *testing.T) {
	good := testConn(1, 1)
	many := make([]conntrack.Conn, 1500)
	for i := range many {
		many[i] = good
	}
	full := func(seq uint64, more bool, conns ...conntrack.Conn) []byte {
		return encoded(t, frame.Full{Seq: seq, More: more, Conns: conns})
	}
	row := func(element int, value any) []byte { // of a full
		return damaged(t, frame.Full{Seq: 1, Conns: []conntrack.Conn{good}}, func(f []any) { f[3].([]any)[0].([]any)[element] = value })
	}
	tests := []struct {
		name   string
		frames [][]byte
	}{
		{"too large", [][]byte{{0, 4, 0, 1}}},
		{"length of 4 GiB", [][]byte{{0xff, 0xff, 0xff, 0xff}}},
		{"empty", [][]byte{{0, 0, 0, 0}}},
		{"no CBOR", [][]byte{raw("hello")}},
		{"no elements", [][]byte{raw("\x80\x06")}},
		{"row of nothing", [][]byte{raw("\x84\x04\x01\xf4\x82\xf6\xf6")}},
		{"claims many rows", [][]byte{raw("\x84\x04\x01\xf4\x99\x0f\xff\x00")}},
		{"deep", [][]byte{raw("\x84\x04\x01\xf4" + strings.Repeat("\x81", 100) + "\x00")}},
		{"endless", [][]byte{raw("\x84\x04\x01\xf4\x9f\xff")}},
		{"local address of 5 bytes", [][]byte{row(3, make([]byte, 5))}},
		{"no peer", [][]byte{row(4, nil)}},
		{"direction", [][]byte{row(2, 3)}},
		{"state", [][]byte{row(2, 13<<2|1)}},
		{"negative PID", [][]byte{row(5, -1)}},
		{"long text", [][]byte{row(7, strings.Repeat("x", frame.MaxText+1))}},
		{"kind", [][]byte{encoded(t, frame.Delta{Seq: 1, Events: []conntrack.Event{{Kind: conntrack.Lost, Conn: good}}})}},
		{"number does not grow", [][]byte{full(5, false), encoded(t, frame.Delta{Seq: 5})}},
		{"delta inside full", [][]byte{full(1, true, good), encoded(t, frame.Delta{Seq: 2})}},
		{"full without end", [][]byte{full(1, true)}},
		{"more connections than are taken", [][]byte{full(1, true, many...), full(1, true, many...)}},
	}
	id, h := identity(t), newHub()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go (&Server{Identity: id, Handler: h, MaxConns: 2500}).Serve(ctx, l)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn := authenticated(t, l.Addr().String(), id.Token(), newRun())
			for _, f := range tt.frames {
				conn.Write(f)
			}
			kind, body, err := frame.NewReader(conn).Next(frame.MaxGreeting)
			require.NoError(t, err)
			assert.Equal(t, frame.TypeBye, kind)
			var bye byeFrame
			require.NoError(t, frame.Decode(body, &bye))
			assert.Equal(t, byeDamaged, bye.Code)
			eventually(t, "gone", func() bool { n, agents := h.total(); return n == 0 && agents == 0 })
		})
	}
}

// TestUnknownFramesAreSkipped: later versions may send more.
func TestUnknownFramesAreSkipped(t *testing.T) {
	id, h := identity(t), newHub()
	addr, _ := serve(t, id, h, "127.0.0.1:0")
	conn := authenticated(t, addr, id.Token(), newRun())
	_, err := conn.Write(raw("\x82\x14\x01"))
	require.NoError(t, err)
	require.NoError(t, frame.Write(conn, frame.Ping{}))
	kind, _, err := frame.NewReader(conn).Next(frame.MaxGreeting)
	require.NoError(t, err)
	assert.Equal(t, frame.TypePing, kind, "answered")
}

// TestCleanedNames: hostile texts do not reach the Handler.
func TestCleanedNames(t *testing.T) {
	for in, want := range map[string]string{
		"ssh": "ssh", "Grüße 東京 🎉": "Grüße 東京 🎉", "\x1b[31mred\a": "[31mred", "a\u202eb\u2066c": "abc", "\u200b\u200d\ufeffx\u2060": "x",
		"a\u0085b\u009bc": "abc", "\xff\xfeok\xc3": "ok", "line\r\nbreak\u2028": "linebreak", "\u3164\u115f\ufe0fblank\u034f\u2800": "blank",
		strings.Repeat("é", 200): strings.Repeat("é", 128), "x" + strings.Repeat("é", 200): "x" + strings.Repeat("é", 127),
		strings.Repeat("\x00", 1024) + "far": "",
	} {
		assert.Equal(t, want, clean(in), "%q", in)
	}
	id, h, src := identity(t), newHub(), make(script, 1)
	addr, _ := serve(t, id, h, "127.0.0.1:0")
	c := testConn(1, 1)
	c.Process = conntrack.Process{PID: 1, Comm: "\x1b]0;owned\a", Exe: "/tmp/\u202egnp.sh", Container: "a\nb"}
	src <- conntrack.Event{Kind: conntrack.Open, Conn: c}
	report(t, &Client{Addr: addr, Token: id.Token(), Name: "evil\x1b[2J\u202e", Source: src,
		Info: func() conntrack.Info { return conntrack.Info{Backend: "x\ny", Limited: strings.Repeat("\u200bz", 400)} }})
	eventually(t, "arrives", func() bool { n, _ := h.total(); return n == 1 })
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, a := range h.agents {
		assert.Equal(t, "evil[2J", a.Name)
		assert.Equal(t, "xy", a.Backend)
		assert.Equal(t, strings.Repeat("z", 400), a.Limited, "several reasons are told whole")
		assert.Equal(t, conntrack.Process{PID: 1, Comm: "]0;owned", Exe: "/tmp/gnp.sh", Container: "ab"}, h.conns[id][1].Process)
	}
}

// TestSourceFails: an agent that sees nothing must not seem to be well.
func TestSourceFails(t *testing.T) {
	id := identity(t)
	addr, _ := serve(t, id, newHub(), "127.0.0.1:0")
	broken := errors.New("conntrack: broken")
	for name, want := range map[string]error{"fails": broken, "ends": nil} {
		t.Run(name, func(t *testing.T) {
			err := (&Client{Addr: addr, Token: id.Token(), Source: failing{want}}).Run(context.Background())
			require.Error(t, err)
			if want != nil {
				assert.ErrorIs(t, err, want)
			}
		})
	}
}

// TestStatesAndNames: those of sockets and of peers come along; names only if the server wants them.
func TestStatesAndNames(t *testing.T) {
	for _, noNames := range []bool{false, true} {
		id, h, src := identity(t), newHub(), make(script)
		addr, _ := start(t, &Server{Identity: id, Handler: h, NoNames: noNames})
		done, stop := report(t, &Client{Addr: addr, Token: id.Token(), Source: src})
		c := testConn(1, 443)
		c.State = conntrack.Established
		src <- conntrack.Event{Kind: conntrack.Open, Conn: c}
		known := func() (c conntrack.Conn) {
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, conns := range h.conns {
				return conns[1]
			}
			return c
		}
		eventually(t, "it is established", func() bool { return known().State == conntrack.Established })
		c.Name, c.NameSource = "www.example.com", conntrack.NameSNI
		src <- conntrack.Event{Kind: conntrack.Update, Conn: c}
		c.State = conntrack.CloseWait
		src <- conntrack.Event{Kind: conntrack.Update, Conn: c}
		eventually(t, "the peer has closed", func() bool { return known().State == conntrack.CloseWait })
		want := c
		if noNames {
			want.Name, want.NameSource = "", 0
		}
		assert.Equal(t, [2]any{want.Name, want.NameSource}, [2]any{known().Name, known().NameSource})
		stop()
		assert.NoError(t, <-done)
	}
}
