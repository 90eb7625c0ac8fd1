package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/program/programtest"
)

// TestEnds: each command ends when it is asked to, in the midst of its work.
func TestEnds(t *testing.T) {
	binary := programtest.Build(t, ".")
	const long = 256 << 20 // takes many seconds
	head := dbip(2000)
	big := programtest.Lines(t, filepath.Join(t.TempDir(), "big.csv"), head, "\n", long)
	s := serve(t)
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run("compile/"+signal.String(), func(t *testing.T) {
			dir := t.TempDir()
			out := programtest.Ends(t, exec.Command(binary, "compile", big, "-o", filepath.Join(dir, "out")), signal, programtest.Reads(t, big))
			assert.Equal(t, "connmap-data: interrupted\n", out)
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			assert.Empty(t, left)
		})
		t.Run("status/"+signal.String(), func(t *testing.T) {
			dir := t.TempDir()
			name := filepath.Join(dir, "mine.csv")
			require.NoError(t, os.Link(big, name))
			out := programtest.Ends(t, exec.Command(binary, "status", "-data", dir), signal, programtest.Reads(t, name))
			assert.Contains(t, out, "connmap-data: interrupted\n")
		})
		t.Run("update, that waits for the server/"+signal.String(), func(t *testing.T) {
			dir := t.TempDir()
			s.behave(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
				w.Header().Set("ETag", `"1"`)
				w.Header().Set("Content-Length", "1000")
				w.Write([]byte("some"))
				http.NewResponseController(w).Flush()
				<-r.Context().Done()
				return true
			})
			part := filepath.Join(dir, "dbip-city-lite.csv.gz.part")
			out := programtest.Ends(t, exec.Command(binary, "update", "-data", dir, "-from", s.URL, "dbip-city"), signal, programtest.Reads(t, part))
			assert.Contains(t, out, "connmap-data: interrupted; the next update continues from here\n")
		})
		t.Run("update, that checks/"+signal.String(), func(t *testing.T) {
			dir := t.TempDir()
			text, err := os.ReadFile(big)
			require.NoError(t, err)
			s.behave(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
				w.Header().Set("ETag", `"1"`)
				w.Header().Set("Content-Length", strconv.Itoa(len(text)))
				w.Write(text)
				return true
			})
			part := filepath.Join(dir, "dbip-city-lite.csv.gz.part")
			reads := programtest.Reads(t, part)
			out := programtest.Ends(t, exec.Command(binary, "update", "-data", dir, "-from", s.URL, "dbip-city"), signal, func(pid int) bool {
				info, err := os.Stat(part)
				return err == nil && info.Size() == int64(len(text)) && reads(pid)
			})
			assert.Contains(t, out, "connmap-data: interrupted")
		})
	}
}
