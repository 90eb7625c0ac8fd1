//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/connmapgo/connmap/internal/race"
)

func init() { helpers["storm"] = helpStorm }

// A stormReport says what a storm was.
type stormReport struct {
	PID     int
	Short   int // connections that lived for less than 10 ms
	Reset   int // connections that the kernel reset, as it does one in a million of those held to a rate
	Elapsed time.Duration
	CPU     time.Duration
}

// helpStorm makes n connections on which a byte goes forth and back, in its
// network namespace, after a line has come from standard input. A second word
// is a rate to which the namespace's packets are held.
func helpStorm(arg string) error {
	count, rate, _ := strings.Cut(arg, " ")
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	commands := []string{"ip link set lo up", "ip addr add " + testAddr.String() + "/32 dev lo"}
	if rate != "" {
		commands = append(commands, "tc qdisc add dev lo root tbf burst 2k latency 20ms rate "+rate)
	}
	for _, c := range commands {
		args := strings.Fields(c)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", c, err, out)
		}
	}
	for name, value := range map[string]string{"tcp_max_tw_buckets": "1", "ip_local_port_range": "1024 65000"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp4", testAddr.String()+":0")
	if err != nil {
		return err
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				var b [1]byte
				if _, err := io.ReadFull(c, b[:]); err == nil {
					c.Write(b[:])
				}
				c.Close()
			}()
		}
	}()
	fmt.Println("ready")
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		return err
	}
	const clients = 8
	report := stormReport{PID: os.Getpid()}
	start := time.Now()
	var short, reset [clients]int
	var failed [clients]error
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for range (n + i) / clients {
				begin := time.Now()
				c, err := net.Dial("tcp4", l.Addr().String())
				if err != nil {
					failed[i] = err
					return
				}
				if _, err = c.Write([]byte{1}); err == nil {
					_, err = io.ReadFull(c, make([]byte, 1))
				}
				c.Close()
				if rate != "" && errors.Is(err, syscall.ECONNRESET) {
					reset[i]++
					continue
				}
				if err != nil {
					failed[i] = err
					return
				}
				if time.Since(begin) < 10*time.Millisecond {
					short[i]++
				}
			}
		})
	}
	wg.Wait()
	report.Elapsed = time.Since(start)
	for i := range clients {
		report.Short += short[i]
		report.Reset += reset[i]
	}
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return err
	}
	report.CPU = time.Duration(u.Utime.Nano() + u.Stime.Nano())
	if err := errors.Join(failed[:]...); err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		return err
	}
	// With the process goes its namespace, and with that the last packets of those
	// connections for which the kernel has to send something again.
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// A tally counts the events of a storm.
type tally struct {
	mu sync.Mutex
	tallied
}

type tallied struct{ Opens, Out, Closes, Whole, Lost int }

func (n *tally) now() tallied {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.tallied
}

func (n *tally) add(e Event, pid int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.Kind == Lost {
		n.Lost += int(e.Lost)
	}
	c := &e.Conn
	if c.Local.Addr() != testAddr {
		return
	}
	switch e.Kind {
	case Open:
		n.Opens++
		if c.Direction == Out {
			n.Out++
		}
	case Close:
		n.Closes++
		if c.Process.PID == pid && c.Process.Comm != "" && c.Process.Exe != "" && c.Tx == 1 && c.Rx == 1 {
			n.Whole++
		}
	}
}

