package conntrack

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// The tables of TCP sockets that GetExtendedTcpTable returns for TCP_TABLE_OWNER_PID_ALL, as
// documented for MIB_TCPTABLE_OWNER_PID and MIB_TCP6TABLE_OWNER_PID. A table is the number of
// rows, in 32 bits, and then rows of 32-bit fields. Numbers are little-endian, as on all of
// Windows. Addresses are in network byte order, and so are ports, in the first two bytes of
// their field. Scopes of addresses are ignored.
const (
	tcpRowSize  = 24 // state, local address and port, peer's address and port, process
	tcp6RowSize = 56 // local address, scope and port, peer's likewise, state, process

	sizeOfCount = 4
)

var errTCPTable = errors.New("the table of TCP sockets is shorter than its number of rows")

// tcpTableStates translates MIB_TCP_STATE. States that are neither of a connection nor of a
// listener are zero.
var tcpTableStates = [...]uint8{
	2: stateListen, 5: stateEstablished, 6: stateFinWait1, 7: stateFinWait2, 8: stateCloseWait, 9: stateClosing, 10: stateLastAck,
}

// parseTCPTable calls add for each listener and connection of a table of IPv4 or IPv6 sockets.
// The sock is valid during the call only.
func parseTCPTable(b []byte, v6 bool, add func(*sock)) error {
	size := tcpRowSize
	if v6 {
		size = tcp6RowSize
	}
	if len(b) < sizeOfCount {
		return errTCPTable
	}
	rows := uint64(binary.LittleEndian.Uint32(b))
	if b = b[sizeOfCount:]; uint64(len(b)) < rows*uint64(size) {
		return errTCPTable
	}
	var s sock
	for ; rows > 0; rows-- {
		row := b[:size]
		b = b[size:]
		u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(row[at:]) }
		port := func(at int) uint16 { return binary.BigEndian.Uint16(row[at:]) }
		s = sock{uid: unknownUID}
		var state, pid uint32
		if v6 {
			s.local = netip.AddrPortFrom(netip.AddrFrom16([16]byte(row)).Unmap(), port(20))
			s.peer = netip.AddrPortFrom(netip.AddrFrom16([16]byte(row[24:])).Unmap(), port(44))
			state, pid = u32(48), u32(52)
		} else {
			s.local = netip.AddrPortFrom(netip.AddrFrom4([4]byte(row[4:])), port(8))
			s.peer = netip.AddrPortFrom(netip.AddrFrom4([4]byte(row[12:])), port(16))
			state, pid = u32(0), u32(20)
		}
		if state >= uint32(len(tcpTableStates)) || tcpTableStates[state] == 0 {
			continue
		}
		s.state = tcpTableStates[state]
		if pid <= 1<<31-1 {
			s.pid = int32(pid)
		}
		add(&s)
	}
	return nil
}
