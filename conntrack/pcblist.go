package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// The lists of the sysctls net.inet.tcp.pcblist_n and net.inet.udp.pcblist_n, as written by
// get_pcblist_n in bsd/netinet/in_pcblist.c of Apple's XNU. The structures, packed to four
// bytes, are in bsd/sys/socketvar.h, bsd/netinet/in_pcb.h and bsd/netinet/tcp_var.h. A list is
// a struct xinpgen, some records for each socket, and another xinpgen. A record begins with
// its length and its kind, of 32 bits each, and is padded to a multiple of eight bytes.
// Numbers are little-endian, as on all Macs; ports and addresses are in network byte order.
const (
	sizeofXinpgen = 24

	xsoSocket = 0x01 // struct xsocket_n
	xsoInpcb  = 0x10 // struct xinpcb_n
	xsoTcpcb  = 0x20 // struct xtcpcb_n

	inpIPv4, inpIPv6 = 1, 2 // inp_vflag
)

// Offsets of the fields that are read.
const (
	inpFport, inpLport, inpGencnt, inpVflag, inpFaddr, inpLaddr, inpSize = 16, 18, 28, 44, 48, 64, 80

	soUID, soLastPID, soSize = 64, 68, 72

	tState, tSize = 36, 40
)

// pcbStates translates the states of bsd/netinet/tcp_fsm.h. States that are neither of a
// connection nor of a listener are zero.
var pcbStates = [...]uint8{
	1: stateListen, 4: stateEstablished, 5: stateCloseWait, 6: stateFinWait1, 7: stateClosing, 8: stateLastAck, 9: stateFinWait2,
}

var errPCBList = errors.New("the kernel's list of sockets is truncated")

// parsePCBList calls add for each listener and connection of a list of TCP sockets, or for
// each UDP socket. The sock is valid during the call only. Records of other kinds are ignored.
func parsePCBList(b []byte, proto Proto, add func(*sock)) error {
	all := uint32(xsoInpcb | xsoSocket)
	if proto == TCP {
		all |= xsoTcpcb
	}
	_, b, ok := pcbRecord(b)
	if !ok {
		return errPCBList
	}
	var s sock
	var seen uint32 // kinds of records read of s
	for {
		var r []byte
		if r, b, ok = pcbRecord(b); !ok {
			return errPCBList
		}
		if len(r) <= sizeofXinpgen {
			return nil // the xinpgen at the end
		}
		kind := binary.LittleEndian.Uint32(r[4:])
		var size int
		switch kind {
		case xsoInpcb:
			size = inpSize
		case xsoSocket:
			size = soSize
		case xsoTcpcb:
			size = tSize
		default:
			continue
		}
		if len(r) < size {
			return fmt.Errorf("the kernel's list of sockets has a record of kind %#x with %d bytes instead of at least %d", kind, len(r), size)
		}
		if seen&kind != 0 {
			seen = 0 // a record of the socket before is missing
		}
		if seen == 0 {
			s = sock{}
		}
		seen |= kind
		switch kind {
		case xsoInpcb:
			s.parseInpcb(r, proto)
		case xsoSocket:
			s.uid = binary.LittleEndian.Uint32(r[soUID:])
			s.pid = max(int32(binary.LittleEndian.Uint32(r[soLastPID:])), 0)
		case xsoTcpcb:
			s.state = 0
			if state := binary.LittleEndian.Uint32(r[tState:]); state < uint32(len(pcbStates)) {
				s.state = pcbStates[state]
			}
		}
		if seen&all != all {
			continue
		}
		seen = 0
		if s.state != 0 {
			add(&s)
		}
	}
}

// pcbRecord returns the first record of b and the rest of b; false: the record is longer than
// b, or shorter than its head.
func pcbRecord(b []byte) (record, rest []byte, ok bool) {
	if len(b) < 8 {
		return nil, nil, false
	}
	size := uint64(binary.LittleEndian.Uint32(b))
	if size < 8 || size > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:size], b[min((size+7)&^7, uint64(len(b))):], true
}

// parseInpcb reads the addresses of a socket, and its generation count, which is unique for
// one protocol since the machine started. The cookies of UDP sockets are odd, those of TCP even.
func (s *sock) parseInpcb(r []byte, proto Proto) {
	if n := binary.LittleEndian.Uint64(r[inpGencnt:]) << 2 >> 1; n != 0 {
		s.cookie = n
		if proto == UDP {
			s.cookie++
		}
	}
	v6 := r[inpVflag]&inpIPv6 != 0
	s.local = netip.AddrPortFrom(pcbAddr([16]byte(r[inpLaddr:]), v6), binary.BigEndian.Uint16(r[inpLport:]))
	s.peer = netip.AddrPortFrom(pcbAddr([16]byte(r[inpFaddr:]), v6), binary.BigEndian.Uint16(r[inpFport:]))
	if proto == UDP {
		s.state = stateClose
		if s.peer.Port() != 0 {
			s.state = stateEstablished
		}
	}
}

// pcbAddr returns the address in a field of an IPv6 or an IPv4 socket. IPv4 addresses are in
// the last four bytes.
func pcbAddr(a [16]byte, v6 bool) netip.Addr {
	if !v6 {
		return netip.AddrFrom4([4]byte(a[12:]))
	}
	addr := netip.AddrFrom16(a).Unmap()
	if addr.IsLinkLocalUnicast() && addr.Is6() {
		// The kernel puts the index of the device here.
		device := binary.BigEndian.Uint16(a[2:])
		a[2], a[3] = 0, 0
		addr = zoned(netip.AddrFrom16(a), uint32(device))
	}
	return addr
}
