//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/connmapgo/connmap/conntrack/internal/bpf"
)

// closeAllIdle closes all flows that nobody uses, those of others too, which take several turns.
func (e *ebpf) closeAllIdle() {
	for e.closeIdle(time.Now().Add(2 * flowIdle)) {
	}
}

// TestFlowsOfOneSocket: a socket has a connection for each peer, with an ID of
// its own, until nothing is sent for a while or the socket is closed.
func TestFlowsOfOneSocket(t *testing.T) {
	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	var peers []net.Addr
	for range 3 {
		p, err := net.ListenPacket("udp4", "127.0.0.1:0")
		require.NoError(t, err)
		defer p.Close()
		peers = append(peers, p.LocalAddr())
	}
	s, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer s.Close()
	ids := map[uint64]bool{}
	sent := func() (n int) {
		for _, p := range peers {
			if conn, ok := find(snapshot(t, c), s.LocalAddr(), p); ok {
				assert.Equal(t, Out, conn.Direction)
				assert.Equal(t, uint64(4), conn.Tx)
				ids[conn.ID] = true
				n++
			}
		}
		return n
	}
	send := func() {
		for _, p := range peers {
			_, err := s.WriteTo(make([]byte, 4), p)
			require.NoError(t, err)
		}
	}
	send()
	assert.Equal(t, 3, sent())
	assert.Len(t, ids, 3)
	e := c.backend.(*ebpf)
	require.NoError(t, e.do(func() { e.closeIdle(time.Now().Add(flowIdle / 2)) }))
	assert.Equal(t, 3, sent())
	require.NoError(t, e.do(e.closeAllIdle))
	assert.Zero(t, sent())
	send()
	assert.Equal(t, 3, sent(), "anew")
	assert.Len(t, ids, 6)
	require.NoError(t, s.Close())
	assert.Zero(t, sent())
}

// TestConnectedFlowsEnd: a connected flow lives as long as its socket, also if
// nothing is sent and if the end of the socket was not seen.
func TestConnectedFlowsEnd(t *testing.T) {
	c := visitingOrSkip(t, Options{Loopback: true})
	u, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer u.Close()
	fixed, err := net.Dial("udp4", u.LocalAddr().String())
	require.NoError(t, err)
	defer fixed.Close()
	_, err = fixed.Write([]byte{1})
	require.NoError(t, err)
	before, ok := find(snapshot(t, c), fixed.LocalAddr(), fixed.RemoteAddr())
	require.True(t, ok)
	e := c.backend.(*ebpf)
	later := func() {
		assert.NoError(t, e.findHolders())
		assert.NoError(t, e.findHolders())
		assert.NoError(t, e.closeGone(2))
		e.closeAllIdle()
	}
	const gone = 1 << 50 // the cookie of a socket that there is not
	var still bool
	require.NoError(t, e.do(func() {
		e.openFlow(&bpf.Socket{Proto: uint8(UDP), Cookie: gone, Connected: true, Local: netip.MustParseAddrPort("127.0.0.1:1"), Peer: netip.MustParseAddrPort("127.0.0.1:2")})
		later()
		still = e.conns[gone] != nil
	}))
	assert.False(t, still)
	after, ok := find(snapshot(t, c), fixed.LocalAddr(), fixed.RemoteAddr())
	require.True(t, ok)
	assert.Equal(t, before.Opened, after.Opened)
}

// TestIPv6Extensions: what stands behind extension headers is counted as what it
// is.
func TestIPv6Extensions(t *testing.T) {
	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	u, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Skip("needs IPv6: ", err)
	}
	defer u.Close()
	s, err := net.ListenPacket("udp6", "[::1]:0")
	require.NoError(t, err)
	defer s.Close()
	raw, err := s.(*net.UDPConn).SyscallConn()
	require.NoError(t, err)
	var set error
	require.NoError(t, raw.Control(func(fd uintptr) {
		// Padding alone: next header, length, PadN of four bytes.
		option := string([]byte{0, 0, 1, 4, 0, 0, 0, 0})
		set = errors.Join(unix.SetsockoptString(int(fd), unix.IPPROTO_IPV6, unix.IPV6_HOPOPTS, option),
			unix.SetsockoptString(int(fd), unix.IPPROTO_IPV6, unix.IPV6_DSTOPTS, option))
	}))
	if errors.Is(set, unix.EPERM) {
		t.Skip("needs CAP_NET_RAW")
	}
	require.NoError(t, set)
	_, err = s.WriteTo(make([]byte, 33), u.LocalAddr())
	require.NoError(t, err)
	_, _, err = u.ReadFrom(make([]byte, 100))
	require.NoError(t, err)
	conns := snapshot(t, c)
	out, ok := find(conns, s.LocalAddr(), u.LocalAddr())
	require.True(t, ok)
	in, ok := find(conns, u.LocalAddr(), s.LocalAddr())
	require.True(t, ok)
	assert.Equal(t, []uint64{33, 33}, []uint64{out.Tx, in.Rx})
}

