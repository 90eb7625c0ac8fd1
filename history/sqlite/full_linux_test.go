package sqlite

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"

	"github.com/connmapgo/connmap/history"
)

// mount mounts a memory file system of four megabytes.
func mount(t *testing.T) string {
	dir := t.TempDir()
	if err := syscall.Mount("history-test", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skip("a small file system can only be mounted by root: ", err)
	}
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(dir, 0)) })
	return dir
}

// fill takes what space is left and returns the file to remove.
func fill(t *testing.T, dir string) string {
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	require.NoError(t, err)
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, f.Close())
	return name
}

// TestAskOnFullDisk: a history answers where there is no room even for what its readers
// share.
func TestAskOnFullDisk(t *testing.T) {
	dir := mount(t)
	name := filepath.Join(dir, "history.sqlite")
	db := open(t, name)
	require.NoError(t, db.Record(t.Context(), entries(0, 1000)))
	require.NoError(t, db.Close())
	for _, suffix := range []string{"-wal", "-shm"} {
		os.Remove(name + suffix)
	}
	fill(t, dir)
	c, err := OpenConsole(t.Context(), name, ConsoleOptions{})
	require.NoError(t, err)
	defer c.Close()
	table, err := c.Ask(t.Context(), history.Question{SQL: `SELECT count(*) FROM detailed_history`})
	require.NoError(t, err)
	assert.Equal(t, [][]any{{int64(1000)}}, table.Rows)
}

func TestDiskFull(t *testing.T) {
	dir := mount(t)
	db := open(t, filepath.Join(dir, "history.sqlite"))
	defer db.Close()
	require.NoError(t, db.Record(t.Context(), entries(0, 1000)))
	ballast := fill(t, dir)

	w := db.Writer()
	for _, e := range entries(1000, 3500) {
		w.Add(e)
	}
	require.Eventually(t, func() bool { return w.Problem() != nil }, time.Minute, 10*time.Millisecond)
	assert.Equal(t, sqlite.ResultFull, sqlite.ErrCode(w.Problem()))
	assert.ErrorContains(t, w.Problem(), "free some space on its disk; recording then resumes by itself, since ")

	// The map's history lives on meanwhile.
	assert.NotEmpty(t, places(t, db))
	w.Add(entry(4500))

	require.NoError(t, os.Remove(ballast))
	freed := time.Now()
	require.Eventually(t, func() bool { return w.Problem() == nil && count(t, db) == "4501" }, time.Minute, 10*time.Millisecond)
	t.Logf("recorded again %v after space was freed", time.Since(freed).Round(time.Millisecond))
	assert.Zero(t, w.Dropped())
	require.NoError(t, w.Close())
	assert.Equal(t, [][]string{{"ok"}}, query(t, db, `PRAGMA integrity_check`))
}

// TestLogOnFullDisk: a file that has got only a part of the log, since the disk is full, is not one
// that somebody has cut off.
func TestLogOnFullDisk(t *testing.T) {
	dir := mount(t)
	db := open(t, filepath.Join(dir, "history.sqlite"))
	defer db.Close()
	require.NoError(t, db.Record(t.Context(), entries(0, 2000)))
	ballast := fill(t, dir)
	require.Error(t, db.emptyLog())
	for range 2 {
		lookNow(db)
		db.checkIdle()
		require.Empty(t, db.Problem())
	}
	require.NoError(t, os.Remove(ballast))
	lookNow(db)
	require.NoError(t, db.Record(t.Context(), entries(2000, 1000)))
	require.NoError(t, db.emptyLog())
	assert.Empty(t, db.Problem())
	assert.Equal(t, "3000", count(t, db))
	assert.Equal(t, [][]string{{"ok"}}, query(t, db, `PRAGMA integrity_check`))
}

// With a full disk Close gives up and says what is lost.
func TestCloseOnFullDisk(t *testing.T) {
	dir := mount(t)
	db := open(t, filepath.Join(dir, "history.sqlite"))
	defer db.Close()
	fill(t, dir)
	w := db.Writer()
	for _, e := range entries(0, 3000) {
		w.Add(e)
	}
	err := w.Close()
	assert.ErrorContains(t, err, "3000 entries lost")
	assert.ErrorContains(t, err, "free some space")
	assert.EqualValues(t, 3000, w.Dropped())
}

func TestOpenOnFullDisk(t *testing.T) {
	dir := mount(t)
	name := filepath.Join(dir, "history.sqlite")
	ballast := fill(t, dir)
	_, err := Open(t.Context(), name, Options{})
	assert.EqualError(t, err, "history: "+name+": sqlite: step: database or disk is full: free some space on its disk")
	require.NoError(t, os.Remove(ballast))
	db := open(t, name)
	defer db.Close()
	assert.NoError(t, db.Record(t.Context(), entries(0, 10)))
	assert.Empty(t, db.Problem())
}

func TestReadOnlyFileSystem(t *testing.T) {
	dir := mount(t)
	name := filepath.Join(dir, "history.sqlite")
	require.NoError(t, open(t, name).Close())
	require.NoError(t, syscall.Mount("history-test", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	_, err := Open(t.Context(), name, Options{})
	assert.ErrorIs(t, err, syscall.EROFS)
	assert.ErrorContains(t, err, "choose another file")
}

// TestPruneOnFullDisk: a reserve lets rows be deleted, and recording resumes by it.
func TestPruneOnFullDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	slow(t)
	dir := mount(t)
	require.NoError(t, syscall.Mount("history-test", dir, "tmpfs", syscall.MS_REMOUNT, "size=96m"))
	db := open(t, filepath.Join(dir, "history.sqlite"))
	defer db.Close()
	require.NoError(t, db.Record(t.Context(), spread(30_000, time.Now())))
	ballast := fill(t, dir)
	w := db.Writer()
	for _, e := range entries(30_000, 30_000) {
		w.Add(e)
	}
	require.Eventually(t, func() bool { return w.Problem() != nil }, time.Minute, 10*time.Millisecond)
	require.NoError(t, db.SetRetention(history.Retention{Rows: 10_000}))
	deleted, err := db.Prune(t.Context())
	require.NoError(t, err)
	assert.GreaterOrEqual(t, deleted, int64(20_000))
	resumed := time.Now()
	require.Eventually(t, func() bool {
		_, err := db.Prune(t.Context())
		// There is room for some of what waits at a time.
		waiting, _ := w.waiting()
		return assert.NoError(t, err) && w.Problem() == nil && waiting == 0
	}, time.Minute, 100*time.Millisecond)
	t.Logf("recording resumed %v after rows were deleted", time.Since(resumed).Round(time.Millisecond))
	require.NoError(t, w.Close())
	assert.Zero(t, w.Dropped())
	require.NoError(t, os.Remove(ballast))
	_, err = db.Prune(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "10000", count(t, db))
	assert.FileExists(t, db.path+".reserve")
	consistent(t, db)
}

func remountReadOnly(t *testing.T, dir string) {
	require.NoError(t, syscall.Mount("history-test", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
}
