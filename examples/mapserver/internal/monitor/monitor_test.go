package monitor

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/asn"
	asnembedded "github.com/connmapgo/connmap/asn/embedded"
	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/conntracktest"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/geoip"
	geoembedded "github.com/connmapgo/connmap/geoip/embedded"
	"github.com/connmapgo/connmap/history/sqlite"
	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/rules"
)

var home = geoip.Place{Lat: 52.5, Lon: 13.4, Precision: geoip.City}

func newMonitor(t testing.TB, rc string) *Monitor {
	t.Helper()
	set, err := rules.Parse(strings.NewReader(rc))
	require.NoError(t, err)
	m := &Monitor{Geo: []*geoip.DB{geoembedded.DB()}, ASN: []*asn.DB{asnembedded.DB()}, Home: home}
	m.SetRules(set)
	return m
}

func conn(id uint64, peer string) conntrack.Conn {
	return conntrack.Conn{ID: id, Proto: conntrack.TCP, Local: netip.MustParseAddrPort("192.0.2.1:40000"), Peer: netip.MustParseAddrPort(peer), Opened: time.Now()}
}

// published makes a state and returns its peers, in order.
func published(m *Monitor) (*live.State, []string) {
	m.Publish()
	st := m.State()
	var peers []string
	for _, c := range st.Conns {
		peers = append(peers, c.Peer.String())
	}
	return st, peers
}

func TestConnectionsAreEnriched(t *testing.T) {
	m := newMonitor(t, "\"Web\",peer,443,1,2,3,255,0,0\n\"Shell\",app,ssh,4,5,6,255,0,0\n")
	a := feed.Agent{ID: 1, Name: "nas"}
	m.Join(a)
	m.NAT64 = ranges.NAT64{netip.MustParsePrefix("2001:db8:64::/96")}
	m.Full(a, []conntrack.Conn{conn(1, "8.8.8.8:443"), conn(2, "192.168.1.5:22"), conn(3, "127.0.0.1:9"), conn(4, "[2001:db8:64::8.8.8.8]:443"), conn(5, "[2002:808:808::1]:443")})
	st, _ := published(m)
	require.Len(t, st.Conns, 5)
	for _, i := range []int{3, 4} {
		assert.Equal(t, st.Conns[0].Place.Country, st.Conns[i].Place.Country, "of the IPv4 address inside")
		assert.Equal(t, st.Conns[0].ASN, st.Conns[i].ASN)
	}
	assert.Equal(t, "US", st.Conns[0].Place.Country)
	assert.EqualValues(t, 15169, st.Conns[0].ASN)
	assert.Equal(t, "Web", st.Rules[st.Conns[0].Rule].Label)
	assert.Equal(t, live.LAN, st.Conns[1].Scope)
	assert.Equal(t, home, st.Conns[1].Place)
	assert.Equal(t, "Other", st.Rules[st.Conns[1].Rule].Label)
	assert.Equal(t, live.Loopback, st.Conns[2].Scope)

	// The program becomes known: another rule.
	c := conn(2, "192.168.1.5:22")
	c.Process = conntrack.Process{PID: 1, Comm: "ssh"}
	m.Delta(a, []conntrack.Event{{Kind: conntrack.Update, Conn: c}})
	st, _ = published(m)
	assert.Equal(t, "Shell", st.Rules[st.Conns[1].Rule].Label)

	m.SetRules(nil)
	st, _ = published(m)
	for _, c := range st.Conns {
		assert.Equal(t, "Other", st.Rules[c.Rule].Label)
	}
}

// TestClosingAreNotCounted: what is being closed is no connection of its agent, however it
// comes to be so and ends.
func TestClosingAreNotCounted(t *testing.T) {
	m := newMonitor(t, "")
	a := agentOf(m)
	one, two, three := conn(1, "8.8.8.8:1"), conn(2, "8.8.8.8:2"), conn(3, "8.8.8.8:3")
	closing := func(c conntrack.Conn) conntrack.Conn {
		c.State = conntrack.CloseWait
		return c
	}
	event := func(kind conntrack.Kind, c conntrack.Conn) func() {
		return func() { m.Delta(a, []conntrack.Event{{Kind: kind, Conn: c}}) }
	}
	again := closing(one)
	again.Peer = two.Peer
	for i, step := range []struct {
		do   func()
		want int
	}{
		{func() { m.Full(a, []conntrack.Conn{one, closing(two)}) }, 1},
		{event(conntrack.Open, three), 2},
		{event(conntrack.Update, closing(three)), 1},
		{event(conntrack.Update, closing(three)), 1},
		{event(conntrack.Close, three), 1},
		{event(conntrack.Close, closing(two)), 1},
		{event(conntrack.Update, again), 0}, // connects anew
		{event(conntrack.Update, one), 1},
		{func() { m.Full(a, []conntrack.Conn{closing(three)}) }, 0},
		{event(conntrack.Open, one), 1},
		{func() { m.SetRules(m.Rules()) }, 1},
	} {
		step.do()
		st, _ := published(m)
		require.Equal(t, step.want, st.Agents[0].Conns, "step %d", i)
	}
}

