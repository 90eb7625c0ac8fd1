package conntrack

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From linux/sock_diag.h and linux/inet_diag.h.
const (
	tcpDiagGetSock   = 18
	sockDiagByFamily = 20
	extInfo          = 2 // INET_DIAG_INFO: struct tcp_info
	sizeofRequest    = unix.SizeofNlMsghdr + 60
	sizeofMessage    = 72 // struct inet_diag_msg
	timerTimeWait    = 3  // idiag_timer of a TIME_WAIT socket
)

// States of sockets, from net/tcp_states.h. UDP sockets use Established if they
// have a peer and Close if not.
const (
	stateEstablished = 1
	stateFinWait1    = 4
	stateFinWait2    = 5
	stateClose       = 7
	stateCloseWait   = 8
	stateLastAck     = 9
	stateListen      = 10
	stateClosing     = 11
)

// errInterrupted says that the tables changed too often, or too much came at
// once, for a complete answer.
var errInterrupted = errors.New("the list of sockets was interrupted by changes")

var errMalformed = errors.New("the kernel's list of sockets is malformed")

// A netlink is a sock_diag socket and its buffer.
type netlink struct {
	fd   int
	seq  uint32
	size int // of the request
	req  [sizeofRequest]byte
	buf  []byte
}

// dumpTCP calls visit with the inet_diag_msg and attributes of each TCP socket
// whose state is in the set states. They are valid during the call only.
// The error is errInterrupted if it helps to ask again.
//
// It sends a struct inet_diag_req because that lists both families in one pass
// over the kernel's table, which a struct inet_diag_req_v2 cannot.
func (l *netlink) dumpTCP(states uint32, visit func([]byte)) error {
	req := l.request(tcpDiagGetSock, 60)
	req[3] = 1 << (extInfo - 1)
	binary.NativeEndian.PutUint32(req[52:], states)
	return l.dump(visit)
}

// dumpUDP does the same for the UDP sockets of one family.
func (l *netlink) dumpUDP(family uint8, states uint32, visit func([]byte)) error {
	req := l.request(sockDiagByFamily, 56)
	req[0] = family
	req[1] = unix.IPPROTO_UDP
	binary.NativeEndian.PutUint32(req[4:], states)
	return l.dump(visit)
}

// request prepares l.req and returns where its payload goes.
func (l *netlink) request(typ uint16, size int) []byte {
	l.seq++
	l.size = unix.SizeofNlMsghdr + size
	clear(l.req[:])
	ne := binary.NativeEndian
	ne.PutUint32(l.req[0:], uint32(l.size))
	ne.PutUint16(l.req[4:], typ)
	ne.PutUint16(l.req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	ne.PutUint32(l.req[8:], l.seq)
	return l.req[unix.SizeofNlMsghdr:l.size]
}

// dump sends the request and reads the answer.
func (l *netlink) dump(visit func([]byte)) error {
	for {
		_, err := unix.Write(l.fd, l.req[:l.size])
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return err
		}
	}
	interrupted := false
	for {
		n, err := unix.Read(l.fd, l.buf)
		switch err {
		case nil:
		case unix.EINTR:
			continue
		case unix.ENOBUFS:
			// The rest must be read all the same: the kernel refuses a second
			// dump while one is under way.
			interrupted = true
			continue
		case unix.EAGAIN:
			return errors.New("the kernel does not answer")
		default:
			return err
		}
		done, intr, err := messages(l.buf[:n], l.seq, visit)
		interrupted = interrupted || intr
		if err != nil {
			return err
		}
		if done {
			break
		}
	}
	if interrupted {
		return errInterrupted
	}
	return nil
}

