package monitor

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	raw "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/conntrack/feed/frame"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/history/sqlite"
	"github.com/connmapgo/connmap/internal/race"
)

// TestManyConnectionsAreRecorded: more at once than wait for the history get there, those
// that end before their turn too, and what is acknowledged is there.
func TestManyConnectionsAreRecorded(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	if race.Enabled {
		t.Skip("takes minutes with the race detector")
	}
	const n, ended = 90_000, 70_000
	file := filepath.Join(t.TempDir(), "h.sqlite")
	db, err := sqlite.Open(t.Context(), file, sqlite.Options{})
	require.NoError(t, err)
	defer db.Close()
	m := newMonitor(t, "")
	w := db.Writer()
	m.History, m.Writer = db, w
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { m.Run(ctx) })
	a := feed.Agent{ID: 1, Name: "nas"}
	m.Join(a)
	var conns []conntrack.Conn
	var ends []conntrack.Event
	for i := range n {
		c := conn(uint64(i), fmt.Sprintf("8.%d.%d.8:443", i>>8&255, i&255))
		c.Local = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i >> 16)}), uint16(1000+i%50_000))
		conns = append(conns, c)
		if i < ended {
			ends = append(ends, conntrack.Event{Kind: conntrack.Close, Conn: c})
		}
	}
	m.Full(a, conns)
	// An agent tells again, by another link, what could not be recorded.
	parts, left, links := slices.Collect(slices.Chunk(ends, 4000)), 0, 1
	for begin := time.Now(); ; links++ {
		require.Less(t, time.Since(begin), 5*time.Minute)
		acked := make(chan struct{}, len(parts))
		told := 0
		for i, part := range parts[left:] {
			m.Delta(a, part)
			if m.Recorded(a, uint64(left+i+1), func() { acked <- struct{}{} }) {
				told++
			}
		}
		for range told {
			<-acked
		}
		if left += told; left == len(parts) {
			break
		}
		assert.False(t, m.Recorded(a, 99, func() {}), "nothing more by this link")
		m.Leave(a)
		time.Sleep(500 * time.Millisecond)
		m.Join(a)
		m.Full(a, conns[ended:])
	}
	t.Logf("%d links", links)
	c, err := sqlite.OpenConsole(t.Context(), file, sqlite.ConsoleOptions{})
	require.NoError(t, err)
	count := func(where string) any {
		table, err := c.Ask(t.Context(), history.Question{SQL: `SELECT count(*) FROM detailed_history WHERE ` + where})
		require.NoError(t, err)
		return table.Rows[0][0]
	}
	assert.EqualValues(t, ended, count("closed IS NOT NULL"))
	cancel()
	work.Wait()
	require.NoError(t, w.Close())
	assert.Zero(t, w.Dropped())
	assert.EqualValues(t, n, count("count = 1"), "what lives is written when the monitor ends")
}

