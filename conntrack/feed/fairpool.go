package feed

import (
	"math/rand/v2"
	"net"
	"net/netip"
)

// samples is how many members are looked at to find one of the most crowded source. A source
// with half of all members is missed once in 256 times.
const samples = 8

// An origin is where a connection comes from.
type origin struct {
	source  netip.Prefix // an IPv4 address, or the /64 of a host with IPv6
	network netip.Prefix // the /24 or the /48 around it
	at      int          // 1 + index in its pool; zero: it is in none
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

// A fairPool is connections that share a limited number of places. When there is none left, it
// finds in constant time one to evict: of the network, and there of the source, with the most
// members. It is not safe for concurrent use.
type fairPool[T interface {
	comparable
	from() *origin
}] struct {
	members   []T
	ofSource  map[netip.Prefix]int
	ofNetwork map[netip.Prefix]int
}

func (p *fairPool[T]) add(m T) {
	if p.ofSource == nil {
		p.ofSource, p.ofNetwork = make(map[netip.Prefix]int), make(map[netip.Prefix]int)
	}
	o := m.from()
	p.members = append(p.members, m)
	o.at = len(p.members)
	p.ofSource[o.source]++
	p.ofNetwork[o.network]++
}

// remove does nothing if m is not there.
func (p *fairPool[T]) remove(m T) {
	o := m.from()
	if o.at == 0 {
		return
	}
	last := len(p.members) - 1
	moved := p.members[last]
	p.members[o.at-1] = moved
	moved.from().at = o.at
	var none T
	p.members[last] = none
	p.members = p.members[:last]
	o.at = 0
	decrement(p.ofSource, o.source)
	decrement(p.ofNetwork, o.network)
}

// decrement counts one less, and removes a count of zero.
func decrement(counts map[netip.Prefix]int, of netip.Prefix) {
	if counts[of]--; counts[of] == 0 {
		delete(counts, of)
	}
}

// sample returns the first by before of some random members. There must be a member.
func (p *fairPool[T]) sample(before func(a, b T) bool) T {
	first := p.members[rand.IntN(len(p.members))]
	for range samples - 1 {
		if m := p.members[rand.IntN(len(p.members))]; before(m, first) {
			first = m
		}
	}
	return first
}

// mostCrowded returns, of some random members, one of the most crowded source, and of these the
// first by before. There must be a member.
func (p *fairPool[T]) mostCrowded(before func(a, b T) bool) T {
	return p.sample(func(m, n T) bool {
		a, b := m.from(), n.from()
		if x, y := p.ofNetwork[a.network], p.ofNetwork[b.network]; x != y {
			return x > y
		}
		if x, y := p.ofSource[a.source], p.ofSource[b.source]; x != y {
			return x > y
		}
		return before(m, n)
	})
}

// givesWay reports whether a new connection may take a member's place: if the member's network
// has more members or, if both are of one network, its source. In one source nobody gives way.
func (p *fairPool[T]) givesWay(member T, next *origin) bool {
	o := member.from()
	if o.network != next.network {
		return p.ofNetwork[o.network] > p.ofNetwork[next.network]
	}
	return p.ofSource[o.source] > p.ofSource[next.source]
}
