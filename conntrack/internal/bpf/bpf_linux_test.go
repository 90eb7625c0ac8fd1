//go:build amd64 || arm64 || loong64 || riscv64

package bpf

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestObjectIsOfThisSource: who changes a C file must run go generate, and
// commit all that it writes.
func TestObjectIsOfThisSource(t *testing.T) {
	sums, err := os.ReadFile("object.sum")
	require.NoError(t, err)
	lines := 0
	for line := range strings.Lines(string(sums)) {
		want, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		source, err := os.ReadFile(name)
		require.NoError(t, err)
		sum := sha256.Sum256(source)
		assert.Equal(t, want, hex.EncodeToString(sum[:]), "%s has changed: run go generate ./conntrack/internal/bpf", name)
		lines++
	}
	assert.Equal(t, 3, lines)
}

// TestObject: the object can be read on every processor that has it, without a kernel that
// takes it, and has what the loader names.
func TestObject(t *testing.T) {
	spec, err := loadConnmap()
	require.NoError(t, err)
	names := slices.Concat(lengthPrograms, functionPrograms, slices.Collect(maps.Keys(packetPrograms)),
		[]string{connmapProgSetState, connmapProgDestroyed, connmapProgHeld, connmapProgExists, connmapProgChanged, connmapProgEndFlows, connmapProgDropped, connmapProgQueued})
	assert.ElementsMatch(t, names, slices.Collect(maps.Keys(spec.Programs)))
	for name, p := range spec.Programs {
		assert.Equal(t, binary.LittleEndian, p.ByteOrder, name)
		assert.Equal(t, "Dual MIT/GPL", p.License, name)
		assert.NotEmpty(t, p.Instructions, name)
	}
}

// TestLoops: Linux before 6.2 refuses a loop whose way back is no jump, which the compiler makes where
// the first round begins in the middle. It looks before it removes what is never reached, so that it
// would refuse the program whatever is switched off.
func TestLoops(t *testing.T) {
	spec, err := loadConnmap()
	require.NoError(t, err)
	for name, p := range spec.Programs {
		var function asm.Instructions
		check := func() {
			if at := backEdge(function); at >= 0 {
				t.Errorf("%s: the way back of a loop in %s is instruction %d, which is no jump", name, function[0].Symbol(), at)
			}
			function = nil
		}
		for _, in := range p.Instructions {
			if in.Symbol() != "" && len(function) > 0 {
				check()
			}
			function = append(function, in)
		}
		check()
	}
}

// backEdge walks through a function as check_cfg of Linux 6.1 does, and returns an instruction that goes
// back to one that is still being walked from, but is no jump; -1: none.
func backEdge(function asm.Instructions) int {
	at := map[int]int{} // indexes by offset, in units of an instruction
	var offsets []int
	n := 0
	for i, in := range function {
		at[n] = i
		offsets = append(offsets, n)
		n += int(in.Size() / asm.InstructionSize)
	}
	const seen, left = 1, 2
	state := make([]int, len(function))
	var walk func(i int) int
	walk = func(i int) int {
		state[i] = seen
		in := function[i]
		jump := in.OpCode.JumpOp()
		isJump := in.OpCode.Class().IsJump() && jump != asm.Call && jump != asm.Exit
		var next []int
		if !(in.OpCode.Class().IsJump() && jump == asm.Exit) && !(isJump && jump == asm.Ja) {
			next = append(next, i+1)
		}
		if isJump {
			next = append(next, at[offsets[i]+1+int(in.Offset)])
		}
		for _, to := range next {
			switch {
			case to >= len(function):
			case state[to] == 0:
				if bad := walk(to); bad >= 0 {
					return bad
				}
			case state[to] == seen && !isJump:
				return i
			}
		}
		state[i] = left
		return -1
	}
	if len(function) == 0 {
		return -1
	}
	return walk(0)
}