// TestOneRow: a connection whose program becomes known late, or that outlives its agent
// or a server, has one row and is counted once.
func TestOneRow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "h.sqlite")
	at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	c := conn(1, "8.8.8.8:443")
	c.Local, c.Opened, c.Tx, c.Process = netip.MustParseAddrPort("192.0.2.1:1000"), at, 10, conntrack.Process{}
	named := c
	named.Process = conntrack.Process{PID: 7, Comm: "curl"}
	a := feed.Agent{ID: 1, Name: "nas", Run: [16]byte{1}}
	session := func(f func(m *Monitor)) {
		db, err := sqlite.Open(t.Context(), file, sqlite.Options{})
		require.NoError(t, err)
		defer db.Close()
		m := newMonitor(t, "")
		w := db.Writer()
		m.History, m.Writer = db, w
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		work.Go(func() { m.Run(ctx) })
		m.Join(a)
		f(m)
		cancel()
		work.Wait()
		require.NoError(t, w.Close())
	}
	ask := func(columns string) [][]any {
		con, err := sqlite.OpenConsole(t.Context(), file, sqlite.ConsoleOptions{})
		require.NoError(t, err)
		table, err := con.Ask(t.Context(), history.Question{SQL: `SELECT ` + columns + ` FROM detailed_history`})
		require.NoError(t, err)
		return table.Rows
	}
	rows := func() [][]any { return ask(`programname, count, tx, closed IS NOT NULL`) }
	session(func(m *Monitor) {
		m.Full(a, []conntrack.Conn{c})
		time.Sleep(2 * writeEvery)
		m.Delta(a, []conntrack.Event{{Kind: conntrack.Update, Conn: named}})
		time.Sleep(2 * writeEvery)
	})
	assert.Equal(t, [][]any{{"curl", int64(1), int64(10), int64(0)}}, rows())
	// The agent starts anew, and does not know when it opened.
	named.Opened, named.ID, named.Tx = named.Opened.Add(time.Minute), 9, 20
	session(func(m *Monitor) { m.Full(a, []conntrack.Conn{named}) })
	assert.Equal(t, [][]any{{"curl", int64(1), int64(20), int64(0)}}, rows())
	// The program executes another one, and ends.
	renamed := named
	renamed.Process.Comm = "nc"
	end := at.Add(30 * time.Minute)
	session(func(m *Monitor) {
		m.Full(a, []conntrack.Conn{named})
		time.Sleep(2 * writeEvery)
		m.Delta(a, []conntrack.Event{{Kind: conntrack.Update, Conn: renamed}, {Kind: conntrack.Close, Time: end, Conn: renamed}})
		assert.Zero(t, m.LastRecorded(a.Run))
		acked := make(chan struct{})
		assert.True(t, m.Recorded(a, 5, func() { close(acked) }))
		<-acked
		assert.EqualValues(t, 5, m.LastRecorded(a.Run))
	})
	assert.Equal(t, [][]any{{"curl", int64(1), int64(20), int64(1)}}, rows())
	assert.Equal(t, [][]any{{float64(end.UnixMilli()) / 1000, end.Unix()}}, ask(`closed, timestamp`), "it ended when it did, however late that is told")
	session(func(m *Monitor) {
		assert.EqualValues(t, 5, m.LastRecorded(a.Run), "also after a restart")
		assert.Zero(t, m.LastRecorded([16]byte{2}))
		// The same address and port once more is another connection.
		again := named
		again.Opened, again.ID, again.Tx = time.Now().Truncate(time.Millisecond), 10, 1
		m.Full(a, nil)
		m.Delta(a, []conntrack.Event{{Kind: conntrack.Close, Conn: again}})
	})
	assert.Equal(t, [][]any{{"curl", int64(2), int64(21), int64(1)}}, rows())
}

// TestEndOfOpenRow: what an agent tells as ended before it tells what lives, or later from its
// spool, is the connection whose opening was told by an older link, though by another time: a
// clock was set since, or the agent began anew. What follows with the same ends is another one.
func TestEndOfOpenRow(t *testing.T) {
	for _, shift := range []time.Duration{10 * time.Minute, -10 * time.Minute, 7 * time.Second} {
		for _, spooled := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, spooled: %v", shift, spooled), func(t *testing.T) { testEndOfOpenRow(t, shift, spooled) })
		}
	}
}

func testEndOfOpenRow(t *testing.T, shift time.Duration, spooled bool) {
	file := filepath.Join(t.TempDir(), "h.sqlite")
	db, err := sqlite.Open(t.Context(), file, sqlite.Options{})
	require.NoError(t, err)
	defer db.Close()
	m := newMonitor(t, "")
	w := db.Writer()
	m.History, m.Writer = db, w
	c := conn(1, "8.8.8.8:443")
	c.Local, c.Opened, c.Tx = netip.MustParseAddrPort("192.0.2.1:1000"), time.Now().Add(-time.Hour), 10
	a := feed.Agent{ID: 1, Name: "nas", Run: [16]byte{1}}
	m.Join(a)
	m.Full(a, []conntrack.Conn{c})
	m.Leave(a)
	a.ID = 2
	m.Join(a)
	later := c
	if spooled {
		m.Full(a, nil)
		c.ID |= 1 << 61
		require.True(t, frame.Spooled(c))
	}
	c.Opened, c.Tx = c.Opened.Add(shift), 30
	later.ID, later.Opened, later.Tx = 2, c.Opened.Add(time.Minute), 5
	m.Delta(a, []conntrack.Event{{Kind: conntrack.Close, Time: c.Opened.Add(time.Minute), Conn: c}, {Kind: conntrack.Close, Time: time.Now(), Conn: later}})
	m.Full(a, nil)
	m.Leave(a)
	require.NoError(t, w.Close())
	con, err := sqlite.OpenConsole(t.Context(), file, sqlite.ConsoleOptions{})
	require.NoError(t, err)
	table, err := con.Ask(t.Context(), history.Question{SQL: `SELECT count, tx, closed IS NOT NULL FROM detailed_history`})
	require.NoError(t, err)
	assert.Equal(t, [][]any{{int64(2), int64(35), int64(1)}}, table.Rows)
}

