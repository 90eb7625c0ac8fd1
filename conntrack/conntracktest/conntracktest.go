// Package conntracktest makes synthetic connections for tests and
// demonstrations: the same seed gives the same connections.
// It opens no sockets and sees none.
package conntracktest

import (
	"context"
	"iter"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/connmapgo/connmap/conntrack"
)

// epoch is when the first synthetic connection opened.
var epoch = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// A kind is a program and the way it talks.
type kind struct {
	comm, exe string
	proto     conntrack.Proto
	direction conntrack.Direction
	port      uint16 // of the side that was connected to
	weight    int
}

var kinds = []kind{
	{"firefox", "/usr/lib/firefox/firefox", conntrack.TCP, conntrack.Out, 443, 30},
	{"firefox", "/usr/lib/firefox/firefox", conntrack.UDP, conntrack.Out, 443, 8},
	{"nginx", "/usr/sbin/nginx", conntrack.TCP, conntrack.In, 443, 14},
	{"nginx", "/usr/sbin/nginx", conntrack.TCP, conntrack.In, 80, 3},
	{"deluged", "/usr/bin/python3.13", conntrack.TCP, conntrack.Out, 6881, 14},
	{"deluged", "/usr/bin/python3.13", conntrack.TCP, conntrack.In, 6889, 6},
	{"sshd", "/usr/sbin/sshd", conntrack.TCP, conntrack.In, 22, 5},
	{"ssh", "/usr/bin/ssh", conntrack.TCP, conntrack.Out, 22, 3},
	{"thunderbird", "/usr/lib/thunderbird/thunderbird", conntrack.TCP, conntrack.Out, 993, 3},
	{"master", "/usr/lib/postfix/sbin/master", conntrack.TCP, conntrack.In, 25, 2},
	{"bitcoind", "/usr/bin/bitcoind", conntrack.TCP, conntrack.Out, 8333, 5},
	{"weechat", "/usr/bin/weechat", conntrack.TCP, conntrack.Out, 6697, 1},
	{"chronyd", "/usr/sbin/chronyd", conntrack.UDP, conntrack.Out, 123, 2},
	{"backup", "/usr/local/bin/backup", conntrack.TCP, conntrack.Out, 7722, 2},
}

// networks are the first bytes of public IPv4 networks, spread over the
// regions that hand them out.
var networks = []byte{
	1, 2, 5, 14, 23, 27, 31, 37, 41, 45, 46, 49, 50, 58, 61, 62, 64, 66, 69, 72, 77, 78, 80, 82, 85, 88, 91, 93, 95,
	102, 103, 104, 105, 108, 110, 113, 116, 118, 121, 125, 131, 139, 143, 151, 154, 160, 168, 176, 177, 181, 185, 186,
	188, 190, 193, 196, 197, 200, 201, 203, 207, 210, 213, 217, 220,
}

// networks6 are the upper 32 bits of public IPv6 networks.
var networks6 = []uint32{0x20014860, 0x24006800, 0x26064700, 0x2a004700, 0x28000380, 0x2c0ff7c0, 0x20010db0, 0x2a011111}

// A Source yields synthetic connections as a collector yields real ones.
type Source struct {
	N    int    // connections at the start, and about as many later
	Seed uint64 // of the random numbers
}

// Conns returns n connections. The same arguments give the same result.
func Conns(n int, seed uint64) []conntrack.Conn {
	g := newGenerator(seed)
	conns := make([]conntrack.Conn, n)
	for i := range conns {
		conns[i] = g.open(epoch.Add(time.Duration(i) * time.Second))
	}
	return conns
}

// Events yields an Open for each connection of Conns, then about one percent
// of changes a second until ctx ends.
func (s *Source) Events(ctx context.Context) iter.Seq2[conntrack.Event, error] {
	return func(yield func(conntrack.Event, error) bool) {
		conns := Conns(s.N, s.Seed)
		for _, c := range conns {
			if !yield(conntrack.Event{Kind: conntrack.Open, Time: c.Opened, Conn: c}, nil) {
				return
			}
		}
		// Other connections than those of Conns, with other identifiers.
		g := newGenerator(^s.Seed)
		g.id = uint64(s.N)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			now := time.Now()
			for range (s.N + 99) / 100 {
				i := g.r.IntN(len(conns))
				closed := conns[i]
				conns[i] = g.open(now)
				if !yield(conntrack.Event{Kind: conntrack.Close, Time: now, Conn: closed}, nil) ||
					!yield(conntrack.Event{Kind: conntrack.Open, Time: now, Conn: conns[i]}, nil) {
					return
				}
				c := &conns[g.r.IntN(len(conns))]
				if c.Proto == conntrack.TCP {
					c.Tx += uint64(g.r.IntN(100_000))
					c.Rx += uint64(g.r.IntN(1_000_000))
				}
				if !yield(conntrack.Event{Kind: conntrack.Update, Time: now, Conn: *c}, nil) {
					return
				}
			}
		}
	}
}

type generator struct {
	r     *rand.Rand
	id    uint64
	peers []netip.Addr // met before
	total int          // weight of all kinds
}

func newGenerator(seed uint64) *generator {
	g := &generator{r: rand.New(rand.NewPCG(seed, 0))}
	for _, k := range kinds {
		g.total += k.weight
	}
	return g
}

func (g *generator) open(at time.Time) conntrack.Conn {
	g.id++
	n, k := g.r.IntN(g.total), 0
	for n >= kinds[k].weight {
		n -= kinds[k].weight
		k++
	}
	kind := kinds[k]
	peer := g.peer()
	local := netip.AddrFrom4([4]byte{192, 168, 1, 10})
	if peer.Is6() {
		local = netip.MustParseAddr("2001:db8::10")
	}
	high := uint16(32768 + g.r.IntN(28000))
	lport, pport := high, kind.port
	if kind.direction == conntrack.In {
		lport, pport = kind.port, high
	}
	c := conntrack.Conn{
		ID: g.id, Proto: kind.proto, Direction: kind.direction,
		Local: netip.AddrPortFrom(local, lport), Peer: netip.AddrPortFrom(peer, pport),
		Process: conntrack.Process{PID: 1000 + k, Comm: kind.comm, Exe: kind.exe},
		UID:     1000, Opened: at,
	}
	if c.Proto == conntrack.TCP {
		c.Tx, c.Rx = uint64(g.r.IntN(1_000_000)), uint64(g.r.IntN(20_000_000))
		c.RTT = time.Duration(5000+g.r.IntN(250_000)) * time.Microsecond
	}
	return c
}

// peer chooses an address: one in five is a peer met before, one in thirty a
// neighbour, one in twelve has IPv6.
func (g *generator) peer() netip.Addr {
	if len(g.peers) > 0 && g.r.IntN(5) == 0 {
		// Some peers are popular.
		return g.peers[g.r.IntN(1+g.r.IntN(len(g.peers)))]
	}
	var a netip.Addr
	switch {
	case g.r.IntN(30) == 0:
		return netip.AddrFrom4([4]byte{192, 168, 1, byte(11 + g.r.IntN(40))})
	case g.r.IntN(12) == 0:
		n := networks6[g.r.IntN(len(networks6))]
		b := [16]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), byte(g.r.IntN(16)), byte(g.r.IntN(256)), 15: byte(1 + g.r.IntN(250))}
		a = netip.AddrFrom16(b)
	default:
		a = netip.AddrFrom4([4]byte{networks[g.r.IntN(len(networks))], byte(g.r.IntN(256)), byte(g.r.IntN(256)), byte(1 + g.r.IntN(254))})
	}
	g.peers = append(g.peers, a)
	return a
}