func open(t *testing.T, o Options) *Probe {
	t.Helper()
	p, err := Open(o)
	var refused *ebpf.VerifierError
	require.False(t, errors.As(err, &refused), "the kernel does not accept the programs: %v", err)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) {
		t.Skip("needs a kernel that takes the programs: ", err)
	}
	require.NoError(t, err)
	return p
}

// visiting is open where the kernel lets programs visit what maps hold.
func visiting(t *testing.T, o Options) *Probe {
	t.Helper()
	p := open(t, o)
	if p.VisitErr != nil {
		p.Close()
		t.Skip(p.VisitErr)
	}
	return p
}

// listenTCP makes a socket that listens and returns its end and its port.
func listenTCP(t *testing.T) (end func(), port uint16) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, unix.Listen(fd, 16))
	name, err := unix.Getsockname(fd)
	require.NoError(t, err)
	return func() { unix.Close(fd) }, uint16(name.(*unix.SockaddrInet4).Port)
}

// TestTells: the programs tell of a connection from its opening to its end, and
// the garbage collector does not end that.
func TestTells(t *testing.T) {
	p := open(t, Options{Loopback: true})
	defer p.Close()
	assert.NoError(t, p.LengthErr)
	assert.NoError(t, p.PacketErr)
	for range 3 {
		runtime.GC()
		end, port := listenTCP(t)
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		require.NoError(t, unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: int(port)}))
		unix.Close(fd)
		end()
		got := map[Kind]int{}
		for end := time.Now().Add(time.Minute); got[Opened] < 2 || got[Closed] < 2; {
			ev, err := p.Next()
			if errors.Is(err, ErrEmpty) && time.Now().Before(end) {
				require.NoError(t, p.Sleep(time.Now().Add(Delay)))
				require.NoError(t, p.Wait())
				continue
			}
			require.NoError(t, err, "%v", got)
			if s := ev.Socket; s != nil && (s.Local.Port() == port || s.Peer.Port() == port) {
				assert.Equal(t, uint32(os.Getpid()), s.Owner.PID)
				got[s.Kind]++
			}
		}
		assert.Equal(t, map[Kind]int{Opened: 2, Closed: 2}, got)
	}
	lost, late, crowded, err := p.Lost()
	assert.NoError(t, err)
	assert.Zero(t, lost)
	assert.Zero(t, late)
	assert.Zero(t, crowded)
}

// TestAudit: the kernel says which sockets are gone, and which are closed though a
// process still holds them.
func TestAudit(t *testing.T) {
	p := visiting(t, Options{Loopback: true})
	defer p.Close()
	end, port := listenTCP(t)
	defer end()
	peer := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: int(port)}
	socket := func(typ int) (fd int, cookie uint64) {
		fd, err := unix.Socket(unix.AF_INET, typ|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		require.NoError(t, unix.Connect(fd, peer))
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
		require.NoError(t, err)
		return fd, cookie
	}
	kept, alive := socket(unix.SOCK_STREAM)
	defer unix.Close(kept)
	udp, datagrams := socket(unix.SOCK_DGRAM)
	defer unix.Close(udp)
	disconnected, closed := socket(unix.SOCK_STREAM)
	defer unix.Close(disconnected)
	// A connection to nowhere, as connect(2) calls it, ends the one before.
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(disconnected), uintptr(unsafe.Pointer(&unix.RawSockaddr{Family: unix.AF_UNSPEC})), unix.SizeofSockaddrInet4)
	require.Zero(t, errno)
	fd, gone := socket(unix.SOCK_STREAM)
	require.NoError(t, unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
	require.NoError(t, unix.Close(fd))
	const never = 1 << 62
	assert.Eventually(t, func() bool { // the kernel frees what is closed a little later
		g, c, err := p.Audit([]uint64{alive, gone, never, closed, datagrams})
		return assert.NoError(t, err) && slices.Equal([]uint64{gone, never}, g) && slices.Equal([]uint64{closed}, c)
	}, time.Minute, 10*time.Millisecond)
	g, c, err := p.Audit(nil)
	assert.NoError(t, err)
	assert.Empty(t, append(g, c...))
	// More than the kernel takes at a time.
	many := make([]uint64, 70_000)
	for i := range many {
		many[i] = never + uint64(i)
	}
	many[66_000] = alive
	g, c, err = p.Audit(many)
	assert.NoError(t, err)
	assert.Len(t, g, len(many)-1)
	assert.Empty(t, c)
}

