package frame

import (
	mathrand "math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
)

// TestTableAgainstNaive: a server that follows a table over a connection that breaks and loses
// what is under way receives every connection and every close event, and in the end has what
// the source has.
func TestTableAgainstNaive(t *testing.T) {
	for seed := range uint64(300) {
		rng := mathrand.New(mathrand.NewPCG(seed, 1))
		tb := newTable()
		truth := map[uint64]conntrack.Conn{} // of the source
		server := map[uint64]conntrack.Conn{}
		type life struct { // of a socket
			id  uint64
			uid uint32
		}
		type delta struct {
			seq    uint64
			events []conntrack.Event
		}
		opened, seen, ended := 0, map[life]bool{}, map[life]bool{}
		closed := 0
		var transit []delta
		seq := uint64(0)
		deliver := func(n int) {
			for ; n > 0 && len(transit) > 0; n-- {
				for _, e := range transit[0].events {
					l := life{e.Conn.ID, e.Conn.UID}
					seen[l] = true
					if e.Kind == conntrack.Close {
						ended[l] = true
						delete(server, e.Conn.ID)
					} else {
						server[e.Conn.ID] = e.Conn
					}
				}
				if rng.IntN(2) == 0 {
					tb.acknowledge(transit[0].seq)
				}
				transit = transit[1:]
			}
		}
		send := func(events []conntrack.Event, missed uint64) {
			require.Zero(t, missed)
			seq++
			tb.noteSent(seq, events, 0)
			transit = append(transit, delta{seq, events})
		}
		follow := func() {
			if !tb.synced {
				tb.resume(0, 0)
			}
			ids, before, missed := tb.sync(100, true)
			conns, ids := tb.nextPart(nil, ids)
			require.Empty(t, ids)
			send(before, missed)
			deliver(len(transit))
			clear(server)
			for _, c := range conns {
				server[c.ID] = c
				seen[life{c.ID, c.UID}] = true
			}
			require.Equal(t, truth, server, "seed %d", seed)
		}
		follows := false
		for step := range 400 {
			switch n := rng.IntN(20); {
			case n < 15:
				id := rng.Uint64N(8)
				c, ok := truth[id]
				switch {
				case !ok:
					opened++
					c = testConn(id, 1)
					c.UID = uint32(opened)
					truth[id] = c
					tb.Add(conntrack.Event{Kind: conntrack.Open, Conn: c})
				case rng.IntN(3) == 0:
					closed++
					delete(truth, id)
					tb.Add(conntrack.Event{Kind: conntrack.Close, Conn: c})
				default:
					c.Tx++
					if rng.IntN(4) == 0 {
						c.Process.PID++
					}
					truth[id] = c
					tb.Add(conntrack.Event{Kind: conntrack.Update, Conn: c})
				}
			case n == 15 && follows:
				deliver(1 + rng.IntN(3))
			case n < 18 && follows:
				send(tb.take(n == 17))
				if n == 17 {
					deliver(len(transit))
					require.Equal(t, truth, server, "seed %d step %d", seed, step)
				}
			case n == 18 && follows:
				transit = nil // is lost with the link
				tb.unsync(0)
				follows = false
				clear(server)
			case n == 19:
				follow()
				follows = true
			}
		}
		if follows && rng.IntN(2) == 0 {
			transit = nil
			tb.unsync(0)
		}
		follow()
		require.Equal(t, opened, len(seen), "seed %d: all are seen", seed)
		require.Equal(t, closed, len(ended), "seed %d: and their ends", seed)
		tb.acknowledge(seq)
		require.Empty(t, tb.inFlight)
		require.Zero(t, tb.inFlightCloses)
	}
}

