package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/internal/program/programtest"
)

// TestEnds: the daemon ends when it is asked to, also while no map answers.
func TestEnds(t *testing.T) {
	binary := programtest.Build(t, ".")
	id, err := feed.LoadIdentity(t.TempDir())
	require.NoError(t, err)
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
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
			cmd := exec.Command(binary, "-map", l.Addr().String(), "-key", filepath.Join(t.TempDir(), "key.pem"), "-listen", "127.0.0.1:0")
			cmd.Env = append(os.Environ(), "CONNMAP_TOKEN="+id.Token().String())
			programtest.Ends(t, cmd, signal, func(int) bool { return len(accepted) > 0 })
		})
	}
}
