//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
	var opened []Conn
	follow(t, c, func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind == Open {
			opened = append(opened, e.Conn)
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
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	subflows := func() (n int) {
		for _, conn := range snapshot(t, c) {
			if conn.Local.Port() == port || conn.Peer.Port() == port {
				n++
				assert.Equal(t, os.Getpid(), conn.Process.PID, "%+v", conn)
			}
		}
		return n
	}
	require.Eventually(t, func() bool { return subflows() == 4 }, time.Minute, 10*time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	for _, conn := range opened { // in other namespaces too
		if conn.Local.Addr().String() == "198.51.100.20" && conn.Peer.Port() == port {
			assert.Equal(t, os.Getpid(), conn.Process.PID, "from the first on")
		}
	}
}
