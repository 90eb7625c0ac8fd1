//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/connmapgo/connmap/conntrack/internal/bpf"
	"github.com/connmapgo/connmap/internal/race"
)

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

// follow calls visit with each event from now on until the test ends.
func follow(t testing.TB, c *Collector, visit func(Event)) {
	e := c.backend.(*ebpf)
	followers := func() (n int) {
		assert.NoError(t, e.do(func() { n = len(e.followers) }))
		return n
	}
	before := followers()
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
	require.Eventually(t, func() bool { return followers() > before }, time.Minute, time.Millisecond)
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
	}, time.Minute, 10*time.Millisecond, "%+v", conn)
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
	case <-time.After(time.Minute):
		t.Error("events do not end")
	}
	assert.ErrorIs(t, c.Close(), os.ErrClosed)
	_, err = c.Snapshot(t.Context())
	assert.ErrorIs(t, err, os.ErrClosed)
}

// TestDyingProcess: a process that is about to go has no memory any more, and
// what is known of it stays.
func TestDyingProcess(t *testing.T) {
	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	l := listen(t, "127.0.0.1:0")
	closed := make(chan Conn, 1)
	cmd, in, out := helperIn(t, "fat "+l.Addr().String(), nil)
	follow(t, c, func(e Event) {
		if e.Kind == Close && e.Conn.Process.PID == cmd.Process.Pid {
			closed <- e.Conn
		}
	})
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	require.NoError(t, in.(io.Closer).Close())
	e := c.backend.(*ebpf)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		select {
		case conn := <-closed:
			assert.NotEmpty(t, conn.Process.Exe)
			return
		default:
			require.NoError(t, e.do(func() { err = e.findHolders() }))
			require.NoError(t, err)
		}
	}
	t.Error("the connection does not end")
}

