//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

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
		assert.NoError(t, e.closeGone(1))
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
