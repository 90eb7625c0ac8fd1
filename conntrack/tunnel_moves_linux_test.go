//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTunnelMoves: what a device has sent in one network namespace is not told once more
// when it moves to another.
func TestTunnelMoves(t *testing.T) {
	c := ebpfOrSkip(t, Options{Interval: 100 * time.Millisecond}, 0)
	e := c.backend.(*ebpf)
	n := newNet(t)
	log := logTunnels(t, c)
	device := deviceOf(n, "moves")
	a, b := tunnelEnds(n, 1, false)
	if err := command(n, n.A, fmt.Sprintf("ip link add %s address %s type vxlan id 33 remote %v dstport 4789", device, a.mac, b.outer)); err != nil {
		t.Skip("needs a kernel with VXLAN: ", err)
	}
	send := func(ns string) {
		mustCommand(t, n, ns, "ip link set "+device+" addrgenmode none")
		mustCommand(t, n, ns, "ip link set "+device+" up")
		mustCommand(t, n, ns, fmt.Sprintf("ip addr add %v peer %v dev %s", a.inner.Addr(), b.inner.Addr(), device))
		mustCommand(t, n, ns, fmt.Sprintf("ip neigh add %v lladdr %s dev %s nud permanent", b.inner.Addr(), b.mac, device))
		s := listenIn(t, n, ns, a.inner)
		defer s.Close()
		for range tunnelPackets {
			_, err := s.WriteTo(make([]byte, tunnelPayload), net.UDPAddrFromAddrPort(b.inner))
			require.NoError(t, err)
		}
	}
	flow := tunnelFlow{device, netip.AddrPortFrom(b.outer, 4789)}
	lookForTunnels(t, e)
	send(n.A)
	first, _ := log.until(t, flow, true, tunnelBytes, 0)
	mustCommand(t, n, n.A, fmt.Sprintf("ip link set %s netns %s", device, n.B))
	log.until(t, flow, false, tunnelBytes, 0)
	require.NoError(t, e.do(e.findTunnels))
	send(n.B)
	again, _ := log.until(t, flow, true, tunnelBytes, 0)
	require.NotEqual(t, first.ID, again.ID)
	// A device that begins anew under the same name has what it sends.
	mustCommand(t, n, n.B, "ip link del "+device)
	log.until(t, flow, false, tunnelBytes, 0)
	mustCommand(t, n, n.A, fmt.Sprintf("ip link add %s address %s type vxlan id 33 remote %v dstport 4789", device, a.mac, b.outer))
	send(n.A)
	lookForTunnels(t, e)
	log.until(t, flow, true, tunnelBytes, 0)
}