func TestWait(t *testing.T) {
	p := open(t, Options{})
	for {
		if _, err := p.Next(); err != nil {
			assert.ErrorIs(t, err, ErrEmpty)
			break
		}
	}
	start := time.Now()
	require.NoError(t, p.Sleep(start.Add(20*time.Millisecond)))
	require.NoError(t, p.Wait())
	assert.Less(t, time.Since(start), 30*time.Second)

	require.NoError(t, p.Sleep(time.Time{}))
	waited := make(chan error)
	go func() { waited <- p.Wait() }()
	p.Wake()
	assert.NoError(t, <-waited)

	require.NoError(t, p.Close())
	p.Wake()
	assert.Error(t, p.Sleep(time.Time{}))
	assert.Error(t, p.Wait())
	_, err := p.Next()
	assert.ErrorIs(t, err, os.ErrClosed)
}

func TestSocketKeyAndValue(t *testing.T) {
	for _, s := range []Socket{
		{Proto: 17, Cookie: 7, Direction: 1, Connected: true, Opened: 5, UID: 3, Tx: 0, Rx: 0,
			Local: netip.MustParseAddrPort("192.0.2.1:53"), Peer: netip.MustParseAddrPort("198.51.100.2:4000"),
			Owner: Owner{PID: 9, Start: 4, Comm: [16]byte{'n', 0xff}}},
		{Proto: 1, Cookie: 8, Direction: 2, Local: netip.MustParseAddrPort("[2001:db8::1]:0"), Peer: netip.MustParseAddrPort("[2001:db8::2]:0")},
	} {
		key, value := s.Key(), s.value()
		var got Socket
		got.flow(&key, &value)
		s.Kind = FlowOpened
		assert.Equal(t, s, got)
	}
}

func TestParse(t *testing.T) {
	raw := connmapSockEvent{Kind: uint8(Opened), Proto: 6, Family: unix.AF_INET, State: 1, Out: 1, LocalPort: 0x5000, PeerPort: 0x901f, Cookie: 1, Rtt: 5}
	copy(raw.Local[:], []byte{192, 0, 2, 1})
	copy(raw.Peer[:], []byte{198, 51, 100, 1})
	b := unsafe.Slice((*byte)(unsafe.Pointer(&raw)), socketSize)
	var s Socket
	require.True(t, s.parse(b))
	assert.Equal(t, "192.0.2.1:80", s.Local.String())
	assert.Equal(t, "198.51.100.1:8080", s.Peer.String())
	assert.Equal(t, 5*time.Microsecond, s.RTT)
	// A dual-stack socket with an IPv4 peer.
	raw.Family = unix.AF_INET6
	raw.Peer = netip.MustParseAddr("::ffff:203.0.113.9").As16()
	require.True(t, s.parse(b))
	assert.Equal(t, "203.0.113.9:8080", s.Peer.String())
	assert.False(t, s.parse(b[:socketSize-1]))
	assert.False(t, s.parse(nil))
	raw.Kind = uint8(process)
	assert.False(t, s.parse(b))

	assert.Equal(t, "/usr/bin/ssh", joinPath([]int8{'s', 's', 'h', 0, 'b', 'i', 'n', 0, 'u', 's', 'r', 0}, 12))
	assert.Equal(t, "", joinPath(nil, 9))
}

