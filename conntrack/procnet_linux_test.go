package conntrack

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// tableLines are of a machine whose lowest byte comes first.
var tableLines = []struct {
	table, line string
	want        sock
}{
	{"tcp", "   0: 010200C0:01BB 026433C6:C350 01 00000000:00000000 02:000A5D2D 00000000    33        0 378536 2 000000005baa2d5a 20 4 30 10 -1                      \n",
		sock{state: stateEstablished, timer: 2, local: addrPort("192.0.2.1:443"), peer: addrPort("198.51.100.2:50000"), uid: 33, inode: 378536}},
	{"tcp", "   1: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4026531840 1 0000000060c6478a 100 0 0 10 0\n",
		sock{state: stateListen, local: addrPort("127.0.0.1:22"), peer: addrPort("0.0.0.0:0"), inode: 4026531840}},
	{"tcp", "   2: 010200C0:01BB 026433C6:C351 06 00000000:00000000 03:0000176D 00000000     0        0 0 3 0000000030f635e2                                       \n",
		sock{state: 6, timer: timerTimeWait, local: addrPort("192.0.2.1:443"), peer: addrPort("198.51.100.2:50001")}},
	{"tcp6", "   2: 0000000000000000FFFF0000010200C0:92AF 0000000000000000FFFF0000026433C6:9552 08 00000000:00000003 00:00000000 00000000  1000        0 378536 2 00000000774ba899 20 4 31 10 -1\n",
		sock{state: stateCloseWait, local: addrPort("192.0.2.1:37551"), peer: addrPort("198.51.100.2:38226"), uid: 1000, inode: 378536}},
	{"tcp6", "   3: B80D0120000000000000000001000000:01BB B80D0120000000000000000002000000:C350 01 00000000:00000000 00:00000000 00000000 65534        0 7 1 0000000000000000 20 4 30 10 -1\n",
		sock{state: stateEstablished, local: addrPort("[2001:db8::1]:443"), peer: addrPort("[2001:db8::2]:50000"), uid: 65534, inode: 7}},
	{"udp", " 2083: 010200C0:DC31 026433C6:0035 01 00000000:00000000 00:00000000 00000000     0        0 378537 2 00000000064135ba 0        \n",
		sock{state: stateEstablished, local: addrPort("192.0.2.1:56369"), peer: addrPort("198.51.100.2:53"), inode: 378537}},
	{"udp6", " 1723: 00000000000000000000000000000000:14E9 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000   105        0 378538 2 0000000032bb2a9d 0\n",
		sock{state: stateClose, local: addrPort("[::]:5353"), peer: addrPort("[::]:0"), uid: 105, inode: 378538}},
	{"icmp", "    3: 010200C0:9D51 026433C6:0007 01 00000000:00000000 00:00000000 00000000  1000        0 378532 2 00000000cf1a57eb 0        \n",
		sock{state: stateEstablished, local: addrPort("192.0.2.1:40273"), peer: addrPort("198.51.100.2:7"), uid: 1000, inode: 378532}},
	{"icmp6", "    4: B80D0120000000000000000001000000:9D52 B80D0120000000000000000002000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 378533 2 00000000090bacc9 0\n",
		sock{state: stateEstablished, local: addrPort("[2001:db8::1]:40274"), peer: addrPort("[2001:db8::2]:0"), inode: 378533}},
	{"raw", "  77: 010200C0:002F 026433C6:0000 01 00000000:00000000 00:00000000 00000000     0        0 378525 2 00000000097786ab 0\n",
		sock{state: stateEstablished, local: addrPort("192.0.2.1:47"), peer: addrPort("198.51.100.2:0"), inode: 378525}},
	{"raw6", "   72: B80D0120000000000000000001000000:003A B80D0120000000000000000002000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 378527 2 00000000af41a2c7 0\n",
		sock{state: stateEstablished, local: addrPort("[2001:db8::1]:58"), peer: addrPort("[2001:db8::2]:0"), inode: 378527}},
}

