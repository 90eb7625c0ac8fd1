package main

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/program/programtest"
)

// TestEnds: the exporter ends when it is asked to.
func TestEnds(t *testing.T) {
	binary := programtest.Build(t, ".")
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			addr := l.Addr().String()
			require.NoError(t, l.Close())
			programtest.Ends(t, exec.Command(binary, "-listen", addr), signal, func(int) bool {
				c, err := net.Dial("tcp", addr)
				if err == nil {
					c.Close()
				}
				return err == nil
			})
		})
	}
}
