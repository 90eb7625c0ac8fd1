package lock

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestInode: names of one file are one lock, which other locks of it do not meet.
func TestInode(t *testing.T) {
	dir := t.TempDir()
	name, other := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	require.NoError(t, os.WriteFile(name, nil, 0o600))
	require.NoError(t, os.Link(name, other))
	open := func(name string) *os.File {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	f := open(name)
	require.NoError(t, Inode(f))
	assert.ErrorIs(t, Inode(open(name)), ErrLocked)
	assert.ErrorIs(t, Inode(open(other)), ErrLocked)
	assert.NoError(t, Try(open(other)))
	sqlites := unix.Flock_t{Type: unix.F_WRLCK, Start: 1 << 30, Len: 512}
	assert.NoError(t, unix.FcntlFlock(open(other).Fd(), unix.F_SETLK, &sqlites))
	require.NoError(t, f.Close())
	assert.NoError(t, Inode(open(other)))
}
