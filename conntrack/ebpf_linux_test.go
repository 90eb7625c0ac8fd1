//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/connmapgo/connmap/conntrack/internal/bpf"
)

func init() { helpers["storm"] = helpStorm }

// A stormReport says what a storm was.
type stormReport struct {
	PID     int
	Short   int // connections that lived for less than 10 ms
	Elapsed time.Duration
	CPU     time.Duration
}

// helpStorm makes n connections on which a byte goes forth and back, in its
// network namespace, after a line has come from standard input.
func helpStorm(arg string) error {
	n, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	for _, args := range []string{"link set lo up", "addr add " + stormAddr.String() + "/32 dev lo"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %s", args, out)
		}
	}
	for name, value := range map[string]string{"tcp_max_tw_buckets": "1", "ip_local_port_range": "1024 65000"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp4", stormAddr.String()+":0")
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
	var short [clients]int
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
	for _, s := range short {
		report.Short += s
	}
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return err
	}
	report.CPU = time.Duration(u.Utime.Nano() + u.Stime.Nano())
	if err := errors.Join(failed[:]...); err != nil {
		return err
	}
	// What the kernel still does for the last ones is over soon.
	time.Sleep(100 * time.Millisecond)
	return json.NewEncoder(os.Stdout).Encode(report)
}

// ebpfOrSkip opens the backend EBPF with a ring of a size; zero is the default.
func ebpfOrSkip(t testing.TB, o Options, ring int) *Collector {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to load programs into the kernel")
	}
	if o.Interval == 0 {
		o.Interval = time.Second
	}
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	probe, err := bpf.Open(bpf.Options{Loopback: o.Loopback, Ring: ring})
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, os.ErrPermission) {
		t.Skip("needs a kernel that takes the programs: ", err)
	}
	require.NoError(t, err)
	b, err := startEBPF(probe, o)
	require.NoError(t, err)
	c := &Collector{o.Interval, b}
	t.Cleanup(func() {
		if err := c.Close(); !errors.Is(err, os.ErrClosed) { // some tests close it
			assert.NoError(t, err)
		}
	})
	return c
}

