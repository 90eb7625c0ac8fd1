//go:build unix

package sqlite

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite/sqlitex"
)

// lookNow has a DB look with the next entries.
func lookNow(db *DB) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.watch.checkedAt = time.Time{}
}

// otherHistory makes a history of n rows, written to its end.
func otherHistory(t *testing.T, n int) string {
	db := open(t, path(t))
	require.NoError(t, db.Record(t.Context(), entries(50_000, n)))
	require.NoError(t, db.Close())
	return db.path
}

// overwrite writes into a file that a DB has open, from another process: to close it here
// would cancel SQLite's locks.
func overwrite(t *testing.T, name, from string) {
	t.Helper()
	out, err := exec.Command("sh", "-c", `cat "$1" > "$2"`, "sh", from, name).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// readSlowly has another process read a history until the result is called.
func readSlowly(t *testing.T, name string) (stop func()) {
	t.Helper()
	cmd := exec.Command("sqlite3", "-readonly", name, "BEGIN; SELECT count(*) FROM detailed_history;", ".shell echo reads; sleep 60")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	if err := cmd.Start(); err != nil {
		t.Skip("needs sqlite3: ", err)
	}
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "reads"; {
	}
	return func() { cmd.Process.Kill(); cmd.Wait() }
}

// TestFilesChangedBelow: what somebody does to the files of a history that is recorded into is
// noticed and said, and recording goes on in a whole file.
func TestFilesChangedBelow(t *testing.T) {
	t.Parallel()
	slow(t)
	text := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(text, []byte("dear diary\n"), 0o600))
	for _, tt := range []struct {
		name    string
		change  func(t *testing.T, name string)
		rows    int    // then, with 10 more
		problem string // part of it
		kept    string // its beginning of the content of what is set aside; empty: nothing is
	}{
		{"removed", func(t *testing.T, name string) { require.NoError(t, os.Remove(name)) }, 10, "was removed while it was recorded into: a fresh one was started", ""},
		{"removed with all beside it", func(t *testing.T, name string) {
			for _, suffix := range []string{"", "-wal", "-shm"} {
				require.NoError(t, os.Remove(name+suffix))
			}
		}, 10, "was removed while it was recorded into: a fresh one was started", ""},
		{"replaced by another history", func(t *testing.T, name string) {
			require.NoError(t, os.Rename(otherHistory(t, 300), name))
		}, 310, "was replaced by another file", ""},
		{"overwritten by a text", func(t *testing.T, name string) { overwrite(t, name, text) }, 10, "somebody has", "dear diary\n"},
		{"overwritten by another history", func(t *testing.T, name string) { overwrite(t, name, otherHistory(t, 300)) }, 10, "somebody has overwritten it", "SQLite format 3"},
		{"overwritten by a longer one", func(t *testing.T, name string) { overwrite(t, name, otherHistory(t, 9000)) }, 10, "somebody has overwritten it", "SQLite format 3"},
		{"emptied", func(t *testing.T, name string) { require.NoError(t, os.Truncate(name, 0)) }, 10, "somebody has cut it off", ""},
		{"cut off", func(t *testing.T, name string) { require.NoError(t, os.Truncate(name, 20_000)) }, 10, "somebody has cut it off", "SQLite format 3"},
		{"without log", func(t *testing.T, name string) { require.NoError(t, os.Remove(name+"-wal")) }, 3010, "has lost its log", ""},
		{"without the log's index", func(t *testing.T, name string) { require.NoError(t, os.Remove(name+"-shm")) }, 3010, "has lost its log", ""},
		{"without both", func(t *testing.T, name string) {
			require.NoError(t, os.Remove(name+"-wal"))
			require.NoError(t, os.Remove(name+"-shm"))
		}, 3010, "has lost its log", ""},
		{"log replaced", func(t *testing.T, name string) {
			require.NoError(t, os.Remove(name+"-wal"))
			require.NoError(t, os.WriteFile(name+"-wal", nil, 0o600))
		}, 3010, "has lost its log", ""},
		{"the log's index emptied", func(t *testing.T, name string) { require.NoError(t, os.Truncate(name+"-shm", 0)) }, 3010, "has lost its log", ""},
		{"moved, with a link in its place", func(t *testing.T, name string) {
			require.NoError(t, os.Rename(name, name+".moved"))
			require.NoError(t, os.Symlink(filepath.Base(name)+".moved", name))
		}, 3010, "was moved away from it", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db := open(t, path(t))
			require.NoError(t, db.Record(t.Context(), entries(0, 2000)))
			require.NoError(t, db.emptyLog())
			require.NoError(t, db.Record(t.Context(), entries(2000, 1000)))
			lookNow(db)
			require.NoError(t, db.Record(t.Context(), entries(0, 1)))
			require.Empty(t, db.Problem(), "nothing has happened yet")

			tt.change(t, db.path)
			lookNow(db)
			require.NoError(t, db.Record(t.Context(), entries(10_000, 10)))
			assert.Contains(t, db.Problem(), tt.problem)
			assert.Equal(t, fmt.Sprint(tt.rows), count(t, db))
			kept, err := filepath.Glob(db.path + ".corrupt-*Z")
			require.NoError(t, err)
			if tt.kept != "" {
				require.Len(t, kept, 1)
				b, err := os.ReadFile(kept[0])
				require.NoError(t, err)
				assert.Equal(t, tt.kept, string(b[:min(len(b), len(tt.kept))]))
			}
			// All is well from then on, also for other processes and the next one.
			lookNow(db)
			require.NoError(t, db.Record(t.Context(), entries(20_000, 10)))
			require.NoError(t, db.Close())
			db = open(t, db.path)
			assert.Empty(t, db.Problem())
			assert.Equal(t, fmt.Sprint(tt.rows+10), count(t, db))
			assert.Equal(t, [][]string{{"ok"}}, query(t, db, `PRAGMA integrity_check`))
		})
	}
}

