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
	"regexp"
	"runtime"
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

	"github.com/connmapgo/connmap/conntrack/internal/traffic"
)

func TestMain(m *testing.M) {
	if ran, err := traffic.Main(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	} else if ran {
		return
	}
	role, arg, _ := strings.Cut(os.Getenv(helperEnv), " ")
	if role == "" || role == "namespace" {
		os.Exit(m.Run())
	}
	if err := helpers[role](arg); err != nil {
		fmt.Fprintln(os.Stderr, role, err)
		os.Exit(1)
	}
}

func TestSnapshotTCP(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	exe, err := os.Readlink("/proc/self/exe")
	require.NoError(t, err)
	comm, err := os.ReadFile("/proc/self/comm")
	require.NoError(t, err)
	self := Process{PID: os.Getpid(), Comm: strings.TrimSpace(string(comm)), Exe: exe}
	cgroup, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	self.Container = container(cgroup)

	var plain, multi net.Dialer
	plain.SetMultipathTCP(false)
	multi.SetMultipathTCP(true)
	for _, tt := range []struct {
		name, listen, dial string
		dialer             net.Dialer
	}{
		{"IPv4", "203.0.113.10:0", "203.0.113.10:", plain},
		{"IPv6", "[2001:db8:a::10]:0", "[2001:db8:a::10]:", plain},
		{"IPv4 on a dual-stack listener", "[::]:0", "198.51.100.20:", plain},
		{"IPv6 on a dual-stack listener", "[::]:0", "[2001:db8:a::10]:", plain},
		{"MPTCP", "203.0.113.10:0", "203.0.113.10:", multi},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := listen(t, tt.listen)
			client, server := pair(t, l, tt.dial+port(l.Addr()), tt.dialer)
			if tt.name == "MPTCP" {
				if on, _ := client.(*net.TCPConn).MultipathTCP(); !on {
					t.Skip("the kernel has no MPTCP")
				}
			}
			_, err := client.Write(make([]byte, 1000))
			require.NoError(t, err)
			_, err = io.ReadFull(server, make([]byte, 1000))
			require.NoError(t, err)
			_, err = server.Write(make([]byte, 30))
			require.NoError(t, err)
			_, err = io.ReadFull(client, make([]byte, 30))
			require.NoError(t, err)

			eachPolled(t, func(t *testing.T, b Backend) {
				before := time.Now().Round(0)
				c := newCollector(t, Options{Backend: b})
				conns := snapshot(t, c)
				out, ok := find(conns, client.LocalAddr(), client.RemoteAddr())
				require.True(t, ok, "%v", conns)
				in, ok := find(conns, server.LocalAddr(), server.RemoteAddr())
				require.True(t, ok, "%v", conns)
				assert.Len(t, conns, 2)

				assert.Equal(t, TCP, out.Proto)
				assert.Equal(t, Established, out.State)
				assert.Equal(t, Out, out.Direction)
				assert.Equal(t, In, in.Direction)
				assert.NotZero(t, out.ID)
				assert.NotEqual(t, out.ID, in.ID)
				assert.Equal(t, self, out.Process)
				assert.Equal(t, self, in.Process)
				assert.Equal(t, uint32(os.Getuid()), out.UID)
				assert.False(t, out.Opened.Before(before))
				told := b != Proc
				assert.Equal(t, told, out.RTT > 0)
				assert.Less(t, out.RTT, 5*time.Second)
				counts := []uint64{out.Tx, out.Rx, in.Tx, in.Rx}
				switch {
				case !told:
					assert.Equal(t, make([]uint64, 4), counts)
				case tt.name != "MPTCP": // whose subflows exchange options as well
					assert.Equal(t, []uint64{1000, 30, 30, 1000}, counts)
				}
				if told && tt.name != "MPTCP" {
					cookie, err := socketCookie(client)
					require.NoError(t, err)
					assert.Equal(t, cookie, out.ID)
				}
				again := snapshot(t, c)
				same, _ := find(again, client.LocalAddr(), client.RemoteAddr())
				same.RTT = out.RTT
				assert.Equal(t, out, same)
			})
		})
	}
}

func socketCookie(c net.Conn) (cookie uint64, err error) {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	err2 := raw.Control(func(fd uintptr) {
		cookie, err = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_COOKIE)
	})
	return cookie, errors.Join(err, err2)
}

