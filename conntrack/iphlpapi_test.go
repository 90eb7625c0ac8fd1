package conntrack

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tcpRow returns a row of a table, constructed from the documentation.
func tcpRow(state uint32, local, peer string, pid uint32) []byte {
	l, p := addrPort(local), addrPort(peer)
	le := binary.LittleEndian
	port := func(b []byte, a netip.AddrPort) []byte {
		return append(binary.BigEndian.AppendUint16(b, a.Port()), 0xab, 0xcd) // the upper half may hold anything
	}
	var b []byte
	if l.Addr().Is4() && p.Addr().Is4() {
		b = le.AppendUint32(b, state)
		b = port(append(b, l.Addr().AsSlice()...), l)
		b = port(append(b, p.Addr().AsSlice()...), p)
		return le.AppendUint32(b, pid)
	}
	for _, a := range []netip.AddrPort{l, p} {
		a16 := a.Addr().As16()
		b = port(le.AppendUint32(append(b, a16[:]...), 3), a)
	}
	return le.AppendUint32(le.AppendUint32(b, state), pid)
}

func tcpTable(rows ...[]byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(rows)))
	for _, r := range rows {
		b = append(b, r...)
	}
	return b
}

// wineTable is what wine 8.0 gave for a listener, two connections through it, each with
// both its ends, and two others that were being closed.
const wineTable = `
07000000
02000000 7f000001 91ff0000 00000000 00000000 00000000
02000000 00000000 07e80000 00000000 00000000 00000000
0b000000 7f000001 ac050000 7f000001 e25a0000 00000000
0b000000 c0000202 e8660000 cb007150 00500000 00000000
05000000 7f000001 91ff0000 7f000001 8c850000 00000000
0b000000 7f000001 c4ce0000 7f000001 b1b30000 00000000
05000000 7f000001 8c850000 7f000001 91ff0000 20000000`

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "\n", "").Replace(s))
	require.NoError(t, err)
	return b
}

func TestTCPTable(t *testing.T) {
	is := func(state uint8, local, peer string, pid int32) sock {
		return sock{state: state, local: addrPort(local), peer: addrPort(peer), pid: pid, uid: unknownUID}
	}
	for _, tt := range []struct {
		name  string
		table []byte
		v6    bool
		want  []sock
	}{
		{"nothing", tcpTable(), false, nil},
		{"states", tcpTable(
			tcpRow(2, "0.0.0.0:135", "0.0.0.0:0", 900), tcpRow(5, "192.0.2.1:50000", "198.51.100.2:443", 4), tcpRow(6, "192.0.2.1:1", "198.51.100.2:2", 8),
			tcpRow(7, "192.0.2.1:1", "198.51.100.2:2", 8), tcpRow(8, "192.0.2.1:1", "198.51.100.2:2", 8), tcpRow(9, "192.0.2.1:1", "198.51.100.2:2", 8),
			tcpRow(10, "192.0.2.1:1", "198.51.100.2:2", 8)), false,
			[]sock{is(stateListen, "0.0.0.0:135", "0.0.0.0:0", 900), is(stateEstablished, "192.0.2.1:50000", "198.51.100.2:443", 4), is(stateFinWait1, "192.0.2.1:1", "198.51.100.2:2", 8),
				is(stateFinWait2, "192.0.2.1:1", "198.51.100.2:2", 8), is(stateCloseWait, "192.0.2.1:1", "198.51.100.2:2", 8), is(stateClosing, "192.0.2.1:1", "198.51.100.2:2", 8),
				is(stateLastAck, "192.0.2.1:1", "198.51.100.2:2", 8)}},
		{"attempts and remains", tcpTable(
			tcpRow(0, "192.0.2.1:1", "198.51.100.2:2", 8), tcpRow(1, "192.0.2.1:1", "198.51.100.2:2", 8), tcpRow(3, "192.0.2.1:1", "198.51.100.2:2", 8), tcpRow(4, "192.0.2.1:1", "198.51.100.2:2", 8),
			tcpRow(11, "192.0.2.1:1", "198.51.100.2:2", 0), tcpRow(12, "192.0.2.1:1", "198.51.100.2:2", 0), tcpRow(1<<31, "192.0.2.1:1", "198.51.100.2:2", 0)), false, nil},
		{"IPv6", tcpTable(tcpRow(5, "[2001:db8::1]:50000", "[2001:db8::2]:443", 1<<31-1), tcpRow(5, "[fe80::1]:50000", "[fe80::2]:443", 1<<31), tcpRow(5, "[::ffff:192.0.2.1]:443", "[::ffff:198.51.100.2]:50000", 12)), true,
			[]sock{is(stateEstablished, "[2001:db8::1]:50000", "[2001:db8::2]:443", 1<<31-1), is(stateEstablished, "[fe80::1]:50000", "[fe80::2]:443", 0), is(stateEstablished, "192.0.2.1:443", "198.51.100.2:50000", 12)}},
		{"more room than rows", append(tcpTable(tcpRow(5, "192.0.2.1:50000", "198.51.100.2:443", 4)), make([]byte, 100)...), false, []sock{is(stateEstablished, "192.0.2.1:50000", "198.51.100.2:443", 4)}},
		{"of wine", unhex(t, wineTable), false, []sock{
			is(stateListen, "127.0.0.1:37375", "0.0.0.0:0", 0), is(stateListen, "0.0.0.0:2024", "0.0.0.0:0", 0),
			is(stateEstablished, "127.0.0.1:37375", "127.0.0.1:35973", 0), is(stateEstablished, "127.0.0.1:35973", "127.0.0.1:37375", 32)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := listOf(func(add func(*sock)) error { return parseTCPTable(tt.table, tt.v6, add) })
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
	for _, cut := range [][]byte{nil, {1, 0, 0}, tcpTable(tcpRow(5, "192.0.2.1:1", "192.0.2.2:2", 4))[:27], {0xff, 0xff, 0xff, 0xff, 5}} {
		_, err := listOf(func(add func(*sock)) error { return parseTCPTable(cut, false, add) })
		assert.ErrorIs(t, err, errTCPTable)
	}
}

func FuzzTCPTable(f *testing.F) {
	f.Add(tcpTable(tcpRow(5, "192.0.2.1:1", "192.0.2.2:2", 4)), false)
	f.Add(tcpTable(tcpRow(2, "[::]:1", "[::]:0", 4)), true)
	f.Add(unhex(f, wineTable), false)
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		socks, _ := listOf(func(add func(*sock)) error { return parseTCPTable(b, v6, add) })
		if len(socks)*tcpRowSize > len(b) {
			t.Errorf("%d sockets of %d bytes", len(socks), len(b))
		}
		checkSocks(t, socks)
	})
}

// checkSocks checks what must hold of each sock, whatever it is parsed from.
func checkSocks(t *testing.T, socks []sock) {
	for _, s := range socks {
		for _, a := range []netip.AddrPort{s.local, s.peer} {
			if !a.IsValid() || a.Addr().Is4In6() || a.Addr().Zone() != "" {
				t.Errorf("%v", a)
			}
		}
		if s.pid < 0 || s.state == 0 {
			t.Errorf("process %d, state %d", s.pid, s.state)
		}
	}
}
