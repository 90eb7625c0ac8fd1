package feed

import (
	"bytes"
	"context"
	"errors"
	mathrand "math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A side of a link.
type side int

const (
	ofClient side = iota
	ofServer
)

func (s side) String() string { return [...]string{"client", "server"}[s] }

// A breakage is how a link breaks.
type breakage int

const (
	breakNever   breakage = iota
	breakClose            // both connections are closed
	breakReset            // likewise, by RST, where there is a kernel
	breakHalf             // the direction ends, the other one goes on until its side closes
	breakSwallow          // nothing more arrives, neither bytes nor that a side has closed
	breakOneWay           // likewise, in one direction only
	breakJam              // likewise in both, and nothing more is taken of the client, who waits in vain
)

func (b breakage) String() string {
	return [...]string{"never", "close", "reset", "half", "swallow", "one way", "jam"}[b]
}

// A weather is what a link has to go through. The zero weather is fair.
type weather struct {
	delay  time.Duration // of each piece, at most
	pieces int           // of at most 1<<pieces bytes, and what waits is regrouped; zero: as read
	breaks breakage      // when
	after  int           // bytes of
	from   side          // were handed on
	seed   uint64        // of what is random
}

// A proxy stands between a Client and a Server, and spoils the links that go through it.
type proxy struct {
	server func(context.Context) (net.Conn, error) // connects to it
	link   func(n int) weather                     // of the n-th link, from zero

	mu    sync.Mutex
	links []*passage
	work  sync.WaitGroup
}

// join leads a connection of a client to the server.
func (p *proxy) join(ctx context.Context, c net.Conn) error {
	s, err := p.server(ctx)
	if err != nil {
		c.Close()
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &passage{weather: p.link(len(p.links)), conns: [2]net.Conn{c, s}, broken: make(chan struct{}), over: make(chan struct{})}
	p.links = append(p.links, l)
	p.work.Go(l.run)
	return nil
}

// dial is that of a Client, without a kernel.
func (p *proxy) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := newDuplex()
	return near, p.join(ctx, far)
}

// listen has clients connect to the address that it returns, with a kernel.
func (p *proxy) listen(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.join(context.Background(), c)
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.close()
	})
	return l.Addr().String()
}

// close ends all links and waits for that.
func (p *proxy) close() {
	p.mu.Lock()
	for _, l := range p.links {
		l.close()
	}
	p.mu.Unlock()
	p.work.Wait()
}

// A passage is a link through a proxy.
type passage struct {
	weather
	conns   [2]net.Conn     // to the client and to the server
	carried [2]atomic.Int64 // bytes of each, handed on
	reads   [2][]int        // bytes of each after each read; only until run returns are they written
	broke   sync.Once
	broken  chan struct{} // closed when the weather has broken it
	when    time.Time     // that was
	closed  sync.Once
	over    chan struct{} // closed when both sides have closed, or by close
}

func (l *passage) run() {
	var work sync.WaitGroup
	for _, from := range []side{ofClient, ofServer} {
		read := make(chan []byte, 1024)
		work.Go(func() { l.take(from, read) })
		work.Go(func() { l.give(from, read) })
	}
	work.Wait()
	l.close()
}

func (l *passage) close() {
	l.closed.Do(func() {
		close(l.over)
		for _, c := range l.conns {
			c.Close()
		}
	})
}

