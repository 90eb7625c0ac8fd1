package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// On a full disk the old file stays, and space is given back.
func TestDiskFull(t *testing.T) {
	s, to := serve(t), newTool(t)
	require.NoError(t, os.Mkdir(to.dir, 0o755))
	if err := syscall.Mount("connmap-data-test", to.dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("a small file system can only be mounted by root: ", err)
	}
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(to.dir, 0)) })
	s.files[dbipPath] = pack(t, dbip(200))
	require.NoError(t, to.update(s, "dbip-city"), to.err.String())
	before := to.read(t, "dbip-city-lite.csv.gz")

	s.files[dbipPath] = pack(t, dbip(2000))
	require.Error(t, to.update(s, "dbip-city"))
	assert.Contains(t, to.err.String(), "no space left in "+to.dir+": ")
	assert.Contains(t, to.err.String(), " kB, must be free there, beside the file in use; the old file stays in use\n")
	assert.Equal(t, before, to.read(t, "dbip-city-lite.csv.gz"))
	assert.ElementsMatch(t, []string{"dbip-city-lite.csv.gz", "dbip-city-lite.csv.gz.meta"}, to.files(t))

	// Full from the start.
	ballast := filepath.Join(to.dir, "ballast")
	os.WriteFile(ballast, make([]byte, 100_000), 0o644)
	require.Error(t, to.update(s, "dbip-city"))
	assert.Contains(t, to.err.String(), "no space left in ")
	assert.Equal(t, before, to.read(t, "dbip-city-lite.csv.gz"))
	require.NoError(t, os.Remove(ballast))

	s.files[dbipPath] = pack(t, dbip(201))
	require.NoError(t, to.update(s, "dbip-city"), to.err.String())
	require.NoError(t, syscall.Mount("connmap-data-test", to.dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	assert.ErrorContains(t, to.update(s, "dbip-city"), "cannot write to the data folder: ")
}
