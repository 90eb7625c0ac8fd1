package frame

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
)

// collect returns a function that sends to nobody, and the deltas that it was given.
func collect() (send func(Frame) error, deltas *[]Delta) {
	deltas = new([]Delta)
	return func(f Frame) error {
		if d, ok := f.(Delta); ok {
			*deltas = append(*deltas, d)
		}
		return nil
	}, deltas
}

// TestManyUnheard: close events that were sent one at a time, and did not arrive, are sent again
// in order and at once. It would take minutes if each of them moved all others.
func TestManyUnheard(t *testing.T) {
	tb := newTable()
	for range 3 {
		send, deltas := collect()
		r := tb.Report(Welcome{MaxConns: 10, Acks: true, States: true}, send)
		require.NoError(t, r.Flush(time.Now()))
		if len(*deltas) == 0 {
			for _, e := range closes(1, defaultMaxCloses) {
				tb.Add(e)
				require.NoError(t, r.Finish())
			}
			for _, e := range closes(defaultMaxCloses+1, defaultMaxCloses/2) { // without an acknowledgement
				tb.ackedAt = time.Time{}
				tb.Add(e)
				require.NoError(t, r.Finish())
			}
			r.Close()
			continue
		}
		id, lost := uint64(defaultMaxCloses/2), uint64(0)
		for _, d := range *deltas {
			for _, e := range d.Events {
				id++
				require.Equal(t, id, e.Conn.ID)
			}
			lost += d.Lost
		}
		assert.EqualValues(t, defaultMaxCloses*3/2, id)
		assert.EqualValues(t, defaultMaxCloses/2, lost)
		assert.Less(t, len(*deltas), 100)
		r.Close()
	}
}

// TestManySmallDeltas: what a server has not acknowledged for hours, a close event at a time,
// goes to it in few frames, of which none is throttled. A part that is recorded does not come
// again, and what was sent and did not arrive does.
func TestManySmallDeltas(t *testing.T) {
	const n, recorded = 20_000, 7_000
	dir := t.TempDir()
	before, err := OpenTable(TableOptions{Spool: dir})
	require.NoError(t, err)
	send, small := collect()
	r := before.Report(Welcome{MaxConns: 10, Acks: true, Runs: true, States: true}, send)
	require.NoError(t, r.Flush(time.Now()))
	for _, e := range closes(1, n) {
		before.Add(e)
		require.NoError(t, r.Finish())
	}
	require.Len(t, *small, n)
	number := (*small)[recorded-1].Seq
	r.Close()
	require.NoError(t, before.Close())

	table, err := OpenTable(TableOptions{Spool: dir})
	require.NoError(t, err)
	for _, heard := range []uint64{0, 5, 1 << 60} {
		send, deltas := collect()
		r = table.Report(Welcome{MaxConns: 10, Acks: true, Runs: true, States: true, Heard: heard}, send)
		require.NoError(t, r.Flush(time.Now()))
		if heard < 1<<60 {
			require.Empty(t, *deltas, "it asks first")
			table.answer(before.run, number)
			require.NoError(t, r.Flush(time.Now()))
		}
		assert.Less(t, len(*deltas), 50)
		got := map[uint64]bool{}
		for _, d := range *deltas {
			assert.Equal(t, before.run, d.Run)
			for _, e := range d.Events {
				id := e.Conn.ID &^ spooledIDBit
				require.False(t, got[id])
				got[id] = true
				require.LessOrEqual(t, (*small)[id-1].Seq, d.Number, "what it holds is before its number")
				require.Greater(t, (*small)[id-1].Seq, number)
			}
		}
		switch heard {
		case 0:
			assert.Len(t, got, n-recorded)
		case 5:
			assert.Less(t, len(got), n-recorded, "some are heard")
			assert.NotEmpty(t, got)
		default:
			assert.Empty(t, got, "all are heard, and wait for their acknowledgement")
		}
		r.Close()
	}
	table.acknowledge(1 << 60)
	assert.Empty(t, leftOf(t, dir))
}