// startStorm prepares a storm, which finish unleashes. The argument is that of
// helpStorm.
func startStorm(t testing.TB, arg string) (pid int, finish func() stormReport) {
	requireRootAndIP(t)
	cmd, in, out := helperIn(t, "storm "+arg, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	return cmd.Process.Pid, func() stormReport {
		_, err := in.Write([]byte("\n"))
		require.NoError(t, err)
		var r stormReport
		require.NoError(t, json.NewDecoder(out).Decode(&r))
		return r
	}
}

// mostUnseen is how many closes in a storm may be seen by no program: some kernels call none
// in interrupts of certain protected processes. It was two, of both ends of a connection,
// in three storms of thirty.
const mostUnseen = 8

// stormSize is how many connections a storm has. Their events fill the ring several times.
func stormSize() int {
	switch {
	case testing.Short() || race.Enabled:
		return 5000
	case os.Getenv("CONNMAP_LONG") != "":
		return 100_000
	}
	return 30_000
}

// TestStorm: of many short connections each is seen, from its opening to its
// end, with its program and its bytes.
func TestStorm(t *testing.T) {
	c := ebpfOrSkip(t, Options{}, 0)
	n := stormSize()
	pid, finish := startStorm(t, strconv.Itoa(n))
	var got tally
	follow(t, c, func(e Event) { got.add(e, pid) })
	r := finish()
	// What others on this machine do at the same time may fill the ring too: then all is told
	// but what is counted as lost, and what is counted as late is whole unless a pass found it.
	assert.Eventually(t, func() bool {
		seen := got.now()
		return seen.Closes+seen.Lost >= 2*n && seen.Closes == seen.Opens
	}, time.Minute, 100*time.Millisecond)
	found, late := unseen(c), int(c.Info().Late)
	seen := got.now()
	t.Logf("%d connections, %d shorter than 10 ms, in %v: %+v; %d closes found by a pass, %d late", n, r.Short, r.Elapsed, seen, found, late)
	assert.LessOrEqual(t, seen.Opens, 2*n)
	assert.GreaterOrEqual(t, seen.Opens+seen.Lost, 2*n)
	assert.Equal(t, seen.Opens, seen.Closes)
	assert.LessOrEqual(t, seen.Out, n+late)
	assert.GreaterOrEqual(t, seen.Out+seen.Lost+late, n)
	// Of a close that no program was called for the last bytes are not known.
	assert.LessOrEqual(t, seen.Closes-seen.Whole, min(found, mostUnseen+late))
}

// TestInterruptedStorm: nor is one lost that opens or ends in an interrupt of
// the program that should see it. Packets that are held to a rate come in
// interrupts of a timer.
func TestInterruptedStorm(t *testing.T) {
	if testing.Short() && !race.Enabled {
		t.Skip("takes long")
	}
	requireRootAndIP(t)
	if out, err := exec.Command("unshare", "-n", "tc", "qdisc", "add", "dev", "lo", "root", "tbf", "burst", "2k", "latency", "20ms", "rate", "1mbit").CombinedOutput(); err != nil {
		t.Skipf("needs tc and the queueing discipline tbf: %v: %s", err, out)
	}
	c := ebpfOrSkip(t, Options{}, 0)
	n := stormSize() / 4
	pid, finish := startStorm(t, strconv.Itoa(n)+" 40mbit")
	var got tally
	follow(t, c, func(e Event) { got.add(e, pid) })
	r := finish()
	// A connection may wait for an answer that was dropped: it has not ended yet.
	// What others on this machine do at the same time may fill the ring too: then it is
	// counted, and not told.
	assert.Eventually(t, func() bool {
		// The last events may be on their way.
		seen := got.now()
		return seen.Opens+seen.Lost >= 2*(n-r.Reset) && seen.Closes == seen.Opens-remaining(t, pid)
	}, time.Minute, 100*time.Millisecond)
	missed, err := c.backend.(*ebpf).probe.Unseen()
	require.NoError(t, err)
	found := unseen(c)
	seen := got.now()
	t.Logf("%d connections, %d of them reset, %d changes of state missed, %d closes found by a pass, in %v: %+v", n, r.Reset, missed, found, r.Elapsed, seen)
	assert.LessOrEqual(t, seen.Out, n)
	assert.GreaterOrEqual(t, seen.Out+seen.Lost, n)
	if r.Reset == 0 { // else perhaps before they were accepted
		assert.LessOrEqual(t, seen.Opens, 2*n)
		assert.GreaterOrEqual(t, seen.Opens+seen.Lost, 2*n)
		assert.GreaterOrEqual(t, seen.Whole+seen.Lost, seen.Closes-found, "what closes is whole, but for what a pass has found")
	}
	assert.LessOrEqual(t, found, mostUnseen+n/100, "a pass finds what no program sees, and that is little")
}

// remaining counts the TCP connections of a process's network namespace that the
// kernel has not done with.
func remaining(t *testing.T, pid int) int {
	out, err := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", pid), "ss", "-tanH", "state", "connected", "exclude", "time-wait").Output()
	require.NoError(t, err)
	return strings.Count(string(out), "\n")
}

// TestStormInASmallRing: what is lost is counted, and what is there is right
// again soon.
func TestStormInASmallRing(t *testing.T) {
	if testing.Short() && !race.Enabled {
		t.Skip("takes long")
	}
	c := ebpfOrSkip(t, Options{}, os.Getpagesize())
	n := stormSize()
	pid, finish := startStorm(t, strconv.Itoa(n))
	var got tally
	follow(t, c, func(e Event) { got.add(e, pid) })
	require.NoError(t, c.backend.(*ebpf).do(func() {}))
	untold := c.Info().Lost // with so small a ring, before anybody followed
	r := finish()
	end := time.Now()
	ofStorm := func() (n int) {
		for _, conn := range snapshot(t, c) {
			if conn.Local.Addr() == testAddr {
				n++
			}
		}
		return n
	}
	assert.Eventually(t, func() bool { return ofStorm() == 0 }, time.Minute, 20*time.Millisecond)
	took := time.Since(end)
	time.Sleep(500 * time.Millisecond)
	assert.Zero(t, ofStorm(), "and stays so")
	counted := c.Info().Lost
	assert.Eventually(t, func() bool { return uint64(got.now().Lost) >= counted-untold }, time.Minute, time.Millisecond)
	seen := got.now()
	t.Logf("%d connections in %v: %+v; right again after %v", n, r.Elapsed, seen, took)
	assert.Equal(t, seen.Opens, seen.Closes)
	assert.Positive(t, seen.Lost)
	assert.LessOrEqual(t, uint64(seen.Lost), c.Info().Lost)
	// Each connection is told of or counted, as are those of others, but for one of which
	// the ring had no room for the opening, and no program was called for the close.
	assert.GreaterOrEqual(t, seen.Lost, 2*n-seen.Closes-mostUnseen)
	assert.Positive(t, c.Info().Late)
}

// TestLateIsNotLost: that the ring had no room for an opening or an end is no loss if a
// pass, or the end, tells of the connection.
func TestLateIsNotLost(t *testing.T) {
	c := ebpfOrSkip(t, Options{Loopback: true}, os.Getpagesize())
	e := c.backend.(*ebpf)
	told := map[Kind]int{}
	var mu sync.Mutex
	follow(t, c, func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Conn.Process.PID == os.Getpid() && e.Conn.Proto == TCP {
			told[e.Kind]++
		}
	})
	is := func(kind Kind) int {
		mu.Lock()
		defer mu.Unlock()
		return told[kind]
	}
	l := listen(t, "127.0.0.1:0")
	const n = 100 // of which the ring holds a quarter
	var ends []net.Conn
	behind := func(f func()) { // while nobody reads the ring
		busy, done := make(chan struct{}), make(chan struct{})
		go e.do(func() { close(busy); <-done })
		<-busy
		f()
		close(done)
	}
	behind(func() {
		for range n {
			client, server := pair(t, l, l.Addr().String(), net.Dialer{})
			ends = append(ends, client, server)
		}
	})
	of := func() (n int) {
		for _, conn := range own(snapshot(t, c)) {
			if conn.Proto == TCP {
				n++
			}
		}
		return n
	}
	assert.Eventually(t, func() bool { return of() == 2*n }, time.Minute, 10*time.Millisecond)
	late := c.Info().Late
	assert.Greater(t, late, uint64(n))
	behind(func() {
		for _, end := range ends {
			end.Close()
		}
	})
	assert.Eventually(t, func() bool { return of() == 0 }, time.Minute, 10*time.Millisecond)
	assert.Greater(t, c.Info().Late, late)
	assert.Eventually(t, func() bool { return is(Close) == 2*n }, time.Minute, 10*time.Millisecond)
	assert.Equal(t, 2*n, is(Open))
	behind(func() {
		for range n {
			client, server := pair(t, l, l.Addr().String(), net.Dialer{})
			client.Close()
			server.Close()
		}
	})
	assert.Eventually(t, func() bool { return of() == 0 && c.Info().Lost+uint64(is(Close)) >= 4*n }, time.Minute, 10*time.Millisecond, "the others are counted")
	assert.Equal(t, is(Close), is(Open))
}

