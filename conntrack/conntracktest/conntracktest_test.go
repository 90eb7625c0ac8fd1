package conntracktest_test

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/conntracktest"
)

func Example() {
	for _, c := range conntracktest.Conns(3, 1) {
		fmt.Println(c.Proto, c.Direction, c.Process.Comm, c.Local.Port(), c.Peer.Port())
	}
	// Output:
	// tcp in nginx 443 44266
	// tcp in nginx 443 59226
	// tcp in nginx 80 57465
}

var special = []netip.Prefix{ // IANA's special-purpose registries, and local addresses
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.88.99.0/24"),
	netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("224.0.0.0/3"), netip.MustParsePrefix("2001:db8::/32"),
}

func TestConns(t *testing.T) {
	const n = 10_000
	conns := conntracktest.Conns(n, 1)
	require.Len(t, conns, n)
	assert.Equal(t, conns, conntracktest.Conns(n, 1), "same seed")
	assert.NotEqual(t, conns[:10], conntracktest.Conns(10, 2), "another seed")
	assert.Equal(t, conns[:10], conntracktest.Conns(10, 1), "fewer of the same")
	assert.Empty(t, conntracktest.Conns(-1, 1))

	type tuple struct {
		proto       conntrack.Proto
		local, peer netip.AddrPort
	}
	ids, tuples := map[uint64]bool{}, map[tuple]bool{}
	peers, first := map[netip.Addr]int{}, map[byte]bool{}
	comms, ports := map[string]int{}, map[uint16]int{}
	var lan, v6, in, udp, contained, named int
	for _, c := range conns {
		ids[c.ID] = true
		tuples[tuple{c.Proto, c.Local, c.Peer}] = true
		peers[c.Peer.Addr()]++
		comms[c.Process.Comm]++
		service := c.Peer.Port()
		if c.Direction == conntrack.In {
			in++
			service = c.Local.Port()
		}
		ports[service]++
		assert.LessOrEqual(t, len(c.Process.Comm), 15)
		assert.NotZero(t, c.Process.PID)
		assert.False(t, c.Opened.IsZero())
		if c.Name != "" {
			named++
			assert.Equal(t, conntrack.Out, c.Direction)
			assert.Regexp(t, `^\w+\.example\.(com|net|org)$`, c.Name)
		}
		assert.Equal(t, c.Name != "", c.NameSource != 0)
		if c.Process.Container != "" {
			contained++
			assert.Len(t, c.Process.Container, 64)
		}
		switch c.Proto {
		case conntrack.UDP:
			udp++
			assert.Zero(t, c.Tx+c.Rx+uint64(c.RTT))
		case conntrack.TCP:
			assert.Positive(t, c.RTT)
			assert.LessOrEqual(t, c.RTT, time.Second)
		default:
			t.Errorf("protocol %v", c.Proto)
		}
		a := c.Peer.Addr()
		assert.Equal(t, a.Is4(), c.Local.Addr().Is4())
		if a.IsPrivate() {
			lan++
			continue
		}
		for _, p := range special {
			assert.False(t, p.Contains(a), "%v is in %v", a, p)
		}
		if a.Is6() {
			v6++
		} else {
			first[a.As4()[0]] = true
		}
	}
	assert.Len(t, ids, n)
	assert.Len(t, tuples, n)
	assert.Greater(t, len(first), 140, "IPv4 blocks")
	assert.InDelta(t, 0.65*n, len(peers), 0.12*n, "peers")
	most := 0
	for _, count := range peers {
		most = max(most, count)
	}
	assert.Greater(t, most, 5, "a stack")
	for _, comm := range []string{"firefox", "chrome", "thunderbird", "ssh", "sshd", "nginx", "deluged", "bitcoind", "postgres"} {
		assert.Positive(t, comms[comm], comm)
	}
	for _, port := range []uint16{22, 25, 53, 80, 123, 443, 993, 6667, 6881, 6889, 8333} {
		assert.Positive(t, ports[port], port)
	}
	assert.InDelta(t, 0.03*n, lan, 0.015*n, "on the local network")
	assert.InDelta(t, 0.06*n, v6, 0.03*n, "IPv6")
	assert.InDelta(t, 0.35*n, in, 0.1*n, "incoming")
	assert.InDelta(t, 0.07*n, udp, 0.03*n, "UDP")
	assert.Positive(t, contained)
	assert.InDelta(t, 0.52*n, named, 0.05*n, "with a name")
}

// follow applies the events of two minutes and returns them.
func follow(t *testing.T, s conntracktest.Source) (events []conntrack.Event) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute+time.Millisecond) // not at a tick
		defer cancel()
		live := map[uint64]conntrack.Conn{}
		for e, err := range s.Events(ctx) {
			require.NoError(t, err)
			old, ok := live[e.Conn.ID]
			switch e.Kind {
			case conntrack.Open:
				require.False(t, ok)
				require.Equal(t, e.Time, e.Conn.Opened)
				live[e.Conn.ID] = e.Conn
			case conntrack.Update:
				require.True(t, ok)
				require.Greater(t, e.Conn.Tx, old.Tx)
				live[e.Conn.ID] = e.Conn
			case conntrack.Close:
				require.Equal(t, old, e.Conn)
				delete(live, e.Conn.ID)
			default:
				t.Fatalf("kind %v", e.Kind)
			}
			events = append(events, e)
			if len(events) >= s.N {
				require.InDelta(t, s.N, len(live), math.Ceil(0.1*float64(s.N)))
			}
		}
		require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded, "ended early")
	})
	return events
}

func TestSource(t *testing.T) {
	for _, n := range []int{1, 30, 1000} {
		t.Run(fmt.Sprint("n=", n), func(t *testing.T) {
			events := follow(t, conntracktest.Source{N: n, Seed: 3})
			for i, c := range conntracktest.Conns(n, 3) {
				c.Opened = events[i].Conn.Opened
				require.Equal(t, c, events[i].Conn, "the first are those of Conns")
			}
			counts := map[conntrack.Kind]float64{}
			for _, e := range events[n:] {
				counts[e.Kind]++
			}
			want := max(0.015*float64(n), 0.5) * 120
			assert.InEpsilon(t, want, counts[conntrack.Open]+counts[conntrack.Close], 0.1)
			assert.Positive(t, counts[conntrack.Open])
			assert.Positive(t, counts[conntrack.Close])
			assert.Positive(t, counts[conntrack.Update])
			assert.Equal(t, events, follow(t, conntracktest.Source{N: n, Seed: 3}), "same seed")
		})
	}
	assert.Empty(t, follow(t, conntracktest.Source{}))
}

func TestSourceStops(t *testing.T) {
	n := 0
	for range (conntracktest.Source{N: 10}).Events(t.Context()) {
		if n++; n == 5 {
			break
		}
	}
	assert.Equal(t, 5, n)
}