// TestClosingIsNotSeen: the history does not call alive what is being closed, nor do hosts
// count it.
func TestClosingIsNotSeen(t *testing.T) {
	before := start
	t.Cleanup(func() { start = before })
	start = start.Add(-time.Hour) // so that it may be long since something was told
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "h.sqlite"), sqlite.Options{})
	require.NoError(t, err)
	defer db.Close()
	m := newMonitor(t, "")
	w := db.Writer()
	m.History, m.Writer = db, w
	defer w.Close()
	a := feed.Agent{ID: 1, Name: "nas"}
	m.Join(a)
	lives, closes := conn(1, "8.8.8.8:443"), conn(2, "8.8.4.4:443")
	lives.Process.Comm, closes.Process.Comm = "ssh", "curl"
	lives.State, closes.State = conntrack.Established, conntrack.CloseWait
	m.Full(a, []conntrack.Conn{lives, closes})
	m.write()
	m.Publish()
	assert.Equal(t, 1, m.State().Agents[0].Conns)
	// As if both had been told of long ago.
	told := map[uint64]time.Duration{}
	for _, e := range m.order {
		require.NotNil(t, e.program)
		e.at -= refreshEvery
		told[e.conn.ID] = e.at
	}
	m.began = time.Time{}
	m.write()
	for _, e := range m.order {
		assert.Equal(t, e.conn.ID == 1, e.at != told[e.conn.ID], "connection %d", e.conn.ID)
	}
}

// TestFullDoesNotFillTheQueue: what an agent leaves out of a Full takes no room that others
// need to tell of ends. What is not recorded of it counts as lost.
func TestFullDoesNotFillTheQueue(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector has what waits take longer than the writer waits for the file")
	}
	file := filepath.Join(t.TempDir(), "h.sqlite")
	db, err := sqlite.Open(t.Context(), file, sqlite.Options{})
	require.NoError(t, err)
	defer db.Close()
	m := newMonitor(t, "")
	w := db.Writer()
	m.History, m.Writer = db, w
	other, err := raw.OpenConn(file, raw.OpenReadWrite)
	require.NoError(t, err)
	defer other.Close()
	_, size := w.Room()
	waiting := make([]history.Record, size*4/5)
	for i := range waiting {
		waiting[i] = history.Entry{Agent: "other", Peer: netip.AddrPortFrom(netip.MustParseAddr("8.8.8.8"), uint16(i)), New: true}
	}
	// It takes seconds until the writer says that it cannot record.
	require.NoError(t, sqlitex.ExecuteTransient(other, `BEGIN IMMEDIATE`, nil))
	for some := range slices.Chunk(waiting, 1000) {
		m.Writer.AddAll(some, func() {})
	}
	a := feed.Agent{ID: 1, Name: "nas", Run: [16]byte{1}}
	m.Join(a)
	m.Full(a, nil)
	assert.True(t, m.Recorded(a, 1, func() {}), "nothing was left out")
	m.Full(a, []conntrack.Conn{conn(1, "8.8.8.8:443"), conn(2, "8.8.8.8:22"), conn(3, "8.8.8.8:25")})
	m.Full(a, []conntrack.Conn{conn(1, "8.8.8.8:443")})
	assert.Len(t, m.agents[1].conns, 1)
	room, _ := w.Room()
	assert.False(t, m.Recorded(a, 2, func() {}))
	m.Delta(a, []conntrack.Event{{Kind: conntrack.Lost, Lost: 5}})
	now, _ := w.Room()
	assert.Equal(t, room, now, "that is told again")
	require.NoError(t, sqlitex.ExecuteTransient(other, `ROLLBACK`, nil))
	require.NoError(t, w.Close())
	c, err := sqlite.OpenConsole(t.Context(), file, sqlite.ConsoleOptions{})
	require.NoError(t, err)
	table, err := c.Ask(t.Context(), history.Question{SQL: `SELECT (SELECT sum(count) FROM losses), (SELECT count(*) FROM detailed_history WHERE agent = 'nas')`})
	require.NoError(t, err)
	assert.Equal(t, [][]any{{int64(2), int64(0)}}, table.Rows)
}