// TestLogCutOff: a log that somebody has cut off is noticed when more has been written behind the
// hole. What was in it is lost and said to be, and all before and after it is there.
func TestLogCutOff(t *testing.T) {
	for _, size := range []int64{0, 20, 40_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			db := open(t, path(t))
			require.NoError(t, db.Record(t.Context(), entries(0, 2000)))
			require.NoError(t, db.emptyLog())
			require.NoError(t, db.Record(t.Context(), entries(2000, 1000)))
			_, whole := useOf(db.path + "-wal")
			require.True(t, whole)
			require.NoError(t, os.Truncate(db.path+"-wal", size))
			require.NoError(t, db.Record(t.Context(), entries(10_000, 10)))
			_, whole = useOf(db.path + "-wal")
			require.False(t, whole)
			lookNow(db)
			require.NoError(t, db.Record(t.Context(), entries(20_000, 10)))
			assert.Contains(t, db.Problem(), "has lost what was in its log (-wal), which somebody has cut off")
			assert.Equal(t, "2010", count(t, db))
			lookNow(db)
			require.NoError(t, db.Record(t.Context(), entries(30_000, 10)))
			require.NoError(t, db.Close())
			db = open(t, db.path)
			assert.Empty(t, db.Problem())
			assert.Equal(t, "2020", count(t, db))
			assert.Equal(t, [][]string{{"ok"}}, query(t, db, `PRAGMA integrity_check`))
		})
	}
}

// TestLogOverwritten: a page in the log that somebody has overwritten is noticed, though SQLite
// does not look at it again before it goes to its place.
func TestLogOverwritten(t *testing.T) {
	db := open(t, path(t))
	require.NoError(t, db.Record(t.Context(), entries(0, 2000)))
	require.NoError(t, db.emptyLog())
	require.NoError(t, db.Record(t.Context(), entries(2000, 1000)))
	lookNow(db)
	require.NoError(t, db.Record(t.Context(), entries(0, 1)))
	require.Empty(t, db.Problem())
	use, _ := useOf(db.path + "-wal")
	require.Greater(t, use.frames, int64(20))
	f, err := os.OpenFile(db.path+"-wal", os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte("x"), 3000), 32+10*(24+4096)+24)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	lookNow(db)
	require.NoError(t, db.Record(t.Context(), entries(20_000, 10)))
	assert.Contains(t, db.Problem(), "has lost what was in its log (-wal), which somebody has cut off or overwritten while it was recorded into: 1000 rows")
	assert.Equal(t, "2010", count(t, db))
	assert.Equal(t, [][]string{{"ok"}}, query(t, db, `PRAGMA integrity_check`))
}

