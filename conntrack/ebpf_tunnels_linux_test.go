//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
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
	// A search for devices takes no more than its share of the time: on a busy machine the next
	// one comes late.
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
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

// deviceOf makes a name of a device that no test at the same time has.
func deviceOf(n *traffic.Net, name string) string { return name + n.A[len(n.A)-6:len(n.A)-2] }

// lookForTunnels has the pump look for tunnels with the next poll.
func lookForTunnels(t *testing.T, e *ebpf) {
	require.NoError(t, e.do(func() { e.tunnels.nextFind = time.Time{} }))
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
		name := fmt.Sprintf("%s%d", tt.kind, i+1)
		t.Run(name, func(t *testing.T) {
			device := deviceOf(n, name)
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
					assert.NoError(t, errors.Join(e.findHolders(), e.closeGone(1)))
				}
			}))
			log.until(t, ofA, true, tunnelBytes, received)

			// After a minute without packets it ends, and opens with the next one.
			require.NoError(t, e.do(e.closeAllIdle))
			log.until(t, ofA, false, tunnelBytes, received)
			log.until(t, ofB, false, tunnelBytes, received)
			a.send(t, b)
			again, _ := log.until(t, ofA, true, tunnelBytes, 0)
			assert.NotEqual(t, connA.ID, again.ID)
			log.until(t, ofB, true, 0, received)

			// It ends with its device.
			for _, x := range []*tunnelEnd{a, b} {
				mustCommand(t, n, x.ns, "ip link del "+device)
			}
			log.until(t, ofA, false, tunnelBytes, 0)
			log.until(t, ofB, false, 0, received)
		})
	}
	assert.NoError(t, e.do(func() {
		for _, ns := range e.tunnels.namespaces {
			assert.NotContains(t, []string{n.A, n.B}, filepath.Base(ns.path))
		}
	}))
}