// TestProcessesAreShared: connections of one process hold it once, and those that have closed
// keep no others.
func TestProcessesAreShared(t *testing.T) {
	m := newMonitor(t, "")
	a := agentOf(m)
	for i := range 1000 {
		c := conn(1, "8.8.8.8:1")
		c.Process = conntrack.Process{PID: i, Comm: "curl"}
		m.Delta(a, []conntrack.Event{{Kind: conntrack.Open, Conn: c}, {Kind: conntrack.Close, Conn: c}})
		require.Less(t, len(m.agents[a.ID].processes), 100)
	}
	one, two := conn(1, "8.8.8.8:1"), conn(2, "8.8.8.8:2")
	one.Process = conntrack.Process{PID: 7, Comm: "ssh"}
	two.Process = one.Process
	m.Full(a, []conntrack.Conn{one, two})
	st, _ := published(m)
	assert.Equal(t, one.Process, *st.Conns[0].Process)
	assert.Same(t, st.Conns[0].Process, st.Conns[1].Process)
}

func TestTableFollowsAgents(t *testing.T) {
	m := newMonitor(t, "")
	a, b := feed.Agent{ID: 1, Name: "nas"}, feed.Agent{ID: 2, Name: "nas"}
	m.Join(a)
	m.Join(b)
	m.Full(a, []conntrack.Conn{conn(1, "8.8.8.8:1"), conn(2, "8.8.8.8:2")})
	m.Full(b, []conntrack.Conn{conn(1, "8.8.8.8:3")})
	st, peers := published(m)
	assert.Equal(t, []string{"8.8.8.8:1", "8.8.8.8:2", "8.8.8.8:3"}, peers)
	require.Len(t, st.Agents, 2)
	assert.Equal(t, "nas", st.Agents[0].Name)
	assert.Equal(t, "nas #2", st.Agents[1].Name)
	assert.Equal(t, 2, st.Agents[0].Conns)

	m.Delta(a, []conntrack.Event{
		{Kind: conntrack.Close, Conn: conn(1, "8.8.8.8:1")},
		{Kind: conntrack.Close, Conn: conn(9, "8.8.8.8:9")}, // so short that its opening was not reported
		{Kind: conntrack.Open, Conn: conn(4, "8.8.8.8:4")},
		{Kind: conntrack.Lost, Lost: 7},
	})
	st, peers = published(m)
	assert.Equal(t, []string{"8.8.8.8:2", "8.8.8.8:3", "8.8.8.8:4"}, peers)
	assert.EqualValues(t, 7, st.Agents[0].Lost)

	m.Full(a, []conntrack.Conn{conn(4, "8.8.8.8:4"), conn(5, "8.8.8.8:5")})
	_, peers = published(m)
	assert.Equal(t, []string{"8.8.8.8:3", "8.8.8.8:4", "8.8.8.8:5"}, peers)

	m.Leave(a)
	st, peers = published(m)
	assert.Equal(t, []string{"8.8.8.8:3"}, peers)
	assert.Len(t, st.Agents, 1)
	m.Delta(a, []conntrack.Event{{Kind: conntrack.Open, Conn: conn(6, "8.8.8.8:6")}})
	_, peers = published(m)
	assert.Equal(t, []string{"8.8.8.8:3"}, peers, "the agent has left")
}

func TestStatesAreImmutable(t *testing.T) {
	m := newMonitor(t, "")
	a := feed.Agent{ID: 1, Name: "nas"}
	m.Join(a)
	m.Full(a, []conntrack.Conn{conn(1, "8.8.8.8:1")})
	st, _ := published(m)
	before := *st.Conns[0]
	c := conn(1, "8.8.8.8:1")
	c.Tx = 99
	m.Delta(a, []conntrack.Event{{Kind: conntrack.Update, Conn: c}})
	m.SetRules(nil)
	m.Problem("x", "wrong")
	assert.Equal(t, before, *st.Conns[0])
	assert.Empty(t, st.Problems)
	st, _ = published(m)
	assert.EqualValues(t, 99, st.Conns[0].Tx)
	assert.Equal(t, []string{"wrong"}, st.Problems)
	m.Problem("x", "")
	st, _ = published(m)
	assert.Empty(t, st.Problems)
}

// TestChurnDoesNotGrowTheTable: nobody publishes, connections come and go.
func TestChurnDoesNotGrowTheTable(t *testing.T) {
	m := newMonitor(t, "")
	a := feed.Agent{ID: 1, Name: "nas"}
	m.Join(a)
	for n := range uint64(20_000) {
		c := conn(n, "8.8.8.8:1")
		m.Delta(a, []conntrack.Event{{Kind: conntrack.Open, Conn: c}, {Kind: conntrack.Close, Conn: c}})
	}
	assert.Less(t, len(m.order), 4096)
}

