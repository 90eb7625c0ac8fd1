package feed

import (
	"context"
	mathrand "math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
)

// A recorder is a hub that counts all close events, and records them when a test calls record.
type recorder struct {
	*hub
	rmu     sync.Mutex
	ends    map[uint64]int
	last    time.Time       // when the last of them was
	safe    map[uint64]bool // ends that are recorded
	pending []func()
	fresh   []uint64
}

func newRecorder() *recorder {
	return &recorder{hub: newHub(), ends: map[uint64]int{}, safe: map[uint64]bool{}}
}

func (r *recorder) Delta(a Agent, events []conntrack.Event) {
	r.hub.Delta(a, events)
	r.rmu.Lock()
	defer r.rmu.Unlock()
	for _, e := range events {
		if e.Kind == conntrack.Close {
			r.ends[e.Conn.ID]++
			r.last = e.Time
			r.fresh = append(r.fresh, e.Conn.ID)
		}
	}
}

// LastRecorded forgets what was recorded, as a server without a memory may.
func (r *recorder) LastRecorded([16]byte) uint64 { return 0 }

func (r *recorder) Recorded(_ Agent, _ uint64, f func()) bool {
	r.rmu.Lock()
	defer r.rmu.Unlock()
	r.pending = append(r.pending, f)
	return true
}

// record records what was received, and acknowledges it.
func (r *recorder) record() {
	r.rmu.Lock()
	for _, id := range r.fresh {
		r.safe[id] = true
	}
	done := r.pending
	r.pending, r.fresh = nil, nil
	r.rmu.Unlock()
	for _, f := range done {
		f()
	}
}

// crash forgets what is not recorded, as a server that is killed does.
func (r *recorder) crash() {
	r.rmu.Lock()
	defer r.rmu.Unlock()
	r.pending, r.fresh = nil, nil
	clear(r.ends)
}

// TestClosesAreSentUntilRecorded: a server that fails before it has recorded a close event gets it
// again; one that has recorded it does not.
func TestClosesAreSentUntilRecorded(t *testing.T) {
	t.Parallel()
	id, src, addr := identity(t), make(script), freeAddr(t)
	r := newRecorder()
	_, stop := serve(t, id, r, addr)
	report(t, &Client{Addr: addr, Token: id.Token(), Name: "nas", Source: src})
	end := func(n uint64) {
		c := testConn(n, 1)
		src <- conntrack.Event{Kind: conntrack.Open, Conn: c}
		src <- conntrack.Event{Kind: conntrack.Close, Conn: c}
	}
	told := func(n uint64) int {
		r.rmu.Lock()
		defer r.rmu.Unlock()
		return r.ends[n]
	}
	eventually(t, "the agent joins", func() bool { _, agents := r.total(); return agents == 1 })
	end(1)
	eventually(t, "the first end is told", func() bool { return told(1) == 1 })
	r.record()
	time.Sleep(200 * time.Millisecond) // for the acknowledgement
	end(2)
	eventually(t, "the second end is told", func() bool { return told(2) == 1 })
	stop()
	r.crash()
	end(3) // while there is no server
	time.Sleep(50 * time.Millisecond)
	_, stop = serve(t, id, r, addr)
	eventually(t, "what was not recorded is told again, and what ended meanwhile", func() bool { return told(2) == 1 && told(3) == 1 })
	assert.Zero(t, told(1), "what was recorded is not")
	r.record()
	time.Sleep(200 * time.Millisecond)
	stop()
	r.crash()
	serve(t, id, r, addr)
	eventually(t, "the agent is back", func() bool { _, agents := r.total(); return agents == 1 })
	time.Sleep(100 * time.Millisecond)
	assert.Zero(t, told(2)+told(3))
}

// A collectable listener tells when a connection that it has accepted is garbage.
type collectable struct {
	net.Listener
	garbage chan struct{}
}

type wrapped struct{ net.Conn }

func (l collectable) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	w := &wrapped{c}
	runtime.AddCleanup(w, func(done chan struct{}) { done <- struct{}{} }, l.garbage)
	return w, nil
}

// TestSlowRecorder: an Acknowledger that has not recorded yet does not keep the connection of an agent
// that has left, nor what its session had in memory.
func TestSlowRecorder(t *testing.T) {
	id, r, src := identity(t), newRecorder(), make(script)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := collectable{inner, make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- (&Server{Identity: id, Handler: r}).Serve(ctx, l) }()
	done, stop := report(t, &Client{Addr: inner.Addr().String(), Token: id.Token(), Source: src})
	eventually(t, "it has joined", func() bool { _, n := r.total(); return n == 1 })
	src <- closes(1, 1)[0]
	pending := func() int {
		r.rmu.Lock()
		defer r.rmu.Unlock()
		return len(r.pending)
	}
	eventually(t, "its close event is to be recorded", func() bool { return pending() == 1 })
	stop()
	require.NoError(t, <-done)
	eventually(t, "the connection is garbage", func() bool {
		runtime.GC()
		return len(l.garbage) == 1
	})
	assert.Equal(t, 1, pending())
	cancel()
	assert.NoError(t, <-served)
}

// TestNothingIsLost: over a link that is cut at random, and a server that is killed at
// random, each connection is recorded, however short it was.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	id, src, addr := identity(t), make(script), freeAddr(t)
	r := newRecorder()
	_, stop := serve(t, id, r, addr)
	var mu sync.Mutex
	var links []net.Conn
	c := &Client{Addr: addr, Token: id.Token(), Name: "nas", Source: src}
	c.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil {
			mu.Lock()
			links = append(links, conn)
			mu.Unlock()
		}
		return conn, err
	}
	report(t, c)
	rng := mathrand.New(mathrand.NewPCG(1, 2))
	const total = 3000
	for n := uint64(1); n <= total; n++ {
		k := testConn(n, 1)
		src <- conntrack.Event{Kind: conntrack.Open, Conn: k}
		if n > 20 {
			src <- conntrack.Event{Kind: conntrack.Close, Conn: testConn(n-20, 1)}
		}
		switch rng.IntN(200) {
		case 0:
			mu.Lock()
			for _, l := range links {
				l.Close()
			}
			links = nil
			mu.Unlock()
		case 1:
			stop()
			r.crash()
			_, stop = serve(t, id, r, addr)
		case 2, 3, 4, 5:
			r.record()
		}
		time.Sleep(time.Duration(rng.IntN(4)) * time.Millisecond)
	}
	defer func() { stop() }()
	require.Eventually(t, func() bool {
		r.record()
		r.rmu.Lock()
		defer r.rmu.Unlock()
		return len(r.safe) == total-20
	}, time.Minute, 100*time.Millisecond, "all ends are recorded")
	// The last cut may have come after the last close event was sent.
	eventually(t, "what lives is known", func() bool { conns, _ := r.total(); return conns == 20 })
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	assert.Zero(t, r.hub.lost)
}