// helpFat dials, and has memory that takes a while to give back.
func helpFat(addr string) error {
	if _, err := unix.Mmap(-1, 0, 512<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE); err != nil {
		return err
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(c) // the kernel closes it
	return err
}

func init() { helpers["fat"] = helpFat }

// TestOwnerFoundLate: if the event of a hand-over was lost, the pass that finds
// it tells.
func TestOwnerFoundLate(t *testing.T) {
	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	l := listen(t, "127.0.0.1:0")
	client, _ := pair(t, l, l.Addr().String(), net.Dialer{})
	e := c.backend.(*ebpf)
	updates := make(chan Conn, 64)
	follow(t, c, func(ev Event) {
		if ev.Kind == Update && ev.Conn.Local.String() == client.LocalAddr().String() {
			updates <- ev.Conn
		}
	})
	conn, ok := find(snapshot(t, c), client.LocalAddr(), client.RemoteAddr())
	require.True(t, ok)
	require.NoError(t, e.do(func() {
		e.conns[conn.ID].conn.Process = Process{PID: 1 << 30, Comm: "before"}
		assert.NoError(t, e.findHolders())
	}))
	select {
	case got := <-updates:
		assert.Equal(t, os.Getpid(), got.Process.PID)
	case <-time.After(time.Minute):
		t.Error("no update")
	}
}

// TestConnectedFlowsEnd: a connected flow lives as long as its socket, also if
// nothing is sent and if the end of the socket was not seen.
func TestConnectedFlowsEnd(t *testing.T) {
	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	u, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer u.Close()
	fixed, err := net.Dial("udp4", u.LocalAddr().String())
	require.NoError(t, err)
	defer fixed.Close()
	_, err = fixed.Write([]byte{1})
	require.NoError(t, err)
	before, ok := find(snapshot(t, c), fixed.LocalAddr(), fixed.RemoteAddr())
	require.True(t, ok)
	e := c.backend.(*ebpf)
	later := func() {
		assert.NoError(t, e.findHolders())
		assert.NoError(t, e.findHolders())
		assert.NoError(t, e.endGone(2))
		e.endIdle(time.Now().Add(2 * flowIdle))
	}
	const gone = 1 << 50 // the cookie of a socket that there is not
	var still bool
	require.NoError(t, e.do(func() {
		e.openFlow(&bpf.Socket{Proto: uint8(UDP), Cookie: gone, Connected: true, Local: netip.MustParseAddrPort("127.0.0.1:1"), Peer: netip.MustParseAddrPort("127.0.0.1:2")})
		later()
		still = e.conns[gone] != nil
	}))
	assert.False(t, still)
	after, ok := find(snapshot(t, c), fixed.LocalAddr(), fixed.RemoteAddr())
	require.True(t, ok)
	assert.Equal(t, before.Opened, after.Opened)
}

// TestIPv6Extensions: what stands behind extension headers is counted as what it
// is.
func TestIPv6Extensions(t *testing.T) {
	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	u, err := net.ListenPacket("udp6", "[::1]:0")
	require.NoError(t, err)
	defer u.Close()
	s, err := net.ListenPacket("udp6", "[::1]:0")
	require.NoError(t, err)
	defer s.Close()
	raw, err := s.(*net.UDPConn).SyscallConn()
	require.NoError(t, err)
	var set error
	require.NoError(t, raw.Control(func(fd uintptr) {
		// Padding alone: next header, length, PadN of four bytes.
		option := string([]byte{0, 0, 1, 4, 0, 0, 0, 0})
		set = errors.Join(unix.SetsockoptString(int(fd), unix.IPPROTO_IPV6, unix.IPV6_HOPOPTS, option),
			unix.SetsockoptString(int(fd), unix.IPPROTO_IPV6, unix.IPV6_DSTOPTS, option))
	}))
	if errors.Is(set, unix.EPERM) {
		t.Skip("needs CAP_NET_RAW")
	}
	require.NoError(t, set)
	_, err = s.WriteTo(make([]byte, 33), u.LocalAddr())
	require.NoError(t, err)
	_, _, err = u.ReadFrom(make([]byte, 100))
	require.NoError(t, err)
	conns := snapshot(t, c)
	out, ok := find(conns, s.LocalAddr(), u.LocalAddr())
	require.True(t, ok)
	in, ok := find(conns, u.LocalAddr(), s.LocalAddr())
	require.True(t, ok)
	assert.Equal(t, []uint64{33, 33}, []uint64{out.Tx, in.Rx})
}

// TestLongPath: the path of an executable is whole, however long it is and however
// short the process lives.
func TestLongPath(t *testing.T) {
	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	l := listen(t, "127.0.0.1:0")
	self, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	base := t.TempDir()
	used := strings.Count(base, "/")
	long := strings.Repeat("n", 255) + "/"
	var mu sync.Mutex
	exes := map[int]string{}
	follow(t, c, func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind == Close && e.Conn.Direction == Out {
			exes[e.Conn.Process.PID] = e.Conn.Process.Exe
		}
	})
	for _, parts := range []string{
		strings.Repeat("long", 25) + "/" + strings.Repeat("n", 200) + "/dial",
		long + "dial",
		strings.Repeat("p/", 64-used-1) + "d",
		strings.Repeat(long, (4095-len(base)-1)/256) + strings.Repeat("d", (4095-len(base)-1)%256),
	} {
		name := filepath.Join(base, parts)
		t.Logf("%d bytes, %d parts", len(name), strings.Count(name, "/"))
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
		require.NoError(t, os.WriteFile(name, self, 0o700))
		cmd := exec.Command(name)
		cmd.Env = append(os.Environ(), helperEnv+"=dial "+l.Addr().String())
		require.NoError(t, cmd.Start()) // it has no input, and ends at once
		accepted, err := l.Accept()
		require.NoError(t, err)
		defer accepted.Close()
		require.NoError(t, cmd.Wait())
		var exe string
		assert.Eventually(t, func() (ok bool) {
			mu.Lock()
			defer mu.Unlock()
			exe, ok = exes[cmd.Process.Pid]
			return ok
		}, time.Minute, time.Millisecond)
		assert.Equal(t, name, exe)
	}
}

func TestStartedAt(t *testing.T) {
	stat := []byte("42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21\n")
	assert.True(t, startedAt(stat, 7_779_999_999))
	assert.False(t, startedAt(stat, 7_780_000_000))
	assert.False(t, startedAt(stat[:40], 7_770_000_000))
	assert.False(t, startedAt(nil, 0))
	own, err := os.ReadFile("/proc/self/stat")
	require.NoError(t, err)
	assert.False(t, startedAt(own, 0))
}

