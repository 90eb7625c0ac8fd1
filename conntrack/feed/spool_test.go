package feed

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed/frame"
)

var closeTime = time.Now().Add(-time.Hour).Truncate(time.Millisecond)

// spooledID is what the IDs of connections in the spool have besides.
const spooledID = 1 << 61

// closes are close events of n connections with IDs from first on.
func closes(first, n uint64) (events []conntrack.Event) {
	for id := first; id < first+n; id++ {
		c := testConn(id, 1)
		c.Process.Container = ""
		events = append(events, conntrack.Event{Kind: conntrack.Close, Time: closeTime, Conn: c})
	}
	return events
}

// leftOf are the batches that there are in a folder.
func leftOf(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "0*.ends"))
	require.NoError(t, err)
	return names
}

// TestSpool: after a long time without a server the agent sends many more close events than
// memory has room for, also those of an earlier run.
func TestSpool(t *testing.T) {
	id, addr, dir := identity(t), freeAddr(t), filepath.Join(t.TempDir(), "spool")
	const first, second = 70_000, 5_000
	run := func(from, n uint64) {
		src := make(script)
		c := &Client{Addr: addr, Token: id.Token(), Source: src, Spool: dir}
		done, stop := report(t, c)
		for _, e := range closes(from, n) {
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
	assert.True(t, r.last.Equal(closeTime), "it ended when it did, however late that is told: %v", r.last)
	r.rmu.Unlock()
	// What comes while the agent ends is sent.
	src <- closes(1_000_000, 1)[0]
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

// A ledger is an Acknowledger that loses what it has not written, and no acknowledgement of what
// it has written.
type ledger struct {
	*hub
	lmu     sync.Mutex
	told    []uint64       // since the last page
	pages   []page         // not written yet
	ends    map[uint64]int // written
	reports map[frame.Run]uint64
}

type page struct {
	run    frame.Run
	number uint64
	ends   []uint64
	f      func()
}

func newLedger() *ledger {
	return &ledger{hub: newHub(), ends: map[uint64]int{}, reports: map[frame.Run]uint64{}}
}

func (l *ledger) Delta(a Agent, events []conntrack.Event) {
	l.hub.Delta(a, events)
	l.lmu.Lock()
	defer l.lmu.Unlock()
	for _, e := range events {
		if e.Kind == conntrack.Close {
			l.told = append(l.told, e.Conn.ID&^spooledID)
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

func (l *ledger) LastRecorded(run [16]byte) uint64 {
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

// TestSentByAnEarlierRun: a run asks what is recorded of what the run before has sent without an
// acknowledgement, because it was killed or ended. It sends just what is not recorded.
func TestSentByAnEarlierRun(t *testing.T) {
	for _, killed := range []bool{false, true} {
		for _, written := range []int{0, 1, 2, 3, 100} {
			for _, restarts := range []bool{false, true} {
				t.Run(fmt.Sprintf("killed %v, %d pages written, server restarts %v", killed, written, restarts), func(t *testing.T) {
					t.Parallel()
					testSentByAnEarlierRun(t, killed, written, restarts)
				})
			}
		}
	}
}

func testSentByAnEarlierRun(t *testing.T, killed bool, written int, restarts bool) {
	id, addr, dir := identity(t), freeAddr(t), t.TempDir()
	const each = 2500 // more than go into a frame
	if killed {
		// What a run that has never reached a server has left.
		table, err := frame.OpenTable(frame.TableOptions{Spool: dir})
		require.NoError(t, err)
		for _, e := range closes(1, 2*each) {
			table.Add(e)
		}
		table.Add(conntrack.Event{Kind: conntrack.Lost, Lost: 3})
		require.NoError(t, table.Close())
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
			for _, e := range closes(1+n*each, each) {
				src <- e
			}
			eventually(t, "they are told", func() bool { return told() == int(1+n)*each })
		}
	} else {
		// The agent sends only after the server has recorded what it received before.
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
