package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/random"
)

const (
	spoken  = 10     // bytes that go forth on most connections of the tests, and come back
	again   = 20_001 // local port that is used again and again, after a reset
	anew    = 20_002 // likewise, after the peer has closed
	patient = time.Minute
	// lastWait is a little more than what an agent waits at most until it tries again.
	lastWait = 6 * time.Minute
)

// A made is a connection that the traffic program has made.
type made struct {
	Local, Peer netip.AddrPort // zero: it has done what it was told
	Begin, End  time.Time      // before it was dialled, and after it was closed; zero: it lives
	Bytes       int64          // that went forth, and came back
	Reset       bool           // the kernel may have forgotten bytes
	Probe       bool
}

// churn makes connections, as it is told by lines of standard input, and tells each that
// has ended in a line of JSON. The peer closer closes first, the others echo.
func churn(closer string, peers []string) {
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	tell := func(m made) {
		mu.Lock()
		defer mu.Unlock()
		must(out.Encode(m))
	}
	var (
		open, lasting sync.WaitGroup
		stop, last    chan struct{}
		held          []net.Conn
	)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "go":
			until := make(chan struct{})
			stop = until
			open.Go(func() { flow(closer, peers, until, &open, tell) })
		case "pause":
			if stop != nil {
				close(stop)
				stop = nil
			}
			open.Wait()
			tell(made{})
		case "last":
			until := make(chan struct{})
			last = until
			for lane := range lanes {
				lasting.Go(func() { grow(peers[lane%len(peers)], uint64(lane), until, tell) })
			}
			tell(made{})
		case "end":
			if last != nil {
				close(last)
				last = nil
			}
			lasting.Wait()
			tell(made{})
		case "burst":
			burst(closer, tell)
			tell(made{})
		case "probe":
			c, m := meet(peers[0], 0)
			time.Sleep(5 * time.Millisecond)
			must(c.Close())
			m.End, m.Probe = time.Now(), true
			tell(m)
		case "hold":
			for _, p := range peers {
				c, m := meet(p, 0)
				held = append(held, c)
				tell(m)
			}
			tell(made{})
		}
	}
	for _, c := range held {
		c.Close()
	}
}

// flow makes some fifty connections a second until it is stopped. Of each hundred four
// are longer, and some forty come in threes that have the same ends, one after the other;
// others that have that come in eights at most, with different numbers of bytes.
func flow(closer string, peers []string, stop <-chan struct{}, open *sync.WaitGroup, tell func(made)) {
	chance := random.New()
	between := func(least, most time.Duration) time.Duration {
		return least + time.Duration(chance.Int64N(int64(most-least)))
	}
	free := make(chan struct{}, 1) // the port again
	free <- struct{}{}
	closed := make(chan struct{}, 1) // the port anew
	closed <- struct{}{}
	for {
		select {
		case <-stop:
			return
		case <-time.After(between(10*time.Millisecond, 50*time.Millisecond)):
		}
		if chance.IntN(15) == 0 {
			select {
			case <-closed:
				var sizes []int64
				for range 2 + chance.IntN(7) {
					sizes = append(sizes, 4+chance.Int64N(1<<(2+chance.IntN(14))))
				}
				open.Go(func() {
					for _, n := range sizes {
						tell(answered(closer, anew, n))
					}
					closed <- struct{}{}
				})
			default:
			}
		}
		life := between(3*time.Millisecond, 60*time.Millisecond)
		if chance.IntN(25) == 0 {
			life = between(time.Second/2, 3*time.Second)
		}
		port, times := 0, 1
		if chance.IntN(5) == 0 {
			select {
			case <-free:
				life, port, times = between(3*time.Millisecond, 15*time.Millisecond), again, 3
			default:
			}
		}
		peer := peers[0]
		if port == 0 {
			peer = peers[chance.IntN(len(peers))]
		}
		open.Go(func() {
			for range times {
				c, m := meet(peer, port)
				time.Sleep(life)
				if port != 0 {
					// After a reset the kernel does not keep the port for a minute.
					must(c.(*net.TCPConn).SetLinger(0))
				}
				must(c.Close())
				m.End, m.Reset = time.Now(), port != 0
				tell(m)
			}
			if port != 0 {
				free <- struct{}{}
			}
		})
	}
}

// lanes is how many connections that last are there at a time.
const lanes = 6