func FuzzStartedAt(f *testing.F) {
	f.Add([]byte("42 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21\n"), int64(7_770_000_000))
	f.Fuzz(func(t *testing.T, stat []byte, start int64) { startedAt(stat, start) })
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
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	l := listen(t, "127.0.0.1:0")
	for range 500 {
		pair(t, l, l.Addr().String(), net.Dialer{})
	}
	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	var conns []Conn
	allocs := leastAllocs(func() {
		var err error
		conns, err = c.backend.snapshot(t.Context(), conns[:0])
		require.NoError(t, err)
	})
	assert.GreaterOrEqual(t, len(conns), 1000)
	assert.LessOrEqual(t, allocs, 50.0, "for 1000 sockets")
}

// TestManyFlows: a socket with more peers than are followed at a time loses no byte
// and takes no more than its share, and others are told of as always.
func TestManyFlows(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	c := ebpfOrSkip(t, Options{}, 0)
	e := c.backend.(*ebpf)
	s, err := net.ListenPacket("udp4", "203.0.113.10:0")
	require.NoError(t, err)
	defer s.Close()
	var mu sync.Mutex
	opens, closes, bytes := 0, 0, uint64(0)
	others := map[netip.AddrPort]bool{}
	follow(t, c, func(ev Event) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case ev.Conn.Local.String() != s.LocalAddr().String():
			others[ev.Conn.Local] = true
		case ev.Kind == Open:
			opens++
		case ev.Kind == Close:
			closes++
			bytes += ev.Conn.Tx
		}
	})
	own := func() (n int) {
		for _, f := range e.flows {
			if f.conn.Local.String() == s.LocalAddr().String() {
				n++
			}
		}
		return n
	}
	const peers, rounds, size = 20_000, 2, 10
	for range rounds {
		for port := range peers {
			_, err := s.WriteTo(make([]byte, size), &net.UDPAddr{IP: net.IPv4(203, 0, 113, 10), Port: 1 + port})
			require.NoError(t, err)
		}
		other, err := net.Dial("udp4", "198.51.100.20:9")
		require.NoError(t, err)
		other.Write([]byte{1})
		assert.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return others[netip.MustParseAddrPort(other.LocalAddr().String())]
		}, time.Minute, time.Millisecond)
		require.NoError(t, other.Close())
		require.NoError(t, e.do(func() { assert.LessOrEqual(t, own(), mostFlows/2) }))
	}
	require.NoError(t, s.Close())
	assert.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return bytes >= peers*rounds*size
	}, 10*time.Second, time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	t.Logf("%d opened, %d closed, %d bytes", opens, closes, bytes)
	assert.Equal(t, uint64(peers*rounds*size), bytes)
	assert.Equal(t, opens, closes)
	assert.Zero(t, c.Info().Lost)
	require.NoError(t, e.do(func() {
		assert.Zero(t, own())
		assert.LessOrEqual(t, e.idlest.n, len(e.flows))
	}))
}

// TestIdleFlowsTakeTurns: many flows that end at once do not keep the pump from
// other things.
func TestIdleFlowsTakeTurns(t *testing.T) {
	c := ebpfOrSkip(t, Options{Interval: time.Hour}, 0)
	e := c.backend.(*ebpf)
	require.NoError(t, e.do(func() {
		before := e.idlest.n
		for i := range mostFlows {
			e.openFlow(&bpf.Socket{Proto: uint8(UDP), Cookie: 1 << 60, Local: netip.MustParseAddrPort("192.0.2.1:1"),
				Peer: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), uint16(i))})
		}
		left := e.idlest.n
		assert.Equal(t, mostFlows/2, left-before)
		assert.False(t, e.endIdle(time.Now().Add(flowIdle/2)))
		assert.True(t, e.endIdle(time.Now().Add(2*flowIdle)))
		assert.Equal(t, left-mostEnds, e.idlest.n)
		for e.endIdle(time.Now().Add(2 * flowIdle)) {
		}
		assert.Zero(t, e.idlest.n)
	}))
}

