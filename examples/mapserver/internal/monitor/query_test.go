package monitor

import (
	"context"
	"math"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/history/sqlite"
)

// recorded is a monitor with a history of three connections, an hour from one to the
// next.
func recorded(t *testing.T) *Monitor {
	t.Helper()
	db, err := sqlite.Open(context.Background(), filepath.Join(t.TempDir(), "h.sqlite"), sqlite.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	m := newMonitor(t, "\"Web\",peer,443,1,2,3,255,0,0\n\"Shell\",app,ssh,4,5,6,255,0,1\n")
	m.History = db
	var entries []history.Entry
	for i, peer := range []string{"8.8.8.8:443", "8.8.4.4:53", "192.168.1.5:22"} {
		e := history.Entry{Agent: "nas", Protocol: "tcp", Direction: "out", Local: netip.MustParseAddrPort("192.0.2.1:40000"), Peer: netip.MustParseAddrPort(peer),
			Program: "prog", Rule: "Other", Country: "US", New: true, Opened: time.Now().Add(time.Duration(i-3) * time.Hour).Truncate(time.Millisecond), Tx: 7}
		if p, ok := m.Locate(e.Peer.Addr()); ok {
			e.Lat, e.Lon, e.Located = p.Lat, p.Lon, true
		}
		if i == 0 {
			e.Rule = "Web"
		}
		entries = append(entries, e)
	}
	require.NoError(t, db.Record(context.Background(), entries))
	return m
}

func TestNearby(t *testing.T) {
	m := recorded(t)
	p, ok := m.Locate(netip.MustParseAddr("8.8.8.8"))
	require.True(t, ok)
	found, err := m.Nearby(t.Context(), history.Circle{Lat: p.Lat, Lon: p.Lon, Km: 500})
	require.NoError(t, err)
	require.Len(t, found, 2)
	c := found[1] // the newest first
	assert.Equal(t, "Web", c.Label)
	assert.Equal(t, "8.8.8.8:443", c.Peer.String())
	assert.Equal(t, conntrack.TCP, c.Proto)
	assert.Equal(t, conntrack.Out, c.Direction)
	assert.EqualValues(t, 0, c.Rule, "by its label")
	assert.EqualValues(t, 2, found[0].Rule, "Other is the last")
	assert.EqualValues(t, 7, c.Tx)
	assert.EqualValues(t, 1, c.Count)
	assert.Equal(t, p.Lat, c.Place.Lat)
	assert.Equal(t, "nas", c.Agent)
	assert.Zero(t, c.ID)

	found, err = m.Within(t.Context(), netip.MustParsePrefix("8.0.0.0/8"))
	require.NoError(t, err)
	assert.Len(t, found, 2)
	seen, count, err := m.First(t.Context(), netip.MustParseAddr("8.8.8.8"), "prog")
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now().Add(-3*time.Hour), seen, time.Minute)
	assert.EqualValues(t, 1, count)

	// A search looks through all, the newest first.
	found, since, err := m.Search(t.Context(), func(p *live.Past) bool { return p.Label == "Web" })
	require.NoError(t, err)
	assert.True(t, since.IsZero())
	require.Len(t, found, 1)
	assert.Equal(t, c, found[0])
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = m.Search(stopped, func(*live.Past) bool { return true })
	assert.ErrorIs(t, err, context.Canceled)

	// Without a history all of this says so.
	none := newMonitor(t, "")
	_, _, err = none.Search(t.Context(), nil)
	assert.ErrorIs(t, err, errNotRecorded)
	_, err = none.Nearby(t.Context(), history.Circle{Km: 15})
	assert.ErrorIs(t, err, errNotRecorded)
	_, err = none.Within(t.Context(), netip.MustParsePrefix("8.0.0.0/8"))
	assert.ErrorIs(t, err, errNotRecorded)
	_, _, err = none.First(t.Context(), netip.MustParseAddr("8.8.8.8"), "prog")
	assert.ErrorIs(t, err, errNotRecorded)
	assert.ErrorIs(t, none.Replay(t.Context(), time.Second, nil), errNotRecorded)
	none.ShowAddrs(true)
}