func TestSnapshotLoopback(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	eachPolled(t, func(t *testing.T, b Backend) {
		for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
			l := listen(t, addr)
			client, _ := pair(t, l, l.Addr().String(), net.Dialer{})
			assert.Empty(t, snapshot(t, newCollector(t, Options{Backend: b})))
			conns := snapshot(t, newCollector(t, Options{Backend: b, Loopback: true}))
			_, ok := find(conns, client.LocalAddr(), client.RemoteAddr())
			assert.True(t, ok, "%v", conns)
		}
	})
}

func TestSnapshotStates(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	eachPolled(t, func(t *testing.T, b Backend) {
		l := listen(t, "203.0.113.10:0")
		client, server := pair(t, l, l.Addr().String(), net.Dialer{})
		_, err := client.Write(make([]byte, 10))
		require.NoError(t, err)
		_, err = io.ReadFull(server, make([]byte, 10))
		require.NoError(t, err)
		c := newCollector(t, Options{Backend: b})
		assert.Len(t, snapshot(t, c), 2)

		// The client closes: FIN_WAIT2 without a process, and CLOSE_WAIT.
		local, remote := client.LocalAddr(), client.RemoteAddr()
		require.NoError(t, client.Close())
		_, err = server.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		conns := snapshot(t, c)
		in, ok := find(conns, remote, local)
		require.True(t, ok)
		assert.Equal(t, CloseWait, in.State)
		if b != Proc {
			assert.Equal(t, uint64(10), in.Rx, "the FIN is no payload")
		}
		for _, conn := range conns {
			assert.Equal(t, os.Getpid(), conn.Process.PID, "owner remembered: %v", conn)
		}

		// Both have closed: TIME_WAIT.
		require.NoError(t, server.Close())
		require.Eventually(t, func() bool { return len(snapshot(t, c)) == 0 }, time.Minute, 10*time.Millisecond)
		assert.Empty(t, snapshot(t, newCollector(t, Options{Backend: b})))
	})
}

// A FIN_WAIT2 socket without a process soon becomes a TIME_WAIT one under the
// name of the former state: that is no new connection.
func TestFinWait2IsNoGhost(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	eachPolled(t, func(t *testing.T, b Backend) {
		require.NoError(t, os.WriteFile("/proc/sys/net/ipv4/tcp_fin_timeout", []byte("3"), 0))
		l := listen(t, "203.0.113.10:0")
		client, _ := pair(t, l, l.Addr().String(), net.Dialer{})
		c := newCollector(t, Options{Backend: b})
		ids := map[uint64]bool{}
		for _, conn := range snapshot(t, c) {
			ids[conn.ID] = true
		}
		require.NoError(t, client.Close())
		for range 10 {
			time.Sleep(20 * time.Millisecond)
			for _, conn := range snapshot(t, c) {
				assert.True(t, ids[conn.ID], "new: %v", conn)
			}
		}
		assert.Len(t, snapshot(t, newCollector(t, Options{Backend: b})), 1)
	})
}

func TestDirectionWhenListenerCloses(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	eachPolled(t, func(t *testing.T, b Backend) {
		c := newCollector(t, Options{Backend: b})
		l := listen(t, "203.0.113.10:0")
		assert.Empty(t, snapshot(t, c))
		client, server := pair(t, l, l.Addr().String(), net.Dialer{})
		require.NoError(t, l.Close())
		for range 3 {
			conns := snapshot(t, c)
			in, ok := find(conns, server.LocalAddr(), server.RemoteAddr())
			require.True(t, ok)
			assert.Equal(t, In, in.Direction)
			out, ok := find(conns, client.LocalAddr(), client.RemoteAddr())
			require.True(t, ok)
			assert.Equal(t, Out, out.Direction)
		}
	})
}