func requireLittleEndian(t testing.TB) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("needs a machine whose lowest byte comes first")
	}
}

func TestParseTable(t *testing.T) {
	requireLittleEndian(t)
	for _, tt := range tableLines {
		t.Run(tt.table, func(t *testing.T) {
			var got sock
			require.True(t, got.parseTable([]byte(tt.line)), tt.line)
			assert.Equal(t, tt.want, got)
		})
	}
	for _, line := range []string{
		"",
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n",
		"0: 010200C0:01BB 026433C6:C350 01 00000000:00000000 00:00000000 00000000 33 0\n",
		"0: 010200C:01BB 026433C6:C350 01 00000000:00000000 00:00000000 00000000 33 0 7\n",
		"0: 010200C0:01BB 026433C6:C3G0 01 00000000:00000000 00:00000000 00000000 33 0 7\n",
		"0: 010200C0:01BB 026433C6:C350 1 00000000:00000000 00:00000000 00000000 33 0 7\n",
		"0: 010200C0:01BB 026433C6:C350 01 00000000:00000000 00:00000000 00000000 4294967296 0 7\n",
		"0: 010200C0:01BB 026433C6:C350 01 00000000:00000000 00:00000000 00000000 33 0 -7\n",
	} {
		var got sock
		assert.False(t, got.parseTable([]byte(line)), line)
	}
}

func FuzzParseTable(f *testing.F) {
	for _, tt := range tableLines {
		f.Add([]byte(tt.line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var s sock
		if !s.parseTable(line) {
			return
		}
		for _, a := range []netip.AddrPort{s.local, s.peer} {
			if !a.IsValid() || a.Addr().Is4In6() || a.Addr().Zone() != "" {
				t.Errorf("%q: %v", line, a)
			}
		}
	})
}

const tableHeader = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

// procnetOf returns a lister of tables with these contents.
func procnetOf(t *testing.T, tables map[string]string) (*procnet, error) {
	dir := t.TempDir() + "/"
	for name, lines := range tables {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(tableHeader+lines), 0o600))
	}
	p, err := openProcnet(dir)
	if err == nil {
		t.Cleanup(func() { assert.NoError(t, p.close()) })
	}
	return p, err
}

func TestProcnetTables(t *testing.T) {
	requireLittleEndian(t)
	tables := map[string]string{}
	for _, tt := range tableLines {
		tables[tt.table] += tt.line
	}
	l, err := procnetOf(t, tables)
	require.NoError(t, err)
	p := &poller{name: Proc, lister: l, owners: new(procOwners), table: make(map[uint64]int32)}
	for range 2 {
		conns, err := p.snapshot(t.Context(), nil)
		require.NoError(t, err)
		got := map[string]bool{}
		for _, c := range conns {
			got[c.Proto.String()+" "+c.State.String()+" "+c.Local.String()+" "+c.Peer.String()] = true
		}
		assert.Equal(t, map[string]bool{
			"tcp established 192.0.2.1:443 198.51.100.2:50000":      true,
			"tcp close-wait 192.0.2.1:37551 198.51.100.2:38226":     true,
			"tcp established [2001:db8::1]:443 [2001:db8::2]:50000": true,
			"udp  192.0.2.1:56369 198.51.100.2:53":                  true,
			"icmp  192.0.2.1:0 198.51.100.2:0":                      true,
			"icmpv6  [2001:db8::1]:0 [2001:db8::2]:0":               true,
			"47  192.0.2.1:0 198.51.100.2:0":                        true,
		}, got)
	}
}