// messages takes a datagram of netlink messages apart and calls visit with the
// payload of each that answers request seq. It reports whether the answer is
// complete and whether it is inconsistent.
func messages(b []byte, seq uint32, visit func([]byte)) (done, interrupted bool, err error) {
	ne := binary.NativeEndian
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(ne.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return false, interrupted, errMalformed
		}
		typ, flags, body := ne.Uint16(b[4:]), ne.Uint16(b[6:]), b[unix.SizeofNlMsghdr:size]
		answer := ne.Uint32(b[8:]) == seq
		b = b[min((size+3)&^3, len(b)):]
		if !answer {
			continue // the rest of an earlier dump that failed
		}
		interrupted = interrupted || flags&unix.NLM_F_DUMP_INTR != 0
		switch typ {
		case sockDiagByFamily, tcpDiagGetSock:
			visit(body)
		case unix.NLMSG_DONE, unix.NLMSG_ERROR:
			if len(body) >= 4 {
				if errno := int32(ne.Uint32(body)); errno < 0 && errno > -4096 {
					return true, interrupted, unix.Errno(-errno)
				}
			}
			return true, interrupted, nil
		}
	}
	return false, interrupted, nil
}

// A sock is what sock_diag says of a socket.
type sock struct {
	state, timer uint8
	local, peer  netip.AddrPort
	cookie       uint64
	uid, inode   uint32 // inode is zero if no process holds the socket
	tx, rx       uint64
	rtt          time.Duration
}

// parseSock reads a struct inet_diag_msg and the attributes that follow it.
func parseSock(b []byte) (s sock, ok bool) {
	if len(b) < sizeofMessage {
		return s, false
	}
	ne := binary.NativeEndian
	s.state, s.timer = b[1], b[2]
	var local, peer netip.Addr
	switch b[0] {
	case unix.AF_INET:
		local = netip.AddrFrom4([4]byte(b[8:12]))
		peer = netip.AddrFrom4([4]byte(b[24:28]))
	case unix.AF_INET6:
		// Sockets of dual-stack servers have IPv4 peers as ::ffff:a.b.c.d.
		local = netip.AddrFrom16([16]byte(b[8:24])).Unmap()
		peer = netip.AddrFrom16([16]byte(b[24:40])).Unmap()
	default:
		return s, false
	}
	s.local = netip.AddrPortFrom(local, binary.BigEndian.Uint16(b[4:]))
	s.peer = netip.AddrPortFrom(peer, binary.BigEndian.Uint16(b[6:]))
	s.cookie = uint64(ne.Uint32(b[44:])) | uint64(ne.Uint32(b[48:]))<<32
	s.uid, s.inode = ne.Uint32(b[64:]), ne.Uint32(b[68:])

	for b = b[sizeofMessage:]; len(b) >= unix.SizeofRtAttr; {
		size := int(ne.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return s, false
		}
		if ne.Uint16(b[2:]) == extInfo {
			s.count(b[unix.SizeofRtAttr:size])
			break
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return s, true
}

// count reads a struct tcp_info, which is shorter in older kernels.
func (s *sock) count(info []byte) {
	const (
		rtt      = unsafe.Offsetof(unix.TCPInfo{}.Rtt)
		received = unsafe.Offsetof(unix.TCPInfo{}.Bytes_received)
		sent     = unsafe.Offsetof(unix.TCPInfo{}.Bytes_sent)
		resent   = unsafe.Offsetof(unix.TCPInfo{}.Bytes_retrans)
	)
	ne, n := binary.NativeEndian, uintptr(len(info))
	if n >= rtt+4 {
		s.rtt = time.Duration(ne.Uint32(info[rtt:])) * time.Microsecond
	}
	if n >= received+8 {
		s.rx = ne.Uint64(info[received:])
		// The kernel counts the peer's FIN as a byte.
		switch s.state {
		case stateCloseWait, stateLastAck, stateClosing:
			s.rx -= min(s.rx, 1)
		}
	}
	if n >= resent+8 {
		// bytes_acked would do for older kernels, but counts SYN and FIN.
		all, again := ne.Uint64(info[sent:]), ne.Uint64(info[resent:])
		s.tx = all - min(all, again)
	}
}
