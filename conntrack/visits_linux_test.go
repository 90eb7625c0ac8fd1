//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack/internal/bpf"
)

// TestWithoutVisits: where the kernel lets nobody visit sockets, a walk over files tells
// of bytes, and sock_diag of what nobody holds any more: what is there stays, what is not
// is closed.
func TestWithoutVisits(t *testing.T) {
	c := ebpfWith(t, Options{Loopback: true}, bpf.Options{NoVisits: true})
	assert.Contains(t, c.Info().Limited, "walk over all open files")
	e := c.backend.(*ebpf)
	l := listen(t, "127.0.0.1:0")
	var mu sync.Mutex
	events := map[netip.AddrPort][]Event{}
	follow(t, c, func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		events[e.Conn.Local] = append(events[e.Conn.Local], e)
	})
	of := func(end net.Addr) []Event {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(events[netip.MustParseAddrPort(end.String())])
	}
	conn, peer := pair(t, l, l.Addr().String(), net.Dialer{})
	_, err := conn.Write(make([]byte, 1000))
	require.NoError(t, err)
	assert.Eventually(t, func() bool {
		return slices.ContainsFunc(of(conn.LocalAddr()), func(e Event) bool { return e.Kind == Update && e.Conn.Tx == 1000 })
	}, time.Minute, 10*time.Millisecond)
	conn.Close()
	peer.Close()
	closes := func() (n int) {
		for _, e := range of(conn.LocalAddr()) {
			if e.Kind == Close {
				n++
			}
		}
		return n
	}
	assert.Eventually(t, func() bool { return closes() == 1 }, time.Minute, 10*time.Millisecond)

	// One whose close had not been seen is gone; one that nobody has accepted, and so
	// nobody holds, is there, however many passes find no holder.
	queued, err := net.Dial("tcp4", l.Addr().String())
	require.NoError(t, err)
	defer queued.Close()
	_, err = queued.Write(make([]byte, 77))
	require.NoError(t, err)
	const gone = 1 << 61
	require.NoError(t, e.do(func() {
		e.conns[gone] = &tracked{conn: Conn{ID: gone, Proto: TCP}, presence: presence{misses: minUnheld - 1}}
		e.tcp++
		assert.NoError(t, e.closeGone(1))
		assert.NotNil(t, e.conns[gone])
		for range 2 * minUnheld {
			assert.NoError(t, e.findHolders())
		}
		e.nextAudit = time.Time{}
		assert.NoError(t, e.closeGone(1))
		assert.Nil(t, e.conns[gone])
		n := 0
		for _, k := range e.conns {
			if k.conn.Peer.String() == queued.LocalAddr().String() {
				assert.GreaterOrEqual(t, k.misses, uint8(minUnheld))
				assert.Equal(t, uint64(77), k.conn.Rx, "as sock_diag tells")
				n++
			}
		}
		assert.Equal(t, 1, n)
	}))
	server, err := l.Accept()
	require.NoError(t, err)
	server.Close()
	assert.Eventually(t, func() bool {
		return slices.ContainsFunc(of(server.LocalAddr()), func(e Event) bool {
			return e.Kind == Close && e.Conn.Peer.String() == queued.LocalAddr().String() && e.Conn.Rx == 77
		})
	}, time.Minute, 10*time.Millisecond)
}
