package feed

import (
	"math/rand/v2"
	"net"
	"net/netip"
)

// samples is how many members of a crowd are looked at to find one that gives way. Of a
// source that has half of all, one is missed once in 256 times.
const samples = 8

// An origin is where a connection comes from.
type origin struct {
	source  netip.Prefix // an IPv4 address, or the /64 of a host with IPv6
	network netip.Prefix // the /24 or the /48 around it
	at      int          // one more than the index in its crowd; zero: it is in none
}

func originOf(a net.Addr) origin {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return origin{}
	}
	return originOfAddr(t.AddrPort().Addr())
}

func originOfAddr(ip netip.Addr) origin {
	ip = ip.Unmap().WithZone("")
	source, network := 32, 24
	if ip.Is6() {
		source, network = 64, 48
	}
	var o origin
	o.source, _ = ip.Prefix(source)
	o.network, _ = ip.Prefix(network)
	return o
}

func (o *origin) from() *origin { return o }

// A crowd is connections that share a number of places. If there is none left it finds in
// constant time who gives way: one of the network, and there of the source, that has many.
// It is not safe for concurrent use.
type crowd[T interface {
	comparable
	from() *origin
}] struct {
	members   []T
	ofSource  map[netip.Prefix]int
	ofNetwork map[netip.Prefix]int
}

func (c *crowd[T]) add(m T) {
	if c.ofSource == nil {
		c.ofSource, c.ofNetwork = make(map[netip.Prefix]int), make(map[netip.Prefix]int)
	}
	o := m.from()
	c.members = append(c.members, m)
	o.at = len(c.members)
	c.ofSource[o.source]++
	c.ofNetwork[o.network]++
}

// remove does nothing if m is not there.
func (c *crowd[T]) remove(m T) {
	o := m.from()
	if o.at == 0 {
		return
	}
	last := len(c.members) - 1
	moved := c.members[last]
	c.members[o.at-1] = moved
	moved.from().at = o.at
	var none T
	c.members[last] = none
	c.members = c.members[:last]
	o.at = 0
	less(c.ofSource, o.source)
	less(c.ofNetwork, o.network)
}

// less counts one less, and forgets what has none.
func less(counts map[netip.Prefix]int, p netip.Prefix) {
	if counts[p]--; counts[p] == 0 {
		delete(counts, p)
	}
}

// sample returns, of some members, the one that comes first by before. There must be one.
func (c *crowd[T]) sample(before func(a, b T) bool) T {
	first := c.members[rand.IntN(len(c.members))]
	for range samples - 1 {
		if m := c.members[rand.IntN(len(c.members))]; before(m, first) {
			first = m
		}
	}
	return first
}

// candidate returns, of some members, one of the most crowded source, and of those the one
// that comes first by before. There must be a member.
func (c *crowd[T]) candidate(before func(a, b T) bool) T {
	return c.sample(func(m, n T) bool {
		a, b := m.from(), n.from()
		if x, y := c.ofNetwork[a.network], c.ofNetwork[b.network]; x != y {
			return x > y
		}
		if x, y := c.ofSource[a.source], c.ofSource[b.source]; x != y {
			return x > y
		}
		return before(m, n)
	})
}

// yields reports whether a member gives way to one that is new: its network, or if they
// share that its source, has more members. Those of one source do not.
func (c *crowd[T]) yields(member T, next *origin) bool {
	o := member.from()
	if o.network != next.network {
		return c.ofNetwork[o.network] > c.ofNetwork[next.network]
	}
	return c.ofSource[o.source] > c.ofSource[next.source]
}