// follow calls visit with each event until the test ends.
func follow(t testing.TB, c *Collector, visit func(Event)) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for e, err := range c.Events(ctx) {
			if !assert.NoError(t, err) {
				return
			}
			visit(e)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
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
	if c.Local.Addr() != stormAddr {
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

// The collector sees all namespaces: the address is that of storms alone.
var stormAddr = netip.MustParseAddr("203.0.113.77")

// startStorm prepares a storm of n connections, which finish unleashes.
func startStorm(t testing.TB, n int) (pid int, finish func() stormReport) {
	requireRootAndIP(t)
	cmd, in, out := helperIn(t, "storm "+strconv.Itoa(n), &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})
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

func stormSize() int {
	if testing.Short() || raceEnabled {
		return 10_000
	}
	return 100_000
}

// TestStorm: of many short connections each is seen, from its opening to its
// end, with its program and its bytes.
func TestStorm(t *testing.T) {
	c := ebpfOrSkip(t, Options{}, 0)
	n := stormSize()
	pid, finish := startStorm(t, n)
	var got tally
	follow(t, c, func(e Event) { got.add(e, pid) })
	r := finish()
	assert.Eventually(t, func() bool { return got.now().Closes >= 2*n }, 10*time.Second, 100*time.Millisecond)
	t.Logf("%d connections, %d shorter than 10 ms, in %v: %+v", n, r.Short, r.Elapsed, got.now())
	assert.Equal(t, tallied{Opens: 2 * n, Out: n, Closes: 2 * n, Whole: 2 * n}, got.now())
	assert.Zero(t, c.Info().Lost)
}

// TestStormInASmallRing: what is lost is counted, and what is there is right
// again soon.
func TestStormInASmallRing(t *testing.T) {
	c := ebpfOrSkip(t, Options{}, os.Getpagesize())
	n := stormSize()
	pid, finish := startStorm(t, n)
	var got tally
	follow(t, c, func(e Event) { got.add(e, pid) })
	require.NoError(t, c.backend.(*ebpf).do(func() {}))
	untold := c.Info().Lost // with so small a ring, before anybody followed
	r := finish()
	end := time.Now()
	ofStorm := func() (n int) {
		for _, conn := range snapshot(t, c) {
			if conn.Local.Addr() == stormAddr {
				n++
			}
		}
		return n
	}
	assert.Eventually(t, func() bool { return ofStorm() == 0 }, 2*time.Second, 20*time.Millisecond)
	took := time.Since(end)
	time.Sleep(500 * time.Millisecond)
	assert.Zero(t, ofStorm(), "and stays so")
	seen := got.now()
	t.Logf("%d connections in %v: %+v; right again after %v", n, r.Elapsed, seen, took)
	assert.Equal(t, seen.Opens, seen.Closes)
	assert.Positive(t, seen.Lost)
	assert.LessOrEqual(t, uint64(seen.Lost), c.Info().Lost)
	assert.GreaterOrEqual(t, uint64(got.now().Lost), c.Info().Lost-untold)
	// Each connection that was not seen has lost both its events.
	assert.GreaterOrEqual(t, seen.Lost, 2*(2*n-seen.Closes))
}

func init() { helpers["capable"] = helpCapable }

type capableReport struct {
	Info  Info
	Conns []Conn
}

// helpCapable makes a TCP connection and a UDP exchange without fixed peers, and
// prints what a collector of the backend arg sees.
func helpCapable(arg string) error {
	c, err := New(Options{Backend: Backend(arg), Loopback: true})
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	tcp, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		return err
	}
	defer tcp.Close()
	var udp [2]net.PacketConn
	for i := range udp {
		if udp[i], err = net.ListenPacket("udp4", "127.0.0.1:0"); err != nil {
			return err
		}
		defer udp[i].Close()
	}
	fixed, err := net.Dial("udp4", udp[0].LocalAddr().String())
	if err != nil {
		return err
	}
	defer fixed.Close()
	if _, err := fixed.Write(make([]byte, 7)); err != nil {
		return err
	}
	if _, err := udp[0].WriteTo(make([]byte, 5), udp[1].LocalAddr()); err != nil {
		return err
	}
	conns, err := c.Snapshot(context.Background())
	if err != nil {
		return err
	}
	conns = slices.DeleteFunc(conns, func(c Conn) bool { return c.Process.PID != os.Getpid() })
	return json.NewEncoder(os.Stdout).Encode(capableReport{c.Info(), conns})
}

// TestCapabilities: root is not needed, and each capability that is missing is
// named.
func TestCapabilities(t *testing.T) {
	ebpfOrSkip(t, Options{}, 0)
	const bpf, perfmon, netAdmin = unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN
	for _, tt := range []struct {
		name             string
		backend          Backend
		caps             []uintptr
		want             Backend
		limited          []string // parts
		tcp, fixed, free int      // ends seen
	}{
		{"exactly the three", Auto, []uintptr{bpf, perfmon, netAdmin}, EBPF, nil, 2, 1, 3},
		{"no CAP_NET_ADMIN", Auto, []uintptr{bpf, perfmon}, EBPF, []string{"UDP only sockets with a fixed peer", "missing: CAP_NET_ADMIN"}, 2, 1, 0},
		{"no CAP_PERFMON", Auto, []uintptr{bpf, netAdmin}, Diag, []string{"ebpf does not work here", "missing: CAP_PERFMON"}, 1, 1, 0},
		{"no CAP_BPF", Auto, []uintptr{perfmon, netAdmin}, Diag, []string{"missing: CAP_BPF"}, 1, 1, 0},
		{"none", Auto, nil, Diag, []string{"missing: CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN", "need root"}, 1, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, out := helperIn(t, "capable "+string(tt.backend), &syscall.SysProcAttr{
				Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: tt.caps,
			})
			var r capableReport
			require.NoError(t, json.NewDecoder(out).Decode(&r))
			assert.Equal(t, tt.want, r.Info.Backend, r.Info.Limited)
			for _, part := range tt.limited {
				assert.Contains(t, r.Info.Limited, part)
			}
			if tt.limited == nil {
				assert.Empty(t, r.Info.Limited)
			}
			var tcp, fixed, free int
			for _, c := range r.Conns {
				switch {
				case c.Proto == TCP:
					tcp++
				case c.ID>>63 == 0:
					fixed++
					assert.Equal(t, tt.want == EBPF, c.Tx == 7, "%+v", c)
				default:
					free++
				}
				if tt.want == EBPF {
					assert.NotEmpty(t, c.Process.Exe)
				}
				assert.Equal(t, uint32(65534), c.UID)
			}
			assert.Equal(t, []int{tt.tcp, tt.fixed, tt.free}, []int{tcp, fixed, free}, "%+v", r.Conns)
		})
	}
}

