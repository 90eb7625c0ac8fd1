package conntrack

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// encodeSock is the inverse of sock.parse, for sockets with tcp_info.
func encodeSock(family uint8, s sock, mapped bool) []byte {
	ne := binary.NativeEndian
	b := make([]byte, sizeofMessage)
	b[0], b[1], b[2] = family, s.state, s.timer
	binary.BigEndian.PutUint16(b[4:], s.local.Port())
	binary.BigEndian.PutUint16(b[6:], s.peer.Port())
	for at, a := range map[int]netip.Addr{8: s.local.Addr(), 24: s.peer.Addr()} {
		if mapped {
			a = netip.AddrFrom16(a.As16())
		}
		copy(b[at:], a.AsSlice())
	}
	ne.PutUint32(b[44:], uint32(s.cookie))
	ne.PutUint32(b[48:], uint32(s.cookie>>32))
	ne.PutUint32(b[64:], s.uid)
	ne.PutUint32(b[68:], s.inode)
	b = appendAttribute(b, 8, []byte{1}) // INET_DIAG_SHUTDOWN, one byte padded to four
	info := unix.TCPInfo{Rtt: uint32(s.rtt / time.Microsecond), Bytes_received: s.rx, Bytes_sent: s.tx + 7, Bytes_retrans: 7}
	return appendAttribute(b, extInfo, unsafe.Slice((*byte)(unsafe.Pointer(&info)), unix.SizeofTCPInfo))
}

func message(typ, flags uint16, seq uint32, body []byte) []byte {
	ne := binary.NativeEndian
	b := ne.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	b = ne.AppendUint16(ne.AppendUint16(b, typ), flags)
	b = ne.AppendUint32(ne.AppendUint32(b, seq), 0)
	b = append(b, body...)
	return append(b, make([]byte, -len(b)&3)...)
}

var sock4 = sock{
	state: stateEstablished,
	local: netip.MustParseAddrPort("192.0.2.1:443"), peer: netip.MustParseAddrPort("198.51.100.2:50000"),
	cookie: 0x1234_5678_9abc_def0, uid: 1000, inode: 4026531840, tx: 1 << 40, rx: 99, rtt: 1500 * time.Microsecond,
}

func TestParseSock(t *testing.T) {
	sock6, closing, countedFIN := sock4, sock4, sock4
	sock6.local, sock6.peer = netip.MustParseAddrPort("[2001:db8::1]:443"), netip.MustParseAddrPort("[2001:db8::2]:50000")
	closing.state, countedFIN.state, countedFIN.rx = stateCloseWait, stateCloseWait, sock4.rx+1
	old := sock4
	old.tx, old.rx, old.rtt = 0, 0, 0
	for _, tt := range []struct {
		name string
		b    []byte
		want sock
		ok   bool
	}{
		{"IPv4", encodeSock(unix.AF_INET, sock4, false), sock4, true},
		{"IPv6", encodeSock(unix.AF_INET6, sock6, false), sock6, true},
		{"IPv4 on a dual-stack socket", encodeSock(unix.AF_INET6, sock4, true), sock4, true},
		{"the FIN is no payload", encodeSock(unix.AF_INET, countedFIN, false), closing, true},
		{"no attributes", encodeSock(unix.AF_INET, sock4, false)[:sizeofMessage], old, true},
		{"short", make([]byte, sizeofMessage-1), sock{}, false},
		{"another family", make([]byte, sizeofMessage), sock{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got sock
			ok := got.parse(tt.b)
			require.Equal(t, tt.ok, ok)
			if ok {
				assert.Equal(t, tt.want, got)
			}
		})
	}
	var got sock
	ok := got.parse(append(encodeSock(unix.AF_INET, sock4, false)[:sizeofMessage], 3, 0, 0, 0))
	assert.False(t, ok, "attribute shorter than its header: %v", got)
}

func TestMessages(t *testing.T) {
	body := encodeSock(unix.AF_INET, sock4, false)
	one := message(sockDiagByFamily, unix.NLM_F_MULTI, 5, body)
	done := message(unix.NLMSG_DONE, unix.NLM_F_MULTI, 5, make([]byte, 4))
	refused := message(unix.NLMSG_ERROR, 0, 5, binary.NativeEndian.AppendUint32(nil, uint32(0xffffffff&-int64(unix.ENOENT))))
	join := func(parts ...[]byte) (b []byte) {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	for _, tt := range []struct {
		name     string
		b        []byte
		n        int
		done, in bool
		err      error
	}{
		{"part", join(one, one), 2, false, false, nil},
		{"end", join(one, done), 1, true, false, nil},
		{"another dump", join(message(sockDiagByFamily, 0, 4, body), message(unix.NLMSG_DONE, 0, 4, make([]byte, 4))), 0, false, false, nil},
		{"interrupted", join(one, message(unix.NLMSG_DONE, unix.NLM_F_DUMP_INTR, 5, make([]byte, 4))), 1, true, true, nil},
		{"refused", refused, 0, true, false, unix.ENOENT},
		{"cut off", one[:len(one)-4], 0, false, false, errMalformed},
		{"no size", make([]byte, 16), 0, false, false, errMalformed},
		{"empty", nil, 0, false, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := 0
			done, in, err := messages(tt.b, 5, func(b []byte) {
				assert.Equal(t, body, b)
				n++
			})
			assert.Equal(t, tt.n, n)
			assert.Equal(t, tt.done, done)
			assert.Equal(t, tt.in, in)
			assert.ErrorIs(t, err, tt.err)
		})
	}
}

func FuzzMessages(f *testing.F) {
	one := message(sockDiagByFamily, unix.NLM_F_MULTI, 5, encodeSock(unix.AF_INET, sock4, false))
	f.Add(append(one, message(unix.NLMSG_DONE, 0, 5, make([]byte, 4))...))
	f.Add(message(unix.NLMSG_ERROR, 0, 5, []byte{254, 255, 255, 255}))
	f.Add(message(sockDiagByFamily, 0, 5, encodeSock(unix.AF_INET6, sock4, true)[:100]))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := poller{table: make(map[uint64]int32), gen: 1}
		var d diag
		for _, proto := range []Proto{TCP, UDP} {
			messages(b, 5, func(b []byte) { d.visit(b, proto, p.add) })
		}
		for _, i := range p.live {
			e := p.entry(i)
			if a := e.peer.addrPort().Addr(); a.Is4In6() || a.IsLoopback() || e.local.addrPort().Addr().Is4In6() {
				t.Errorf("%v %v", e.local, e.peer)
			}
		}
	})
}
