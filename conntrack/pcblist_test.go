package conntrack

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A pcb is a socket of a list that is constructed from Apple's headers, not recorded.
type pcb struct {
	vflag       byte
	local, peer string
	gencnt      uint64
	uid         uint32
	pid         int32
	state       uint32 // of TCP
}

// record returns a record of a kind and size, filled by fill and padded to eight bytes.
func record(kind uint32, size int, fill func(b []byte)) []byte {
	b := make([]byte, (size+7)&^7)
	binary.LittleEndian.PutUint32(b, uint32(size))
	binary.LittleEndian.PutUint32(b[4:], kind)
	if fill != nil {
		fill(b)
	}
	return b
}

// xinpgen is the first and the last of a list.
func xinpgen(count uint32) []byte { return record(count, 24, nil) }

// records are those of a socket, with the sizes that they have on macOS 15.
func (p pcb) records(proto Proto) (all [][]byte) {
	le := binary.LittleEndian
	l, r := addrPort(p.local), addrPort(p.peer)
	all = [][]byte{
		record(0x10, 104, func(b []byte) { // xinpcb_n
			binary.BigEndian.PutUint16(b[16:], r.Port())
			binary.BigEndian.PutUint16(b[18:], l.Port())
			le.PutUint64(b[28:], p.gencnt)
			b[44] = p.vflag
			b[46] = byte(proto)
			local, peer := l.Addr().As16(), r.Addr().As16()
			if p.vflag == 1 {
				clear(local[:12])
				clear(peer[:12])
			}
			copy(b[48:], peer[:])
			copy(b[64:], local[:])
		}),
		record(0x01, 104, func(b []byte) { // xsocket_n
			le.PutUint32(b[56:], 99) // so_pgid
			le.PutUint32(b[64:], p.uid)
			le.PutUint32(b[68:], uint32(p.pid))
			le.PutUint32(b[72:], 77) // so_e_pid
		}),
		record(0x02, 32, nil), record(0x04, 32, nil), // xsockbuf_n, twice
		record(0x08, 136, nil), // xsockstat_n
	}
	if proto == TCP {
		all = append(all, record(0x20, 204, func(b []byte) { le.PutUint32(b[36:], p.state) })) // xtcpcb_n
	}
	return all
}

func pcbList(proto Proto, pcbs ...pcb) []byte {
	b := xinpgen(uint32(len(pcbs)))
	for _, p := range pcbs {
		for _, r := range p.records(proto) {
			b = append(b, r...)
		}
	}
	return append(b, xinpgen(0x10)...) // a number that is a kind too
}