// TestManyFlows: a socket with more peers than are followed at a time loses no byte
// and takes no more than its share, and other connections are reported as always.
func TestManyFlows(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	c := ebpfOrSkip(t, Options{}, 0)
	e := c.backend.(*ebpf)
	s, err := net.ListenPacket("udp4", "203.0.113.10:0")
	require.NoError(t, err)
	defer s.Close()
	var mu sync.Mutex
	opens, closes, bytes := 0, 0, uint64(0)
	others := map[netip.AddrPort]bool{}
	follow(t, c, func(ev Event) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case ev.Conn.Local.String() != s.LocalAddr().String():
			others[ev.Conn.Local] = true
		case ev.Kind == Open:
			opens++
		case ev.Kind == Close:
			closes++
			bytes += ev.Conn.Tx
		}
	})
	own := func() (n int) {
		for _, f := range e.flows {
			if f.conn.Local.String() == s.LocalAddr().String() {
				n++
			}
		}
		return n
	}
	const peers, rounds, size = 20_000, 2, 10
	for range rounds {
		for port := range peers {
			_, err := s.WriteTo(make([]byte, size), &net.UDPAddr{IP: net.IPv4(203, 0, 113, 10), Port: 1 + port})
			require.NoError(t, err)
		}
		other, err := net.Dial("udp4", "198.51.100.20:9")
		require.NoError(t, err)
		other.Write([]byte{1})
		assert.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return others[netip.MustParseAddrPort(other.LocalAddr().String())]
		}, time.Minute, time.Millisecond)
		require.NoError(t, other.Close())
		require.NoError(t, e.do(func() { assert.LessOrEqual(t, own(), maxFlows/2) }))
	}
	require.NoError(t, s.Close())
	assert.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return bytes >= peers*rounds*size
	}, time.Minute, time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	t.Logf("%d opened, %d closed, %d bytes", opens, closes, bytes)
	assert.Equal(t, uint64(peers*rounds*size), bytes)
	assert.Equal(t, opens, closes)
	require.NoError(t, e.do(func() {
		// TCP connections of others may be lost meanwhile.
		_, _, flows, err := e.probe.Lost()
		assert.NoError(t, err)
		assert.Zero(t, flows)
		assert.Zero(t, own())
		assert.LessOrEqual(t, e.unconnected.n, len(e.flows))
	}))
}

// TestIdleFlowsTakeTurns: many flows that end at once do not keep the pump from
// other things.
func TestIdleFlowsTakeTurns(t *testing.T) {
	c := ebpfOrSkip(t, Options{Interval: time.Hour}, 0)
	e := c.backend.(*ebpf)
	require.NoError(t, e.do(func() {
		before := e.unconnected.n
		for i := range maxFlows {
			e.openFlow(&bpf.Socket{Proto: uint8(UDP), Cookie: 1 << 60, Local: netip.MustParseAddrPort("192.0.2.1:1"),
				Peer: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), uint16(i))})
		}
		left := e.unconnected.n
		assert.Equal(t, maxFlows/2, left-before)
		assert.False(t, e.closeIdle(time.Now().Add(flowIdle/2)))
		assert.True(t, e.closeIdle(time.Now().Add(2*flowIdle)))
		assert.Equal(t, left-maxClosesPerTurn, e.unconnected.n)
		e.closeAllIdle()
		assert.Zero(t, e.unconnected.n)
	}))
}

// TestTranslatedUDP: a flow has the ends that its socket knows, whatever the address
// translation of this host makes of them.
func TestTranslatedUDP(t *testing.T) {
	if _, err := exec.LookPath("iptables"); err != nil {
		t.Skip("needs iptables(8)")
	}
	if !inNamespace(t) {
		return
	}
	for _, command := range []string{
		"ip route add default dev lo src 203.0.113.10",
		"iptables -t nat -A OUTPUT -p udp -d 192.0.2.53 --dport 53 -j DNAT --to-destination 198.51.100.20:7030",
		"iptables -t nat -A POSTROUTING -p udp --dport 7030 -j SNAT --to-source 198.51.100.20",
	} {
		args := strings.Fields(command)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("needs a kernel that translates addresses: %s: %v: %s", command, err, out)
		}
	}
	server, err := net.ListenPacket("udp4", "198.51.100.20:7030")
	require.NoError(t, err)
	defer server.Close()
	go func() {
		b := make([]byte, 500)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			server.WriteTo(append(b[:n:n], b[:n]...), from)
		}
	}()
	c := ebpfOrSkip(t, Options{}, 0)
	to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.53:53"))
	for _, test := range []struct {
		name    string
		network string
		connect bool
	}{{"connected", "udp4", true}, {"unconnected", "udp4", false}, {"mapped", "udp", false}} {
		t.Run(test.name, func(t *testing.T) {
			var client *net.UDPConn
			send := func() (err error) { _, err = client.Write(make([]byte, 100)); return err }
			if test.connect {
				client, err = net.DialUDP("udp4", nil, to)
			} else {
				client, err = net.ListenUDP(test.network, nil)
				send = func() (err error) { _, err = client.WriteTo(make([]byte, 100), to); return err }
			}
			require.NoError(t, err)
			defer client.Close()
			for range 3 {
				require.NoError(t, send())
				client.SetReadDeadline(time.Now().Add(time.Minute))
				n, _, err := client.ReadFrom(make([]byte, 500))
				require.NoError(t, err)
				require.Equal(t, 200, n)
			}
			var flows []Conn
			for _, conn := range snapshot(t, c) {
				if port(client.LocalAddr()) == strconv.Itoa(int(conn.Local.Port())) && conn.Process.PID == os.Getpid() {
					flows = append(flows, conn)
				}
			}
			require.Len(t, flows, 1)
			assert.Equal(t, to.AddrPort(), flows[0].Peer)
			assert.Equal(t, []uint64{300, 600}, []uint64{flows[0].Tx, flows[0].Rx})
			assert.Equal(t, Out, flows[0].Direction)
			if test.connect {
				assert.Equal(t, "203.0.113.10", flows[0].Local.Addr().String())
			}
		})
	}
}