// take reads at once, as a kernel does, whatever becomes of it.
func (l *passage) take(from side, read chan<- []byte) {
	defer close(read)
	buf, sum := make([]byte, 32<<10), 0
	for {
		b := buf
		// Not of the server: its goroutines that write wait for each other with a Mutex,
		// while which the time of synctest stands still.
		if l.breaks == breakJam && from == ofClient {
			if l.from == from {
				b = b[:min(len(b), l.after-sum)]
			}
			if len(b) == 0 || l.isBroken() {
				<-l.over
				return
			}
		}
		n, err := l.conns[from].Read(b)
		if n > 0 {
			sum += n
			l.reads[from] = append(l.reads[from], sum)
			select {
			case read <- bytes.Clone(b[:n]):
			case <-l.over:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// give hands on what was read, in order.
func (l *passage) give(from side, read <-chan []byte) {
	rng := mathrand.New(mathrand.NewPCG(l.seed, uint64(from)))
	to, given := l.conns[1-from], 0
	var waits []byte
	counts := l.breaks != breakNever && l.from == from
	if counts && l.after == 0 {
		l.fall(to)
	}
	for {
		if len(waits) == 0 {
			b, ok := <-read
			if !ok {
				break
			}
			waits = b
		}
		if l.delay > 0 {
			time.Sleep(time.Duration(rng.Int64N(int64(l.delay))))
		}
		if l.pieces > 0 {
			waits = gather(waits, read)
		}
		if l.swallowing(from) {
			waits = nil
			continue
		}
		n := len(waits)
		if l.pieces > 0 {
			n = min(n, 1+rng.IntN(1<<rng.IntN(l.pieces+1)))
		}
		if counts {
			n = min(n, l.after-given)
		}
		if _, err := to.Write(waits[:n]); err != nil {
			if !l.isBroken() {
				l.close()
			}
			waits = nil
			continue // for whoever writes must not be held up
		}
		waits, given = waits[n:], given+n
		l.carried[from].Add(int64(n))
		if counts && given == l.after {
			l.fall(to)
		}
	}
	if !l.swallowing(from) {
		to.(interface{ CloseWrite() error }).CloseWrite()
	}
}

// gather adds all that was read meanwhile.
func gather(b []byte, read <-chan []byte) []byte {
	for {
		select {
		case more, ok := <-read:
			if !ok {
				return b
			}
			b = append(b, more...)
		default:
			return b
		}
	}
}

// fall breaks the link.
func (l *passage) fall(to net.Conn) {
	l.broke.Do(func() {
		l.when = time.Now()
		close(l.broken)
	})
	switch l.breaks {
	case breakReset:
		for _, c := range l.conns {
			if c, ok := c.(*net.TCPConn); ok {
				c.SetLinger(0)
			}
		}
		l.close()
	case breakClose:
		l.close()
	case breakHalf:
		to.(interface{ CloseWrite() error }).CloseWrite()
	}
}

func (l *passage) isBroken() bool { return isClosed(l.broken) }
func (l *passage) isOver() bool   { return isClosed(l.over) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// swallowing reports whether the other side receives neither what a side sends nor its close.
func (l *passage) swallowing(from side) bool {
	one := l.breaks == breakHalf || l.breaks == breakOneWay
	return (l.breaks == breakSwallow || l.breaks == breakJam || one && from == l.from) && l.isBroken()
}

// A duplex is a pipe for each direction, one of which can end alone as with TCP.
type duplex struct{ in, out net.Conn }

func newDuplex() (near, far duplex) {
	a, b := net.Pipe()
	c, d := net.Pipe()
	return duplex{in: a, out: c}, duplex{in: d, out: b}
}

func (d duplex) Read(b []byte) (int, error)         { return d.in.Read(b) }
func (d duplex) Write(b []byte) (int, error)        { return d.out.Write(b) }
func (d duplex) CloseWrite() error                  { return d.out.Close() }
func (d duplex) Close() error                       { return errors.Join(d.in.Close(), d.out.Close()) }
func (d duplex) LocalAddr() net.Addr                { return d.in.LocalAddr() }
func (d duplex) RemoteAddr() net.Addr               { return d.in.RemoteAddr() }
func (d duplex) SetReadDeadline(t time.Time) error  { return d.in.SetReadDeadline(t) }
func (d duplex) SetWriteDeadline(t time.Time) error { return d.out.SetWriteDeadline(t) }

func (d duplex) SetDeadline(t time.Time) error {
	return errors.Join(d.in.SetDeadline(t), d.out.SetDeadline(t))
}