// TestTunnelRemotes: of several remotes of a VXLAN device those are told to which it sends,
// without bytes.
func TestTunnelRemotes(t *testing.T) {
	if _, err := exec.LookPath("bridge"); err != nil {
		t.Skip("needs bridge(8)")
	}
	c := ebpfOrSkip(t, Options{Interval: 100 * time.Millisecond}, 0)
	e := c.backend.(*ebpf)
	n := newNet(t)
	log := logTunnels(t, c)
	const third, thirdMAC = "198.51.100.99", "02:00:00:00:01:0c"
	device := deviceOf(n, "remotes")
	a, b := tunnelEnds(n, 1, false)
	for _, x := range []*tunnelEnd{a, b} {
		if err := command(n, x.ns, "ip link add "+device+" address "+x.mac+" type vxlan id 21 dstport 4789"); err != nil {
			t.Skip("needs a kernel with VXLAN: ", err)
		}
		mustCommand(t, n, x.ns, fmt.Sprintf("bridge fdb append 00:00:00:00:00:00 dev %s dst %v", device, x.other))
	}
	a.up(t, n, device, b)
	b.up(t, n, device, a)
	mustCommand(t, n, a.ns, fmt.Sprintf("bridge fdb append %s dev %s dst %s port 8472", thirdMAC, device, third))
	mustCommand(t, n, a.ns, fmt.Sprintf("ip route add %s dev vA src %v", third, a.outer))
	mustCommand(t, n, a.ns, fmt.Sprintf("ip neigh add %s lladdr 02:00:00:00:00:0b dev vA nud permanent", third))
	mustCommand(t, n, a.ns, fmt.Sprintf("ip neigh add 192.0.2.99 lladdr %s dev %s nud permanent", thirdMAC, device))
	mustCommand(t, n, a.ns, fmt.Sprintf("ip route add 192.0.2.99 dev %s src %v", device, a.inner.Addr()))
	lookForTunnels(t, e)

	a.send(t, b)
	toB := tunnelFlow{device, netip.AddrPortFrom(b.outer, 4789)}
	toThird := tunnelFlow{device, netip.MustParseAddrPort(third + ":8472")}
	conn, _ := log.until(t, toB, true, 0, 0)
	assert.Equal(t, Out, conn.Direction)
	assert.Equal(t, netip.AddrPortFrom(a.outer, 4789), conn.Local)
	assert.Empty(t, log.of(toThird))
	// B has one remote.
	log.until(t, tunnelFlow{device, netip.AddrPortFrom(a.outer, 4789)}, true, 0, tunnelBytes)

	_, err := a.socket.WriteTo([]byte{1}, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.99:9")))
	require.NoError(t, err)
	log.until(t, toThird, true, 0, 0)
	mustCommand(t, n, a.ns, "ip link del "+device)
	log.until(t, toB, false, 0, 0)
	log.until(t, toThird, false, 0, 0)
}

// TestTooManyTunnels: what is beyond the bound is counted, and followed when there is room.
func TestTooManyTunnels(t *testing.T) {
	c := ebpfOrSkip(t, Options{}, 0)
	e := c.backend.(*ebpf)
	n := newNet(t)
	if err := command(n, n.A, "ip link add "+deviceOf(n, "many")+" type vxlan id 3 dstport 4789"); err != nil {
		t.Skip("needs a kernel with VXLAN: ", err)
	}
	require.NoError(t, e.do(func() {
		for inode, ns := range e.tunnels.namespaces {
			for index := range ns.devices {
				e.dropDevice(ns, index)
			}
			delete(e.tunnels.namespaces, inode)
		}
		assert.Zero(t, e.tunnels.n)
		e.tunnels.n = maxTunnels
		e.findTunnels()
		assert.Positive(t, e.tunnels.overflow.tunnels)
		assert.Empty(t, e.tunnels.namespaces)
		e.tunnels.n = 0
		e.findTunnels()
		assert.Zero(t, e.tunnels.overflow.tunnels)
		assert.Positive(t, e.tunnels.n)
	}))
}

func init() { helpers["tunnel"] = helpTunnel }

// helpTunnel sends through a tunnel, a device of a name, whenever it is told to.
func helpTunnel(arg string) error {
	lines := strings.ReplaceAll(`link set lo up
		link add below type veth peer name beside
		link set below up
		link set beside up
		addr add 203.0.113.10/24 dev below
		link add DEVICE type vxlan id 5 remote 203.0.113.20 dstport 4789
		link set DEVICE addrgenmode none
		link set DEVICE up
		addr add 192.0.2.1/24 dev DEVICE
		neigh add 192.0.2.2 lladdr 02:00:00:00:01:0a dev DEVICE nud permanent
	`, "DEVICE", arg)
	for line := range strings.Lines(lines) {
		if f := strings.Fields(line); len(f) > 0 {
			if out, err := exec.Command("ip", f...).CombinedOutput(); err != nil {
				fmt.Printf("ip %v: %s\n", f, strings.ReplaceAll(string(out), "\n", " "))
				return nil
			}
		}
	}
	c, err := net.Dial("udp4", "192.0.2.2:9")
	if err != nil {
		return err
	}
	defer c.Close()
	for in := bufio.NewReader(os.Stdin); ; {
		if _, err := c.Write(make([]byte, tunnelPayload)); err != nil {
			return err
		}
		fmt.Println("sent")
		if _, err := in.ReadString('\n'); err != nil {
			return nil
		}
	}
}

// TestOlderTunnel: of a tunnel that is older than the collector the bytes before are not
// told. Its network namespace has no name, only processes, and ends with them.
func TestOlderTunnel(t *testing.T) {
	requireRootAndIP(t)
	device := fmt.Sprintf("older%d", os.Getpid())
	_, in, out := helperIn(t, "tunnel "+device, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})
	sent := func() string {
		line, err := out.ReadString('\n')
		require.NoError(t, err)
		return line
	}
	if line := sent(); line != "sent\n" {
		t.Skip("needs a kernel with VXLAN: ", line)
	}
	c := ebpfOrSkip(t, Options{}, 0)
	told := func() *Conn {
		for _, c := range snapshot(t, c) {
			if c.Process.Exe == device && c.Process.Comm == "kernel" {
				return &c
			}
		}
		return nil
	}
	assert.Nil(t, told())
	_, err := in.Write([]byte("\n"))
	require.NoError(t, err)
	require.Equal(t, "sent\n", sent())
	conn := told()
	require.NotNil(t, conn)
	assert.Equal(t, netip.MustParseAddrPort("203.0.113.10:4789"), conn.Local)
	assert.Equal(t, netip.MustParseAddrPort("203.0.113.20:4789"), conn.Peer)
	assert.Equal(t, []uint64{tunnelPayload + 28, 0}, []uint64{conn.Tx, conn.Rx})
	in.(io.Closer).Close()
	require.Eventually(t, func() bool { return told() == nil }, time.Minute, 100*time.Millisecond)
}

