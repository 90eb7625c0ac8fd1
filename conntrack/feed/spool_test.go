package feed

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/internal/race"
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

// leftOf are the batches that there are in a folder.
func leftOf(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "0*"+spoolMark))
	require.NoError(t, err)
	return names
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
	assert.NotEmpty(t, leftOf(t, dir))
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
	eventually(t, "nothing is left", func() bool { told(); return len(leftOf(t, dir)) == 0 })
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
	err := <-done
	close(over)
	recording.Wait()
	require.NoError(t, err)
	assert.Equal(t, first+second+1, told())
	assert.Empty(t, leftOf(t, dir))
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	assert.Zero(t, r.hub.lost)
}

// TestSpoolIsBounded: what there is no room for is counted, and so is what is damaged.
func TestSpoolIsBounded(t *testing.T) {
	if race.Enabled {
		t.Skip("slow with the race detector, which finds nothing in one goroutine")
	}
	dir := t.TempDir()
	s, err := openSpool(dir)
	require.NoError(t, err)
	ends := ended(1, 15_000)
	for i := range 60 {
		full, err := s.putNew(ends, 1)
		require.NoError(t, err)
		assert.Equal(t, len(s.batches) <= i, full)
	}
	assert.LessOrEqual(t, s.bytes, int64(mostSpooled))
	kept, told := len(s.batches), uint64(0)
	for _, b := range s.batches {
		told += b.ends + b.lost
	}
	assert.EqualValues(t, 60*15_001, told)
	again, err := openSpool(dir)
	require.NoError(t, err)
	assert.Equal(t, s.bytes, again.bytes)
	for i, b := range s.batches {
		b.known = false // another run has to ask
		assert.Equal(t, b, again.batches[i])
	}
	first := func() (got []conntrack.Event, lost uint64) {
		for _, d := range again.first() {
			got, lost = append(got, d.ends...), lost+d.lost
		}
		return got, lost
	}
	got, lost := first()
	assert.EqualValues(t, 1, lost)
	require.Len(t, got, 15_000)
	for i, e := range got {
		assert.True(t, e.Conn.Equal(ends[i].Conn))
		assert.Equal(t, conntrack.Close, e.Kind)
	}
	// What is told leaves the rest.
	deltas := again.first()
	require.Greater(t, len(deltas), 2)
	again.batches[0].told = deltas[1].number
	assert.Equal(t, deltas[2:], again.first())
	for _, damage := range [][]byte{nil, []byte("damaged"), {0x99, 0x3a, 0x98}} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, again.batches[0].name), damage, 0o600))
		got, lost = first()
		assert.Empty(t, got)
		assert.EqualValues(t, 15_001, lost)
		again.drop()
	}
	require.NoError(t, os.Remove(filepath.Join(dir, again.batches[0].name)))
	for range 2 {
		got, lost = first()
		assert.Empty(t, got)
		assert.EqualValues(t, 15_001, lost)
	}
	again.batches[0].told = again.first()[0].number
	_, lost = first()
	assert.Zero(t, lost, "the server knows")
	again.drop()
	assert.Equal(t, kept-4, len(again.batches))

	// Other files are left alone.
	for _, name := range []string{"x", "1-2-3.ends", "000000000001-2.ends", "000000000001-2-3-00.ends", "000000000001-2-3.ends.12.new"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	third, err := openSpool(dir)
	require.NoError(t, err)
	assert.Len(t, third.batches, len(again.batches))
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

// TestStoreOnAFullDisk: what a disk does not take when the agent ends its next run knows as
// lost.
func TestStoreOnAFullDisk(t *testing.T) {
	tb, dir := newTable(), t.TempDir()
	var err error
	tb.spool, err = openSpool(dir)
	require.NoError(t, err)
	tb.spool.save = func(string, []byte) error { return syscall.ENOSPC }
	tb.follow(10, true)
	tb.sending(1, ended(1, 3), 4)
	tb.unfollow(5)
	for _, e := range ended(10, 6) {
		tb.add(e)
	}
	assert.ErrorIs(t, tb.store(), syscall.ENOSPC)
	s, err := openSpool(dir)
	require.NoError(t, err)
	require.Len(t, s.batches, 1)
	assert.Equal(t, []spooledDelta{{number: beyond, lost: 3 + 4 + 5 + 6}}, s.first())
}

// TestSpoolOfOlderVersions: what an older version has left is told.
func TestSpoolOfOlderVersions(t *testing.T) {
	dir := t.TempDir()
	data, err := cbor.Marshal(appendEventRows(nil, ended(1, 5000)))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "000000000003-5000-7.ends"), data, 0o600))
	tb := newTable()
	tb.spool, err = openSpool(dir)
	require.NoError(t, err)
	tb.follow(10, true)
	frames := tb.unspool(true)
	assert.Greater(t, len(frames), 1, "frames are bounded")
	got, lost := 0, uint64(0)
	for _, f := range frames {
		got, lost = got+len(f.(deltaFrame).Events), lost+f.(deltaFrame).Lost
	}
	assert.Equal(t, 5000, got)
	assert.EqualValues(t, 7, lost)
	tb.acked(uint64(len(frames)))
	assert.Empty(t, leftOf(t, dir))
}