// own returns the connections of this process.
func own(conns []Conn) []Conn {
	return slices.DeleteFunc(conns, func(c Conn) bool { return c.Process.PID != os.Getpid() })
}

// TestOlderConnections: what was there before the collector is seen too.
func TestOlderConnections(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	client, server := pair(t, l, l.Addr().String(), net.Dialer{})
	_, err := client.Write(make([]byte, 100))
	require.NoError(t, err)
	_, err = io.ReadFull(server, make([]byte, 100))
	require.NoError(t, err)
	queued, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer queued.Close()
	u, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer u.Close()
	fixed, err := net.Dial("udp4", u.LocalAddr().String())
	require.NoError(t, err)
	defer fixed.Close()

	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	conns := own(snapshot(t, c))
	out, ok := find(conns, client.LocalAddr(), client.RemoteAddr())
	require.True(t, ok)
	in, ok := find(conns, server.LocalAddr(), server.RemoteAddr())
	require.True(t, ok)
	assert.Equal(t, []Direction{Out, In}, []Direction{out.Direction, in.Direction})
	assert.Equal(t, []uint64{100, 0, 0, 100}, []uint64{out.Tx, out.Rx, in.Tx, in.Rx})
	assert.NotEmpty(t, out.Process.Exe)
	assert.Positive(t, out.RTT)
	assert.Equal(t, Established, in.State)
	cookie, err := socketCookie(client)
	require.NoError(t, err)
	assert.Equal(t, cookie, out.ID)
	udp, ok := find(conns, fixed.LocalAddr(), fixed.RemoteAddr())
	require.True(t, ok)
	assert.Equal(t, UDP, udp.Proto)

	// One that waited to be accepted is seen when it is used.
	accepted, err := l.Accept()
	require.NoError(t, err)
	defer accepted.Close()
	_, err = accepted.Write(make([]byte, 9))
	require.NoError(t, err)
	late, ok := find(own(snapshot(t, c)), accepted.LocalAddr(), accepted.RemoteAddr())
	require.True(t, ok)
	assert.Equal(t, In, late.Direction)
	assert.Equal(t, uint64(9), late.Tx)

	// What was found is followed to its end.
	_, err = fixed.Write(make([]byte, 3))
	require.NoError(t, err)
	udp, _ = find(own(snapshot(t, c)), fixed.LocalAddr(), fixed.RemoteAddr())
	assert.Equal(t, uint64(3), udp.Tx)
	require.NoError(t, fixed.Close())
	_, ok = find(snapshot(t, c), fixed.LocalAddr(), fixed.RemoteAddr())
	assert.False(t, ok)
}

