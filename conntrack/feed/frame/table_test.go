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

// TestTableAgainstNaive: a server that follows a table over a link that breaks, with
// what is under way, learns of every connection and in the end knows what there is.
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
					tb.acked(transit[0].seq)
				}
				transit = transit[1:]
			}
		}
		send := func(events []conntrack.Event, missed uint64) {
			require.Zero(t, missed)
			seq++
			tb.sending(seq, events, 0)
			transit = append(transit, delta{seq, events})
		}
		follow := func() {
			if !tb.follows {
				tb.joined(0, 0)
			}
			ids, before, missed := tb.follow(100, true)
			conns, ids := tb.part(nil, ids)
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
				tb.unfollow(0)
				follows = false
				clear(server)
			case n == 19:
				follow()
				follows = true
			}
		}
		if follows && rng.IntN(2) == 0 {
			transit = nil
			tb.unfollow(0)
		}
		follow()
		require.Equal(t, opened, len(seen), "seed %d: all are seen", seed)
		require.Equal(t, closed, len(ended), "seed %d: and their ends", seed)
		tb.acked(seq)
		require.Empty(t, tb.flight)
		require.Zero(t, tb.flying)
	}
}

// TestTableIsBounded: a server that takes nothing, or none at all, does not make it
// grow, and what there is no room for is counted.
func TestTableIsBounded(t *testing.T) {
	const n = 2 * mostChanges
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
			tb.follow(10, true)
		}
		churn(tb)
		assert.LessOrEqual(t, len(tb.changes), mostChanges, name)
		assert.LessOrEqual(t, len(tb.kept), mostKept, name)
		_, before, lost := tb.follow(10, true)
		ends := 0
		for _, e := range before {
			if e.Kind == conntrack.Close {
				ends++
			}
		}
		assert.EqualValues(t, n, ends+int(lost), "%s: told or counted", name)
		// In flight it is bounded too: nothing more is sent while much is not acknowledged,
		// and after a long time without acknowledgements the oldest counts as lost.
		sent := 0
		for ; sent < 10; sent++ {
			tb.Add(conntrack.Event{Kind: conntrack.Open, Conn: testConn(n+uint64(sent), 1)})
			if urgency, _ := tb.waiting(); urgency == idle {
				break
			}
			tb.sending(uint64(sent), before, 1)
		}
		assert.Less(t, sent, 3, name)
		assert.LessOrEqual(t, tb.flying, mostKept+mostChanges, name)
		tb.lost, tb.ackedAt = 0, time.Now().Add(-2*stallTime)
		urgency, _ := tb.waiting()
		assert.Equal(t, soon, urgency, "%s: what lives is shown all the same", name)
		flew := tb.flying
		tb.sending(10, before, 1)
		assert.LessOrEqual(t, tb.flying, mostKept, name)
		assert.EqualValues(t, flew+ends-tb.flying, tb.lost, name)
	}

	tb := newTable()
	tb.follow(10, true)
	for n := range uint64(15) {
		tb.Add(conntrack.Event{Kind: conntrack.Open, Conn: testConn(n, 1)})
	}
	events, lost := tb.take(true)
	assert.Len(t, events, 10, "as many as the server takes")
	assert.EqualValues(t, 5, lost)
	conns, _, lost := tb.follow(10, true)
	assert.Len(t, conns, 10)
	assert.Zero(t, lost, "not counted again")
	// Losses that were told but not acknowledged are told again.
	tb.sending(1, nil, 5)
	tb.unfollow(2)
	tb.joined(0, 0)
	_, _, lost = tb.follow(10, true)
	assert.EqualValues(t, 7, lost)
	// A server that does not acknowledge is told once.
	tb.follow(10, false)
	tb.sending(2, []conntrack.Event{{Kind: conntrack.Close, Conn: testConn(1, 1)}}, 0)
	assert.Empty(t, tb.flight)
}

// TestMuchInFlight: more ends than are kept fly at once; if they do not arrive they are
// told again or counted.
func TestMuchInFlight(t *testing.T) {
	tb := newTable()
	tb.follow(40_000, true)
	const n = 35_000
	var events []conntrack.Event
	for _, kind := range []conntrack.Kind{conntrack.Open, conntrack.Close} {
		events = nil
		for id := range uint64(n) {
			tb.Add(conntrack.Event{Kind: kind, Conn: testConn(id+1, 1)})
			if id%(mostChanges/2) == 0 || id == n-1 {
				taken, _ := tb.take(true)
				events = append(events, taken...)
			}
		}
	}
	seq, last := uint64(0), 0
	for part := range parts(events, eventSize) {
		seq, last = seq+1, len(part)
		tb.sending(seq, part, 0)
	}
	tb.Add(conntrack.Event{Kind: conntrack.Close, Conn: testConn(n+1, 1)})
	urgency, follows := tb.waiting()
	assert.True(t, follows)
	assert.Equal(t, idle, urgency, "it waits for acknowledgements")
	tb.acked(seq - 1)
	urgency, _ = tb.waiting()
	assert.Equal(t, soon, urgency)
	tb.unfollow(0)
	tb.joined(0, 0)
	_, before, lost := tb.follow(40_000, true)
	told := 0
	for _, e := range before {
		if e.Kind == conntrack.Close {
			told++
		}
	}
	assert.Equal(t, last+1, told, "those of the last delta, and what was not sent yet")
	assert.Zero(t, lost)
	tb.sending(seq+1, before, 0)
	tb.unfollow(0)
	for id := range uint64(mostKept) {
		tb.Add(conntrack.Event{Kind: conntrack.Close, Conn: testConn(n+10+id, 1)})
	}
	tb.joined(0, 0)
	_, before, lost = tb.follow(40_000, true)
	assert.EqualValues(t, told+mostKept, uint64(len(before))+lost)
	assert.NotZero(t, lost)
}