// TestSpoolToOlderServers: a server that does not know runs receives the spool as deltas, until
// it has acknowledged them. One that does not acknowledge receives nothing of it.
func TestSpoolToOlderServers(t *testing.T) {
	dir := t.TempDir()
	before, err := OpenTable(TableOptions{Spool: dir})
	require.NoError(t, err)
	send, sent := collect()
	r := before.Report(Welcome{MaxConns: 10, Acks: true, Runs: true}, send)
	require.NoError(t, r.Flush(time.Now()))
	for _, e := range closes(1, 3) {
		before.Add(e)
	}
	require.NoError(t, r.Finish())
	require.Len(t, *sent, 1, "in flight")
	r.Close()
	for _, e := range closes(4, 2) {
		before.Add(e)
	}
	before.Add(conntrack.Event{Kind: conntrack.Lost, Lost: 7})
	require.NoError(t, before.Close())
	require.Len(t, leftOf(t, dir), 2, "what was sent, and what was not")

	table, err := OpenTable(TableOptions{Spool: dir})
	require.NoError(t, err)
	report := func(w Welcome) (ids []uint64, lost, last uint64) {
		send, deltas := collect()
		r := table.Report(w, func(f Frame) error {
			require.NotEqual(t, TypeAsk, f.Type(), "it would not be answered")
			return send(f)
		})
		defer r.Close()
		// As a server would that takes its time.
		for range 5 {
			require.NoError(t, r.Flush(time.Now()))
			for _, d := range *deltas {
				require.Equal(t, TypeDelta, d.Type())
				for _, e := range d.Events {
					ids = append(ids, e.Conn.ID&^spooledIDBit)
				}
				lost, last = lost+d.Lost, d.Seq
			}
			*deltas = nil
			if w.Last == 1 {
				table.acknowledge(last)
			}
		}
		return ids, lost, last
	}
	ids, _, _ := report(Welcome{MaxConns: 10})
	assert.Empty(t, ids)
	ids, lost, _ := report(Welcome{MaxConns: 10, Acks: true})
	assert.Equal(t, []uint64{1, 2, 3}, ids, "one batch at a time")
	assert.Zero(t, lost)
	ids, lost, _ = report(Welcome{MaxConns: 10, Acks: true, Last: 1})
	assert.Equal(t, []uint64{1, 2, 3, 4, 5}, ids, "what was not acknowledged again, and the rest")
	assert.EqualValues(t, 7, lost)
	assert.Empty(t, leftOf(t, dir))
}

// TestOlderServers: a server gets states of sockets and names of peers if it knows them.
func TestOlderServers(t *testing.T) {
	c := testConn(1, 443)
	c.State = conntrack.CloseWait
	c.Name, c.NameSource = "www.example.com", conntrack.NameSNI
	for _, server := range []Welcome{{}, {States: true}, {Names: true}, {States: true, Names: true}} {
		server.MaxConns, server.Acks = 10, true
		table := newTable()
		table.Add(conntrack.Event{Kind: conntrack.Open, Conn: c})
		want := c
		if !server.States {
			want.State = 0
		}
		if !server.Names {
			want.Name, want.NameSource = "", 0
		}
		var got []conntrack.Conn
		r := table.Report(server, func(f Frame) error {
			switch f := f.(type) {
			case Full:
				got = append(got, f.Conns[0])
			case Delta:
				got = append(got, f.Events[0].Conn)
			}
			return nil
		})
		require.NoError(t, r.Flush(time.Now()))
		table.Add(conntrack.Event{Kind: conntrack.Close, Conn: c})
		require.NoError(t, r.Finish())
		assert.Equal(t, []conntrack.Conn{want, want}, got, "it would refuse anything else")
		// It may have a successor that knows more.
		r.Close()
		got = nil
		r = table.Report(Welcome{MaxConns: 10, Acks: true, States: true, Names: true}, func(f Frame) error {
			if d, ok := f.(Delta); ok {
				got = append(got, d.Events[0].Conn)
			}
			return nil
		})
		require.NoError(t, r.Flush(time.Now()))
		assert.Equal(t, []conntrack.Conn{c}, got)
	}
}

// TestNameIsUrgent: a name that becomes known goes out as soon as an opening.
func TestNameIsUrgent(t *testing.T) {
	c, table := testConn(1, 443), newTable()
	r := table.Report(Welcome{MaxConns: 10, Names: true}, func(Frame) error { return nil })
	table.Add(conntrack.Event{Kind: conntrack.Open, Conn: c})
	require.NoError(t, r.Flush(time.Now()))
	c.Tx++
	table.Add(conntrack.Event{Kind: conntrack.Update, Conn: c})
	urgency, _ := table.status()
	assert.Equal(t, counters, urgency)
	c.Name, c.NameSource = "www.example.com", conntrack.NameSNI
	table.Add(conntrack.Event{Kind: conntrack.Update, Conn: c})
	urgency, _ = table.status()
	assert.Equal(t, soon, urgency)
}
