//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func init() { helpers["leave"] = helpLeave }

const left = 4 << 20 // bytes that helpLeave leaves to the kernel to send

// helpLeave writes to a connection, more than its peer has room for, and ends.
func helpLeave(addr string) error {
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		return err
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var set error
	if err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*left) }); err != nil {
		return err
	}
	if set != nil {
		return set
	}
	if _, err := c.Write(make([]byte, left)); err != nil {
		return err
	}
	fmt.Println("ready")
	return nil
}

// TestOrphans: a connection whose process has ended is told of, with that process, while
// the kernel sends what is left, and its close has all bytes.
func TestOrphans(t *testing.T) {
	c := ebpfOrSkip(t, Options{Loopback: true, Interval: 100 * time.Millisecond}, 0)
	var lc net.ListenConfig
	lc.Control = func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<10) })
	}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	var mu sync.Mutex
	var events []Event
	follow(t, c, func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Conn.Peer == netip.MustParseAddrPort(l.Addr().String()) {
			events = append(events, e)
		}
	})
	seen := func(is func(e Event) bool) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			for _, e := range events {
				if is(e) {
					return true
				}
			}
			return false
		}
	}
	cmd, _, out := helperIn(t, "leave "+l.Addr().String(), nil)
	server, err := l.Accept()
	require.NoError(t, err)
	defer server.Close()
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready", strings.TrimSpace(line))
	pid := cmd.Process.Pid
	require.Eventually(t, func() bool { _, err := os.Stat(fmt.Sprintf("/proc/%d/fd/0", pid)); return err != nil }, time.Minute, 10*time.Millisecond)
	var before uint64
	for _, conn := range snapshot(t, c) {
		if conn.Peer == netip.MustParseAddrPort(l.Addr().String()) {
			before = conn.Tx
			assert.Equal(t, pid, conn.Process.PID)
		}
	}
	assert.Less(t, before, uint64(left))
	_, err = io.CopyN(io.Discard, server, left/2)
	require.NoError(t, err)
	if c.backend.(*ebpf).probe.VisitErr == nil {
		assert.Eventually(t, seen(func(e Event) bool { return e.Kind == Update && e.Conn.Tx > before && e.Conn.Process.PID == pid }), time.Minute, 10*time.Millisecond)
	}
	_, err = io.Copy(io.Discard, server)
	require.NoError(t, err)
	server.Close()
	assert.Eventually(t, seen(func(e Event) bool { return e.Kind == Close && e.Conn.Tx == left && e.Conn.Process.PID == pid }), time.Minute, 10*time.Millisecond)
}
