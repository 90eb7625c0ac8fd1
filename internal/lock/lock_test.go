package lock

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTry: one at a time has a file locked, for as long as it has it open, and what is in it
// can be read and written meanwhile.
func TestTry(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	require.NoError(t, os.WriteFile(name, []byte("text"), 0o600))
	open := func() *os.File {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	first, second := open(), open()
	require.NoError(t, Try(first))
	assert.ErrorIs(t, Try(second), ErrLocked)
	b := make([]byte, 4)
	_, err := second.ReadAt(b, 0)
	require.NoError(t, err)
	assert.Equal(t, "text", string(b))
	_, err = second.WriteAt([]byte("more text"), 0)
	assert.NoError(t, err)
	require.NoError(t, first.Close())
	assert.NoError(t, Try(second))
}

// TestTryBesideStarts: a file that was closed can be locked again while this process starts programs.
func TestTryBesideStarts(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	stop := make(chan struct{})
	var work sync.WaitGroup
	defer work.Wait()
	defer close(stop)
	for range 2 {
		work.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					exec.Command(self, "-test.run", "^$").Run()
				}
			}
		})
	}
	name := filepath.Join(t.TempDir(), "a")
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
		require.NoError(t, err)
		require.NoError(t, Try(f))
		require.NoError(t, Inode(f))
		require.NoError(t, f.Close())
	}
}

// TestFolder: one at a time has a folder locked. Others wait, or fail if they only try.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	first, err := Folder(dir)
	require.NoError(t, err)
	_, err = TryFolder(dir)
	require.ErrorIs(t, err, ErrLocked)
	second := make(chan io.Closer)
	go func() {
		f, err := Folder(dir)
		assert.NoError(t, err)
		second <- f
	}()
	select {
	case <-second:
		t.Fatal("two have it locked")
	case <-time.After(50 * time.Millisecond):
	}
	require.NoError(t, first.Close())
	require.NoError(t, (<-second).Close())
	third, err := TryFolder(dir)
	require.NoError(t, err)
	require.NoError(t, third.Close())
	_, err = Folder(filepath.Join(dir, "missing"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}
