//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"context"
	"fmt"
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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func init() { helpers["mptcp"] = helpMPTCP }

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

// helpMPTCP makes a connection with itself over MPTCP, and prints its port.
func helpMPTCP(addr string) error {
	config := net.ListenConfig{}
	config.SetMultipathTCP(true)
	l, err := config.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Println(port(l.Addr()))
	d := net.Dialer{}
	d.SetMultipathTCP(true)
	client, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		return err
	}
	defer server.Close()
	go client.Write(make([]byte, 1000))
	_, err = io.ReadFull(server, make([]byte, 1000))
	return err
}

// TestMPTCPOfManyProcesses: a connection has no program of an earlier one, whose socket had the same
// address in the kernel.
func TestMPTCPOfManyProcesses(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	if b, err := os.ReadFile("/proc/sys/net/mptcp/enabled"); err != nil || strings.TrimSpace(string(b)) != "1" {
		t.Skip("needs a kernel with MPTCP")
	}
	c := ebpfOrSkip(t, Options{}, 0)
	var mu sync.Mutex
	seen := map[uint16]map[int]bool{}
	follow(t, c, func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Conn.Direction == In && e.Conn.Process.PID != 0 {
			if seen[e.Conn.Local.Port()] == nil {
				seen[e.Conn.Local.Port()] = map[int]bool{}
			}
			seen[e.Conn.Local.Port()][e.Conn.Process.PID] = true
		}
	})
	const n = 40
	want := map[uint16]map[int]bool{}
	for range n {
		pid, line := helper(t, "mptcp 203.0.113.10:0", nil)
		p, err := strconv.ParseUint(strings.TrimSpace(line), 10, 16)
		require.NoError(t, err)
		want[uint16(p)] = map[int]bool{pid: true}
	}
	assert.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) >= n
	}, time.Minute, 10*time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, want, seen)
}
