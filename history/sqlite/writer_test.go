package sqlite

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

func TestWriter(t *testing.T) {
	db := open(t, path(t))
	w := db.Writer()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for _, e := range entries(g*100_000, 5000) {
				w.Add(e)
			}
		})
	}
	wg.Wait()
	require.NoError(t, w.Close())
	require.NoError(t, w.Close())
	assert.Equal(t, "20000", count(t, db))
	assert.NoError(t, w.Problem())
	assert.Zero(t, w.Dropped())

	w.Add(entry(0))
	assert.EqualValues(t, 1, w.Dropped())
}

// What waits need not wait for more.
func TestWriterDelay(t *testing.T) {
	db := open(t, path(t))
	w := db.Writer()
	defer w.Close()
	start := time.Now()
	w.Add(entry(0))
	require.Eventually(t, func() bool { return count(t, db) == "1" }, time.Minute, 5*time.Millisecond)
	assert.GreaterOrEqual(t, time.Since(start), batchDelay)
}

// Entries that were merged in the queue give the same rows as those that were
// not.
func TestWriterLikeTwin(t *testing.T) {
	db := open(t, path(t))
	w := db.Writer()
	rng := rand.New(rand.NewPCG(3, 4))
	want := newTwin()
	for i := range fewer(20_000) {
		e := small(binary.LittleEndian.AppendUint32(nil, rng.Uint32()))
		e.Resumed = false // TestRecordLikeTwin has those
		want.record(e)
		w.Add(e)
		if i%fewer(5000) == 0 {
			time.Sleep(batchDelay + 50*time.Millisecond)
		}
	}
	require.NoError(t, w.Close())
	want.check(t, db)
}

// blocked returns a history that nobody can write into until other rolls back.
func blocked(t *testing.T) (db *DB, other *sqlite.Conn) {
	t.Helper()
	db = open(t, path(t))
	db.conn.SetBusyTimeout(10 * time.Millisecond)
	other, err := sqlite.OpenConn(db.path, sqlite.OpenReadWrite)
	require.NoError(t, err)
	t.Cleanup(func() { other.Close() })
	require.NoError(t, sqlitex.ExecuteTransient(other, `BEGIN IMMEDIATE`, nil))
	return db, other
}

// TestWriterCountsFirst: who is told that all is recorded is not told before what there was
// no room for is counted, for the process may end then.
func TestWriterCountsFirst(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	db, other := blocked(t)
	w := db.Writer()
	defer w.Close()
	all := entries(0, queueLen+100)
	for i := range all {
		all[i].Closed = all[i].Seen
		w.Add(all[i])
	}
	require.Eventually(t, w.Failing, time.Minute, time.Millisecond)
	counted := make(chan int64, 1)
	w.then(func() {
		var n int64
		assert.NoError(t, sqlitex.ExecuteTransient(other, `SELECT sum(count) FROM losses`, &sqlitex.ExecOptions{
			ResultFunc: func(row *sqlite.Stmt) error { n = row.ColumnInt64(0); return nil },
		}))
		counted <- n
	})
	require.NoError(t, sqlitex.ExecuteTransient(other, `ROLLBACK`, nil))
	assert.EqualValues(t, 100, <-counted)
	assert.False(t, w.Failing())
}

// While another program holds the file, Add does not wait, what is seen again
// and again takes no more space, and what is too much is dropped and counted.
func TestWriterOverload(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	db, other := blocked(t)

	w := db.Writer()
	for _, e := range entries(0, queueLen+100) {
		w.Add(e)
	}
	assert.EqualValues(t, 100, w.Dropped())
	for _, e := range entries(0, queueLen) {
		e.New = false
		w.Add(e)
	}
	assert.LessOrEqual(t, w.Dropped(), uint64(100+batchLen), "all but those in flight merge")
	require.Eventually(t, func() bool { return w.Problem() != nil }, 5*time.Minute, 10*time.Millisecond)
	assert.ErrorContains(t, w.Problem(), "stop the program that has locked it")
	assert.ErrorContains(t, w.Problem(), "65536 entries wait")

	free, _ := w.Room()
	assert.Zero(t, free)
	for i, e := range entries(100_000, 5) {
		e.Agent, e.Closed = []string{"nas", "web"}[i%2], e.Opened
		w.Add(e)
	}

	require.NoError(t, sqlitex.ExecuteTransient(other, `ROLLBACK`, nil))
	require.Eventually(t, func() bool { n, _ := w.waiting(); return n == 0 }, 3*time.Minute, 10*time.Millisecond)
	assert.Equal(t, [][]any{{"nas", int64(3)}, {"web", int64(2)}}, ask(t, console(t, db), `SELECT agent, count FROM losses ORDER BY agent`, nil), "ends are told once")
	free, size := w.Room()
	assert.Equal(t, [2]int{queueLen, queueLen}, [2]int{free, size})
	assert.Equal(t, "65536", count(t, db))
	assert.ErrorContains(t, w.Problem(), "entries lost so far")
	require.NoError(t, w.Close())
}

// TestWriterOutlivesDB: a Writer that is idle does no harm after the DB was closed.
func TestWriterOutlivesDB(t *testing.T) {
	db := open(t, path(t))
	require.NoError(t, db.Close())
	db.releaseMemory()
	w := db.Writer()
	time.Sleep(50 * time.Millisecond)
	require.NoError(t, w.Close())
}

// TestMostThen: those that wait to be called are bounded, as while the disk is full.
func TestMostThen(t *testing.T) {
	db, other := blocked(t)
	w := db.Writer()
	defer w.Close()
	w.Add(entry(1))
	var called atomic.Int64
	for range queueLen + 100 {
		w.then(func() { called.Add(1) })
	}
	require.NoError(t, sqlitex.ExecuteTransient(other, `ROLLBACK`, nil))
	require.Eventually(t, func() bool { return called.Load() == queueLen }, time.Minute, time.Millisecond)
}

// TestThen: what is to follow a recording follows it, in order, and not before.
func TestThen(t *testing.T) {
	db := open(t, path(t))
	defer db.Close()
	w := db.Writer()
	called := make(chan string, 10)
	w.then(func() { called <- "nothing waits: at once" })
	assert.Equal(t, "nothing waits: at once", <-called)
	for i := range 2500 {
		w.Add(entry(i))
		if i == 0 || i == 1500 || i == 2499 {
			w.then(func() {
				rows, err := db.Stats()
				if assert.NoError(t, err) {
					assert.Greater(t, rows.Rows, int64(i))
				}
				called <- fmt.Sprint(i)
			})
		}
	}
	for _, want := range []string{"0", "1500", "2499"} {
		select {
		case got := <-called:
			assert.Equal(t, want, got)
		case <-time.After(time.Minute):
			t.Fatal(want)
		}
	}
	require.NoError(t, w.Close())
}