// TestSharers: who holds a socket too is told, and who no longer does is not.
func TestSharers(t *testing.T) {
	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	l := listen(t, "127.0.0.1:0")
	client, _ := pair(t, l, l.Addr().String(), net.Dialer{})
	conns := own(snapshot(t, c))
	conn, ok := find(conns, client.LocalAddr(), client.RemoteAddr())
	require.True(t, ok)
	assert.Nil(t, conn.Sharers)

	file, err := client.(*net.TCPConn).File()
	require.NoError(t, err)
	sleep := exec.Command("sleep", "60")
	sleep.ExtraFiles = []*os.File{file}
	require.NoError(t, sleep.Start())
	conn, ok = find(snapshot(t, c), client.LocalAddr(), client.RemoteAddr())
	require.True(t, ok)
	assert.Equal(t, os.Getpid(), conn.Process.PID)
	if assert.Len(t, conn.Sharers, 1) {
		assert.Equal(t, sleep.Process.Pid, conn.Sharers[0].PID)
		assert.NotEmpty(t, conn.Sharers[0].Exe)
	}
	require.NoError(t, sleep.Process.Kill())
	sleep.Wait()
	conn, _ = find(snapshot(t, c), client.LocalAddr(), client.RemoteAddr())
	assert.Nil(t, conn.Sharers)

	// And the one that is left owns it.
	sleep = exec.Command("sleep", "60")
	sleep.ExtraFiles = []*os.File{file}
	require.NoError(t, sleep.Start())
	defer func() { sleep.Process.Kill(); sleep.Wait() }()
	local, remote := client.LocalAddr(), client.RemoteAddr()
	require.NoError(t, file.Close())
	require.NoError(t, client.Close())
	require.Eventually(t, func() bool {
		conn, ok = find(snapshot(t, c), local, remote)
		return ok && conn.Process.PID == sleep.Process.Pid
	}, 5*time.Second, 10*time.Millisecond, "%+v", conn)
	assert.Nil(t, conn.Sharers)
}

// TestFlowsOfOneSocket: a socket has a connection for each peer, with an ID of
// its own, until nothing is sent for a while or the socket is closed.
func TestFlowsOfOneSocket(t *testing.T) {
	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	var peers []net.Addr
	for range 3 {
		p, err := net.ListenPacket("udp4", "127.0.0.1:0")
		require.NoError(t, err)
		defer p.Close()
		peers = append(peers, p.LocalAddr())
	}
	s, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer s.Close()
	ids := map[uint64]bool{}
	sent := func() (n int) {
		for _, p := range peers {
			if conn, ok := find(snapshot(t, c), s.LocalAddr(), p); ok {
				assert.Equal(t, Out, conn.Direction)
				assert.Equal(t, uint64(4), conn.Tx)
				ids[conn.ID] = true
				n++
			}
		}
		return n
	}
	send := func() {
		for _, p := range peers {
			_, err := s.WriteTo(make([]byte, 4), p)
			require.NoError(t, err)
		}
	}
	send()
	assert.Equal(t, 3, sent())
	assert.Len(t, ids, 3)
	e := c.backend.(*ebpf)
	require.NoError(t, e.do(func() { e.endIdle(time.Now().Add(flowIdle / 2)) }))
	assert.Equal(t, 3, sent())
	require.NoError(t, e.do(func() { e.endIdle(time.Now().Add(2 * flowIdle)) }))
	assert.Zero(t, sent())
	send()
	assert.Equal(t, 3, sent(), "anew")
	assert.Len(t, ids, 6)
	require.NoError(t, s.Close())
	assert.Zero(t, sent())
}