// grow has one connection after the other, on which bytes go forth and back now and then,
// until it is stopped.
func grow(peer string, lane uint64, stop <-chan struct{}, tell func(made)) {
	chance := rand.New(rand.NewPCG(random.New().Uint64(), lane))
	for {
		c, m := meet(peer, 0)
		over := time.After(time.Duration(chance.Int64N(int64(40 * time.Second))))
		for talks := true; talks; {
			select {
			case <-stop:
				talks = false
			case <-over:
				talks = false
			case <-time.After(time.Duration(chance.Int64N(int64(400 * time.Millisecond)))):
				m.Bytes += talk(c, 1+chance.Int64N(1<<chance.IntN(17)))
			}
		}
		must(c.Close())
		m.End = time.Now()
		tell(m)
		select {
		case <-stop:
			return
		default:
		}
	}
}

// burst makes more connections at once than an agent keeps in memory.
func burst(closer string, tell func(made)) {
	const workers, each = 20, 800
	var work sync.WaitGroup
	for range workers {
		work.Go(func() {
			for range each {
				tell(answered(closer, 0, spoken))
			}
		})
	}
	work.Wait()
}

// talk has bytes go forth and back.
func talk(c net.Conn, n int64) int64 {
	_, err := c.Write(make([]byte, n))
	must(err)
	_, err = io.ReadFull(c, make([]byte, n))
	must(err)
	return n
}

// meet makes a connection on which spoken bytes have gone forth and back.
func meet(peer string, port int) (net.Conn, made) {
	c, m := reach(peer, port)
	m.Bytes = talk(c, spoken)
	return c, m
}

// answered makes a connection to the peer closer. The kernel keeps the ends of who closes
// first for a minute, but lets them be used by one that the other opens.
func answered(closer string, port int, n int64) made {
	c, m := reach(closer, port)
	b := make([]byte, n)
	binary.BigEndian.PutUint32(b, uint32(n))
	_, err := c.Write(b)
	must(err)
	m.Bytes, err = io.Copy(io.Discard, c)
	must(err)
	must(c.Close())
	m.End = time.Now()
	return m
}

// reach makes a connection.
func reach(peer string, port int) (net.Conn, made) {
	d := net.Dialer{Timeout: 10 * time.Second}
	if port != 0 {
		d.LocalAddr = &net.TCPAddr{Port: port}
	}
	m := made{Peer: netip.MustParseAddrPort(peer), Begin: time.Now()}
	c, err := d.Dial("tcp", peer)
	for end := m.Begin.Add(patient); port != 0 && errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(end); c, err = d.Dial("tcp", peer) {
		time.Sleep(time.Millisecond) // the kernel awaits the last acknowledgement
	}
	must(err)
	m.Local = c.LocalAddr().(*net.TCPAddr).AddrPort()
	return c, m
}

// A process is a program that runs in a network namespace.
type process struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	end  sync.Once
	name string

	mu    sync.Mutex
	said  []byte
	lines func(string) // nil: they are kept in said
	begun []byte       // a line without its end
}

// Write takes in what the program says.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lines == nil {
		p.said = append(p.said, b...)
		return len(b), nil
	}
	p.begun = append(p.begun, b...)
	for {
		i := slices.Index(p.begun, '\n')
		if i < 0 {
			return len(b), nil
		}
		p.lines(string(p.begun[:i]))
		p.begun = p.begun[i+1:]
	}
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.said)
}

// has waits until the program has said something that matches, and returns the parts.
func (p *process) has(t *testing.T, pattern string, within time.Duration) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var found []string
	ok := poll(within, 20*time.Millisecond, func() bool { found = re.FindStringSubmatch(p.text()); return found != nil })
	require.True(t, ok, "%s does not say %s", p.name, pattern)
	return found
}

func (p *process) kill() {
	p.end.Do(func() {
		p.in.Close()
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
}

// launch starts a program, which ends with the test. lines, if not nil, is called with what
// it says.
func launch(t *testing.T, namespace string, env []string, lines func(string), name string, args ...string) *process {
	t.Helper()
	p := &process{name: filepath.Base(name), lines: lines}
	p.cmd = exec.Command("nsenter", append([]string{"--net=/run/netns/" + namespace, name}, args...)...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test that panics cleans nothing up
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if lines != nil {
		p.cmd.Stderr = os.Stderr
	}
	var err error
	p.in, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	// The signal comes when the thread ends that started the process: it must not be one on
	// which another test changes its network namespace.
	started, killed := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		started <- p.cmd.Start()
		<-killed
	}()
	t.Cleanup(func() { close(killed) })
	require.NoError(t, <-started)
	t.Cleanup(p.kill)
	return p
}
