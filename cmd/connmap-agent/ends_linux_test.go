package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/internal/program/programtest"
)

// TestEnds: the agent ends when it is asked to, whomever it waits for.
func TestEnds(t *testing.T) {
	binary := programtest.Build(t, ".")
	id, err := feed.LoadIdentity(t.TempDir())
	require.NoError(t, err)
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run("a server that says nothing/"+signal.String(), func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			accepted := make(chan net.Conn, 10)
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					accepted <- c
				}
			}()
			cmd := exec.Command(binary, "-backend", "proc", "-key", filepath.Join(t.TempDir(), "key.pem"), l.Addr().String(), id.Token().String())
			programtest.Ends(t, cmd, signal, func(int) bool { return len(accepted) > 0 })
			assert.Equal(t, 0, cmd.ProcessState.ExitCode())
		})
		t.Run("nobody reads what it prints/"+signal.String(), func(t *testing.T) {
			r, w, err := os.Pipe()
			require.NoError(t, err)
			defer r.Close()
			defer w.Close()
			full := make([]byte, 1<<16)
			fd := int(w.Fd()) // which may block from here on
			require.NoError(t, syscall.SetNonblock(fd, true))
			for err = nil; err == nil; {
				_, err = syscall.Write(fd, full)
			}
			require.NoError(t, syscall.SetNonblock(fd, false))
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			c, err := net.Dial("tcp", l.Addr().String()) // something to print
			require.NoError(t, err)
			defer c.Close()
			cmd := exec.Command(binary, "-backend", "proc", "-loopback", "-once")
			cmd.Stdout = w
			programtest.Ends(t, cmd, signal, programtest.Writes)
			assert.NotEqual(t, 0, cmd.ProcessState.ExitCode())
		})
	}
}