func TestRunPublishesAndRecords(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	db, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "h.sqlite"), sqlite.Options{})
	require.NoError(t, err)
	defer db.Close()
	m := newMonitor(t, "")
	w := db.Writer()
	m.History, m.Writer = db, w
	changed := make(chan struct{}, 1000)
	m.Changed = func() { changed <- struct{}{} }
	var wg sync.WaitGroup
	wg.Go(func() { m.Run(ctx) })
	m.Join(feed.Agent{Name: "demo"})
	wg.Go(func() { m.Follow(ctx, feed.Agent{Name: "demo"}, &conntracktest.Source{N: 200, Seed: 1}) })
	require.Eventually(t, func() bool { return len(m.State().Conns) >= 190 }, time.Minute, 20*time.Millisecond)
	assert.NotEmpty(t, changed)
	assert.Less(t, len(changed), 50, "at most 10 states a second")

	m.ShowHistory(true)
	require.Eventually(t, func() bool { return len(m.State().Marks) > 10 }, time.Minute, 20*time.Millisecond)
	m.ShowHistory(false)
	require.Eventually(t, func() bool { return m.State().Marks == nil }, time.Minute, 20*time.Millisecond)
	cancel()
	wg.Wait()
	require.NoError(t, w.Close())
	total := int64(0)
	for mark, err := range db.Places(context.Background()) {
		require.NoError(t, err)
		total += mark.Count
	}
	assert.Greater(t, total, int64(100))
}

func TestScope(t *testing.T) {
	m := &Monitor{NAT64: ranges.NAT64{netip.MustParsePrefix("2001:db8:64::/96")}}
	for a, want := range map[string]live.Scope{
		"8.8.8.8": live.Internet, "2001:4860:4860::8888": live.Internet, "127.0.0.2": live.Loopback, "::1": live.Loopback,
		"10.1.2.3": live.LAN, "192.168.0.1": live.LAN, "169.254.1.1": live.LAN, "fe80::1": live.LAN, "fd00::1": live.LAN,
		"100.64.0.1": live.LAN, "224.0.0.251": live.LAN, "ff02::fb": live.LAN, "255.255.255.255": live.LAN,
		"64:ff9b::8.8.8.8": live.Internet, "64:ff9b::10.0.0.1": live.LAN, "2001:db8:64::10.0.0.1": live.LAN, "2001:db8:65::10.0.0.1": live.Internet,
	} {
		assert.Equal(t, want, m.scope(netip.MustParseAddr(a)), a)
	}
}

// TestNowhere: what is for documentation, benchmarks or reserved has neither place nor network, whatever
// tables say; nor has an address that stands for one of these.
func TestNowhere(t *testing.T) {
	m := newMonitor(t, "")
	whole, err := geoip.New(geoip.Info{}, func(yield func(geoip.Range, geoip.Place) bool) {
		for _, p := range []string{"0.0.0.0/0", "::/0"} {
			yield(geoip.RangeOf(netip.MustParsePrefix(p)), geoip.Place{Lat: 1, Lon: 2, Country: "FR", Precision: geoip.City})
		}
	})
	require.NoError(t, err)
	m.Geo = append(m.Geo, whole)
	for _, addr := range []string{"192.0.2.5", "198.51.100.1", "203.0.113.9", "198.18.0.1", "240.0.0.1", "2001:db8::1", "3fff::1", "2001:2::1", "100::1", "2002:c000:205::1", "64:ff9b:1::1", "64:ff9b::192.0.2.5"} {
		c := live.New(conn(1, netip.AddrPortFrom(netip.MustParseAddr(addr), 443).String()), new(conntrack.Process))
		m.lookUp(&c)
		assert.Zero(t, c.Place, addr)
		assert.Zero(t, c.ASN, addr)
	}
	for _, addr := range []string{"8.8.8.8", "2606:4700::1", "2002:808:808::1", "64:ff9b::8.8.8.8"} {
		c := live.New(conn(1, netip.AddrPortFrom(netip.MustParseAddr(addr), 443).String()), new(conntrack.Process))
		m.lookUp(&c)
		assert.Equal(t, "FR", c.Place.Country, addr)
		assert.NotZero(t, c.ASN, addr)
	}
}

func BenchmarkPublish(b *testing.B) {
	m := newMonitor(b, "")
	a := feed.Agent{ID: 1, Name: "nas"}
	m.Join(a)
	m.Full(a, conntracktest.Conns(10_000, 1))
	b.Run(fmt.Sprint("conns=", 10_000), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.Publish()
		}
	})
}