// TestTableIsBounded: without a server, or with one that takes nothing, the table stays within
// its bounds and counts what it drops.
func TestTableIsBounded(t *testing.T) {
	const n = 2 * maxChanges
	churn := func(tb *Table) {
		for i := range uint64(n) {
			c := testConn(i, 1)
			tb.Add(conntrack.Event{Kind: conntrack.Open, Conn: c})
			tb.Add(conntrack.Event{Kind: conntrack.Close, Conn: c})
		}
	}
	for name, follows := range map[string]bool{"slow": true, "none": false} {
		tb := newTable()
		if follows {
			tb.sync(10, true)
		}
		churn(tb)
		assert.LessOrEqual(t, len(tb.changes), maxChanges, name)
		assert.LessOrEqual(t, len(tb.pending), defaultMaxCloses, name)
		_, before, lost := tb.sync(10, true)
		ends := 0
		for _, e := range before {
			if e.Kind == conntrack.Close {
				ends++
			}
		}
		assert.EqualValues(t, n, ends+int(lost), "%s: sent or counted", name)
		// What is in flight is bounded too: nothing more is sent while much is not acknowledged.
		// After a long time without acknowledgements the oldest counts as lost.
		sent := 0
		for ; sent < 10; sent++ {
			tb.Add(conntrack.Event{Kind: conntrack.Open, Conn: testConn(n+uint64(sent), 1)})
			if urgency, _ := tb.status(); urgency == idle {
				break
			}
			tb.noteSent(uint64(sent), before, 1)
		}
		assert.Less(t, sent, 3, name)
		assert.LessOrEqual(t, tb.inFlightCloses, defaultMaxCloses+maxChanges, name)
		tb.lost, tb.ackedAt = 0, time.Now().Add(-2*stallTime)
		urgency, _ := tb.status()
		assert.Equal(t, soon, urgency, "%s: what lives is shown all the same", name)
		flew := tb.inFlightCloses
		tb.noteSent(10, before, 1)
		assert.LessOrEqual(t, tb.inFlightCloses, defaultMaxCloses, name)
		assert.EqualValues(t, flew+ends-tb.inFlightCloses, tb.lost, name)
	}

	tb := newTable()
	tb.sync(10, true)
	for n := range uint64(15) {
		tb.Add(conntrack.Event{Kind: conntrack.Open, Conn: testConn(n, 1)})
	}
	events, lost := tb.take(true)
	assert.Len(t, events, 10, "as many as the server takes")
	assert.EqualValues(t, 5, lost)
	conns, _, lost := tb.sync(10, true)
	assert.Len(t, conns, 10)
	assert.Zero(t, lost, "not counted again")
	// Losses that were sent but not acknowledged are sent again.
	tb.noteSent(1, nil, 5)
	tb.unsync(2)
	tb.resume(0, 0)
	_, _, lost = tb.sync(10, true)
	assert.EqualValues(t, 7, lost)
	// A server that does not acknowledge receives them once.
	tb.sync(10, false)
	tb.noteSent(2, []conntrack.Event{{Kind: conntrack.Close, Conn: testConn(1, 1)}}, 0)
	assert.Empty(t, tb.inFlight)
}

// TestMuchInFlight: more close events than memory has room for may be in flight. If they do not
// arrive they are sent again or counted.
func TestMuchInFlight(t *testing.T) {
	tb := newTable()
	tb.sync(40_000, true)
	const n = 35_000
	var events []conntrack.Event
	for _, kind := range []conntrack.Kind{conntrack.Open, conntrack.Close} {
		events = nil
		for id := range uint64(n) {
			tb.Add(conntrack.Event{Kind: kind, Conn: testConn(id+1, 1)})
			if id%(maxChanges/2) == 0 || id == n-1 {
				taken, _ := tb.take(true)
				events = append(events, taken...)
			}
		}
	}
	seq, last := uint64(0), 0
	for part := range parts(events, eventSize) {
		seq, last = seq+1, len(part)
		tb.noteSent(seq, part, 0)
	}
	tb.Add(conntrack.Event{Kind: conntrack.Close, Conn: testConn(n+1, 1)})
	urgency, synced := tb.status()
	assert.True(t, synced)
	assert.Equal(t, idle, urgency, "it waits for acknowledgements")
	tb.acknowledge(seq - 1)
	urgency, _ = tb.status()
	assert.Equal(t, soon, urgency)
	tb.unsync(0)
	tb.resume(0, 0)
	_, before, lost := tb.sync(40_000, true)
	told := 0
	for _, e := range before {
		if e.Kind == conntrack.Close {
			told++
		}
	}
	assert.Equal(t, last+1, told, "those of the last delta, and what was not sent yet")
	assert.Zero(t, lost)
	tb.noteSent(seq+1, before, 0)
	tb.unsync(0)
	for id := range uint64(defaultMaxCloses) {
		tb.Add(conntrack.Event{Kind: conntrack.Close, Conn: testConn(n+10+id, 1)})
	}
	tb.resume(0, 0)
	_, before, lost = tb.sync(40_000, true)
	assert.EqualValues(t, told+defaultMaxCloses, uint64(len(before))+lost)
	assert.NotZero(t, lost)
}

