package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// The lists that sysctl gives for net.inet.tcp.pcblist_n and net.inet.udp.pcblist_n, from
// get_pcblist_n in bsd/netinet/in_pcblist.c of Apple's XNU and the structures in
// bsd/sys/socketvar.h, bsd/netinet/in_pcb.h and bsd/netinet/tcp_var.h, which are packed to
// four bytes. A list is a struct xinpgen, some records for each socket, and another
// xinpgen. A record begins with its length and its kind, both of 32 bits, and the next
// begins at a multiple of eight bytes. Numbers are in the order of bytes of the machine,
// which is little-endian on all Macs; ports and addresses in that of the network.
const (
	sizeofXinpgen = 24

	xsoSocket = 0x01 // struct xsocket_n
	xsoInpcb  = 0x10 // struct xinpcb_n
	xsoTcpcb  = 0x20 // struct xtcpcb_n

	inpIPv4, inpIPv6 = 1, 2 // inp_vflag
)

// Offsets of what is read of the records.
const (
	inpFport, inpLport, inpGencnt, inpVflag, inpFaddr, inpLaddr, inpSize = 16, 18, 28, 44, 48, 64, 80

	soUID, soLastPID, soSize = 64, 68, 72

	tState, tSize = 36, 40
)

// pcbStates are those of bsd/netinet/tcp_fsm.h, by number. What is none of a connection or
// of a listener is zero.
var pcbStates = [...]uint8{
	1: stateListen, 4: stateEstablished, 5: stateCloseWait, 6: stateFinWait1, 7: stateClosing, 8: stateLastAck, 9: stateFinWait2,
}

var errPCBList = errors.New("the kernel's list of sockets is cut off")

// parsePCBList calls add for each listener and connection of a list of TCP sockets, or for
// each socket of one of UDP sockets. The sock is valid during the call only. Records of
// other kinds are passed over.
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
	var seen uint32 // kinds of records of s
	for {
		var r []byte
		if r, b, ok = pcbRecord(b); !ok {
			return errPCBList
		}
		if len(r) <= sizeofXinpgen {
			return nil // that is the last
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
			return fmt.Errorf("the kernel's list of sockets has a record of kind %#x with %d bytes, less than the %d known", kind, len(r), size)
		}
		if seen&kind != 0 {
			seen = 0 // of a socket without some record
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

// pcbRecord returns the first record of b and what comes after it, and false if b is
// shorter than the record says, or the record than its head.
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

// parseInpcb reads the ends of a socket and its number, which counts the sockets of one
// protocol since the machine started. UDP's get odd ones, so that no two are equal.
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

// pcbAddr returns an address of a socket for IPv6, or of one for IPv4, which has it in the
// last bytes.
func pcbAddr(a [16]byte, v6 bool) netip.Addr {
	if !v6 {
		return netip.AddrFrom4([4]byte(a[12:]))
	}
	addr := netip.AddrFrom16(a).Unmap()
	if addr.IsLinkLocalUnicast() && addr.Is6() {
		// The kernel keeps the index of the device here.
		device := binary.BigEndian.Uint16(a[2:])
		a[2], a[3] = 0, 0
		addr = zoned(netip.AddrFrom16(a), uint32(device))
	}
	return addr
}
