package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/program/programtest"
)

// TestEnds: it ends when it is asked to, also while it reads tables.
func TestEnds(t *testing.T) {
	binary := programtest.Build(t, ".")
	dir := t.TempDir()
	const long = 256 << 20 // takes many seconds
	tsv := programtest.Lines(t, filepath.Join(dir, "big.tsv"), "192.0.2.0\t192.0.2.255\t64496\tZZ\tEXAMPLE\n", "\n", long)
	rir := programtest.Lines(t, filepath.Join(dir, "rir"), "arin|US|ipv4|8.0.0.0|256|20000102|allocated|A\n", "#\n", long)
	autnum := programtest.Lines(t, filepath.Join(dir, "autnum"), "aut-num: AS64496\n\n", "%\n", long)
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		for flag, name := range map[string]string{"-asn": tsv, "-geo": tsv, "-rir": rir, "-autnum": autnum} {
			t.Run(flag+" "+signal.String(), func(t *testing.T) {
				cache := t.TempDir()
				out := programtest.Ends(t, exec.Command(binary, "-data", t.TempDir(), "-cache", cache, flag, name, "192.0.2.1"), signal, programtest.Reads(t, name))
				assert.Equal(t, "ip2asn: interrupted\n", out)
				left, err := os.ReadDir(cache)
				require.NoError(t, err)
				assert.Empty(t, left)
			})
		}
		t.Run("standard input "+signal.String(), func(t *testing.T) {
			in, w, err := os.Pipe()
			require.NoError(t, err)
			defer in.Close()
			defer w.Close()
			cmd := exec.Command(binary, "-data", t.TempDir(), "-cache", t.TempDir())
			cmd.Stdin = in
			_, err = w.WriteString("192.0.2.1\n")
			require.NoError(t, err)
			answered := filepath.Join(t.TempDir(), "out")
			out, err := os.Create(answered)
			require.NoError(t, err)
			defer out.Close()
			cmd.Stdout = out
			text := programtest.Ends(t, cmd, signal, func(int) bool {
				b, _ := os.ReadFile(answered)
				return len(b) > 0
			})
			assert.Equal(t, "ip2asn: interrupted\n", text)
		})
	}
}