func TestPCBList(t *testing.T) {
	conn := func(state uint32) pcb { return pcb{1, "192.0.2.1:50000", "198.51.100.2:443", 7, 501, 300, state} }
	is := func(state uint8) sock {
		return sock{state: state, local: addrPort("192.0.2.1:50000"), peer: addrPort("198.51.100.2:443"), cookie: 14, uid: 501, pid: 300}
	}
	for _, tt := range []struct {
		name  string
		proto Proto
		list  []byte
		want  []sock
	}{
		{"nothing", TCP, pcbList(TCP), nil},
		{"states", TCP, pcbList(TCP, conn(4), conn(5), conn(6), conn(7), conn(8), conn(9)), []sock{is(stateEstablished), is(stateCloseWait), is(stateFinWait1), is(stateClosing), is(stateLastAck), is(stateFinWait2)}},
		{"attempts and remains", TCP, pcbList(TCP, conn(0), conn(2), conn(3), conn(10), conn(11), conn(1<<31)), nil},
		{"listener for both", TCP, pcbList(TCP, pcb{3, "[::]:22", "[::]:0", 9, 0, 1, 1}), []sock{{state: stateListen, local: addrPort("[::]:22"), peer: addrPort("[::]:0"), cookie: 18, pid: 1}}},
		{"IPv6", TCP, pcbList(TCP, pcb{2, "[2001:db8::1]:50000", "[2001:db8::2]:443", 1, 0, -1, 4}, pcb{2, "[fe80:4::1]:50000", "[fe80:4::2]:443", 2, 0, 5, 4}, pcb{2, "[::ffff:192.0.2.1]:80", "[::ffff:198.51.100.2]:81", 0, 0, 5, 4}), []sock{
			{state: stateEstablished, local: addrPort("[2001:db8::1]:50000"), peer: addrPort("[2001:db8::2]:443"), cookie: 2},
			{state: stateEstablished, local: addrPort("[fe80::1%4]:50000"), peer: addrPort("[fe80::2%4]:443"), cookie: 4, pid: 5},
			{state: stateEstablished, local: addrPort("192.0.2.1:80"), peer: addrPort("198.51.100.2:81"), pid: 5}}},
		{"UDP", UDP, pcbList(UDP, conn(0), pcb{1, "0.0.0.0:5353", "0.0.0.0:0", 8, 65, 200, 0}), []sock{
			{state: stateEstablished, local: addrPort("192.0.2.1:50000"), peer: addrPort("198.51.100.2:443"), cookie: 15, uid: 501, pid: 300},
			{state: stateClose, local: addrPort("0.0.0.0:5353"), peer: addrPort("0.0.0.0:0"), cookie: 17, uid: 65, pid: 200}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := listOf(func(add func(*sock)) error { return parsePCBList(tt.list, tt.proto, add) })
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}

	t.Run("a socket without a record", func(t *testing.T) {
		whole := conn(4)
		whole.pid = 301
		b := xinpgen(2)
		for _, r := range append(conn(4).records(TCP)[:5], whole.records(TCP)...) {
			b = append(b, r...)
		}
		got, err := listOf(func(add func(*sock)) error { return parsePCBList(append(b, xinpgen(0)...), TCP, add) })
		require.NoError(t, err)
		require.Len(t, got, 1)
		assert.EqualValues(t, 301, got[0].pid)
	})
	t.Run("cut off", func(t *testing.T) {
		whole := pcbList(TCP, conn(4))
		for n := range whole[:len(whole)-23] {
			_, err := listOf(func(add func(*sock)) error { return parsePCBList(whole[:n], TCP, add) })
			assert.ErrorIs(t, err, errPCBList, n)
		}
	})
	t.Run("shorter than known", func(t *testing.T) {
		for kind, size := range map[uint32]int{0x01: 71, 0x10: 79, 0x20: 39} {
			_, err := listOf(func(add func(*sock)) error {
				return parsePCBList(append(append(xinpgen(1), record(kind, size, nil)...), xinpgen(0)...), TCP, add)
			})
			assert.ErrorContains(t, err, "instead of at least")
		}
	})
}

// TestIDsOfPCBs: sockets of TCP and UDP are counted apart, and their IDs are not equal.
func TestIDsOfPCBs(t *testing.T) {
	one := pcb{1, "192.0.2.1:50000", "198.51.100.2:443", 7, 501, 300, 4}
	l := listFunc(func(add func(Proto, *sock)) {
		for _, proto := range []Proto{TCP, UDP} {
			require.NoError(t, parsePCBList(pcbList(proto, one), proto, func(s *sock) { add(proto, s) }))
		}
	})
	w := &listedOwners{describe: func(pid int32) (Process, bool) { return Process{PID: int(pid)}, false }, started: func(int32) int64 { return 1 }}
	p := newPoller(PCBList, Options{}, l, w, "what is short")
	conns, err := p.snapshot(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, conns, 2)
	assert.NotEqual(t, conns[0].ID, conns[1].ID)
	for _, c := range conns {
		assert.Equal(t, 300, c.Process.PID)
		assert.EqualValues(t, 501, c.UID)
	}
}

func FuzzPCBList(f *testing.F) {
	one := pcb{1, "192.0.2.1:50000", "198.51.100.2:443", 7, 501, 300, 4}
	f.Add(pcbList(TCP, one), true)
	f.Add(pcbList(UDP, one, one), false)
	f.Fuzz(func(t *testing.T, b []byte, tcp bool) {
		proto := UDP
		if tcp {
			proto = TCP
		}
		socks, _ := listOf(func(add func(*sock)) error { return parsePCBList(b, proto, add) })
		if len(socks)*(inpSize+soSize) > len(b) {
			t.Errorf("%d sockets of %d bytes", len(socks), len(b))
		}
		checkSocks(t, socks)
	})
}
