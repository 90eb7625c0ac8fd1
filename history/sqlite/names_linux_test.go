package sqlite

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNamesOfProcesses: a file that another process has by one of its names cannot be had by
// another, and when that process was killed, nothing that it has written is lost by opening it
// by the other.
func TestNamesOfProcesses(t *testing.T) {
	name, other := path(t), filepath.Join(t.TempDir(), "other")
	require.NoError(t, open(t, name).Close())
	require.NoError(t, os.Link(name, other))
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+name, childEnv+"_FROM=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	acked := 0 // batches
	s := bufio.NewScanner(out)
	for acked < 10 && s.Scan() {
		n, err := strconv.Atoi(s.Text())
		require.NoError(t, err)
		acked = n + 1
	}
	for _, n := range []string{name, other} {
		_, err = Open(t.Context(), n, Options{})
		assert.ErrorIs(t, err, ErrInUse, n)
	}
	require.NoError(t, cmd.Process.Kill())
	for s.Scan() {
		n, err := strconv.Atoi(s.Text())
		require.NoError(t, err)
		acked = n + 1
	}
	cmd.Wait()
	db := open(t, other)
	var rows int
	fmt.Sscan(count(t, db), &rows)
	assert.GreaterOrEqual(t, rows, acked*50)
	assert.Equal(t, name, db.path)
	assert.Equal(t, [][]string{{"ok"}}, query(t, db, `PRAGMA integrity_check`))
}
