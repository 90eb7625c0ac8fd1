//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestAdversary: for as long as CONNMAP_ADVERSARY says, connections open and end in
// interrupts, others faster than the ring can hold, and flows come and go, while loops take
// all processors. After each round every connection is reported or counted, and none stays.
// Not counted are those of which the ring had no room for the opening, and no program was
// called for the close: at most as many as those that a pass has to close.
func TestAdversary(t *testing.T) {
	long, err := time.ParseDuration(os.Getenv("CONNMAP_ADVERSARY"))
	if err != nil {
		t.Skip("takes as long as CONNMAP_ADVERSARY says, such as 1h")
	}
	requireRootAndIP(t)
	c := ebpfOrSkip(t, Options{Loopback: true}, 256<<10)
	var over atomic.Bool
	for range runtime.NumCPU() + 1 {
		go func() {
			for !over.Load() {
			}
		}()
	}
	defer over.Store(true)
	const n = 5000
	rounds, lost := 0, uint64(0)
	begin := time.Now()
	for ; time.Since(begin) < long && !t.Failed(); rounds++ {
		for _, rate := range []string{"", " 40mbit"} {
			t.Run(fmt.Sprint(rounds, rate), func(t *testing.T) {
				before := c.Info().Lost
				unseenBefore := unseen(c)
				pid, finish := startStorm(t, fmt.Sprint(n, rate))
				var got tally
				follow(t, c, func(e Event) { got.add(e, pid) })
				go manyFlows(t, 2000)
				r := finish()
				assert.Eventually(t, func() bool {
					seen := got.now()
					return seen.Opens == seen.Closes+remaining(t, pid) && seen.Closes+int(c.Info().Lost-before)+unseen(c)-unseenBefore >= 2*(n-r.Reset)-remaining(t, pid)
				}, time.Minute, 100*time.Millisecond)
				seen := got.now()
				lost += c.Info().Lost - before
				t.Logf("%+v, %d late in all", seen, c.Info().Late)
			})
		}
	}
	require.Eventually(t, func() bool {
		for _, conn := range snapshot(t, c) {
			if conn.Local.Addr() == testAddr || conn.Local.Addr() == flowsAddr {
				return false
			}
		}
		return true
	}, 2*time.Minute, time.Second)
	t.Logf("%d rounds of %d connections in %v, %d of them lost and counted, %d events late", 2*rounds, n, time.Since(begin), lost, c.Info().Late)
}

var flowsAddr = netip.MustParseAddr("127.88.0.1")

// manyFlows sends a datagram to each of n peers from one socket, and closes it.
func manyFlows(t *testing.T, n int) {
	u, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(flowsAddr, 0)))
	if !assert.NoError(t, err) {
		return
	}
	defer u.Close()
	for i := range n {
		u.WriteToUDPAddrPort([]byte{1}, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 89, byte(i >> 8), byte(i)}), 9))
	}
}