// TestConnectLater: a flow does not end when it is idle after its socket has been connected
// to the peer, and does again when it is not any more.
func TestConnectLater(t *testing.T) {
	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	e := c.backend.(*ebpf)
	peer, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer peer.Close()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	to := netip.MustParseAddrPort(peer.LocalAddr().String())
	at := &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	require.NoError(t, unix.Sendto(fd, make([]byte, 11), 0, at))
	flow := func() (flows []Conn) {
		for _, conn := range own(snapshot(t, c)) {
			if conn.Peer == to {
				flows = append(flows, conn)
			}
		}
		return flows
	}
	idle := func() { require.NoError(t, e.do(e.closeAllIdle)) }
	require.Len(t, flow(), 1)
	require.NoError(t, unix.Connect(fd, at))
	before := flow()
	idle()
	assert.Equal(t, before, flow())
	_, err = unix.Write(fd, make([]byte, 5))
	require.NoError(t, err)
	if after := flow(); assert.Len(t, after, 1) {
		assert.Equal(t, uint64(16), after[0].Tx)
		assert.Equal(t, before[0].ID, after[0].ID)
	}
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unix.RawSockaddr{Family: unix.AF_UNSPEC})), unix.SizeofSockaddrInet4)
	require.Zero(t, errno)
	assert.Len(t, flow(), 1)
	idle()
	assert.Empty(t, flow())
}

// TestUDPLite: it has ports and bytes as UDP has.
func TestUDPLite(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	c := ebpfOrSkip(t, Options{}, 0)
	var fds [2]int
	var at [2]*unix.SockaddrInet4
	for i := range fds {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(UDPLite))
		if err != nil {
			t.Skip("needs a kernel with UDP-Lite: ", err)
		}
		defer unix.Close(fd)
		at[i] = &unix.SockaddrInet4{Port: 7001 + i, Addr: [4]byte{203, 0, 113, 10}}
		require.NoError(t, unix.Bind(fd, at[i]))
		fds[i] = fd
	}
	for range 3 {
		require.NoError(t, unix.Sendto(fds[0], make([]byte, 100), 0, at[1]))
		_, _, err := unix.Recvfrom(fds[1], make([]byte, 200), 0)
		require.NoError(t, err)
	}
	got := map[uint16]Conn{}
	for _, conn := range own(snapshot(t, c)) {
		if conn.Proto == UDPLite {
			got[conn.Local.Port()] = conn
		}
	}
	require.Len(t, got, 2)
	assert.Equal(t, []any{Out, uint16(7002), uint64(300), uint64(0)}, []any{got[7001].Direction, got[7001].Peer.Port(), got[7001].Tx, got[7001].Rx})
	assert.Equal(t, []any{In, uint16(7001), uint64(0), uint64(300)}, []any{got[7002].Direction, got[7002].Peer.Port(), got[7002].Tx, got[7002].Rx})
}

// TestDroppedDatagrams: those that a socket has no room for are not received.
func TestDroppedDatagrams(t *testing.T) {
	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	if !c.backend.(*ebpf).probe.Drops() {
		t.Skip("needs Linux 6.10")
	}
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		u, err := net.ListenPacket("udp", at)
		if err != nil && at == "[::1]:0" {
			t.Log("not of IPv6: ", err)
			continue
		}
		require.NoError(t, err)
		defer u.Close()
		require.NoError(t, u.(*net.UDPConn).SetReadBuffer(4<<10))
		s, err := net.Dial("udp", u.LocalAddr().String())
		require.NoError(t, err)
		defer s.Close()
		for range 100 {
			_, err := s.Write(make([]byte, 1000))
			require.NoError(t, err)
		}
		var read uint64
		u.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		for {
			n, _, err := u.ReadFrom(make([]byte, 2000))
			if err != nil {
				break
			}
			read += uint64(n)
		}
		require.Positive(t, read)
		require.Less(t, read, uint64(100_000))
		got, ok := find(snapshot(t, c), u.LocalAddr(), s.LocalAddr())
		require.True(t, ok)
		assert.Equal(t, read, got.Rx)
		sent, ok := find(snapshot(t, c), s.LocalAddr(), u.LocalAddr())
		require.True(t, ok)
		assert.Equal(t, uint64(100_000), sent.Tx)
	}
}
