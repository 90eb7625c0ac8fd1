package conntrack

import (
	"encoding/binary"
	"errors"
	"iter"
	"time"

	"golang.org/x/sys/unix"
)

// errInterrupted says that the kernel's tables changed too often, or too much came at
// once, for a complete answer.
var errInterrupted = errors.New("the list was interrupted by changes")

var errMalformed = errors.New("the kernel's answer is malformed")

// A netlink is a socket on which the kernel answers one question at a time, as
// netlink(7) says.
type netlink struct {
	fd  int
	seq uint32
	buf []byte
}

// openNetlink opens a netlink in the network namespace of the calling thread. A message
// longer than buf is malformed.
func openNetlink(protocol int, buf []byte) (*netlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, err
	}
	// A kernel that does not answer is an error, not a hang.
	timeout := unix.NsecToTimeval(int64(5 * time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &netlink{fd: fd, buf: buf}, nil
}

func (n *netlink) close() error { return unix.Close(n.fd) }

// ask sends a request, for whose header req has room at its beginning, and calls visit
// with the payload of each message of the answer. It is valid during the call only. What
// is no dump must be asked for with NLM_F_ACK.
func (n *netlink) ask(typ, flags uint16, req []byte, visit func([]byte)) error {
	n.seq++
	ne := binary.NativeEndian
	ne.PutUint32(req[0:], uint32(len(req)))
	ne.PutUint16(req[4:], typ)
	ne.PutUint16(req[6:], unix.NLM_F_REQUEST|flags)
	ne.PutUint32(req[8:], n.seq)
	for {
		_, err := unix.Write(n.fd, req)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return err
		}
	}
	interrupted := false
	for {
		size, err := unix.Read(n.fd, n.buf)
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
		done, intr, err := messages(n.buf[:size], n.seq, visit)
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
		switch {
		case typ >= unix.NLMSG_MIN_TYPE:
			visit(body)
		case typ == unix.NLMSG_DONE || typ == unix.NLMSG_ERROR:
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

// attributes yields the attributes in b up to the first that is malformed.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(typ uint16, value []byte) bool) {
		ne := binary.NativeEndian
		for len(b) >= unix.SizeofRtAttr {
			size := int(ne.Uint16(b))
			// Two bits are no part of the type: they say how the value is written.
			typ := ne.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if size < unix.SizeofRtAttr || size > len(b) || !yield(typ, b[unix.SizeofRtAttr:size]) {
				return
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}

// appendAttribute appends an attribute to a request.
func appendAttribute(b []byte, typ uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, typ), value...)
	return append(b, make([]byte, -len(b)&3)...)
}