// TestSlowFollower: who does not keep up loses events, which are counted, and
// disturbs nobody else.
func TestSlowFollower(t *testing.T) {
	c := ebpfOrSkip(t, Options{}, 16<<12)
	pid, finish := startStorm(t, 10_000)
	release := make(chan struct{})
	var got tally
	var asked sync.Once
	follow(t, c, func(e Event) {
		if e.Conn.Local.Addr() == stormAddr {
			asked.Do(func() {
				<-release
				snapshot(t, c) // from within, with the queue full
			})
		}
		got.add(e, pid)
	})
	finish()
	assert.Eventually(t, func() bool { return c.backend.(*ebpf).full() }, 5*time.Second, time.Millisecond)
	for _, conn := range snapshot(t, c) {
		assert.NotZero(t, conn.ID)
	}
	close(release)
	assert.Eventually(t, func() bool {
		n := got.now()
		return n.Closes > 0 && n.Opens == n.Closes && n.Lost > 0
	}, 5*time.Second, 10*time.Millisecond)
	assert.GreaterOrEqual(t, got.now().Lost, 2*(20_000-got.now().Closes))
}

func TestEBPFClosed(t *testing.T) {
	ebpfOrSkip(t, Options{}, 0)
	c, err := New(Options{Backend: EBPF})
	require.NoError(t, err)
	ended := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		var last error
		close(started)
		for _, err := range c.Events(context.Background()) {
			last = err
		}
		ended <- last
	}()
	<-started
	snapshot(t, c)
	require.NoError(t, c.Close())
	select {
	case err := <-ended:
		assert.ErrorIs(t, err, os.ErrClosed)
	case <-time.After(5 * time.Second):
		t.Error("events do not end")
	}
	assert.ErrorIs(t, c.Close(), os.ErrClosed)
	_, err = c.Snapshot(t.Context())
	assert.ErrorIs(t, err, os.ErrClosed)
}

// TestContainerOfProcess: a process in a container's cgroup has the container's ID, in
// either version of cgroups.
func TestContainerOfProcess(t *testing.T) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	id := strings.Repeat("c0ffee12", 8)
	tried := 0
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		super := f[len(f)-1]
		if kind := f[slices.Index(f, "-")+1]; kind != "cgroup2" && !(kind == "cgroup" && slices.Contains(strings.Split(super, ","), "memory")) {
			continue
		}
		dir := filepath.Join(f[4], fmt.Sprintf("conntrack-test-%d", os.Getpid()))
		if err := os.MkdirAll(filepath.Join(dir, id, "init"), 0o755); err != nil {
			t.Log(err)
			continue
		}
		t.Cleanup(func() {
			for _, name := range []string{id + "/init", id, "."} {
				os.Remove(filepath.Join(dir, name))
			}
		})
		l := listen(t, "127.0.0.1:0")
		cmd, in, out := helperIn(t, "join "+filepath.Join(dir, id, "init", "cgroup.procs")+" "+l.Addr().String(), nil)
		line, err := out.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "ready\n", line)
		tried++
		c := ebpfOrSkip(t, Options{Loopback: true}, 0)
		got := map[string]string{}
		for _, conn := range snapshot(t, c) {
			if conn.Process.PID == cmd.Process.Pid {
				got[conn.Direction.String()] = conn.Process.Container
			}
		}
		assert.Equal(t, map[string]string{"out": id}, got, f[4])
		in.(io.Closer).Close()
	}
	if tried == 0 {
		t.Skip("needs a cgroup file system that can be written to")
	}
}

// helpJoin enters a cgroup and dials.
func helpJoin(arg string) error {
	procs, addr, _ := strings.Cut(arg, " ")
	if err := os.WriteFile(procs, []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		return err
	}
	return helpDial(addr)
}

func init() { helpers["join"] = helpJoin }

// TestEBPFSnapshotAllocatesLittle: nothing for each socket.
func TestEBPFSnapshotAllocatesLittle(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	l := listen(t, "127.0.0.1:0")
	for range 500 {
		pair(t, l, l.Addr().String(), net.Dialer{})
	}
	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	var conns []Conn
	allocs := testing.AllocsPerRun(20, func() {
		var err error
		conns, err = c.backend.snapshot(t.Context(), conns[:0])
		require.NoError(t, err)
	})
	assert.GreaterOrEqual(t, len(conns), 1000)
	assert.LessOrEqual(t, allocs, 50.0, "for 1000 sockets")
}
