//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack/internal/traffic"
)

// command runs a command in a namespace of n.
func command(n *traffic.Net, ns, line string) error {
	leave, err := n.Enter(ns)
	if err != nil {
		return err
	}
	f := strings.Fields(line)
	out, err := exec.Command(f[0], f[1:]...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", line, err, out)
	}
	return errors.Join(err, leave())
}

func mustCommand(t *testing.T, n *traffic.Net, ns, line string) {
	t.Helper()
	require.NoError(t, command(n, ns, line))
}

func listenIn(t *testing.T, n *traffic.Net, ns string, addr netip.AddrPort) net.PacketConn {
	leave, err := n.Enter(ns)
	require.NoError(t, err)
	c, err := net.ListenPacket("udp", addr.String())
	require.NoError(t, leave())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// A tunnelFlow is what a flow of a tunnel is known by.
type tunnelFlow struct {
	device string
	peer   netip.AddrPort
}

// A tunnelLog is what a collector has told of tunnels.
type tunnelLog struct {
	mu     sync.Mutex
	events map[tunnelFlow][]Event
}

func logTunnels(t *testing.T, c *Collector) *tunnelLog {
	l := &tunnelLog{events: make(map[tunnelFlow][]Event)}
	follow(t, c, func(e Event) {
		if e.Conn.Process.PID == 0 && e.Conn.Process.Comm == "kernel" {
			l.mu.Lock()
			defer l.mu.Unlock()
			f := tunnelFlow{e.Conn.Process.Exe, e.Conn.Peer}
			l.events[f] = append(l.events[f], e)
		}
	})
	return l
}

// of returns what was told of a flow.
func (l *tunnelLog) of(f tunnelFlow) []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events[f])
}

// until waits for an event of a flow after which it is open, or not, and has so many
// bytes. It returns it and the first event.
func (l *tunnelLog) until(t *testing.T, f tunnelFlow, open bool, tx, rx uint64) (last Conn, first Event) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		list := l.of(f)
		if n := len(list); n > 0 {
			e := list[n-1]
			if (e.Kind != Close) == open && e.Conn.Tx == tx && e.Conn.Rx == rx {
				return e.Conn, list[0]
			}
		}
		if time.Now().After(deadline) {
			for _, e := range list {
				t.Logf("%v %v %+v", e.Time, e.Kind, e.Conn)
			}
			require.Fail(t, "not told", "%+v, open %v, tx %d, rx %d", f, open, tx, rx)
		}
	}
}

// A tunnelEnd is one of two ends of a tunnel.
type tunnelEnd struct {
	ns           string
	outer, other netip.Addr
	inner        netip.AddrPort
	mac          string
	socket       net.PacketConn
}

// tunnelEnds returns the ends of the tunnel of a number.
func tunnelEnds(n *traffic.Net, number byte, v6 bool) (a, b *tunnelEnd) {
	a = &tunnelEnd{ns: n.A, outer: traffic.AddrA, other: traffic.AddrB, mac: "02:00:00:00:01:0a"}
	b = &tunnelEnd{ns: n.B, outer: traffic.AddrB, other: traffic.AddrA, mac: "02:00:00:00:01:0b"}
	if v6 {
		a.outer, a.other = traffic.AddrA6, traffic.AddrB6
		b.outer, b.other = traffic.AddrB6, traffic.AddrA6
	}
	a.inner = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 2 * number}), 5000)
	b.inner = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 2*number + 1}), 5000)
	return a, b
}

// up gives the device of an end an address and a neighbour. It sends nothing by itself.
func (x *tunnelEnd) up(t *testing.T, n *traffic.Net, device string, other *tunnelEnd) {
	mustCommand(t, n, x.ns, "ip link set "+device+" addrgenmode none")
	mustCommand(t, n, x.ns, "ip link set "+device+" up")
	mustCommand(t, n, x.ns, fmt.Sprintf("ip addr add %v peer %v dev %s", x.inner.Addr(), other.inner.Addr(), device))
	if x.mac != "" {
		mustCommand(t, n, x.ns, fmt.Sprintf("ip neigh add %v lladdr %s dev %s nud permanent", other.inner.Addr(), other.mac, device))
	}
	x.socket = listenIn(t, n, x.ns, x.inner)
}

const (
	tunnelPackets = 7
	tunnelPayload = 1000
	tunnelBytes   = tunnelPackets * (tunnelPayload + 28) // with the inner headers of UDP and IPv4
)

// send sends something through a tunnel.
func (x *tunnelEnd) send(t *testing.T, to *tunnelEnd) {
	t.Helper()
	b := make([]byte, tunnelPayload)
	for range tunnelPackets {
		_, err := x.socket.WriteTo(b, net.UDPAddrFromAddrPort(to.inner))
		require.NoError(t, err)
	}
	require.NoError(t, to.socket.SetReadDeadline(time.Now().Add(30*time.Second)))
	for range tunnelPackets {
		_, _, err := to.socket.ReadFrom(b)
		require.NoError(t, err)
	}
}

