//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"encoding/binary"
	"errors"
	"io"
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
	require.NoError(t, e.do(func() { e.endIdle(time.Now().Add(flowIdle / 2)) }))
	assert.Equal(t, 3, sent())
	require.NoError(t, e.do(func() { e.endIdle(time.Now().Add(2 * flowIdle)) }))
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
		assert.NoError(t, e.endGone(2))
		e.endIdle(time.Now().Add(2 * flowIdle))
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
	require.NoError(t, err)
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
		require.NoError(t, e.do(func() { assert.LessOrEqual(t, own(), mostFlows/2) }))
	}
	require.NoError(t, s.Close())
	assert.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return bytes >= peers*rounds*size
	}, 10*time.Second, time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	t.Logf("%d opened, %d closed, %d bytes", opens, closes, bytes)
	assert.Equal(t, uint64(peers*rounds*size), bytes)
	assert.Equal(t, opens, closes)
	assert.Zero(t, c.Info().Lost)
	require.NoError(t, e.do(func() {
		assert.Zero(t, own())
		assert.LessOrEqual(t, e.idlest.n, len(e.flows))
	}))
}

// TestIdleFlowsTakeTurns: many flows that end at once do not keep the pump from
// other things.
func TestIdleFlowsTakeTurns(t *testing.T) {
	c := ebpfOrSkip(t, Options{Interval: time.Hour}, 0)
	e := c.backend.(*ebpf)
	require.NoError(t, e.do(func() {
		before := e.idlest.n
		for i := range mostFlows {
			e.openFlow(&bpf.Socket{Proto: uint8(UDP), Cookie: 1 << 60, Local: netip.MustParseAddrPort("192.0.2.1:1"),
				Peer: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), uint16(i))})
		}
		left := e.idlest.n
		assert.Equal(t, mostFlows/2, left-before)
		assert.False(t, e.endIdle(time.Now().Add(flowIdle/2)))
		assert.True(t, e.endIdle(time.Now().Add(2*flowIdle)))
		assert.Equal(t, left-mostEnds, e.idlest.n)
		for e.endIdle(time.Now().Add(2 * flowIdle)) {
		}
		assert.Zero(t, e.idlest.n)
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
	idle := func() { require.NoError(t, e.do(func() { e.endIdle(time.Now().Add(2 * flowIdle)) })) }
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

// TestRawSockets: what a raw socket overhears is not its traffic, and what it sends is,
// also if it is TCP.
func TestRawSockets(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	out, err := exec.Command("ip", "route", "add", "local", "192.0.2.0/24", "dev", "lo").CombinedOutput()
	require.NoError(t, err, "%s", out)
	old, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	require.NoError(t, err)
	defer unix.Close(old) // older than the collector
	c := ebpfOrSkip(t, Options{}, 0)
	overhears, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	require.NoError(t, err)
	defer unix.Close(overhears)
	server, err := net.ListenPacket("udp4", "203.0.113.10:0")
	require.NoError(t, err)
	defer server.Close()
	client, err := net.Dial("udp4", server.LocalAddr().String())
	require.NoError(t, err)
	defer client.Close()
	_, err = client.Write(make([]byte, 100))
	require.NoError(t, err)
	_, _, err = server.ReadFrom(make([]byte, 200))
	require.NoError(t, err)
	syn := make([]byte, 20)
	copy(syn, []byte{0x9c, 0x41, 443 >> 8, 443 & 255, 0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, 2, 4})
	fresh, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	require.NoError(t, err)
	defer unix.Close(fresh)
	for i := range 50 {
		fd := []int{old, fresh}[i%2]
		require.NoError(t, unix.Sendto(fd, syn, 0, &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, byte(1 + i)}}))
	}
	udp, scans := 0, map[netip.AddrPort]int{}
	for _, conn := range own(snapshot(t, c)) {
		switch {
		case conn.Proto == UDP:
			udp++
		case conn.Proto == TCP && conn.Direction == Out && conn.Local.Port() == 40001:
			scans[conn.Peer]++
			assert.Equal(t, uint64(20), conn.Tx)
			assert.Equal(t, State(0), conn.State)
		}
	}
	assert.Equal(t, 2, udp, "one of each end")
	assert.Len(t, scans, 50)
	for peer, n := range scans {
		assert.Equal(t, 1, n, peer)
	}
	e := c.backend.(*ebpf)
	require.NoError(t, e.do(func() {
		assert.NoError(t, e.findHolders())
		assert.NoError(t, e.endGone(1))
	}))
	n := 0
	for _, conn := range own(snapshot(t, c)) {
		if conn.Proto == TCP {
			n++
		}
	}
	assert.Equal(t, 50, n, "while the sockets live")
}