// TestStoredPrecision: a stored place is as precise as the live one was; one of which that was
// not recorded claims nothing.
func TestStoredPrecision(t *testing.T) {
	m := recorded(t)
	w := m.History.(*sqlite.DB).Writer()
	m.Writer = w
	a := agentOf(m)
	c := conn(1, "8.8.8.8:7")
	c.Process.Comm = "curl"
	m.Full(a, []conntrack.Conn{c})
	st, _ := published(m)
	want := st.Conns[0].Place
	require.Equal(t, geoip.Country, want.Precision, "the embedded table has no cities")
	m.Full(a, nil)
	require.NoError(t, w.Close())
	city := history.Entry{Agent: "web", Peer: netip.MustParseAddrPort("8.8.4.4:7"), Lat: want.Lat, Lon: want.Lon, Located: true, Precision: "city", New: true, Opened: time.Now()}
	require.NoError(t, m.History.(*sqlite.DB).Record(t.Context(), []history.Entry{city}))
	found, err := m.Within(t.Context(), netip.MustParsePrefix("8.0.0.0/8"))
	require.NoError(t, err)
	require.Len(t, found, 4)
	assert.Equal(t, geoip.City, found[0].Place.Precision)
	assert.False(t, found[0].Unsure)
	assert.Equal(t, want, found[1].Place)
	assert.False(t, found[1].Unsure)
	for _, p := range found[2:] {
		assert.Equal(t, geoip.Country, p.Place.Precision)
		assert.True(t, p.Unsure, "it was not recorded")
	}
}

func TestOnMap(t *testing.T) {
	m := newMonitor(t, "\"Web\",peer,443,1,2,3,255,0,0\n\"Shell\",app,ssh,4,5,6,255,0,1\n")
	columns := func(names ...string) (list []history.Column) {
		for _, n := range names {
			list = append(list, history.Column{Name: n, Type: map[string]string{"port": "integer", "lat": "real"}[n]})
		}
		return list
	}
	labels, places := m.OnMap(&history.Table{Columns: columns("ip", "port", "programname"), Rows: [][]any{
		{"8.8.8.8", int64(443), "x"}, {"8.8.8.8", int64(22), "ssh"}, {"nonsense", int64(1), nil}, {nil, nil, nil},
	}})
	assert.Equal(t, []string{"Web", "Shell", "Other", ""}, labels)
	p, _ := m.Locate(netip.MustParseAddr("8.8.8.8"))
	assert.Equal(t, [2]float64{p.Lat, p.Lon}, places[0], "an address has a place")
	assert.True(t, math.IsNaN(places[2][0]))
	labels, places = m.OnMap(&history.Table{Columns: columns("rule", "lat", "lon"), Rows: [][]any{{"Shell", 1.5, int64(-2)}, {"gone", 100.0, 0.0}, {nil, nil, nil}}})
	assert.Equal(t, []string{"Shell", "gone", ""}, labels)
	assert.Equal(t, [2]float64{1.5, -2}, places[0])
	assert.True(t, math.IsNaN(places[1][0]), "not a latitude")
	labels, _ = m.OnMap(&history.Table{Columns: columns("n"), Rows: [][]any{{int64(5)}}})
	assert.Equal(t, []string{""}, labels)
}