// TestDeltaGoesWithItsNumber: what an agent tells in one go is recorded together with its
// number, or not at all: what is told again was not recorded before, or is known to be.
func TestDeltaGoesWithItsNumber(t *testing.T) {
	file := filepath.Join(t.TempDir(), "h.sqlite")
	db, err := sqlite.Open(t.Context(), file, sqlite.Options{})
	require.NoError(t, err)
	defer db.Close()
	m := newMonitor(t, "")
	w := db.Writer()
	m.History, m.Writer = db, w
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() { m.Run(ctx) })
	con, err := sqlite.OpenConsole(t.Context(), file, sqlite.ConsoleOptions{})
	require.NoError(t, err)
	rows := func() [][]any {
		table, err := con.Ask(t.Context(), history.Question{SQL: `SELECT count, tx, closed IS NOT NULL, (SELECT sum(count) FROM losses) FROM detailed_history`})
		require.NoError(t, err)
		return table.Rows
	}
	a := feed.Agent{ID: 1, Name: "nas", Run: [16]byte{1}}
	m.Join(a)
	// The same ends twice, one after the other. The program has a name: else it may still come.
	one := conn(1, "8.8.8.8:443")
	one.Process.Comm, one.Tx = "curl", 10
	two := one
	two.ID, two.Opened, two.Tx = 2, one.Opened.Add(time.Second), 5
	m.Full(a, []conntrack.Conn{one})
	require.Eventually(t, func() bool { return len(rows()) == 1 }, time.Minute, 10*time.Millisecond)
	one.Tx = 30
	m.Delta(a, []conntrack.Event{{Kind: conntrack.Close, Time: time.Now(), Conn: one}, {Kind: conntrack.Lost, Lost: 3}, {Kind: conntrack.Open, Conn: two}})
	time.Sleep(4 * writeEvery)
	assert.Equal(t, [][]any{{int64(1), int64(10), int64(0), nil}}, rows())
	acked := make(chan struct{})
	require.True(t, m.Recorded(a, 9, func() { close(acked) }))
	<-acked
	assert.EqualValues(t, 9, m.LastRecorded(a.Run))
	require.Eventually(t, func() bool {
		return assert.ObjectsAreEqual([][]any{{int64(2), int64(35), int64(0), int64(3)}}, rows())
	}, time.Minute, 10*time.Millisecond, "%v", rows())
}

// TestCountryOfNeighbours: the history has no country of peers that are not on the Internet: theirs
// would be that of the map.
func TestCountryOfNeighbours(t *testing.T) {
	m, db, w := recording(t)
	a := feed.Agent{ID: 1, Name: "nas"}
	m.Join(a)
	m.Full(a, []conntrack.Conn{conn(1, "8.8.8.8:443"), conn(2, "192.168.1.5:22"), conn(3, "127.0.0.1:9")})
	m.Publish()
	m.writeAll()
	require.NoError(t, w.Close())
	got := map[string]string{}
	for row, err := range db.Newest(t.Context()) {
		require.NoError(t, err)
		got[row.Peer.Addr().String()] = row.Country
	}
	assert.Equal(t, map[string]string{"8.8.8.8": "US", "192.168.1.5": "", "127.0.0.1": ""}, got)
}

// TestProgramThatExecutesAnother: a connection whose program executes another one has one row with
// the name and the file of the first, also if the server or the agent begins anew meanwhile.
func TestProgramThatExecutesAnother(t *testing.T) {
	for _, anew := range []string{"", "server", "agent"} {
		t.Run("anew: "+anew, func(t *testing.T) {
			m, db, w := recording(t)
			a := feed.Agent{ID: 1, Name: "nas"}
			m.Join(a)
			c := conn(1, "8.8.8.8:443")
			c.Process, c.Tx = conntrack.Process{PID: 1, Comm: "inetd", Exe: "/usr/sbin/inetd"}, 3
			m.Full(a, []conntrack.Conn{c})
			m.writeAll()
			c.Process, c.Tx = conntrack.Process{PID: 1, Comm: "cat", Exe: "/usr/bin/cat", Container: "x"}, 7
			switch anew {
			case "server":
				require.NoError(t, w.Close())
				m = newMonitor(t, "")
				w = db.Writer()
				m.History, m.Writer = db, w
				m.Join(a)
				m.Full(a, []conntrack.Conn{c})
			case "agent":
				m.Leave(a)
				a.ID, a.Run = 2, [16]byte{2}
				m.Join(a)
				c.ID, c.Opened = 2, time.Now()
				m.Full(a, []conntrack.Conn{c})
			}
			m.writeAll()
			m.Delta(a, []conntrack.Event{{Kind: conntrack.Close, Time: time.Now(), Conn: c}})
			m.writeAll()
			require.NoError(t, w.Close())
			n := 0
			for row, err := range db.Newest(t.Context()) {
				require.NoError(t, err)
				assert.Equal(t, []any{"inetd", "/usr/sbin/inetd", "", uint64(7)}, []any{row.Program, row.Exe, row.Container, row.Tx})
				assert.False(t, row.Closed.IsZero())
				n++
			}
			assert.Equal(t, 1, n)
		})
	}
}

// recording returns a monitor that records into a new history.
func recording(t *testing.T) (*Monitor, *sqlite.DB, *sqlite.Writer) {
	m := newMonitor(t, "")
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "history.sqlite"), sqlite.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	w := db.Writer()
	m.History, m.Writer = db, w
	return m, db, w
}