// TestPacketSockets: what a program sends past the protocols of IP is a flow of each peer,
// once, whatever devices it passes; what is no IP is none.
func TestPacketSockets(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for _, args := range []string{"link add d0 type veth peer name d1", "link set d0 up", "link set d1 up", "link add link d0 name m0 type macvlan", "link set m0 up"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Skipf("needs a kernel with veth and macvlan devices: ip %s: %s", args, out)
		}
	}
	c := ebpfOrSkip(t, Options{}, 0)
	if !c.backend.(*ebpf).probe.SeesFrames() {
		t.Skip("needs Linux 6.3")
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	send := func(device string, proto uint16, packet []byte) {
		d, err := net.InterfaceByName(device)
		require.NoError(t, err)
		require.NoError(t, unix.Sendto(fd, packet, 0, &unix.SockaddrLinklayer{Protocol: proto<<8 | proto>>8, Ifindex: d.Index, Halen: 6}))
	}
	to := func(peer string) (flows []Conn) {
		for _, conn := range own(snapshot(t, c)) {
			if conn.Peer.String() == peer {
				flows = append(flows, conn)
			}
		}
		return flows
	}
	// That one sends is noticed when it does.
	require.Eventually(t, func() bool {
		send("d0", unix.ETH_P_IP, datagram("192.0.2.1:9", "198.51.100.1:53", 100))
		return len(to("198.51.100.1:53")) == 1
	}, time.Minute, 10*time.Millisecond)
	for range 10 {
		send("d0", unix.ETH_P_IP, datagram("192.0.2.1:9", "198.51.100.2:53", 100))
		send("m0", unix.ETH_P_IP, datagram("192.0.2.1:9", "198.51.100.3:53", 200))
		send("m0", unix.ETH_P_IPV6, datagram("[2001:db8:a::1]:9", "[2001:db8:b::1]:53", 300))
		send("d0", unix.ETH_P_ARP, datagram("192.0.2.1:9", "198.51.100.4:53", 100))
		send("d0", unix.ETH_P_IP, datagram("192.0.2.1:9", "198.51.100.5:53", 100)[:19])
		send("d0", unix.ETH_P_IP, datagram("192.0.2.1:9", "198.51.100.6:53", 1000)[:128]) // cut, and says that it is longer
		send("lo", unix.ETH_P_IP, datagram("127.0.0.1:9", "127.0.0.1:53", 100))           // not asked for
	}
	for peer, bytes := range map[string]uint64{"198.51.100.2:53": 1000, "198.51.100.3:53": 2000, "[2001:db8:b::1]:53": 3000, "198.51.100.6:53": 1000} {
		flows := to(peer)
		if assert.Len(t, flows, 1, peer) {
			assert.Equal(t, UDP, flows[0].Proto)
			assert.Equal(t, Out, flows[0].Direction)
			assert.Equal(t, uint16(9), flows[0].Local.Port())
			assert.Equal(t, []uint64{bytes, 0}, []uint64{flows[0].Tx, flows[0].Rx}, peer)
			assert.Equal(t, uint32(os.Getuid()), flows[0].UID)
		}
	}
	for _, peer := range []string{"198.51.100.4:53", "198.51.100.5:53", "127.0.0.1:53"} {
		assert.Empty(t, to(peer))
	}
	// One socket may send by several devices, frame by frame.
	for i := range 100 {
		send([]string{"d0", "d1"}[i%2], unix.ETH_P_IP, datagram("192.0.2.1:9", []string{"198.51.100.8:53", "198.51.100.9:53"}[i%2], 10))
	}
	for _, peer := range []string{"198.51.100.8:53", "198.51.100.9:53"} {
		if flows := to(peer); assert.Len(t, flows, 1, peer) {
			assert.Equal(t, uint64(500), flows[0].Tx)
		}
	}
	// When none has sent for a while the program goes, and comes again.
	e := c.backend.(*ebpf)
	require.NoError(t, e.do(func() { assert.NoError(t, e.probe.Frames(time.Now().Add(2*time.Minute).UnixNano()-e.offset)) }))
	require.Eventually(t, func() bool {
		send("d0", unix.ETH_P_IP, datagram("192.0.2.1:9", "198.51.100.7:53", 100))
		return len(to("198.51.100.7:53")) == 1
	}, time.Minute, 10*time.Millisecond)
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

// datagram is a packet of IP with a datagram of UDP of so many bytes.
func datagram(local, peer string, payload int) []byte {
	from, to := netip.MustParseAddrPort(local), netip.MustParseAddrPort(peer)
	var b []byte
	if from.Addr().Is4() {
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(20+8+payload))
		b = append(b, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0)
	} else {
		b = append(b, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(8+payload))
		b = append(b, unix.IPPROTO_UDP, 64)
	}
	b = append(append(b, from.Addr().AsSlice()...), to.Addr().AsSlice()...)
	for _, n := range []uint16{from.Port(), to.Port(), uint16(8 + payload), 0} {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return append(b, make([]byte, payload)...)
}

// TestSubflows: each subflow of MPTCP has the program that has the connection, also those
// that the kernel opens later.
func TestSubflows(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for _, args := range []string{"mptcp limits set subflow 2 add_addr_accepted 2", "mptcp endpoint add 198.51.100.20 dev lo subflow"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Skipf("needs a kernel with MPTCP: ip %s: %s", args, out)
		}
	}
	c := ebpfOrSkip(t, Options{}, 0)
	var mu sync.Mutex
	first := map[netip.AddrPort]Process{} // at both ends, when it opened
	follow(t, c, func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind == Open {
			first[e.Conn.Local] = e.Conn.Process
		}
	})
	l := listen(t, "203.0.113.10:0")
	var d net.Dialer
	d.SetMultipathTCP(true)
	client, server := pair(t, l, l.Addr().String(), d)
	if on, _ := client.(*net.TCPConn).MultipathTCP(); !on {
		t.Skip("needs a kernel with MPTCP")
	}
	for _, c := range []net.Conn{client, server} {
		_, err := c.Write(make([]byte, 1000))
		require.NoError(t, err)
	}
	for _, c := range []net.Conn{client, server} {
		_, err := io.ReadFull(c, make([]byte, 1000))
		require.NoError(t, err)
	}
	subflows := func() (n int) {
		for _, conn := range snapshot(t, c) {
			if conn.Local.Port() == netip.MustParseAddrPort(l.Addr().String()).Port() || conn.Peer.Port() == netip.MustParseAddrPort(l.Addr().String()).Port() {
				n++
				assert.Equal(t, os.Getpid(), conn.Process.PID, "%+v", conn)
			}
		}
		return n
	}
	require.Eventually(t, func() bool { return subflows() == 4 }, time.Minute, 10*time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	for local, p := range first {
		if local.Addr().String() == "198.51.100.20" {
			assert.Equal(t, os.Getpid(), p.PID, "from the first on")
		}
	}
}
