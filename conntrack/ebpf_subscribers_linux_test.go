//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPresentInParts: each connection that exists when Events is called has one Open event,
// the first about it, although these events are queued in parts and connections change.
func TestPresentInParts(t *testing.T) {
	c := ebpfOrSkip(t, Options{}, 0)
	e := c.backend.(*ebpf)
	const n, first = 20_000, 1 << 60
	start := time.Now().Add(-time.Hour)
	require.NoError(t, e.do(func() {
		e.nextHolderPass = time.Now().Add(time.Hour) // no pass is to find that they are not there
		for i := range uint64(n) {
			e.conns[first+i] = &tracked{conn: Conn{ID: first + i, Proto: TCP, Opened: start.Add(time.Duration(i) * time.Millisecond)}}
		}
	}))
	told := map[uint64][]Kind{}
	last := uint64(0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for ev, err := range c.Events(ctx) {
		require.NoError(t, err)
		id := ev.Conn.ID
		if id < first || id >= first+n {
			continue
		}
		told[id] = append(told[id], ev.Kind)
		switch {
		case len(told) == 1 && ev.Kind == Open:
			// The others are not all in the queue yet.
			require.NoError(t, e.do(func() {
				assert.Less(t, len(e.subscribers[len(e.subscribers)-1].queue), maxQueue)
				for i := uint64(1); i < n; i += 2 {
					switch k := e.conns[first+i]; i % 3 {
					case 0:
						e.closeConn(k, time.Now())
					case 1:
						e.emit(Update, time.Now(), &k.conn)
					}
				}
				e.tcp += n / 6 // that end has counted
				e.emit(Update, time.Now(), &e.conns[first].conn)
			}))
		case ev.Kind == Open && id%2 == 0:
			assert.GreaterOrEqual(t, id, last, "the oldest first")
			last = id
		}
		if last == first+n-2 && len(told) == n {
			break
		}
	}
	assert.Len(t, told, n)
	for id, kinds := range told {
		require.Equal(t, Open, kinds[0], id)
		require.NotContains(t, kinds[1:], Open, id)
		if i := id - first; i%2 == 1 && i%3 == 0 {
			require.Equal(t, []Kind{Open, Close}, kinds, id)
		}
	}
	require.NoError(t, e.do(func() {
		for i := range uint64(n) {
			delete(e.conns, first+i)
		}
	}))
}

// TestEventsToTheEnd: what happens before a subscriber's context ends is yielded, though the
// kernel may not have reported it yet.
func TestEventsToTheEnd(t *testing.T) {
	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	l := listen(t, "127.0.0.1:0")
	const n = 300
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		begun, closed := make(chan struct{}), make(chan map[string]int)
		go func() {
			begin, told := sync.OnceFunc(func() { close(begun) }), map[string]int{}
			for e, err := range c.Events(ctx) {
				assert.NoError(t, err)
				begin()
				if e.Kind == Close && e.Conn.Direction == Out {
					told[e.Conn.Local.String()]++
				}
			}
			closed <- told
		}()
		first, peer := pair(t, l, l.Addr().String(), net.Dialer{})
		<-begun
		// Nobody reads the ring meanwhile.
		e := c.backend.(*ebpf)
		busy, free := make(chan struct{}), make(chan struct{})
		go e.do(func() { close(busy); <-free })
		<-busy
		var made []string
		for range n {
			client, server := pair(t, l, l.Addr().String(), net.Dialer{})
			made = append(made, client.LocalAddr().String())
			require.NoError(t, client.(*net.TCPConn).SetLinger(0)) // so that it has ended when Close returns
			client.Close()
			server.Close()
		}
		cancel()
		require.Eventually(t, e.hasRequests, time.Minute, time.Millisecond)
		close(free)
		told := <-closed
		missing := 0
		for _, local := range made {
			if told[local] == 0 {
				missing++
			}
		}
		assert.Zero(t, missing, "of %d ends", n)
		first.Close()
		peer.Close()
	}
}
