//go:build linux

package traffic

import (
	"fmt"
	"io"
	"net/netip"
)

// An endpoint is a socket for datagrams. Its functions are not safe for
// concurrent use.
type endpoint struct {
	local     netip.AddrPort // without an address if wildcard
	wildcard  bool
	connected bool

	// send sends count datagrams of size bytes, all or it fails.
	send func(to netip.AddrPort, size, count int) error
	// recv waits for one or more datagrams and calls got for each.
	recv func(got func(size int, from netip.AddrPort) error) error
	io.Closer
}

// A udp is an exchange of datagrams by a set of client sockets, which all do the same. Each
// sends up datagrams, and then the server sends it down ones. After each window the receiver
// sends one byte, so that neither a buffer nor a queue of the kernel overflows. If a datagram
// is lost all the same, the exchange fails.
type udp struct {
	up, down         int // datagrams
	upSize, downSize int // bytes of each
	window           int
	silent           bool // the server never answers; up is at most a window
	port             uint16
	clients          int  // sockets, zero means 1
	sequence         bool // one socket after another, bound to a port each, closed at once

	client, server func(self, peer netip.AddrPort) (endpoint, error)
}

// firstPort is that of a sequence of sockets. They do not take those that the
// kernel chooses, because it may choose one twice: two sockets of the client
// would be one flow of the server.
const firstPort = 10000

// A tally is what the server counted of one client.
type tally struct {
	received, sent int // datagrams, without the bytes that end a window
	tx, rx         uint64
}

func (u udp) serve(r *role) error {
	e, err := u.server(netip.AddrPortFrom(r.self, u.port), netip.AddrPort{})
	if err != nil {
		return err
	}
	defer e.Close()
	self := netip.AddrPortFrom(r.self, e.local.Port())
	if err := r.ready(self); err != nil {
		return err
	}
	tallies := make(map[netip.AddrPort]*tally)
	for open := max(u.clients, 1); open > 0; {
		err := e.recv(func(size int, from netip.AddrPort) error {
			t := tallies[from]
			if t == nil {
				t = new(tally)
				tallies[from] = t
			}
			t.received++
			t.rx += uint64(size)
			if err := u.reply(e, t, from); err != nil {
				return err
			}
			if t.received >= u.up && t.sent == u.down {
				open--
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for from, t := range tallies {
		if err := r.report(Flow{Local: self, Peer: from, Wildcard: e.wildcard, Tx: t.tx, Rx: t.rx}); err != nil {
			return err
		}
	}
	return r.linger()
}

// reply answers the datagram of a client that was counted last.
func (u udp) reply(e endpoint, t *tally, to netip.AddrPort) error {
	size, count := 1, 1
	switch {
	case u.silent, t.received < u.up && t.received%u.window != 0:
		return nil
	case t.received >= u.up && u.down > 0:
		size, count = u.downSize, min(u.window, u.down-t.sent)
		t.sent += count
	}
	t.tx += uint64(size * count)
	return e.send(to, size, count)
}

func (u udp) dial(r *role) error {
	one := func(port uint16) (endpoint, error) {
		e, err := u.client(netip.AddrPortFrom(r.self, port), r.peer)
		if err != nil {
			return e, err
		}
		sent, got, err := u.transfer(e, r.peer)
		if err != nil {
			e.Close()
			return e, fmt.Errorf("sent %d and received %d bytes: %w", sent, got, err)
		}
		return e, r.report(Flow{
			Local: netip.AddrPortFrom(r.self, e.local.Port()), Peer: r.peer, Out: true,
			Connected: e.connected, Wildcard: e.wildcard, Tx: sent, Rx: got,
		})
	}
	if u.sequence {
		for i := range u.clients {
			e, err := one(firstPort + uint16(i))
			if err != nil {
				return err
			}
			e.Close()
		}
		return r.linger()
	}
	var g group
	for range max(u.clients, 1) {
		g.Go(func() error {
			e, err := one(0)
			if err == nil {
				g.defers(e)
			}
			return err
		})
	}
	defer g.close()
	if err := g.Wait(); err != nil {
		return err
	}
	return r.linger()
}

// transfer is the client's part.
func (u udp) transfer(e endpoint, to netip.AddrPort) (sent, got uint64, err error) {
	here := 0 // datagrams received and not yet waited for
	wait := func(n int) error {
		for here < n {
			err := e.recv(func(size int, _ netip.AddrPort) error {
				here++
				got += uint64(size)
				return nil
			})
			if err != nil {
				return err
			}
		}
		here -= n
		return nil
	}
	send := func(size, count int) error {
		err := e.send(to, size, count)
		if err == nil {
			sent += uint64(size * count)
		}
		return err
	}
	for done := 0; done < u.up; {
		n := min(u.window, u.up-done)
		if err := send(u.upSize, n); err != nil {
			return sent, got, err
		}
		done += n
		if u.silent || done == u.up && u.down > 0 {
			continue // what follows is not the end of a window
		}
		if err := wait(1); err != nil {
			return sent, got, err
		}
	}
	for done := 0; done < u.down; {
		n := min(u.window, u.down-done)
		if err := wait(n); err != nil {
			return sent, got, err
		}
		if done += n; done < u.down {
			if err := send(1, 1); err != nil {
				return sent, got, err
			}
		}
	}
	return sent, got, nil
}