// TestLastOwner: a close tells what was true last: the process's name, its program if it
// has executed another, and its user if it has become another before it accepted.
func TestLastOwner(t *testing.T) {
	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	type end struct {
		pid       int
		direction Direction
	}
	var mu sync.Mutex
	closes := map[end]Conn{}
	follow(t, c, func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind == Close && e.Conn.Proto == TCP {
			closes[end{e.Conn.Process.PID, e.Conn.Direction}] = e.Conn
		}
	})
	closeOf := func(pid int, d Direction) (conn Conn) {
		require.Eventually(t, func() (ok bool) {
			mu.Lock()
			defer mu.Unlock()
			conn, ok = closes[end{pid, d}]
			return ok
		}, time.Minute, 10*time.Millisecond)
		return conn
	}
	echo := func(l net.Listener) {
		conn, err := l.Accept()
		if !assert.NoError(t, err) {
			return
		}
		defer conn.Close()
		io.Copy(conn, conn)
	}
	for _, how := range []string{"rename", "execute"} {
		t.Run(how, func(t *testing.T) {
			l := listen(t, "127.0.0.1:0")
			go echo(l)
			cmd, _, out := helperIn(t, "become "+how+" "+l.Addr().String(), nil)
			exe, err := out.ReadString('\n')
			require.NoError(t, err)
			conn := closeOf(cmd.Process.Pid, Out)
			assert.Equal(t, "after", conn.Process.Comm)
			assert.Equal(t, strings.TrimSpace(exe), conn.Process.Exe)
		})
	}
	t.Run("setuid", func(t *testing.T) {
		cmd, in, out := helperIn(t, "become user -", nil)
		addr, err := out.ReadString('\n')
		require.NoError(t, err)
		client, err := net.Dial("tcp", strings.TrimSpace(addr))
		require.NoError(t, err)
		_, err = client.Write([]byte{1})
		require.NoError(t, err)
		_, err = io.ReadFull(client, make([]byte, 1))
		require.NoError(t, err)
		client.Close()
		assert.Equal(t, uint32(12345), closeOf(cmd.Process.Pid, In).UID)
		in.(io.Closer).Close()
	})
}

func init() { helpers["become"] = helpBecome }

// helpBecome becomes another while it has a connection.
func helpBecome(arg string) error {
	how, addr, _ := strings.Cut(arg, " ")
	ping := func(f io.ReadWriter) error {
		if _, err := f.Write([]byte{1}); err != nil {
			return err
		}
		_, err := io.ReadFull(f, make([]byte, 1))
		return err
	}
	// That of the whole process, which has started with this thread.
	rename := func() error { return os.WriteFile("/proc/self/comm", []byte("after"), 0) }
	switch how {
	case "user":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		if err := unix.Setuid(12345); err != nil {
			return err
		}
		fmt.Println(l.Addr())
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = io.CopyN(conn, conn, 1)
		return err
	case "executed":
		f := os.NewFile(3, "connection")
		defer f.Close()
		exe, err := os.Readlink("/proc/self/exe")
		fmt.Println(exe)
		return errors.Join(err, ping(f), os.RemoveAll(filepath.Dir(exe)))
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := ping(conn); err != nil {
		return err
	}
	if how == "rename" {
		exe, err := os.Readlink("/proc/self/exe")
		fmt.Println(exe)
		return errors.Join(err, rename(), ping(conn))
	}
	file, err := conn.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "conntrack")
	if err != nil {
		return err
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	name := filepath.Join(dir, "after")
	if err := os.WriteFile(name, self, 0o700); err != nil {
		return err
	}
	if err := unix.Dup3(int(file.Fd()), 3, 0); err != nil {
		return err
	}
	os.Setenv(helperEnv, "become executed -")
	return unix.Exec(name, []string{name}, os.Environ())
}

// TestTranslatedUDP: a flow has the ends that its socket knows, whatever the address
// translation of this host makes of them.
func TestTranslatedUDP(t *testing.T) {
	if _, err := exec.LookPath("iptables"); err != nil {
		t.Skip("needs iptables(8)")
	}
	if !inNamespace(t) {
		return
	}
	for _, command := range []string{
		"ip route add default dev lo src 203.0.113.10",
		"iptables -t nat -A OUTPUT -p udp -d 192.0.2.53 --dport 53 -j DNAT --to-destination 198.51.100.20:7030",
		"iptables -t nat -A POSTROUTING -p udp --dport 7030 -j SNAT --to-source 198.51.100.20",
	} {
		args := strings.Fields(command)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("needs a kernel that translates addresses: %s: %v: %s", command, err, out)
		}
	}
	server, err := net.ListenPacket("udp4", "198.51.100.20:7030")
	require.NoError(t, err)
	defer server.Close()
	go func() {
		b := make([]byte, 500)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			server.WriteTo(append(b[:n:n], b[:n]...), from)
		}
	}()
	c := ebpfOrSkip(t, Options{}, 0)
	to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.53:53"))
	for _, test := range []struct {
		name    string
		network string
		connect bool
	}{{"connected", "udp4", true}, {"unconnected", "udp4", false}, {"mapped", "udp", false}} {
		t.Run(test.name, func(t *testing.T) {
			var client *net.UDPConn
			send := func() (err error) { _, err = client.Write(make([]byte, 100)); return err }
			if test.connect {
				client, err = net.DialUDP("udp4", nil, to)
			} else {
				client, err = net.ListenUDP(test.network, nil)
				send = func() (err error) { _, err = client.WriteTo(make([]byte, 100), to); return err }
			}
			require.NoError(t, err)
			defer client.Close()
			for range 3 {
				require.NoError(t, send())
				client.SetReadDeadline(time.Now().Add(time.Minute))
				n, _, err := client.ReadFrom(make([]byte, 500))
				require.NoError(t, err)
				require.Equal(t, 200, n)
			}
			var flows []Conn
			for _, conn := range snapshot(t, c) {
				if port(client.LocalAddr()) == strconv.Itoa(int(conn.Local.Port())) && conn.Process.PID == os.Getpid() {
					flows = append(flows, conn)
				}
			}
			require.Len(t, flows, 1)
			assert.Equal(t, to.AddrPort(), flows[0].Peer)
			assert.Equal(t, []uint64{300, 600}, []uint64{flows[0].Tx, flows[0].Rx})
			assert.Equal(t, Out, flows[0].Direction)
			if test.connect {
				assert.Equal(t, "203.0.113.10", flows[0].Local.Addr().String())
			}
		})
	}
}