// unspooled has a batch of the spool be sent, after it has asked what is recorded of it.
func unspooled(t *testing.T, tb *Table, seq uint64) (ends int, lost uint64) {
	tb.seq = seq
	frames := tb.fromSpool(true)
	if len(frames) > 0 && frames[0].Type() == TypeAsk {
		tb.answer(frames[0].(Ask).Run, 0)
		frames = tb.fromSpool(true)
	}
	for _, f := range frames {
		d := f.(Delta)
		ends, lost = ends+len(d.Events), lost+d.Lost
	}
	return ends, lost
}

// TestSentUntilRecorded: one process of a server receives a close event or a loss once, and the
// next process once more, until it is acknowledged.
func TestSentUntilRecorded(t *testing.T) {
	tb := newTable()
	follow := func(recorded, heard uint64) (ends int, lost uint64) {
		tb.unsync(0)
		tb.resume(recorded, heard)
		_, before, lost := tb.sync(10, true)
		return countCloses(before), lost
	}
	for _, spooled := range []bool{false, true} {
		follow(0, 0)
		if tb.noteSent(1, closes(1, 2), 17); spooled {
			var err error
			tb.spool, err = openSpool(t.TempDir())
			require.NoError(t, err)
			_, err = tb.spool.putUnsent(closes(1, 2), 17)
			require.NoError(t, err)
			tb.acknowledge(1)
			unspooled(t, tb, 0)
		}
		again := func(recorded, heard uint64) (int, uint64) {
			ends, lost := follow(recorded, heard)
			if spooled {
				more, also := unspooled(t, tb, 2)
				ends, lost = ends+more, lost+also
			}
			return ends, lost
		}
		ends, lost := again(0, 1)
		assert.Zero(t, ends, "the process knows of them")
		assert.Zero(t, lost)
		ends, lost = again(0, 0)
		assert.Equal(t, 2, ends, "another process does not")
		assert.EqualValues(t, 17, lost)
		if !spooled {
			tb.noteSent(3, closes(1, 2), lost)
		}
		ends, lost = again(3, 0)
		assert.Zero(t, ends)
		assert.Zero(t, lost)
		assert.Empty(t, tb.inFlight)
	}
}

// TestBatchIsKeptUntilRecorded: when memory has no room for what is in flight, what the spool has
// of it is still there.
func TestBatchIsKeptUntilRecorded(t *testing.T) {
	tb := newTable()
	tb.maxCloses = 100
	var err error
	tb.spool, err = openSpool(t.TempDir())
	require.NoError(t, err)
	_, err = tb.spool.putUnsent(closes(1, 10), 0)
	require.NoError(t, err)
	tb.resume(0, 0)
	tb.sync(10, true)
	ends, _ := unspooled(t, tb, 0)
	require.Equal(t, 10, ends)
	tb.unsync(0)
	for _, e := range closes(100, 1000) {
		tb.Add(e)
	}
	tb.resume(0, 0)
	_, before, lost := tb.sync(10, true)
	told := len(before)
	for seq := uint64(2); len(tb.spool.batches) > 0; seq++ {
		ends, more := unspooled(t, tb, seq-1)
		require.NotZero(t, ends)
		told, lost = told+ends, lost+more
		tb.acknowledge(seq)
	}
	assert.Equal(t, 1010, told)
	assert.Zero(t, lost)
}

