package feed

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
)

var endTime = time.Now().Add(-time.Hour).Truncate(time.Millisecond)

// ended are n ends of connections with IDs from first on.
func ended(first, n uint64) (ends []conntrack.Event) {
	for id := first; id < first+n; id++ {
		c := testConn(id, 1)
		c.Process.Container = ""
		ends = append(ends, conntrack.Event{Kind: conntrack.Close, Time: endTime, Conn: c})
	}
	return ends
}

// TestSpool: many times what memory has room for is told after a long time without a
// server, also by the next run of the agent.
func TestSpool(t *testing.T) {
	id, addr, dir := identity(t), freeAddr(t), filepath.Join(t.TempDir(), "spool")
	const first, second = 70_000, 5_000
	run := func(from, n uint64) {
		src := make(script)
		c := &Client{Addr: addr, Token: id.Token(), Source: src, Spool: dir}
		done, stop := report(t, c)
		for _, e := range ended(from, n) {
			src <- e
		}
		stop()
		require.NoError(t, <-done)
	}
	run(1, first)
	run(first+1, second)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.NotEmpty(t, left)
	r := newRecorder()
	_, stopServer := serve(t, id, r, addr)
	src := make(script)
	done, stop := report(t, &Client{Addr: addr, Token: id.Token(), Source: src, Spool: dir})
	began := time.Now()
	told := func() int {
		r.record()
		r.rmu.Lock()
		defer r.rmu.Unlock()
		return len(r.safe)
	}
	// The server fails in between.
	eventually(t, "some are recorded", func() bool { return told() > 10_000 })
	stopServer()
	r.crash()
	serve(t, id, r, addr)
	require.Eventually(t, func() bool { return told() == first+second }, time.Minute, 20*time.Millisecond, "all are recorded: %d", told())
	t.Logf("%d ends told in %v", first+second, time.Since(began).Round(time.Millisecond))
	eventually(t, "nothing is left", func() bool { told(); left, err := os.ReadDir(dir); return err == nil && len(left) == 0 })
	r.rmu.Lock()
	assert.True(t, r.last.Equal(endTime), "it ended when it did, however late that is told: %v", r.last)
	r.rmu.Unlock()
	// What comes while the agent is told to end is told.
	src <- ended(1_000_000, 1)[0]
	time.Sleep(10 * time.Millisecond)
	over := make(chan struct{})
	var recording sync.WaitGroup
	recording.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-time.After(50 * time.Millisecond):
				told()
			}
		}
	})
	stop()
	err = <-done
	close(over)
	recording.Wait()
	require.NoError(t, err)
	assert.Equal(t, first+second+1, told())
	left, err = os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	assert.Zero(t, r.hub.lost)
}

// TestSpoolIsBounded: what there is no room for is counted, and so is what is damaged.
func TestSpoolIsBounded(t *testing.T) {
	dir := t.TempDir()
	s, err := openSpool(dir)
	require.NoError(t, err)
	ends := ended(1, 15_000)
	for i := range 60 {
		dropped, err := s.put(ends, 1)
		require.NoError(t, err)
		assert.Equal(t, len(s.batches) <= i, dropped)
	}
	assert.LessOrEqual(t, s.bytes, int64(mostSpooled))
	kept, told := len(s.batches), uint64(0)
	for _, b := range s.batches {
		told += b.ends + b.lost
	}
	assert.EqualValues(t, 60*15_001, told)
	again, err := openSpool(dir)
	require.NoError(t, err)
	assert.Equal(t, s.batches, again.batches)
	assert.Equal(t, s.bytes, again.bytes)
	got, lost := again.first(0)
	assert.EqualValues(t, 1, lost)
	require.Len(t, got, 15_000)
	for i, e := range got {
		assert.True(t, e.Conn.Equal(ends[i].Conn))
		assert.Equal(t, conntrack.Close, e.Kind)
	}
	for _, damage := range [][]byte{nil, []byte("damaged"), {0x99, 0x3a, 0x98}} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, again.batches[0].name), damage, 0o600))
		got, lost = again.first(0)
		assert.Empty(t, got)
		assert.EqualValues(t, 15_001, lost)
		again.drop()
	}
	again.batches[0].counted = true
	got, lost = again.first(0)
	assert.Len(t, got, 15_000)
	assert.Zero(t, lost, "that is recorded")
	require.NoError(t, os.Remove(filepath.Join(dir, again.batches[0].name)))
	for range 2 {
		got, lost = again.first(0)
		assert.Empty(t, got)
		assert.EqualValues(t, 15_000, lost)
	}
	again.batches[0].toldBy = 5
	_, lost = again.first(4)
	assert.EqualValues(t, 15_000, lost)
	_, lost = again.first(5)
	assert.Zero(t, lost, "the server knows")
	again.drop()
	assert.Equal(t, kept-4, len(again.batches))

	// Other files are left alone.
	for _, name := range []string{"x", "1-2-3.ends", "000000000001-2.ends", "000000000001-2-3.ends.12.new"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	third, err := openSpool(dir)
	require.NoError(t, err)
	assert.Equal(t, again.batches, third.batches)
	err = (&Client{Addr: "map", Token: Token{secret: [16]byte{1}}, Source: make(script), Spool: "/dev/null/x"}).Run(context.Background())
	assert.ErrorContains(t, err, "/dev/null")
}

// TestSpoolOnAFullDisk: memory goes on as without a spool.
func TestSpoolOnAFullDisk(t *testing.T) {
	table := newTable()
	dir := t.TempDir()
	var err error
	table.spool, err = openSpool(dir)
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(dir))
	for _, e := range ended(1, mostKept+500) {
		table.add(e)
	}
	assert.Len(t, table.kept, mostKept)
	assert.EqualValues(t, 500, table.lost)
}
