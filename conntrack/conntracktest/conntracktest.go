// Package conntracktest makes synthetic connections for tests and
// demonstrations. It reads no sockets and sends nothing: the same seed always
// gives the same connections.
//
// They look like those of a home computer that also serves: browsers, mail, chat, peer-to-peer
// programs and a web server. Peers are all over the public address space, some with several
// connections, and a few on the local network. The addresses are those of real networks,
// picked at random; the programs and names have nothing to do with them.
package conntracktest

import (
	"context"
	"iter"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/connmapgo/connmap/conntrack"
)

// Rates of change of a Source.
const (
	tick    = 250 * time.Millisecond
	churn   = 0.015 // share of the connections that open or close in a second
	updates = 0.02  // share that transfers data in a second
	minimum = 0.5   // of either in a second, so that few connections live too
)

var epoch = time.Date(2024, time.January, 1, 12, 0, 0, 0, time.UTC)

// Conns returns n connections. They opened one after another, 10 ms apart, from
// 2024-01-01 12:00 UTC on. Their IDs count from 1.
func Conns(n int, seed uint64) []conntrack.Conn {
	m := newMaker(seed)
	conns := make([]conntrack.Conn, 0, max(n, 0))
	for i := range n {
		conns = append(conns, m.open(epoch.Add(time.Duration(i)*10*time.Millisecond)))
	}
	return conns
}

// A Source makes events as a [conntrack.Collector] does. The zero Source has
// no connections. It is safe for concurrent use.
type Source struct {
	N     int     // connections, about
	Seed  uint64  // equal seeds make equal events, but for their times
	Speed float64 // how many times as fast they open, change and close; zero: 1
}

// Events opens the connections that Conns(N, Seed) returns. Then, until ctx ends, one or two
// in a hundred open, change and close each second, so that there are always about N. It never
// yields an error.
func (s Source) Events(ctx context.Context) iter.Seq2[conntrack.Event, error] {
	return func(yield func(conntrack.Event, error) bool) {
		m := newMaker(s.Seed)
		var live []conntrack.Conn
		emit := func(kind conntrack.Kind, now time.Time, c conntrack.Conn) bool {
			return ctx.Err() == nil && yield(conntrack.Event{Kind: kind, Time: now, Conn: c}, nil)
		}
		open := func() bool {
			now := time.Now().Round(0)
			c := m.open(now)
			live = append(live, c)
			return emit(conntrack.Open, now, c)
		}
		for range s.N {
			if !open() {
				return
			}
		}
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		var turns, transfers float64 // due
		elapsed := tick.Seconds()
		if s.Speed > 0 {
			elapsed *= s.Speed
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if s.N <= 0 {
				continue
			}
			n := float64(s.N)
			for turns += max(churn*n, minimum) * elapsed; turns >= 1; turns-- {
				// The further from N, the likelier is a step back towards it.
				if m.r.Float64() < 0.5+10*(n-float64(len(live)))/n {
					if !open() {
						return
					}
					continue
				}
				i := m.r.IntN(len(live))
				c := live[i]
				live[i] = live[len(live)-1]
				live = live[:len(live)-1]
				m.close(c)
				if !emit(conntrack.Close, time.Now().Round(0), c) {
					return
				}
			}
			for transfers += max(updates*n, minimum) * elapsed; transfers >= 1 && len(live) > 0; transfers-- {
				if c := &live[m.r.IntN(len(live))]; m.transfer(c) && !emit(conntrack.Update, time.Now().Round(0), *c) {
					return
				}
			}
		}
	}
}

// A maker makes connections. It keeps the addresses of open ones unique.
type maker struct {
	r    *rand.Rand
	id   uint64
	pid  int
	used map[tuple]bool
	// Peers by program: some get several connections.
	peers [len(programs)][]peer
	total int // weights of the programs
}

type tuple struct {
	proto       conntrack.Proto
	local, peer netip.AddrPort
}

func newMaker(seed uint64) *maker {
	m := &maker{r: rand.New(rand.NewPCG(seed, 0x636f6e6e6d6170)), pid: 20_000, used: make(map[tuple]bool)}
	for i := range programs {
		m.total += programs[i].weight
	}
	return m
}