// unspooled has a batch of the spool be told, asking first what the server has of it.
func unspooled(t *testing.T, tb *Table, seq uint64) (ends int, lost uint64) {
	tb.seq = seq
	frames := tb.unspool(true)
	if len(frames) > 0 && frames[0].Type() == TypeAsk {
		tb.answered(frames[0].(Ask).Run, 0)
		frames = tb.unspool(true)
	}
	for _, f := range frames {
		d := f.(Delta)
		ends, lost = ends+len(d.Events), lost+d.Lost
	}
	return ends, lost
}

// TestToldUntilItIsSafe: a server's process is told of an end or a loss once, and another
// process once more, as long as nobody has acknowledged it.
func TestToldUntilItIsSafe(t *testing.T) {
	tb := newTable()
	follow := func(recorded, heard uint64) (ends int, lost uint64) {
		tb.unfollow(0)
		tb.joined(recorded, heard)
		_, before, lost := tb.follow(10, true)
		return countEnds(before), lost
	}
	for _, spooled := range []bool{false, true} {
		follow(0, 0)
		if tb.sending(1, closes(1, 2), 17); spooled {
			var err error
			tb.spool, err = openSpool(t.TempDir())
			require.NoError(t, err)
			_, err = tb.spool.putNew(closes(1, 2), 17)
			require.NoError(t, err)
			tb.acked(1)
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
			tb.sending(3, closes(1, 2), lost)
		}
		ends, lost = again(3, 0)
		assert.Zero(t, ends)
		assert.Zero(t, lost)
		assert.Empty(t, tb.flight)
	}
}

// TestBatchIsKeptUntilItIsSafe: that memory has no room for what is in flight must not cost
// what the spool has of it.
func TestBatchIsKeptUntilItIsSafe(t *testing.T) {
	tb := newTable()
	tb.room = 100
	var err error
	tb.spool, err = openSpool(t.TempDir())
	require.NoError(t, err)
	_, err = tb.spool.putNew(closes(1, 10), 0)
	require.NoError(t, err)
	tb.joined(0, 0)
	tb.follow(10, true)
	ends, _ := unspooled(t, tb, 0)
	require.Equal(t, 10, ends)
	tb.unfollow(0)
	for _, e := range closes(100, 1000) {
		tb.Add(e)
	}
	tb.joined(0, 0)
	_, before, lost := tb.follow(10, true)
	told := len(before)
	for seq := uint64(2); len(tb.spool.batches) > 0; seq++ {
		ends, more := unspooled(t, tb, seq-1)
		require.NotZero(t, ends)
		told, lost = told+ends, lost+more
		tb.acked(seq)
	}
	assert.Equal(t, 1010, told)
	assert.Zero(t, lost)
}

// TestGiveBack: what was taken stays as it is until it is given back, whatever comes.
func TestGiveBack(t *testing.T) {
	tb := newTable()
	tb.follow(1000, true)
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
		tb.giveBack(events)
	}
	// Room of a burst is let go of when the burst is over.
	for i := range uint64(5000) {
		tb.Add(conntrack.Event{Kind: conntrack.Open, Conn: testConn(i, 1)})
	}
	for range 3 {
		tb.Add(conntrack.Event{Kind: conntrack.Close, Conn: testConn(1, 1)})
		events, _ := tb.take(true)
		tb.giveBack(events)
	}
	assert.LessOrEqual(t, cap(tb.spare), 1000)
}

// TestFollowInParts: a server is given all in parts, and has what is true when it also
// knows what has changed meanwhile, even of IDs that another connection has by then.
func TestFollowInParts(t *testing.T) {
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
	ids, _, _ := tb.follow(1<<20, true)
	require.Len(t, ids, n)
	ended, reopened := 0, map[uint64]bool{}
	for round := 0; ids != nil; round++ {
		var conns []conntrack.Conn
		conns, ids = tb.part(nil, ids)
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