// TestRawSockets: what a raw socket overhears is not its traffic, and what it sends is,
// also if it is TCP.
func TestRawSockets(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	out, err := exec.Command("ip", "route", "add", "local", "192.0.2.0/24", "dev", "lo").CombinedOutput()
	require.NoError(t, err, "%s", out)
	old, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	require.NoError(t, err)
	defer unix.Close(old) // older than the collector
	c := ebpfOrSkip(t, Options{}, 0)
	overhears, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	require.NoError(t, err)
	defer unix.Close(overhears)
	server, err := net.ListenPacket("udp4", "203.0.113.10:0")
	require.NoError(t, err)
	defer server.Close()
	client, err := net.Dial("udp4", server.LocalAddr().String())
	require.NoError(t, err)
	defer client.Close()
	_, err = client.Write(make([]byte, 100))
	require.NoError(t, err)
	_, _, err = server.ReadFrom(make([]byte, 200))
	require.NoError(t, err)
	syn := make([]byte, 20)
	copy(syn, []byte{0x9c, 0x41, 443 >> 8, 443 & 255, 0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, 2, 4})
	fresh, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	require.NoError(t, err)
	defer unix.Close(fresh)
	for i := range 50 {
		fd := []int{old, fresh}[i%2]
		require.NoError(t, unix.Sendto(fd, syn, 0, &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, byte(1 + i)}}))
	}
	udp, scans := 0, map[netip.AddrPort]int{}
	for _, conn := range own(snapshot(t, c)) {
		switch {
		case conn.Proto == UDP:
			udp++
		case conn.Proto == TCP && conn.Direction == Out && conn.Local.Port() == 40001:
			scans[conn.Peer]++
			assert.Equal(t, uint64(20), conn.Tx)
			assert.Equal(t, State(0), conn.State)
		}
	}
	assert.Equal(t, 2, udp, "one of each end")
	assert.Len(t, scans, 50)
	for peer, n := range scans {
		assert.Equal(t, 1, n, peer)
	}
	e := c.backend.(*ebpf)
	require.NoError(t, e.do(func() {
		assert.NoError(t, e.findHolders())
		assert.NoError(t, e.endGone(1))
	}))
	n := 0
	for _, conn := range own(snapshot(t, c)) {
		if conn.Proto == TCP {
			n++
		}
	}
	assert.Equal(t, 50, n, "while the sockets live")
}
