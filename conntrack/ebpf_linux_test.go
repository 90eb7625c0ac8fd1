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
	return ebpfWith(t, o, bpf.Options{Ring: ring})
}

// visitingOrSkip is ebpfOrSkip where the kernel lets its programs visit sockets.
func visitingOrSkip(t testing.TB, o Options) *Collector {
	t.Helper()
	c := ebpfOrSkip(t, o, 0)
	if err := c.backend.(*ebpf).probe.VisitErr; err != nil {
		t.Skip(err)
	}
	return c
}

func ebpfWith(t testing.TB, o Options, with bpf.Options) *Collector {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to load programs into the kernel")
	}
	if o.Interval == 0 {
		o.Interval = time.Second
	}
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	with.Loopback, with.Names = o.Loopback, o.Names
	probe, err := bpf.Open(with)
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
	subscribers := func() (n int) {
		assert.NoError(t, e.do(func() { n = len(e.subscribers) }))
		return n
	}
	before := subscribers()
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
	require.Eventually(t, func() bool { return subscribers() > before }, time.Minute, time.Millisecond)
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
	ends := make(chan Conn, 10)
	follow(t, c, func(ev Event) {
		if ev.Kind == Close && ev.Conn.Local.String() == local.String() && ev.Conn.Peer.String() == remote.String() {
			ends <- ev.Conn
		}
	})
	require.NoError(t, file.Close())
	require.NoError(t, client.Close())
	require.Eventually(t, func() bool {
		conn, ok = find(snapshot(t, c), local, remote)
		return ok && conn.Process.PID == sleep.Process.Pid
	}, time.Minute, 10*time.Millisecond, "%+v", conn)
	assert.Nil(t, conn.Sharers)
	// Though it has never sent anything, it is the last owner.
	require.NoError(t, sleep.Process.Kill())
	assert.Equal(t, sleep.Process.Pid, (<-ends).Process.PID)
}

// TestFoundBeforeItsOpening: a pass may find the first subflow of an MPTCP socket, of which
// it does not learn the opening, while that is on its way.
func TestFoundBeforeItsOpening(t *testing.T) {
	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	e := c.backend.(*ebpf)
	const id = 1 << 61
	opens, found := make(chan Conn, 8), bpf.Socket{Proto: uint8(TCP), State: uint8(Established), Cookie: id, Time: 200,
		Local: netip.MustParseAddrPort("192.0.2.1:80"), Peer: netip.MustParseAddrPort("198.51.100.1:4000")}
	follow(t, c, func(ev Event) {
		if ev.Conn.ID == id && ev.Kind != Update {
			opens <- ev.Conn
		}
	})
	var opened time.Time
	require.NoError(t, e.do(func() {
		opened = e.wall(100)
		s := found
		assert.Equal(t, Out, e.open(&s).conn.Direction, "as far as is known")
		s = found
		s.Kind, s.Opened, s.Direction = bpf.Opened, 100, 2
		e.handle(bpf.Event{Socket: &s})
		s.Kind, s.Tx = bpf.Closed, 7
		e.handle(bpf.Event{Socket: &s})
	}))
	<-opens
	closed := <-opens
	assert.Equal(t, []any{In, Closed, uint64(7), opened.Unix()}, []any{closed.Direction, closed.State, closed.Tx, closed.Opened.Unix()})
	assert.Empty(t, opens)
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
	assert.LessOrEqual(t, allocs, 100.0, "for 1000 sockets; others on this machine open some too")
}

// TestLastOwner: a close event has the last owner: the process's name, its program if it
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