// A ledger is a Recorder that loses what it has not written, and no acknowledgement of what
// it has written.
type ledger struct {
	*hub
	lmu     sync.Mutex
	told    []uint64       // since the last page
	pages   []page         // not written yet
	ends    map[uint64]int // written
	reports map[[runLen]byte]uint64
}

type page struct {
	run    [runLen]byte
	number uint64
	ends   []uint64
	f      func()
}

func newLedger() *ledger {
	return &ledger{hub: newHub(), ends: map[uint64]int{}, reports: map[[runLen]byte]uint64{}}
}

func (l *ledger) Delta(a Agent, events []conntrack.Event) {
	l.hub.Delta(a, events)
	l.lmu.Lock()
	defer l.lmu.Unlock()
	for _, e := range events {
		if e.Kind == conntrack.Close {
			l.told = append(l.told, e.Conn.ID&^otherID)
		}
	}
}

func (l *ledger) Recorded(a Agent, number uint64, f func()) bool {
	l.lmu.Lock()
	defer l.lmu.Unlock()
	l.pages = append(l.pages, page{a.Run, number, l.told, f})
	l.told = nil
	return true
}

func (l *ledger) LastRecorded(run [runLen]byte) uint64 {
	l.lmu.Lock()
	defer l.lmu.Unlock()
	return l.reports[run]
}

// write writes the first n pages, and says so if asked to.
func (l *ledger) write(n int, say bool) {
	l.lmu.Lock()
	n = min(n, len(l.pages))
	done := l.pages[:n]
	l.pages = l.pages[n:]
	for _, p := range done {
		l.reports[p.run] = max(l.reports[p.run], p.number)
		for _, id := range p.ends {
			l.ends[id]++
		}
	}
	l.lmu.Unlock()
	for _, p := range done {
		if say {
			p.f()
		}
	}
}

// TestToldByAnEarlierRun: what a run has told and did not see acknowledged, since it was
// killed or ended, the next run asks for, and tells just what is not recorded.
func TestToldByAnEarlierRun(t *testing.T) {
	for _, killed := range []bool{false, true} {
		for _, written := range []int{0, 1, 2, 3, 100} {
			for _, restarts := range []bool{false, true} {
				t.Run(fmt.Sprintf("killed %v, %d pages written, server restarts %v", killed, written, restarts), func(t *testing.T) {
					t.Parallel()
					testToldByAnEarlierRun(t, killed, written, restarts)
				})
			}
		}
	}
}

func testToldByAnEarlierRun(t *testing.T, killed bool, written int, restarts bool) {
	id, addr, dir := identity(t), freeAddr(t), t.TempDir()
	const each = 2500 // more than go into a frame
	if killed {
		s, err := openSpool(dir)
		require.NoError(t, err)
		_, err = s.putNew(ended(1, 2*each), 3)
		require.NoError(t, err)
	}
	l := newLedger()
	_, stopServer := serve(t, id, l, addr)
	src := make(script)
	done, stop := report(t, &Client{Addr: addr, Token: id.Token(), Source: src, Spool: dir})
	told := func() (n int) {
		l.lmu.Lock()
		defer l.lmu.Unlock()
		for _, p := range l.pages {
			n += len(p.ends)
		}
		return n
	}
	eventually(t, "it has joined", func() bool { _, n := l.total(); return n == 1 })
	if !killed {
		for n := range uint64(2) {
			for _, e := range ended(1+n*each, each) {
				src <- e
			}
			eventually(t, "they are told", func() bool { return told() == int(1+n)*each })
		}
	} else {
		// What there is to be recorded of the run before must be known before it is told.
		eventually(t, "it asks, and tells", func() bool {
			if told() == 0 {
				l.write(1, true)
			}
			return told() == 2*each
		})
	}
	kept := filepath.Join(t.TempDir(), "kept")
	if killed {
		require.NoError(t, os.CopyFS(kept, os.DirFS(dir))) // as a process that is killed leaves it
	}
	stop()
	require.NoError(t, <-done)
	if killed {
		require.NoError(t, os.RemoveAll(dir))
		require.NoError(t, os.Rename(kept, dir))
	}
	require.NotEmpty(t, leftOf(t, dir), "nothing is acknowledged")
	l.write(written, false)
	if restarts {
		stopServer()
		l.lmu.Lock()
		l.pages = nil
		l.lmu.Unlock()
		serve(t, id, l, addr)
	}
	report(t, &Client{Addr: addr, Token: id.Token(), Source: make(script), Spool: dir})
	eventually(t, "nothing is left", func() bool {
		l.write(1000, true)
		return len(leftOf(t, dir)) == 0
	})
	l.lmu.Lock()
	defer l.lmu.Unlock()
	assert.Len(t, l.ends, 2*each)
	for id, n := range l.ends {
		require.Equal(t, 1, n, "how often %d is recorded", id)
	}
}