func TestSnapshotUDP(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	eachPolled(t, func(t *testing.T, b Backend) {
		for _, tt := range []struct{ server, from string }{
			{"203.0.113.10:0", "198.51.100.20:0"},
			{"[2001:db8:a::10]:0", "[2001:db8:a::10]:0"},
		} {
			server, err := net.ListenPacket("udp", tt.server)
			require.NoError(t, err)
			defer server.Close()
			dialer := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.MustParseAddrPort(tt.from))}
			client, err := dialer.Dial("udp", server.LocalAddr().String())
			require.NoError(t, err)
			defer client.Close()
			// As servers do that make a connected socket for each client.
			reuse := func(_, _ string, raw syscall.RawConn) error {
				return raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
			}
			config := net.ListenConfig{Control: reuse}
			shared, err := config.ListenPacket(t.Context(), "udp", tt.server)
			require.NoError(t, err)
			defer shared.Close()
			dialer = net.Dialer{LocalAddr: shared.LocalAddr(), Control: reuse}
			accepted, err := dialer.Dial("udp", client.LocalAddr().String())
			require.NoError(t, err)
			defer accepted.Close()

			conns := snapshot(t, newCollector(t, Options{Backend: b}))
			assert.Len(t, conns, 2)
			out, ok := find(conns, client.LocalAddr(), client.RemoteAddr())
			require.True(t, ok, "%v", conns)
			assert.Equal(t, UDP, out.Proto)
			assert.Equal(t, Out, out.Direction)
			assert.Equal(t, os.Getpid(), out.Process.PID)
			assert.Zero(t, out.Tx+out.Rx+uint64(out.RTT))
			in, ok := find(conns, accepted.LocalAddr(), accepted.RemoteAddr())
			require.True(t, ok, "%v", conns)
			assert.Equal(t, In, in.Direction)
			for _, closer := range []io.Closer{client, accepted, shared, server} {
				require.NoError(t, closer.Close())
			}
		}
	})
}

func TestEventsLive(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	eachPolled(t, func(t *testing.T, b Backend) {
		l := listen(t, "203.0.113.10:0")
		first, _ := pair(t, l, l.Addr().String(), net.Dialer{})
		c := newCollector(t, Options{Backend: b, Interval: 20 * time.Millisecond})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()

		// Snapshots at the same time change nothing.
		var others sync.WaitGroup
		others.Go(func() {
			for ctx.Err() == nil {
				c.Snapshot(ctx)
				c.Info()
			}
		})
		var client, server net.Conn
		var got []string
		told := b != Proc
		for e, err := range c.Events(ctx) {
			require.NoError(t, err)
			if e.Conn.Direction == In || e.Kind == Update && e.Conn.State != Established {
				continue
			}
			got = append(got, e.Kind.String())
			switch {
			case len(got) == 1:
				assert.Equal(t, first.LocalAddr().String(), e.Conn.Local.String())
				client, server = pair(t, l, l.Addr().String(), net.Dialer{})
			case e.Kind == Open:
				assert.Equal(t, client.LocalAddr().String(), e.Conn.Local.String())
				_, err := client.Write(make([]byte, 77))
				require.NoError(t, err)
				if told {
					continue
				}
				fallthrough
			case e.Kind == Update && e.Conn.Tx == 77:
				_, err := io.ReadFull(server, make([]byte, 77))
				require.NoError(t, err)
				server.Close()
				client.Close()
			case e.Kind == Close:
				assert.Equal(t, told, e.Conn.Tx == 77)
				assert.Equal(t, os.Getpid(), e.Conn.Process.PID)
				cancel()
			}
		}
		others.Wait()
		want := []string{"open", "open", "update", "close"}
		if !told {
			want = slices.Delete(want, 2, 3)
		}
		assert.Equal(t, want, got)
	})
}

func TestOwnerIsChild(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	eachPolled(t, func(t *testing.T, b Backend) {
		l := listen(t, "203.0.113.10:0")
		c := newCollector(t, Options{Backend: b})
		assert.Empty(t, snapshot(t, c))
		pid, line := helper(t, "dial "+l.Addr().String(), nil)
		require.Equal(t, "ready\n", line)

		conns := snapshot(t, c)
		require.Len(t, conns, 2)
		for _, conn := range conns {
			switch conn.Direction {
			case Out:
				assert.Equal(t, pid, conn.Process.PID)
			case In:
				assert.Zero(t, conn.Process, "nobody has accepted it yet")
			}
		}
		server, err := l.Accept()
		require.NoError(t, err)
		defer server.Close()
		in, ok := find(snapshot(t, c), server.LocalAddr(), server.RemoteAddr())
		require.True(t, ok)
		assert.Equal(t, os.Getpid(), in.Process.PID)
	})
}

