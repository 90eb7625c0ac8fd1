//go:build linux

package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A mover sends tx bytes on a connection and receives rx, and tells how many
// it did.
type mover func(c *net.TCPConn, tx, rx uint64) (sent, got uint64, err error)

// A tcp is a set of connections which all do the same. Its zero value is one
// connection on which the client sends first and the server answers then.
type tcp struct {
	up, down       uint64
	conns          int   // zero means 1
	sequence       bool  // one connection after another, closed at once
	client, server mover // nil means write and read
	anyAddr        bool  // the server listens at [::], the client uses IPv4
	bind           bool  // the client binds to its address
	listenMPTCP    bool
	dialMPTCP      bool
}

func (t tcp) serve(r *role) error {
	addr := netip.AddrPortFrom(r.self, 0)
	if t.anyAddr {
		addr = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	}
	l, err := listen(addr, t.listenMPTCP)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := r.ready(netip.AddrPortFrom(r.self, local(l.Addr()).Port())); err != nil {
		return err
	}
	move := t.server
	if move == nil {
		move = answer
	}
	var g group
	for range max(t.conns, 1) {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		defer c.Close()
		g.Go(func() error {
			c := c.(*net.TCPConn)
			if err := t.checkMPTCP(c); err != nil {
				return err
			}
			sent, got, err := move(c, t.down, t.up)
			if err != nil {
				return err
			}
			if t.sequence {
				// The client closes first, so that its port is not used
				// again while the server still remembers it.
				if _, err := c.Read(make([]byte, 1)); err != io.EOF {
					return fmt.Errorf("want EOF, got %v", err)
				}
				c.Close()
			}
			return r.report(Flow{Local: local(c.LocalAddr()), Peer: local(c.RemoteAddr()), Connected: true, Tx: sent, Rx: got})
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return r.linger()
}

// listen listens by plain TCP unless told otherwise; net.Listen prefers MPTCP.
func listen(addr netip.AddrPort, mptcp bool) (net.Listener, error) {
	if mptcp {
		// Package net would listen by TCP without a word.
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
		if err != nil {
			return nil, fmt.Errorf("the kernel has no MPTCP (%w): %w", err, errors.ErrUnsupported)
		}
		unix.Close(s)
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(mptcp)
	return lc.Listen(context.Background(), "tcp", addr.String())
}

func (t tcp) dial(r *role) error {
	var d net.Dialer
	d.SetMultipathTCP(t.dialMPTCP)
	if t.bind {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(r.self, 0))
	}
	move := t.client
	if move == nil {
		move = request
	}
	one := func() (io.Closer, error) {
		nc, err := d.Dial("tcp", r.peer.String())
		if err != nil {
			return nil, err
		}
		c := nc.(*net.TCPConn)
		if err := t.checkMPTCP(c); err != nil {
			return c, err
		}
		sent, got, err := move(c, t.up, t.down)
		if err != nil {
			return c, err
		}
		return c, r.report(Flow{Local: local(c.LocalAddr()), Peer: r.peer, Out: true, Connected: true, Tx: sent, Rx: got})
	}
	if t.sequence {
		for range t.conns {
			c, err := one()
			if err != nil {
				return err
			}
			c.Close()
		}
		return r.linger()
	}
	var g group
	for range max(t.conns, 1) {
		g.Go(func() error {
			c, err := one()
			if c != nil {
				g.defers(c)
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

// checkMPTCP guards against the silent fallback to TCP.
func (t tcp) checkMPTCP(c *net.TCPConn) error {
	if !t.dialMPTCP {
		return nil
	}
	if on, err := c.MultipathTCP(); err != nil || !on {
		return fmt.Errorf("the kernel has no MPTCP: %w", errors.ErrUnsupported)
	}
	return nil
}

func local(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// request sends first and then receives.
func request(c *net.TCPConn, tx, rx uint64) (sent, got uint64, err error) {
	if sent, err = write(c, tx); err == nil {
		got, err = read(c, rx)
	}
	return sent, got, err
}

// answer receives first and then sends.
func answer(c *net.TCPConn, tx, rx uint64) (sent, got uint64, err error) {
	if got, err = read(c, rx); err == nil {
		sent, err = write(c, tx)
	}
	return sent, got, err
}

// duplex sends and receives at the same time.
func duplex(c *net.TCPConn, tx, rx uint64) (sent, got uint64, err error) {
	var g group
	g.Go(func() (err error) { sent, err = write(c, tx); return err })
	g.Go(func() (err error) { got, err = read(c, rx); return err })
	err = g.Wait()
	return sent, got, err
}

// drip sends and receives a byte at a time.
func drip(c *net.TCPConn, tx, rx uint64) (sent, got uint64, err error) {
	var g group
	g.Go(func() error {
		for range tx {
			time.Sleep(100 * time.Millisecond)
			n, err := write(c, 1)
			if sent += n; err != nil {
				return err
			}
		}
		return nil
	})
	g.Go(func() (err error) { got, err = read(c, rx); return err })
	err = g.Wait()
	return sent, got, err
}

func write(w io.Writer, n uint64) (sent uint64, err error) {
	b := make([]byte, min(n, 64<<10))
	for sent < n {
		m, err := w.Write(b[:min(n-sent, uint64(len(b)))])
		if sent += uint64(m); err != nil {
			return sent, err
		}
	}
	return sent, nil
}

func read(r io.Reader, n uint64) (got uint64, err error) {
	b := make([]byte, min(n, 64<<10))
	for got < n {
		m, err := r.Read(b[:min(n-got, uint64(len(b)))])
		if got += uint64(m); err != nil {
			return got, err
		}
	}
	return got, nil
}

// resets is the number of connections that end by RST.
const resets = 20

// reset connects and resets at once.
func reset(r *role) error {
	for range resets {
		nc, err := net.Dial("tcp", r.peer.String())
		if err != nil {
			return err
		}
		c := nc.(*net.TCPConn)
		if err := errors.Join(c.SetLinger(0), c.Close()); err != nil {
			return err
		}
		if err := r.report(Flow{Local: local(c.LocalAddr()), Peer: r.peer, Out: true, Connected: true}); err != nil {
			return err
		}
	}
	return r.linger()
}

// acceptReset accepts connections that may have been reset by then.
func acceptReset(r *role) error {
	l, err := listen(netip.AddrPortFrom(r.self, 0), false)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := r.ready(local(l.Addr())); err != nil {
		return err
	}
	for range resets {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			return fmt.Errorf("want a reset, got %v", err)
		}
		if err := r.report(Flow{Local: local(c.LocalAddr()), Peer: local(c.RemoteAddr()), Connected: true}); err != nil {
			return err
		}
	}
	return r.linger()
}

// A group runs functions and keeps their first error.
type group struct {
	wg      sync.WaitGroup
	mu      sync.Mutex
	err     error
	closers []io.Closer
}

func (g *group) Go(f func() error) {
	g.wg.Go(func() {
		if err := f(); err != nil {
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.err == nil {
				g.err = err
			}
		}
	})
}

// Wait waits for all functions.
func (g *group) Wait() error {
	g.wg.Wait()
	return g.err
}

// defers keeps c open until close.
func (g *group) defers(c io.Closer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closers = append(g.closers, c)
}

func (g *group) close() {
	for _, c := range g.closers {
		c.Close()
	}
}