// TestOverwrittenWithin: a part of the file that somebody has overwritten is noticed, and what
// another program has written as SQLite does is no damage.
func TestOverwrittenWithin(t *testing.T) {
	db := open(t, path(t))
	require.NoError(t, db.Record(t.Context(), entries(0, 3000)))
	require.NoError(t, db.emptyLog())
	look := func(first int) {
		t.Helper()
		lookNow(db)
		require.NoError(t, db.Record(t.Context(), entries(first, 10)))
	}
	look(10_000)
	look(11_000)
	require.Empty(t, db.Problem())
	out, err := exec.Command("sqlite3", db.path, `PRAGMA wal_autocheckpoint = 1; UPDATE detailed_history SET rule = 'x' WHERE timestamp % 2;`).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("needs sqlite3: ", err)
	}
	require.NoError(t, err, "%s", out)
	look(12_000)
	require.Empty(t, db.Problem())
	assert.Equal(t, "3030", count(t, db))

	info, err := os.Stat(db.path)
	require.NoError(t, err)
	f, err := os.OpenFile(db.path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte("overwritten "), 1000), info.Size()/2)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	look(13_000)
	assert.Contains(t, db.Problem(), "somebody has overwritten a part of it")
	assert.Equal(t, "10", count(t, db))
	look(14_000)
	assert.Equal(t, "20", count(t, db))
	assert.Equal(t, [][]string{{"ok"}}, query(t, db, `PRAGMA integrity_check`))
}

// TestLogRolledBack: what a transaction that was rolled back has left in the log is no fault of
// somebody else.
func TestLogRolledBack(t *testing.T) {
	db := open(t, path(t))
	require.NoError(t, db.Record(t.Context(), entries(0, 100)))
	end, err := sqlitex.ImmediateTransaction(db.conn)
	require.NoError(t, err)
	require.NoError(t, sqlitex.ExecuteTransient(db.conn, `PRAGMA cache_size = 10`, nil))
	require.NoError(t, sqlitex.ExecuteTransient(db.conn, `CREATE TABLE big AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) SELECT i, randomblob(1000) AS b FROM n`, nil))
	lookNow(db)
	assert.Equal(t, logWhole, db.logState())
	before := db.watch.logUse
	err = errors.New("rolled back")
	end(&err)
	info, err := os.Stat(db.path + "-wal")
	require.NoError(t, err)
	require.Greater(t, info.Size(), int64(1<<20), "it was written before the end")
	for i := range 5 {
		require.NoError(t, db.Record(t.Context(), entries(1000*i, 10)))
		assert.Equal(t, logWhole, db.logState())
		assert.Greater(t, db.watch.logUse.frames, before.frames)
	}
	assert.Empty(t, db.Problem())
}

// TestSavingEmptied: of a file that somebody has cut off to nothing the command saves what was in
// the log.
func TestSavingEmptied(t *testing.T) {
	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Skip("needs sqlite3: ", err)
	}
	db := open(t, path(t))
	require.NoError(t, db.Record(t.Context(), entries(0, 1000)))
	lookNow(db)
	require.NoError(t, db.Record(t.Context(), entries(0, 1)))
	require.NoError(t, os.Truncate(db.path, 0))
	lookNow(db)
	require.NoError(t, db.Record(t.Context(), entries(10_000, 10)))
	assert.Contains(t, db.Problem(), "somebody has cut it off")
	kept, err := filepath.Glob(db.path + ".corrupt-*Z")
	require.NoError(t, err)
	require.Len(t, kept, 1)
	save := exec.Command("sh", "-c", saving(kept[0]))
	save.Dir = t.TempDir()
	out, err := save.CombinedOutput()
	require.NoError(t, err, "%s", out)
	saved := open(t, filepath.Join(save.Dir, "NEW"))
	assert.Equal(t, "1000", count(t, saved))
}