// TestSimultaneousOpen: where both ends connect at once, as a socket does to itself, each
// has gone out.
func TestSimultaneousOpen(t *testing.T) {
	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	free := listen(t, "127.0.0.1:0")
	to := netip.MustParseAddrPort(free.Addr().String())
	free.Close()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	at := &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	require.NoError(t, unix.Bind(fd, at))
	require.NoError(t, unix.Connect(fd, at))
	var conn Conn
	for _, k := range snapshot(t, c) {
		if k.Local == to && k.Peer == to {
			conn = k
		}
	}
	assert.Equal(t, Out, conn.Direction)
	assert.Equal(t, os.Getpid(), conn.Process.PID)
}

// TestUnseenClose: the next pass closes a connection that does not exist any more and
// whose close no program saw. It closes it once.
func TestUnseenClose(t *testing.T) {
	c := visitingOrSkip(t, Options{Loopback: true, Interval: time.Hour})
	e := c.backend.(*ebpf)
	l := listen(t, "127.0.0.1:0")
	events := make(chan Event, 1000)
	follow(t, c, func(e Event) {
		if e.Conn.Process.PID == os.Getpid() {
			events <- e
		}
	})
	next := func(kind Kind, conn net.Conn) Event {
		for {
			select {
			case ev := <-events:
				if ev.Kind == kind && ev.Conn.Local == netip.MustParseAddrPort(conn.LocalAddr().String()) {
					return ev
				}
			case <-time.After(time.Minute):
				require.FailNow(t, "no event", "%v of %v", kind, conn.LocalAddr())
			}
		}
	}
	// As if the close had not been seen: the table has it again.
	forget := func(conn Conn) {
		require.NoError(t, e.do(func() {
			e.conns[conn.ID] = &tracked{conn: conn, presence: presence{misses: 2}}
			assert.NoError(t, e.closeGone(2))
		}))
	}
	gone, peer := pair(t, l, l.Addr().String(), net.Dialer{})
	next(Open, gone)
	require.NoError(t, peer.(*net.TCPConn).SetLinger(0))
	peer.Close()
	gone.Close()
	conn := next(Close, gone).Conn
	forget(conn)
	assert.Equal(t, Closed, next(Close, gone).Conn.State)

	// One that the peer has reset, and whose program does not notice.
	held, peer := pair(t, l, l.Addr().String(), net.Dialer{})
	next(Open, held)
	require.NoError(t, peer.(*net.TCPConn).SetLinger(0))
	peer.Close()
	conn = next(Close, held).Conn
	forget(conn)
	assert.Equal(t, Closed, next(Close, held).Conn.State)
	ignored := func() (yes bool) {
		require.NoError(t, e.do(func() { yes = e.ignored[conn.ID] }))
		return yes
	}
	assert.True(t, ignored())
	held.Close()
	forget(Conn{ID: 1 << 61})
	assert.False(t, ignored(), "what is gone is forgotten")
}