// lookForTunnels has the pump look for tunnels with the next poll.
func lookForTunnels(t *testing.T, e *ebpf) {
	require.NoError(t, e.do(func() { e.tunnels.findAt = time.Time{} }))
}

// TestTunnels: what a tunnel sends is a connection of the kernel with the other end.
func TestTunnels(t *testing.T) {
	c := ebpfOrSkip(t, Options{Interval: 100 * time.Millisecond}, 0)
	e := c.backend.(*ebpf)
	n := newNet(t)
	log := logTunnels(t, c)
	for i, tt := range []struct {
		kind, options string // L and R in these are the own and the other address
		v6, flat      bool   // flat: no Ethernet inside
		proto         Proto
		port          uint16
		header        uint64 // bytes of Ethernet that the device counts of what it receives
	}{
		{kind: "vxlan", options: "id 7 remote R dstport 4789", proto: UDP, port: 4789},
		{kind: "vxlan", options: "id 8 remote R dstport 4789", v6: true, proto: UDP, port: 4789},
		{kind: "vxlan", options: "id 9 local L remote R dstport 8472", proto: UDP, port: 8472},
		{kind: "geneve", options: "id 7 remote R", proto: UDP, port: 6081},
		{kind: "geneve", options: "id 7 remote R", v6: true, proto: UDP, port: 6081},
		{kind: "gre", options: "local L remote R", flat: true, proto: 47},
		{kind: "gretap", options: "local L remote R", proto: 47, header: 14},
		{kind: "ip6gre", options: "local L remote R", v6: true, flat: true, proto: 47},
		{kind: "ip6gretap", options: "local L remote R", v6: true, proto: 47},
		{kind: "ipip", options: "local L remote R", flat: true, proto: 4},
		{kind: "ip6tnl", options: "mode ipip6 local L remote R", v6: true, flat: true, proto: 4},
		{kind: "sit", options: "mode ipip local L remote R", flat: true, proto: 4},
	} {
		device := fmt.Sprintf("%s%d", tt.kind, i+1)
		t.Run(device, func(t *testing.T) {
			a, b := tunnelEnds(n, byte(i+1), tt.v6)
			if tt.flat {
				a.mac, b.mac = "", ""
			}
			for _, x := range []*tunnelEnd{a, b} {
				line := "ip link add " + device
				if x.mac != "" {
					line += " address " + x.mac
				}
				line += " type " + tt.kind + " " + strings.NewReplacer("L", x.outer.String(), "R", x.other.String()).Replace(tt.options)
				if err := command(n, x.ns, line); err != nil {
					t.Skip("needs a kernel with such devices: ", err)
				}
			}
			a.up(t, n, device, b)
			b.up(t, n, device, a)
			lookForTunnels(t, e)
			ofA := tunnelFlow{device, netip.AddrPortFrom(a.other, tt.port)}
			ofB := tunnelFlow{device, netip.AddrPortFrom(b.other, tt.port)}
			received := tunnelBytes + tunnelPackets*tt.header

			a.send(t, b)
			connA, firstA := log.until(t, ofA, true, tunnelBytes, 0)
			connB, firstB := log.until(t, ofB, true, 0, received)
			assert.Equal(t, []Kind{Open, Open}, []Kind{firstA.Kind, firstB.Kind})
			assert.Equal(t, []Direction{Out, In}, []Direction{connA.Direction, connB.Direction})
			for _, c := range []Conn{connA, connB} {
				assert.Equal(t, tt.proto, c.Proto)
				assert.Equal(t, Process{Comm: "kernel", Exe: device}, c.Process)
				assert.WithinDuration(t, time.Now(), c.Opened, 2*time.Minute)
			}
			assert.Equal(t, netip.AddrPortFrom(a.outer, tt.port), connA.Local)
			assert.Equal(t, netip.AddrPortFrom(b.outer, tt.port), connB.Local)

			b.send(t, a)
			log.until(t, ofA, true, tunnelBytes, received)
			log.until(t, ofB, true, tunnelBytes, received)
			// Passes do not take it for a socket that is gone.
			require.NoError(t, e.do(func() {
				for range 3 {
					assert.NoError(t, errors.Join(e.findHolders(), e.endGone(1)))
				}
			}))
			log.until(t, ofA, true, tunnelBytes, received)

			// After a minute without packets it ends, and opens with the next one.
			require.NoError(t, e.do(func() { e.endIdle(time.Now().Add(2 * flowIdle)) }))
			log.until(t, ofA, false, tunnelBytes, received)
			log.until(t, ofB, false, tunnelBytes, received)
			a.send(t, b)
			again, _ := log.until(t, ofA, true, tunnelBytes, 0)
			assert.NotEqual(t, connA.ID, again.ID)

			// It ends with its device.
			for _, x := range []*tunnelEnd{a, b} {
				mustCommand(t, n, x.ns, "ip link del "+device)
			}
			log.until(t, ofA, false, tunnelBytes, 0)
			log.until(t, ofB, false, 0, received)
		})
	}
	assert.NoError(t, e.do(func() { assert.Empty(t, e.tunnels.namespaces) }))
}
