//go:build linux

package traffic

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// An sctp is one association between sockets of the style of TCP.
type sctp struct{ up, down uint64 }

func (s sctp) serve(r *role) error {
	l, at, err := socketSCTP(r.self)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := unix.Listen(int(l), 1); err != nil {
		return os.NewSyscallError("listen", err)
	}
	if err := r.ready(at); err != nil {
		return err
	}
	for {
		n, sa, err := unix.Accept4(int(l), unix.SOCK_CLOEXEC)
		if err == unix.EINTR {
			continue
		} else if err != nil {
			return os.NewSyscallError("accept", err)
		}
		c := fd(n)
		defer c.Close()
		got, err := read(c, s.up)
		if err != nil {
			return err
		}
		sent, err := write(c, s.down)
		if err != nil {
			return err
		}
		if err := r.report(Flow{Local: at, Peer: addr4(sa), Connected: true, Tx: sent, Rx: got}); err != nil {
			return err
		}
		return r.linger()
	}
}

func (s sctp) dial(r *role) error {
	c, at, err := socketSCTP(r.self)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := unix.Connect(int(c), sockaddr4(r.peer)); err != nil {
		return os.NewSyscallError("connect", err)
	}
	sent, err := write(c, s.up)
	if err != nil {
		return err
	}
	got, err := read(c, s.down)
	if err != nil {
		return err
	}
	if err := r.report(Flow{Local: at, Peer: r.peer, Out: true, Connected: true, Tx: sent, Rx: got}); err != nil {
		return err
	}
	return r.linger()
}

func socketSCTP(at netip.Addr) (fd, netip.AddrPort, error) {
	c, name, err := socket4(unix.SOCK_STREAM, unix.IPPROTO_SCTP, netip.AddrPortFrom(at, 0))
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT) {
		err = fmt.Errorf("the kernel has no SCTP: %w", errors.ErrUnsupported)
	}
	return c, name, err
}

// Write sends a message of at most 16 KiB, which fits any buffer.
func (f fd) Write(b []byte) (int, error) {
	b = b[:min(len(b), 16<<10)]
	for {
		n, err := unix.Write(int(f), b)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// Read receives a message or a part of one.
func (f fd) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(f), b)
		if n == 0 && err == nil {
			err = io.EOF
		}
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}