func TestProcnetErrors(t *testing.T) {
	_, err := procnetOf(t, nil)
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	assert.ErrorIs(t, err, fs.ErrNotExist)

	l, err := procnetOf(t, map[string]string{"tcp": "", "udp": "0: zero\n"})
	require.NoError(t, err)
	assert.ErrorContains(t, l.list(t.Context(), func(Proto, *sock) {}), `/udp: line 2 is malformed: "0: zero\n"`)

	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "tcp"), 0o700))
	l, err = openProcnet(dir + "/")
	require.NoError(t, err)
	assert.ErrorIs(t, l.list(t.Context(), func(Proto, *sock) {}), unix.EISDIR)
	assert.NoError(t, l.close())
	assert.ErrorIs(t, l.close(), os.ErrClosed)
}

// An ID stays when a process accepts a connection, and when it closes it; it
// does not stay when another connection takes the same ends.
func TestIDsWithoutCookies(t *testing.T) {
	p := &poller{owners: new(procOwners), table: make(map[uint64]int32)}
	s := sock{state: stateEstablished, local: addrPort("192.0.2.1:443"), peer: addrPort("198.51.100.2:50000")}
	snapshot := func(inode uint32, state uint8) Conn {
		p.lister = listFunc(func(add func(Proto, *sock)) {
			s.inode, s.state = inode, state
			add(TCP, &s)
			add(TCP, &s)
			u := s
			u.state, u.inode = stateEstablished, 0
			add(UDP, &u)
			u.inode = 9
			add(UDP, &u)
			raw := u
			raw.local, raw.peer = netip.AddrPortFrom(s.local.Addr(), 0), netip.AddrPortFrom(s.peer.Addr(), 0)
			for raw.inode = range uint32(10) {
				if raw.inode >= 6 && raw.inode < 9 {
					add(TCP, &raw)
				}
			}
		})
		conns, err := p.snapshot(t.Context(), nil)
		require.NoError(t, err)
		require.Len(t, conns, 6)
		ids := map[uint64]bool{}
		for _, c := range conns {
			ids[c.ID] = true
		}
		require.Len(t, ids, 6)
		return conns[0]
	}
	queued := snapshot(0, stateEstablished)
	accepted := snapshot(5, stateEstablished)
	orphan := snapshot(0, stateFinWait2)
	assert.Equal(t, []uint64{queued.ID, queued.ID}, []uint64{accepted.ID, orphan.ID})
	assert.Equal(t, queued.Opened, orphan.Opened)
	assert.NotZero(t, queued.ID&(1<<62))
	assert.NotEqual(t, queued.Opened, snapshot(6, stateEstablished).Opened)
}

// Proc also sees the sockets of protocols without ports.
func TestSnapshotRaw(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	require.NoError(t, os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 0"), 0))
	connect := func(family, typ, proto int, to unix.Sockaddr) {
		fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, proto)
		require.NoError(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		if to != nil {
			require.NoError(t, unix.Connect(fd, to))
		}
	}
	to4 := &unix.SockaddrInet4{Addr: [4]byte{203, 0, 113, 10}, Port: 9}
	to6 := &unix.SockaddrInet6{Addr: netip.MustParseAddr("2001:db8:a::10").As16()}
	connect(unix.AF_INET, unix.SOCK_RAW, 47, to4)
	connect(unix.AF_INET, unix.SOCK_RAW, 47, nil)
	connect(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP, to4)
	connect(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP, to4)
	connect(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6, to6)
	connect(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP, to4)
	connect(unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_ICMPV6, to6)
	got := map[string]int{}
	for _, c := range snapshot(t, newCollector(t, Options{Backend: Proc})) {
		got[c.Proto.String()+" "+c.Peer.String()]++
		assert.Equal(t, os.Getpid(), c.Process.PID, "%v", c)
		assert.Equal(t, Out, c.Direction)
	}
	assert.Equal(t, map[string]int{
		"47 203.0.113.10:0": 1, "tcp 203.0.113.10:0": 1, "udp 203.0.113.10:0": 1, "icmp 203.0.113.10:0": 1, "icmpv6 [2001:db8:a::10]:0": 2,
	}, got)
}
