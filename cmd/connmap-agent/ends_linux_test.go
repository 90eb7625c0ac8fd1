package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

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

// TestManySignalsKeepTheSpool: as a terminal that closes, a shell or timeout(1) sends them.
func TestManySignalsKeepTheSpool(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to see short connections")
	}
	binary := programtest.Build(t, ".")
	id, err := feed.LoadIdentity(t.TempDir())
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := nobody.Addr().String()
	require.NoError(t, nobody.Close())
	for _, second := range []os.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		dir := t.TempDir()
		cmd := exec.Command(binary, "-loopback", "-spool", filepath.Join(dir, "spool"), "-key", filepath.Join(dir, "key.pem"), server, id.Token().String())
		require.NoError(t, cmd.Start())
		told := func() (closes int) {
			files, _ := filepath.Glob(filepath.Join(dir, "spool", "0*.ends"))
			for _, f := range files {
				var order, n int
				fmt.Sscanf(filepath.Base(f), "%d-%d-", &order, &n)
				closes += n
			}
			return closes
		}
		// The spool has a file as soon as the agent follows connections.
		require.Eventually(t, func() bool { _, err := os.Stat(filepath.Join(dir, "spool", "run.ends")); return err == nil }, time.Minute, 10*time.Millisecond)
		time.Sleep(300 * time.Millisecond)
		for range 500 {
			c, err := net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			o, err := l.Accept()
			require.NoError(t, err)
			require.NoError(t, c.Close())
			require.NoError(t, o.Close())
		}
		time.Sleep(300 * time.Millisecond)
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		cmd.Process.Signal(second)
		assert.NoError(t, cmd.Wait())
		assert.GreaterOrEqual(t, told(), 1000, "both ends of 500 connections")
		left, err := filepath.Glob(filepath.Join(dir, "spool", "*.new"))
		require.NoError(t, err)
		assert.Empty(t, left)
	}
}
