package conntrack

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestZones: link-local addresses bear the index of their device.
func TestZones(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for _, args := range []string{
		"link add zone0 type veth peer name zone1", "link set zone0 up", "link set zone1 up",
		"addr add fe80::10/64 dev zone0 nodad", "addr add fe80::20/64 dev zone1 nodad",
	} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Skipf("needs veth: ip %s: %s", args, out)
		}
	}
	zone := func(name string) string {
		d, err := net.InterfaceByName(name)
		require.NoError(t, err)
		return fmt.Sprint(d.Index)
	}
	l, err := net.Listen("tcp6", "[::]:0")
	require.NoError(t, err)
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	var d net.Dialer
	d.SetMultipathTCP(false)
	var client net.Conn
	require.Eventually(t, func() bool {
		client, err = d.Dial("tcp6", fmt.Sprintf("[fe80::20%%zone0]:%d", port))
		return err == nil
	}, 30*time.Second, 10*time.Millisecond, "the device is ready")
	defer client.Close()
	server, err := l.Accept()
	require.NoError(t, err)
	defer server.Close()
	receiver, err := net.ListenUDP("udp6", &net.UDPAddr{})
	require.NoError(t, err)
	defer receiver.Close()
	to := &net.UDPAddr{IP: net.ParseIP("fe80::20"), Port: receiver.LocalAddr().(*net.UDPAddr).Port, Zone: "zone0"}
	fixed, err := net.DialUDP("udp6", nil, to)
	require.NoError(t, err)
	defer fixed.Close()
	free, err := net.ListenUDP("udp6", &net.UDPAddr{})
	require.NoError(t, err)
	defer free.Close()
	send := func() {
		_, err := fixed.Write([]byte("x"))
		require.NoError(t, err)
		_, err = free.WriteTo([]byte("x"), to)
		require.NoError(t, err)
		for range 2 {
			_, _, err := receiver.ReadFrom(make([]byte, 1))
			require.NoError(t, err)
		}
	}
	ends := func(c net.Conn) string {
		local, peer := netip.MustParseAddrPort(c.LocalAddr().String()), netip.MustParseAddrPort(c.RemoteAddr().String())
		return fmt.Sprintf(" %d %d", local.Port(), peer.Port())
	}
	zones := func(t *testing.T, c *Collector) map[string]string {
		found := map[string]string{}
		for _, conn := range own(snapshot(t, c)) {
			if conn.Peer.Addr().IsLinkLocalUnicast() {
				found[fmt.Sprintf("%v %d %d", conn.Proto, conn.Local.Port(), conn.Peer.Port())] = conn.Local.Addr().Zone() + " " + conn.Peer.Addr().Zone()
			}
		}
		return found
	}
	z0, z1 := zone("zone0"), zone("zone1")
	both := func(a string) string { return a + " " + a }
	t.Run("ebpf", func(t *testing.T) {
		c := ebpfOrSkip(t, Options{}, 0)
		send()
		found := zones(t, c)
		assert.Equal(t, both(z0), found["tcp"+ends(client)], "%v", found)
		assert.Equal(t, both(z1), found["tcp"+ends(server)], "%v", found)
		assert.Equal(t, both(z0), found["udp"+ends(fixed)], "%v", found)
		assert.Equal(t, both(z0), found[fmt.Sprintf("udp %d %d", free.LocalAddr().(*net.UDPAddr).Port, to.Port)], "%v", found)
		assert.Equal(t, both(z1), found[fmt.Sprintf("udp %d %d", to.Port, free.LocalAddr().(*net.UDPAddr).Port)], "%v", found)
	})
	t.Run(string(Diag), func(t *testing.T) {
		found := zones(t, newCollector(t, Options{Backend: Diag}))
		assert.Equal(t, both(z0), found["tcp"+ends(client)], "%v", found)
		assert.Equal(t, both(z1), found["tcp"+ends(server)], "%v", found)
		assert.Equal(t, both(z0), found["udp"+ends(fixed)], "%v", found)
	})
}