func TestReplay(t *testing.T) {
	m := recorded(t)
	var shares []float64
	var at []time.Time
	n := 0
	begin := time.Now()
	require.NoError(t, m.Replay(t.Context(), 500*time.Millisecond, func(events []live.Event, when time.Time, share float64) {
		n += len(events)
		shares = append(shares, share)
		at = append(at, when)
	}))
	assert.Equal(t, 2, n, "what has a place")
	assert.IsIncreasing(t, append([]float64{-1}, shares...))
	assert.EqualValues(t, 1, shares[len(shares)-1])
	assert.WithinDuration(t, time.Now().Add(-time.Hour), at[len(at)-1], time.Minute, "the last one")
	assert.GreaterOrEqual(t, time.Since(begin), 400*time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	assert.Error(t, m.Replay(ctx, time.Hour, func([]live.Event, time.Time, float64) { cancel() }))
}

func TestAddrs(t *testing.T) {
	m := recorded(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go m.Run(ctx)
	m.ShowAddrs(true)
	require.Eventually(t, func() bool { return len(m.State().Addrs) == 3 }, time.Minute, 10*time.Millisecond)
	m.ShowAddrs(false)
	require.Eventually(t, func() bool { return m.State().Addrs == nil }, time.Minute, 10*time.Millisecond)
	m.ShowAddrs(true)
	require.Eventually(t, func() bool { return len(m.State().Addrs) == 3 }, time.Minute, 10*time.Millisecond)
}

func TestSoundsAndRates(t *testing.T) {
	m := recorded(t)
	a := agentOf(m)
	c := conn(1, "8.8.8.8:443")
	m.Delta(a, []conntrack.Event{{Kind: conntrack.Open, Conn: c}})
	st, _ := published(m)
	assert.Zero(t, st.Beeps+st.Others, "Web is silent")
	s := conn(2, "8.8.8.8:22")
	s.Process.Comm = "ssh"
	m.Delta(a, []conntrack.Event{{Kind: conntrack.Open, Conn: s}, {Kind: conntrack.Open, Conn: conn(3, "8.8.8.8:7")}})
	st, _ = published(m)
	assert.EqualValues(t, 1, st.Beeps)
	assert.EqualValues(t, 1, st.Others)
	m.Delta(a, []conntrack.Event{{Kind: conntrack.Update, Conn: s}})
	st, _ = published(m)
	before := st.Conns[0].Counted
	time.Sleep(100 * time.Millisecond)
	c.Rx, c.Tx = 100_000, 500
	m.Delta(a, []conntrack.Event{{Kind: conntrack.Update, Conn: c}})
	st, _ = published(m)
	assert.EqualValues(t, 1, st.Beeps, "an update is no new connection")
	got := st.Conns[0]
	assert.InEpsilon(t, 100_000/got.Counted.Time().Sub(before.Time()).Seconds(), got.RxRate, 0.001)
	assert.InDelta(t, got.RxRate/200, got.TxRate, 1)
	assert.WithinDuration(t, time.Now(), got.Counted.Time(), time.Minute)
}

func TestLimit(t *testing.T) {
	m := newMonitor(t, "")
	a := agentOf(m)
	m.Limit(a, "needs root")
	st, _ := published(m)
	assert.Equal(t, "needs root", st.Agents[0].Limited)
	m.Leave(a)
	m.Limit(a, "it has left")
	st, _ = published(m)
	assert.Empty(t, st.Agents)
}

func TestNames(t *testing.T) {
	m := newMonitor(t, "\"Web\",peer,443,1,2,3,255,0,0\n")
	assert.Contains(t, m.Network(netip.MustParseAddr("8.8.8.8")), "AS15169 ")
	assert.Empty(t, m.Network(netip.MustParseAddr("192.168.0.1")))
	assert.Equal(t, "Web", m.Label(1, 443, "", ""))
	assert.Equal(t, "Other", m.Label(1, 2, "", ""))
	_, ok := m.Locate(netip.MustParseAddr("192.168.0.1"))
	assert.False(t, ok)
}

// agentOf joins an agent.
func agentOf(m *Monitor) feed.Agent {
	a := feed.Agent{ID: 1, Name: "nas"}
	m.Join(a)
	return a
}

// TestSocketConnectsAnew: a socket that goes to another peer keeps its ID, and is
// another connection.
func TestSocketConnectsAnew(t *testing.T) {
	m := newMonitor(t, "\"Web\",peer,443,1,2,3,255,0,0\n\"Shell\",app,ssh,4,5,6,255,0,1\n")
	a := agentOf(m)
	m.Full(a, []conntrack.Conn{conn(1, "8.8.8.8:443")})
	m.Full(a, []conntrack.Conn{conn(1, "1.1.1.1:53")})
	st, peers := published(m)
	assert.Equal(t, []string{"1.1.1.1:53"}, peers)
	assert.Equal(t, "Other", st.Rules[st.Conns[0].Rule].Label)
	assert.EqualValues(t, 13335, st.Conns[0].ASN)
	// A program that becomes known late may want a sound.
	c := conn(1, "1.1.1.1:53")
	c.Process.Comm = "ssh"
	before := st.Beeps
	m.Delta(a, []conntrack.Event{{Kind: conntrack.Update, Conn: c}})
	st, _ = published(m)
	assert.Equal(t, before+1, st.Beeps)
	// A change of no bytes is no traffic.
	c.Rx = 1 << 20
	m.Delta(a, []conntrack.Event{{Kind: conntrack.Update, Conn: c}})
	c.RTT = time.Second
	m.Delta(a, []conntrack.Event{{Kind: conntrack.Update, Conn: c}})
	st, _ = published(m)
	assert.Zero(t, st.Conns[0].RxRate)
}

// TestResetForgetsWhatIsShown: at once.
func TestResetForgetsWhatIsShown(t *testing.T) {
	m := recorded(t)
	w := m.History.(*sqlite.DB).Writer()
	m.Writer = w
	t.Cleanup(func() { w.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { m.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	m.ShowAddrs(true)
	m.ShowHistory(true)
	require.Eventually(t, func() bool { st := m.State(); return len(st.Addrs) == 3 && len(st.Marks) > 0 }, time.Minute, 10*time.Millisecond)
	// Switched off and on, it is there at once.
	m.ShowHistory(false)
	m.ShowHistory(true)
	m.Publish()
	assert.NotEmpty(t, m.State().Marks)
	require.NoError(t, m.ResetHistory(ctx))
	m.Publish()
	assert.Empty(t, m.State().Marks)
	assert.Empty(t, m.State().Addrs)
}
