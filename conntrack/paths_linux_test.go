//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestLongPath: the path of an executable is whole, however long it is and however
// short the process lives.
func TestLongPath(t *testing.T) {
	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	l := listen(t, "127.0.0.1:0")
	self, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	base := t.TempDir()
	used := strings.Count(base, "/")
	long := strings.Repeat("n", 255) + "/"
	var mu sync.Mutex
	exes := map[int]string{}
	follow(t, c, func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind == Close && e.Conn.Direction == Out {
			exes[e.Conn.Process.PID] = e.Conn.Process.Exe
		}
	})
	dials := func(path string) (exe string, ok bool) {
		cmd := exec.Command(path)
		cmd.Env = append(os.Environ(), helperEnv+"=dial "+l.Addr().String())
		require.NoError(t, cmd.Start()) // it has no input, and ends at once
		accepted, err := l.Accept()
		require.NoError(t, err)
		defer accepted.Close()
		require.NoError(t, cmd.Wait())
		for end := time.Now().Add(20 * time.Second); !ok && time.Now().Before(end); time.Sleep(time.Millisecond) {
			mu.Lock()
			exe, ok = exes[cmd.Process.Pid]
			mu.Unlock()
		}
		return exe, ok
	}
	dialsAs := func(name, path string) {
		exe, ok := dials(path)
		// On a busy machine the kernel may call no program for a connection that is so short.
		for try := 1; !ok && try < 5; try++ {
			t.Log("not seen")
			exe, ok = dials(path)
		}
		assert.Equal(t, name, exe)
	}
	for _, parts := range []string{
		strings.Repeat("long", 25) + "/" + strings.Repeat("n", 200) + "/dial",
		long + "dial",
		strings.Repeat("p/", 64-used-1) + "d",
		strings.Repeat(long, (4095-len(base)-1)/256) + strings.Repeat("d", (4095-len(base)-1)%256),
	} {
		name := filepath.Join(base, parts)
		t.Logf("%d bytes, %d parts", len(name), strings.Count(name, "/"))
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
		require.NoError(t, os.WriteFile(name, self, 0o700))
		dialsAs(name, name)
	}
	memory, err := unix.MemfdCreate("program", 0)
	require.NoError(t, err)
	defer unix.Close(memory)
	_, err = unix.Write(memory, self)
	require.NoError(t, err)
	dialsAs("/memfd:program", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), memory))
}
