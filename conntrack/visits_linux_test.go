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
// of bytes, and what nobody holds any more is closed after a number of passes: few if
// its close may have been lost.
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

	// As if their closes had not been seen: the table has them again.
	const one, two, three = 1 << 61, 1<<61 + 1, 1<<61 + 2
	there := map[uint64]bool{}
	look := func() {
		for _, id := range []uint64{one, two, three} {
			there[id] = e.conns[id] != nil
		}
	}
	require.NoError(t, e.do(func() {
		for id, misses := range map[uint64]uint8{one: mostUnheld - 1, two: fewUnheld, three: mostUnheld} {
			e.conns[id] = &tracked{opened: 1000, conn: Conn{ID: id, Proto: TCP}, presence: presence{misses: misses}}
			e.tcp++
		}
		e.conns[three].conn.Process = kernel // whose sockets nobody holds
		assert.NoError(t, e.endGone(1))
		look()
	}))
	assert.Equal(t, map[uint64]bool{one: true, two: true, three: true}, there)
	require.NoError(t, e.do(func() {
		assert.NoError(t, e.findHolders())
		assert.NoError(t, e.endGone(1))
		look()
	}))
	assert.Equal(t, map[uint64]bool{one: false, two: true, three: true}, there)
	require.NoError(t, e.do(func() {
		e.lossAt = 2000
		assert.NoError(t, e.endGone(1))
		look()
		e.end(e.conns[three], time.Now())
	}))
	assert.Equal(t, map[uint64]bool{one: false, two: false, three: true}, there)
}
