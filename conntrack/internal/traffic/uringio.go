//go:build linux

package traffic

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A uringStream reads and writes a connection by IORING_OP_RECV and
// IORING_OP_SEND.
type uringStream struct {
	*ring
	conn int
}

func (s uringStream) Write(b []byte) (int, error) {
	n := copy(s.buffer(), b)
	return s.do(uringSend, s.conn, unsafe.Pointer(&s.buffer()[0]), n, unix.MSG_NOSIGNAL)
}

func (s uringStream) Read(b []byte) (int, error) {
	n, err := s.do(uringRecv, s.conn, unsafe.Pointer(&s.buffer()[0]), min(len(b), len(s.buffer())), 0)
	if err == nil && n == 0 {
		return 0, io.EOF
	}
	return copy(b, s.buffer()[:n]), err
}

// directly is requestURing or answerURing on a socket that is in no table but the ring's,
// which is left open: it is what keeps the socket until the process ends.
func directly(sends bool) mover {
	return func(c *net.TCPConn, tx, rx uint64) (sent, got uint64, err error) {
		u, err := newRing()
		if err != nil {
			return 0, 0, err
		}
		raw, err := c.SyscallConn()
		if err != nil {
			return 0, 0, err
		}
		err2 := raw.Control(func(fd uintptr) {
			if err = unix.SetNonblock(int(fd), false); err == nil {
				err = u.take(int(fd))
			}
		})
		if err = errors.Join(err, err2); err != nil {
			return 0, 0, err
		}
		s := uringStream{u, 0}
		if sends {
			sent, err = write(s, tx)
		}
		if err == nil {
			got, err = read(s, rx)
		}
		if err == nil && !sends {
			sent, err = write(s, tx)
		}
		return sent, got, err
	}
}

// requestURing sends first and then receives, by io_uring.
func requestURing(c *net.TCPConn, tx, rx uint64) (sent, got uint64, err error) {
	err = onURing(c, func(s uringStream) error {
		if sent, err = write(s, tx); err == nil {
			got, err = read(s, rx)
		}
		return err
	})
	return sent, got, err
}

// answerURing receives first and then sends, by io_uring.
func answerURing(c *net.TCPConn, tx, rx uint64) (sent, got uint64, err error) {
	err = onURing(c, func(s uringStream) error {
		if got, err = read(s, rx); err == nil {
			sent, err = write(s, tx)
		}
		return err
	})
	return sent, got, err
}

func onURing(c *net.TCPConn, f func(uringStream) error) error {
	u, err := newRing()
	if err != nil {
		return err
	}
	defer u.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	err2 := raw.Control(func(fd uintptr) {
		// Otherwise an operation that has to wait fails.
		if err = unix.SetNonblock(int(fd), false); err == nil {
			err = f(uringStream{u, int(fd)})
		}
	})
	return errors.Join(err, err2)
}

// uringUDP is a socket with many peers, bound to self, used by
// IORING_OP_SENDMSG and IORING_OP_RECVMSG.
func uringUDP(self, _ netip.AddrPort) (endpoint, error) {
	out, err := newRing()
	if err != nil {
		return endpoint{}, err
	}
	in, err := newRing()
	if err != nil {
		out.Close()
		return endpoint{}, err
	}
	c, at, err := socket4(unix.SOCK_DGRAM, 0, self)
	if err != nil {
		return endpoint{}, errors.Join(err, out.Close(), in.Close())
	}
	return endpoint{
		local: at,
		send: func(to netip.AddrPort, size, count int) error {
			for range count {
				m := out.message(size)
				m.name = rawSockaddr4(to)
				n, err := out.do(uringSendMsg, int(c), unsafe.Pointer(m), 1, 0)
				if err != nil || n != size {
					return fmt.Errorf("sent %d of %d bytes: %w", n, size, err)
				}
			}
			return nil
		},
		recv: func(got func(int, netip.AddrPort) error) error {
			m := in.message(len(in.buffer()))
			n, err := in.do(uringRecvMsg, int(c), unsafe.Pointer(m), 1, 0)
			if err != nil {
				return err
			}
			return got(n, addrOfRaw4(m.name))
		},
		Closer: closers{c, in, out},
	}, nil
}

// A uringMessage is all of a datagram but its bytes. The kernel reads and
// writes it, so that it must not be where the collector of garbage looks.
type uringMessage struct {
	header unix.Msghdr
	vector unix.Iovec
	name   unix.RawSockaddrInet4
}

// message is a datagram of size bytes in the memory of u.
func (u *ring) message(size int) *uringMessage {
	m := (*uringMessage)(unsafe.Pointer(&u.memory[0]))
	*m = uringMessage{}
	m.vector.Base = &u.buffer()[0]
	m.vector.SetLen(size)
	m.header.Iov = &m.vector
	m.header.SetIovlen(1)
	m.header.Name = (*byte)(unsafe.Pointer(&m.name))
	m.header.Namelen = unix.SizeofSockaddrInet4
	return m
}

type closers []io.Closer

func (c closers) Close() error {
	var errs []error
	for _, c := range c {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
