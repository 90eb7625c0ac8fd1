package private

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"golang.org/x/sys/unix"
)

// TestOwner: a notice names a secret of another user, and a key among the process's own files is taken
// from that user.
func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files to others")
	}
	const me, nobody, somebody = 0, 65534, 1000
	for _, tt := range []struct {
		name          string
		mode, bits    fs.FileMode
		owner, folder int
		want          int
		notice        string // a part; empty: none
	}{
		{"its own", 0o600, Own, me, me, me, ""},
		{"its own in the folder of another", 0o600, Own, me, somebody, me, ""},
		{"a key of nobody", 0o600, Own, nobody, me, me, "belonged to user 65534: it belongs to user 0 now, but who"},
		{"a key of nobody for all", 0o644, Own, nobody, me, me, "what it holds; others could use"},
		{"a key of nobody in the folder of another", 0o600, Own, nobody, somebody, me, "belonged to user 65534"},
		{"a key of a service in its folder", 0o600, Own, somebody, somebody, somebody, "belongs to user 1000, who may read and change it: if that is not meant so, run chown 0 on it"},
		{"a token of nobody", 0o600, Given, nobody, me, nobody, "belongs to user 65534, who may"},
		{"a token of the user of sudo", 0o640, Given, somebody, somebody, somebody, "belongs to user 1000, who may"},
		{"a token for a group", 0o640, Given, me, me, me, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "folder")
			require.NoError(t, os.Mkdir(dir, 0o700))
			name := filepath.Join(dir, "file")
			require.NoError(t, os.WriteFile(name, []byte("secret"), 0o600))
			require.NoError(t, os.Chmod(name, tt.mode))
			require.NoError(t, os.Chown(name, tt.owner, -1))
			require.NoError(t, os.Chown(dir, tt.folder, -1))
			seen := Check(name, tt.bits)
			notice, err := Restrict(name, tt.bits)
			require.NoError(t, err)
			assert.Equal(t, notice, seen)
			if tt.notice == "" {
				assert.Empty(t, notice)
			} else {
				assert.Contains(t, notice, name)
				assert.Contains(t, notice, tt.notice)
			}
			info, err := os.Stat(name)
			require.NoError(t, err)
			assert.Equal(t, tt.want, int(info.Sys().(*syscall.Stat_t).Uid))
			assert.Zero(t, info.Mode().Perm()&tt.bits)
		})
	}
}

// TestOwnerStays: a map server that has dropped the right to change owners refuses such a key.
func TestOwnerStays(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files to others")
	}
	name := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(name, nil, 0o600))
	require.NoError(t, os.Chown(name, 65534, -1))
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and the thread ends with the goroutine
		header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(header, &data[0])
		if err == nil {
			data[0].Effective &^= 1 << unix.CAP_CHOWN
			err = unix.Capset(header, &data[0])
		}
		if err == nil {
			_, err = Restrict(name, Own)
		}
		done <- err
	}()
	err := <-done
	require.ErrorIs(t, err, fs.ErrPermission)
	assert.ErrorContains(t, err, name+" belongs to user 65534, who may read and change it, and this process cannot change that")
	assert.ErrorContains(t, err, "run chown 0 on it")
}