func FuzzParse(f *testing.F) {
	for _, size := range []int{0, 1, changeSize, socketSize, processSize, processSize + 8, pathSize} {
		b := make([]byte, size)
		if size > 0 {
			b[0] = byte(process)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Socket
		if s.parse(b) {
			if s.Local.Addr().Is4In6() || s.Peer.Addr().Is4In6() {
				t.Fatalf("mapped address in %+v", s)
			}
			s.Owner.CommText()
		}
		if p, ok := parseProcess(b); ok && (len(p.Exe) > 4096+256+1 || len(p.Cgroup) > 512+256+1) {
			t.Fatalf("%+v", p)
		}
		new(Change).parse(b)
	})
}

// TestRecords reads records that the kernel hands over in pieces.
func TestRecords(t *testing.T) {
	all := []byte("aaaabbbbccccdddd")
	for _, r := range []io.Reader{bytes.NewReader(all), iotest.OneByteReader(bytes.NewReader(all)), iotest.HalfReader(bytes.NewReader(all))} {
		var got []string
		require.NoError(t, records(r, make([]byte, 6), 4, func(b []byte) { got = append(got, string(b)) }))
		assert.Equal(t, []string{"aaaa", "bbbb", "cccc", "dddd"}, got)
	}
	again := io.MultiReader(strings.NewReader("aaaa"), iotest.ErrReader(unix.EAGAIN))
	assert.ErrorIs(t, records(again, make([]byte, 8), 4, func([]byte) {}), unix.EAGAIN, "not for ever")
}

func TestCgroupMount(t *testing.T) {
	for _, tt := range []struct {
		name, mountinfo, dir string
		complete             bool
	}{
		{"unified", "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup", true},
		{"hybrid", "31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/unified", true},
		{"part", "30 24 0:26 /docker/1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n", "/sys/fs/cgroup", false},
		{"complete is better", "30 24 0:26 /a /x rw - cgroup2 c rw\n31 24 0:26 / /y rw - cgroup2 c rw\n", "/y", true},
		{"blank in the name", "30 24 0:26 / /a\\040b rw - cgroup2 c rw\n", "/a b", true},
		{"none", "30 24 0:26 / / rw - ext4 /dev/sda rw\n\n - \ncgroup2\n", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, complete := cgroupMount([]byte(tt.mountinfo))
			assert.Equal(t, tt.dir, dir)
			assert.Equal(t, tt.complete, complete)
		})
	}
}

func FuzzCgroupMount(f *testing.F) {
	f.Add([]byte("30 24 0:26 / /sys/fs/cg\\040roup rw - cgroup2 cgroup2 rw\n"))
	f.Fuzz(func(t *testing.T, b []byte) { cgroupMount(b) })
}

func TestMissing(t *testing.T) {
	for _, tt := range []struct {
		name, status, want string
		known              bool
	}{
		{"root", "Name:\tx\nCapEff:\t000001ffffffffff\n", "", true},
		{"the three", "CapEff:\t000000c000001000\n", "", true},
		{"one", "CapEff:\t0000008000000000\n", "CAP_PERFMON, CAP_NET_ADMIN", true},
		{"none", "CapEff:\t0000000000000000\n", "CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN", true},
		{"damaged", "CapEff:\tx\n", "", false},
		{"absent", "", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			names, known := missing([]byte(tt.status))
			assert.Equal(t, tt.want, names)
			assert.Equal(t, tt.known, known)
		})
	}
}

func FuzzMissing(f *testing.F) {
	f.Add([]byte("Name:\tx\nCapEff:\t0000008000000000\n"))
	f.Fuzz(func(t *testing.T, b []byte) { missing(b) })
}

