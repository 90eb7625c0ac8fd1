package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/random"
)

const (
	spoken  = 10     // bytes that go forth on a connection of the tests, and come back
	again   = 20_001 // local port that is used again and again
	patient = time.Minute
	// lastWait is a little more than what an agent waits at most until it tries again.
	lastWait = 6 * time.Minute
)

// long reports whether time is no object.
func long() bool { return os.Getenv("CONNMAP_LONG") != "" }

// A made is a connection that the traffic program has made.
type made struct {
	Local, Peer netip.AddrPort // zero: it has done what it was told
	Begin, End  time.Time      // before it was dialled, and after it was closed; zero: it lives
	Probe       bool
}

// churn makes short connections, as it is told by lines of standard input, and tells
// each that has ended in a line of JSON.
func churn(peers []string) {
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	tell := func(m made) {
		mu.Lock()
		defer mu.Unlock()
		must(out.Encode(m))
	}
	var (
		open sync.WaitGroup
		stop chan struct{}
		held []net.Conn
	)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "go":
			until := make(chan struct{})
			stop = until
			open.Go(func() { flow(peers, until, &open, tell) })
		case "pause":
			if stop != nil {
				close(stop)
				stop = nil
			}
			open.Wait()
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
// are longer, and some forty come in threes that have the same ends, one after the other.
func flow(peers []string, stop <-chan struct{}, open *sync.WaitGroup, tell func(made)) {
	chance := random.New()
	between := func(least, most time.Duration) time.Duration {
		return least + time.Duration(chance.Int64N(int64(most-least)))
	}
	free := make(chan struct{}, 1) // the port again
	free <- struct{}{}
	for {
		select {
		case <-stop:
			return
		case <-time.After(between(10*time.Millisecond, 50*time.Millisecond)):
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
				m.End = time.Now()
				tell(m)
			}
			if port != 0 {
				free <- struct{}{}
			}
		})
	}
}

// meet makes a connection on which spoken bytes have gone forth and back.
func meet(peer string, port int) (net.Conn, made) {
	d := net.Dialer{Timeout: 10 * time.Second}
	if port != 0 {
		d.LocalAddr = &net.TCPAddr{Port: port}
	}
	m := made{Peer: netip.MustParseAddrPort(peer), Begin: time.Now()}
	c, err := d.Dial("tcp", peer)
	must(err)
	m.Local = c.LocalAddr().(*net.TCPAddr).AddrPort()
	_, err = c.Write(make([]byte, spoken))
	must(err)
	_, err = io.ReadFull(c, make([]byte, spoken))
	must(err)
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
	require.NoError(t, p.cmd.Start())
	t.Cleanup(p.kill)
	return p
}
