//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
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

func init() { helpers["mount"] = helpMount }

// helpMount has the kernel connect to a server of NFS, which does not answer.
func helpMount(port string) error {
	dir, err := os.MkdirTemp("", "mount")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	unix.Mount("127.0.0.1:/", dir, "nfs4", 0, "addr=127.0.0.1,clientaddr=127.0.0.1,vers=4.1,proto=tcp,soft,retrans=1,timeo=10,port="+port)
	return nil
}

// TestOfKernel: what the kernel connects for itself is a connection of the kernel, not of
// the process that has asked for a file system, and its bytes are told.
func TestOfKernel(t *testing.T) {
	exec.Command("modprobe", "nfsv4").Run()
	systems, err := os.ReadFile("/proc/filesystems")
	require.NoError(t, err)
	if !strings.Contains(string(systems), "\tnfs4\n") {
		t.Skip("needs a kernel with NFS")
	}
	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	l := listen(t, "127.0.0.1:0")
	helperIn(t, "mount "+port(l.Addr()), nil) // which ends when its server is gone
	l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute))
	server, err := l.Accept()
	require.NoError(t, err)
	defer func() { l.Close(); server.Close() }()
	server.SetReadDeadline(time.Now().Add(time.Minute))
	n, err := server.Read(make([]byte, 1000))
	require.NoError(t, err)
	var conn Conn
	require.Eventually(t, func() bool {
		var ok bool
		conn, ok = find(snapshot(t, c), server.RemoteAddr(), server.LocalAddr())
		return ok && conn.Tx >= uint64(n)
	}, time.Minute, 10*time.Millisecond)
	assert.Equal(t, Process{Comm: "kernel"}, conn.Process)
	assert.Equal(t, Out, conn.Direction)
	assert.Equal(t, netip.MustParseAddrPort(server.LocalAddr().String()), conn.Peer)
}