func TestUnprivileged(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := listen(t, "203.0.113.10:0")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	root, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer root.Close()
	_, line := helper(t, "snapshot diag "+l.Addr().String(), &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}})
	var report snapshotReport
	require.NoError(t, json.Unmarshal([]byte(line), &report))
	assert.Contains(t, report.Info.Limited, "need root")
	assert.Equal(t, Diag, report.Info.Backend)
	assert.Len(t, report.Conns, 4)
	for _, c := range report.Conns {
		switch {
		case c.Direction == Out && c.UID == 65534:
			assert.Equal(t, report.PID, c.Process.PID)
		default:
			assert.Zero(t, c.Process, "%v", c)
		}
	}
	assert.NotContains(t, newCollector(t, Options{Backend: Diag}).Info().Limited, "need root")
}

// Sockets without an owner must not cost a walk of /proc each time.
func TestOwnerBackoff(t *testing.T) {
	var p poller
	var o procOwners
	require.NoError(t, o.open("/proc"))
	defer o.close()
	p.live = []int32{p.alloc()}
	e := p.entry(p.live[0])
	e.inode = 1<<32 - 1
	start, walks := time.Now(), 0
	for s := range 3600 {
		p.now = start.Add(time.Duration(s) * time.Second)
		tries := e.tries
		o.find(&p)
		walks += int(e.tries - tries)
	}
	assert.Equal(t, ownerTries, walks)
}

func TestClosed(t *testing.T) {
	eachPolled(t, func(t *testing.T, b Backend) {
		c, err := New(Options{Backend: b})
		require.NoError(t, err)
		require.NoError(t, c.Close())
		assert.ErrorIs(t, c.Close(), os.ErrClosed)
		_, err = c.Snapshot(t.Context())
		assert.ErrorIs(t, err, os.ErrClosed)
		for _, err := range c.Events(t.Context()) {
			assert.ErrorIs(t, err, os.ErrClosed)
		}
	})
}

func TestSnapshotCanceled(t *testing.T) {
	eachPolled(t, func(t *testing.T, b Backend) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := newCollector(t, Options{Backend: b}).Snapshot(ctx)
		assert.ErrorIs(t, err, context.Canceled)
	})
}

// A Collector shows the namespace of the thread that called New, from whichever
// thread it is asked, and even when that thread has ended.
func TestSnapshotOfAnotherNamespace(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	eachPolled(t, func(t *testing.T, b Backend) {
		var c *Collector
		var client net.Conn
		ended := make(chan int)
		go func() {
			defer close(ended)
			runtime.LockOSThread() // for good
			if !assert.NoError(t, unix.Unshare(unix.CLONE_NEWNET)) {
				return
			}
			addAddresses(t)
			l := listen(t, "203.0.113.10:0")
			client, _ = pair(t, l, l.Addr().String(), net.Dialer{})
			c = newCollector(t, Options{Backend: b})
			ended <- unix.Gettid()
		}()
		tid := <-ended
		<-ended
		require.NotNil(t, c)
		if tid != os.Getpid() { // the main thread never ends
			require.Eventually(t, func() bool {
				_, err := os.Stat("/proc/self/task/" + strconv.Itoa(tid))
				return err != nil
			}, time.Minute, time.Millisecond)
		}
		for range 3 {
			conns := snapshot(t, c)
			_, ok := find(conns, client.LocalAddr(), client.RemoteAddr())
			assert.True(t, ok, "%v", conns)
			assert.Len(t, conns, 2)
		}
		assert.Empty(t, snapshot(t, newCollector(t, Options{Backend: b})), "here is nothing")
	})
}

func TestSnapshotAllocatesNothing(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := listen(t, "203.0.113.10:0")
	for range 500 {
		pair(t, l, l.Addr().String(), net.Dialer{})
	}
	c := newCollector(t, Options{Backend: Diag})
	var conns []Conn
	allocs := leastAllocs(func() {
		var err error
		conns, err = c.backend.snapshot(t.Context(), conns[:0])
		require.NoError(t, err)
	})
	assert.Len(t, conns, 1000)
	assert.LessOrEqual(t, allocs, 5.0, "for 1000 sockets")
}

// endsAfter is a context that ends when it was asked n times.
type endsAfter struct {
	context.Context
	n int
}

func (c *endsAfter) Err() error {
	if c.n--; c.n < 0 {
		return context.Canceled
	}
	return nil
}