// TestMovedAway: a file that was moved away while it was recorded into has all of its rows, as
// has the fresh one that takes its place; and so has one that was replaced by another.
func TestMovedAway(t *testing.T) {
	t.Parallel()
	slow(t)
	for _, replaced := range []bool{false, true} {
		for _, read := range []bool{false, true} {
			t.Run(fmt.Sprintf("replaced %v, read %v", replaced, read), func(t *testing.T) {
				t.Parallel()
				db := open(t, path(t))
				require.NoError(t, db.Record(t.Context(), entries(0, 3000)))
				if read {
					rows := readSlowly(t, db.path)
					defer rows()
				}
				moved, other := db.path+".moved", otherHistory(t, 300)
				require.NoError(t, os.Rename(db.path, moved))
				if replaced {
					require.NoError(t, os.Rename(other, db.path))
				}
				lookNow(db)
				require.NoError(t, db.Record(t.Context(), entries(10_000, 10)))
				assert.Contains(t, db.Problem(), "while it was recorded into")
				want := "10"
				if replaced {
					want = "310"
				}
				assert.Equal(t, want, count(t, db))
				require.NoError(t, db.Close())
				old := open(t, moved)
				assert.Equal(t, "3000", count(t, old))
				consistent(t, old)
			})
		}
	}
}

// TestFolderRemoved: a fresh file is not said to be started where none can be.
func TestFolderRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	db := open(t, filepath.Join(dir, "h.sqlite"))
	require.NoError(t, db.Record(t.Context(), entries(0, 10)))
	require.NoError(t, os.Rename(dir, dir+".moved"))
	lookNow(db)
	assert.Error(t, db.Record(t.Context(), entries(10, 10)))
	assert.Contains(t, db.Problem(), "was removed while it was recorded into")
	assert.NotContains(t, db.Problem(), "fresh")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, db.Record(t.Context(), entries(10, 10)))
	assert.Equal(t, "10", count(t, db))
}

// TestForeignInPlace: what is no history and has taken the file's place stays, and recording
// goes on when it is moved away.
func TestForeignInPlace(t *testing.T) {
	db := open(t, path(t))
	require.NoError(t, db.Record(t.Context(), entries(0, 100)))
	text := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(text, []byte("dear diary\n"), 0o600))
	require.NoError(t, os.Rename(text, db.path))
	w := db.Writer()
	lookNow(db)
	for _, e := range entries(1000, 10) {
		w.Add(e)
	}
	require.Eventually(t, func() bool { return w.Problem() != nil }, time.Minute, 10*time.Millisecond)
	assert.ErrorContains(t, w.Problem(), "choose another file, this one stays as it is")
	b, err := os.ReadFile(db.path)
	require.NoError(t, err)
	assert.Equal(t, "dear diary\n", string(b))
	require.NoError(t, os.Remove(db.path))
	require.Eventually(t, func() bool { return w.Problem() == nil }, time.Minute, 10*time.Millisecond)
	require.NoError(t, w.Close())
	assert.Zero(t, w.Dropped())
	assert.Equal(t, "10", count(t, db))
}

// TestNoticedInTime: also while nothing is recorded, a loss is noticed within 10 seconds.
func TestNoticedInTime(t *testing.T) {
	t.Parallel()
	db := open(t, path(t))
	w := db.Writer()
	w.Add(entry(1))
	require.Eventually(t, func() bool { n, _ := w.waiting(); return n == 0 }, time.Minute, 10*time.Millisecond)
	require.NoError(t, os.Remove(db.path))
	require.Eventually(t, func() bool { return db.Problem() != "" }, 10*time.Second, 10*time.Millisecond)
	assert.FileExists(t, db.path)
	require.NoError(t, w.Close())
}
