package conntrack

import (
	"encoding/binary"
	"errors"
	"iter"
	"time"

	"golang.org/x/sys/unix"
)

// errInterrupted means that an answer is incomplete: the kernel's tables changed too often, or
// too much came at once.
var errInterrupted = errors.New("the list was interrupted by changes")

var errMalformed = errors.New("the kernel's answer is malformed")

// A netlink is a netlink(7) socket with one request at a time.
type netlink struct {
	fd  int
	seq uint32
	buf []byte
}

// openNetlink opens a netlink socket in the network namespace of the calling thread. Messages
// longer than buf are malformed.
func openNetlink(protocol int, buf []byte) (*netlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, err
	}
	// A kernel that does not answer must be an error, not a hang.
	timeout := unix.NsecToTimeval(int64(5 * time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &netlink{fd: fd, buf: buf}, nil
}

func (n *netlink) close() error { return unix.Close(n.fd) }

// request sends a request and calls visit with the payload of each message of the answer. The
// payload is valid during the call only. req must begin with room for the header. Requests
// other than dumps need the flag NLM_F_ACK.
func (n *netlink) request(typ, flags uint16, req []byte, visit func([]byte)) error {
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
			// The rest must still be read: the kernel refuses a second dump while
			// one is under way.
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

// messages splits a datagram into netlink messages, and calls visit with the payload of each
// that answers request seq. It reports whether the answer is complete, and whether it is
// inconsistent.
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
			// Two flag bits are not part of the type.
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