// TestWireGuard: the peers of a WireGuard device are told with the bytes of its packets.
func TestWireGuard(t *testing.T) {
	if _, err := exec.LookPath("wg"); err != nil {
		t.Skip("needs wg(8)")
	}
	c := ebpfOrSkip(t, Options{Interval: 100 * time.Millisecond}, 0)
	e := c.backend.(*ebpf)
	n := newNet(t)
	log := logTunnels(t, c)
	const port = 51820
	device := deviceOf(n, "wire")
	a, b := tunnelEnds(n, 1, false)
	a.mac, b.mac = "", ""
	var keys, public [2]string
	for i := range keys {
		key, err := exec.Command("wg", "genkey").Output()
		require.NoError(t, err)
		keys[i] = filepath.Join(t.TempDir(), "key")
		require.NoError(t, os.WriteFile(keys[i], key, 0o600))
		cmd := exec.Command("wg", "pubkey")
		cmd.Stdin = bytes.NewReader(key)
		name, err := cmd.Output()
		require.NoError(t, err)
		public[i] = strings.TrimSpace(string(name))
	}
	for i, x := range []*tunnelEnd{a, b} {
		if err := command(n, x.ns, "ip link add "+device+" type wireguard"); err != nil {
			t.Skip("needs a kernel with WireGuard: ", err)
		}
		line := fmt.Sprintf("wg set %s listen-port %d private-key %s peer %s allowed-ips 192.0.2.0/24", device, port, keys[i], public[1-i])
		if x == a { // B learns from the first packet where A is
			line += fmt.Sprintf(" endpoint %v:%d", x.other, port)
		}
		mustCommand(t, n, x.ns, line)
	}
	a.up(t, n, device, b)
	b.up(t, n, device, a)
	lookForTunnels(t, e)
	a.send(t, b)
	last := func(f tunnelFlow) (c Conn) {
		if list := log.of(f); len(list) > 0 {
			c = list[len(list)-1].Conn
		}
		return c
	}
	ofA, ofB := tunnelFlow{device, netip.AddrPortFrom(a.other, port)}, tunnelFlow{device, netip.AddrPortFrom(b.other, port)}
	require.Eventually(t, func() bool { return last(ofA).Tx >= tunnelBytes && last(ofB).Rx >= tunnelBytes }, time.Minute, 10*time.Millisecond)
	connA, connB := last(ofA), last(ofB)
	assert.Less(t, connA.Tx, uint64(tunnelBytes*5/4))
	assert.Equal(t, UDP, connA.Proto)
	assert.Equal(t, Out, connA.Direction)
	assert.Equal(t, netip.AddrPortFrom(a.outer, port), connA.Local)
	assert.Equal(t, netip.AddrPortFrom(b.outer, port), connB.Local)
	assert.Positive(t, connA.Rx) // the answer of the handshake
	for _, x := range []*tunnelEnd{a, b} {
		mustCommand(t, n, x.ns, "ip link del "+device)
	}
	for _, f := range []tunnelFlow{ofA, ofB} {
		require.Eventually(t, func() bool { list := log.of(f); return list[len(list)-1].Kind == Close }, time.Minute, 10*time.Millisecond)
	}
}