// A snapshot that fails midway must not spoil the next.
func TestSnapshotAfterCanceled(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := listen(t, "203.0.113.10:0")
	pair(t, l, l.Addr().String(), net.Dialer{})
	c := newCollector(t, Options{Backend: Diag})
	conns, err := c.Snapshot(&endsAfter{t.Context(), 1})
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, conns)
	conns = snapshot(t, c)
	require.Len(t, conns, 2)
	for _, conn := range conns {
		assert.NotEqual(t, Unknown, conn.Direction)
		assert.Equal(t, os.Getpid(), conn.Process.PID)
	}
}

// steps lists in each snapshot what the next of them says.
type steps [][]sock

func (s *steps) list(_ context.Context, add func(Proto, *sock)) error {
	for _, k := range (*s)[0] {
		add(TCP, &k)
	}
	*s = (*s)[1:]
	return nil
}

func (s *steps) close() error { return nil }

// TestDirectionOfNewListener: the kernel lists listeners first, so that one that
// begins to listen meanwhile is listed later than the connections it accepts.
func TestDirectionOfNewListener(t *testing.T) {
	conn := sock{state: stateEstablished, cookie: 1, local: netip.MustParseAddrPort("192.0.2.1:80"), peer: netip.MustParseAddrPort("198.51.100.1:4000")}
	listener := sock{state: stateListen, local: netip.MustParseAddrPort("192.0.2.1:80")}
	for _, tt := range []struct {
		name  string
		steps steps
		want  []Direction
	}{
		{"listed before", steps{{listener, conn}, {conn}, {conn}}, []Direction{In, In, In}},
		{"begins meanwhile", steps{{conn}, {listener, conn}, {conn}, {conn}}, []Direction{Out, In, In, In}},
		{"never listens", steps{{conn}, {conn}, {conn}}, []Direction{Out, Out, Out}},
		{"another takes the port later", steps{{conn}, {conn}, {listener, conn}}, []Direction{Out, Out, Out}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newLinuxPoller(Diag, Options{Logger: slog.New(slog.DiscardHandler)}, &tt.steps)
			defer p.close()
			var got []Direction
			for range tt.want {
				conns, err := p.snapshot(t.Context(), nil)
				require.NoError(t, err)
				require.Len(t, conns, 1)
				got = append(got, conns[0].Direction)
			}
			assert.Equal(t, tt.want, got)
		})
	}
}

// ssConns lists what ss(8) sees, as "tcp local peer pid".
func ssConns(t *testing.T) map[string]bool {
	out, err := exec.Command("ss", "-tunpHO").Output()
	require.NoError(t, err)
	pid := regexp.MustCompile(`pid=(\d+)`)
	found := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		require.GreaterOrEqual(t, len(f), 6, line)
		local, peer := netip.MustParseAddrPort(f[4]), netip.MustParseAddrPort(f[5])
		owner := "0"
		if m := pid.FindStringSubmatch(line); m != nil {
			owner = m[1]
		}
		found[fmt.Sprintln(f[0], unmapped(local), unmapped(peer), owner)] = true
	}
	return found
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func TestSnapshotAgainstSS(t *testing.T) {
	if _, err := exec.LookPath("ss"); err != nil {
		t.Skip("needs ss(8)")
	}
	if !inNamespace(t) {
		return
	}
	eachPolled(t, func(t *testing.T, b Backend) {
		var halves []net.Conn
		for _, addr := range []string{"203.0.113.10", "[2001:db8:a::10]", "127.0.0.1"} {
			any := listen(t, "[::]:0")
			own := listen(t, addr+":0")
			helper(t, "dial "+addr+":"+port(any.Addr()), nil)
			for range 20 {
				pair(t, any, addr+":"+port(any.Addr()), net.Dialer{})
				client, _ := pair(t, own, own.Addr().String(), net.Dialer{})
				halves = append(halves, client)
			}
			udp, err := net.Dial("udp", addr+":53")
			require.NoError(t, err)
			defer udp.Close()
		}
		for i, c := range halves {
			if i%3 == 0 {
				require.NoError(t, c.(*net.TCPConn).CloseWrite())
			}
		}
		got := map[string]bool{}
		for _, c := range snapshot(t, newCollector(t, Options{Backend: b, Loopback: true})) {
			got[fmt.Sprintln(c.Proto, c.Local, c.Peer, c.Process.PID)] = true
		}
		assert.Len(t, got, 2*3*40+3+3+3)
		assert.Equal(t, ssConns(t), got)
	})
}