func TestExplain(t *testing.T) {
	assert.ErrorIs(t, explain(unix.EPERM, "", "2.0"), fs.ErrPermission)
	assert.ErrorIs(t, explain(fs.ErrNotExist, "", "2.0"), errors.ErrUnsupported)
	assert.ErrorContains(t, explain(unix.ENOMEM, "CAP_BPF", "2.0"), "memory limit")
	assert.ErrorContains(t, explain(unix.EINVAL, "", "999.0"), "is too old, it must be 999.0 or later")
	assert.Equal(t, io.EOF, explain(io.EOF, "CAP_BPF", "2.0"))
	// Without capabilities a kernel also seems to lack what it has.
	for _, err := range []error{unix.EPERM, fs.ErrNotExist, unix.EINVAL} {
		err = explain(err, "CAP_BPF", "2.0")
		assert.ErrorIs(t, err, fs.ErrPermission)
		assert.NotErrorIs(t, err, errors.ErrUnsupported)
		assert.ErrorContains(t, err, "missing: CAP_BPF")
	}
}

func TestOlder(t *testing.T) {
	for _, tt := range []struct {
		release, than string
		want          bool
	}{
		{"5.10.0-46-cloud-amd64", "5.12", true},
		{"4.18.0-553.el8_10.x86_64", "5.12", true},
		{"5.12.0", "5.12", false},
		{"5.9", "5.12", true},
		{"6.1", "5.12", false},
		{"?", "5.12", false},
		{"", "5.12", false},
	} {
		assert.Equal(t, tt.want, isOlder(tt.release, tt.than), "%q before %q", tt.release, tt.than)
	}
}

func FuzzOlder(f *testing.F) {
	f.Add("6.1.0-56-amd64", "5.12")
	f.Fuzz(func(t *testing.T, a, b string) {
		if isOlder(a, b) && isOlder(b, a) {
			t.Fatalf("%q and %q", a, b)
		}
	})
}

// TestEndFlows: each flow that there is ends, with what it has counted, more of them than
// the programs take at a time.
func TestEndFlows(t *testing.T) {
	p := open(t, Options{})
	defer p.Close()
	for _, n := range []int{0, 1, 2, 128, 300} {
		var keys []FlowKey
		for i := range n {
			s := Socket{Proto: unix.IPPROTO_UDP, Cookie: 1<<50 + uint64(i), Local: netip.MustParseAddrPort("192.0.2.1:1"),
				Peer: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), uint16(i))}
			key, value := s.Key(), s.value()
			value.Tx, value.Rx = uint64(i), uint64(n)
			if i%3 != 2 { // else there is none
				require.NoError(t, p.coll.Maps[connmapMapFlows].Update(&key, &value, ebpf.UpdateNoExist))
			}
			keys = append(keys, key)
		}
		ended := map[int]bool{}
		require.NoError(t, p.EndFlows(keys, func(i int, tx, rx uint64) {
			assert.False(t, ended[i])
			ended[i] = true
			assert.Equal(t, [2]uint64{uint64(i), uint64(n)}, [2]uint64{tx, rx})
		}))
		for i, key := range keys {
			assert.Equal(t, i%3 != 2, ended[i], "%d of %d", i, n)
			assert.False(t, p.HasFlow(key))
		}
		require.NoError(t, p.EndFlows(keys, func(int, uint64, uint64) { assert.Fail(t, "there are none any more") }))
	}
}

// TestVerified: the verifier looks at a program in little time, and far from the million
// instructions after which it refuses one; other kernels may need more.
func TestVerified(t *testing.T) {
	p := visiting(t, Options{})
	require.NoError(t, p.Close())
	spec, err := p.spec(Options{})
	require.NoError(t, err)
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}})
	require.NoError(t, err)
	defer c.Close()
	for name, p := range c.Programs {
		_, stats, ok := strings.Cut(p.VerifierLog, "processed ")
		if !ok {
			t.Skip("this kernel does not say: ", p.VerifierLog)
		}
		n, err := strconv.Atoi(strings.Fields(stats)[0])
		require.NoError(t, err)
		assert.Less(t, n, 100_000, name)
	}
}