// TestSlowFollower: who does not keep up loses events, which are counted, and
// disturbs nobody else.
func TestSlowFollower(t *testing.T) {
	// So large that the storm fills the queue, too small for what comes then.
	c := ebpfOrSkip(t, Options{}, 256<<10)
	pid, finish := startStorm(t, "10000")
	release := make(chan struct{})
	var got tally
	var asked sync.Once
	follow(t, c, func(e Event) {
		if e.Conn.Local.Addr() == testAddr {
			asked.Do(func() {
				<-release
				snapshot(t, c) // from within, with the queue full
			})
		}
		got.add(e, pid)
	})
	finish()
	assert.Eventually(t, func() bool { return c.backend.(*ebpf).hasFullQueue() }, time.Minute, time.Millisecond)
	for _, conn := range snapshot(t, c) {
		assert.NotZero(t, conn.ID)
	}
	close(release)
	assert.Eventually(t, func() bool {
		n := got.now()
		return n.Closes > 0 && n.Opens == n.Closes && n.Lost > 0
	}, time.Minute, 10*time.Millisecond)
	t.Logf("%+v", got.now())
	assert.GreaterOrEqual(t, got.now().Lost, 20_000-got.now().Closes)
}

// TestUnseenCloseByCount: the second pass notices that the kernel has one connection
// less than the table, without looking at all files.
func TestUnseenCloseByCount(t *testing.T) {
	c := visitingOrSkip(t, Options{Loopback: true, Interval: time.Hour})
	e := c.backend.(*ebpf)
	const id = 1 << 61
	passes := 0
	require.NoError(t, e.do(func() {
		for e.nextHolderPass = time.Now().Add(time.Hour); passes < 2; passes++ {
			assert.NoError(t, e.refresh(false)) // what others do beside this test
		}
		e.conns[id] = &tracked{conn: Conn{ID: id, Proto: TCP, Local: netip.MustParseAddrPort("192.0.2.1:1")}}
		e.tcp += 1000 // more than what may be on its way
		for passes = 0; e.conns[id] != nil && passes < 5; passes++ {
			assert.NoError(t, e.refresh(false))
		}
		e.tcp -= 1000 - 1
	}))
	assert.LessOrEqual(t, passes, 2)
}