// TestRecycle: events that were taken do not change before they are recycled.
func TestRecycle(t *testing.T) {
	tb := newTable()
	tb.sync(1000, true)
	for round := range uint16(50) {
		for i := range uint64(20 * (1 + round%3)) {
			tb.Add(conntrack.Event{Kind: conntrack.Open, Conn: testConn(i, round)})
			if i%2 == 0 {
				tb.Add(conntrack.Event{Kind: conntrack.Close, Conn: testConn(i, round)})
			}
		}
		events, _ := tb.take(true)
		want := slices.Clone(events)
		for i := range uint64(70) {
			tb.Add(conntrack.Event{Kind: conntrack.Close, Conn: testConn(i, round+1)})
		}
		assert.Equal(t, want, events)
		tb.recycle(events)
	}
	// The memory of a burst is not kept when the burst is over.
	for i := range uint64(5000) {
		tb.Add(conntrack.Event{Kind: conntrack.Open, Conn: testConn(i, 1)})
	}
	for range 3 {
		tb.Add(conntrack.Event{Kind: conntrack.Close, Conn: testConn(1, 1)})
		events, _ := tb.take(true)
		tb.recycle(events)
	}
	assert.LessOrEqual(t, cap(tb.spare), 1000)
}

// TestSyncInParts: a server that receives all connections in parts, and then what changed
// meanwhile, has what the source has, even if another connection has got an ID meanwhile.
func TestSyncInParts(t *testing.T) {
	tb, truth, server := newTable(), map[uint64]conntrack.Conn{}, map[uint64]conntrack.Conn{}
	add := func(kind conntrack.Kind, c conntrack.Conn) {
		tb.Add(conntrack.Event{Kind: kind, Conn: c})
		if truth[c.ID] = c; kind == conntrack.Close {
			delete(truth, c.ID)
		}
	}
	const n = 10_000
	for id := range uint64(n) {
		add(conntrack.Open, testConn(id, 1))
	}
	ids, _, _ := tb.sync(1<<20, true)
	require.Len(t, ids, n)
	ended, reopened := 0, map[uint64]bool{}
	for round := 0; ids != nil; round++ {
		var conns []conntrack.Conn
		conns, ids = tb.nextPart(nil, ids)
		require.LessOrEqual(t, len(conns), maxItems)
		for _, c := range conns {
			_, twice := server[c.ID]
			require.False(t, twice, c.ID)
			server[c.ID] = c
		}
		if round > 0 {
			continue
		}
		for id := range uint64(n) {
			switch id % 5 {
			case 1:
				c := truth[id]
				c.Tx++
				add(conntrack.Update, c)
			case 2:
				add(conntrack.Close, truth[id])
				ended++
			case 3:
				add(conntrack.Close, truth[id])
				ended++
				add(conntrack.Open, testConn(id, 2))
				reopened[id] = true
			}
		}
		for id := range uint64(100) {
			add(conntrack.Open, testConn(n+id, 3))
		}
	}
	events, lost := tb.take(true)
	assert.Zero(t, lost)
	for _, e := range events {
		had, ok := server[e.Conn.ID]
		switch {
		case e.Kind == conntrack.Close:
			ended--
			assert.True(t, !ok || had.Peer == e.Conn.Peer, "it is not the end of another")
			delete(server, e.Conn.ID)
		case e.Kind == conntrack.Open:
			assert.False(t, ok, e.Conn.ID)
			delete(reopened, e.Conn.ID)
			fallthrough
		default:
			server[e.Conn.ID] = e.Conn
		}
	}
	assert.Zero(t, ended)
	assert.Empty(t, reopened)
	assert.Equal(t, len(truth), len(server))
	for id, c := range truth {
		require.True(t, c.Equal(server[id]), id)
	}
}
