//go:build linux

package traffic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// rcvbuf holds any window of datagrams with the kernel's own overhead.
	rcvbuf = 8 << 20

	// maxDelay is how long a datagram may take. One that takes longer is lost.
	maxDelay = 5 * time.Second

	maxDatagram = 64 << 10
)

// connected is a socket with one peer, used by write(2) and read(2). It is
// bound to self if that has a port.
func connected(self, peer netip.AddrPort) (endpoint, error) {
	var at *net.UDPAddr
	if self.Port() != 0 {
		at = net.UDPAddrFromAddrPort(self)
	}
	c, err := net.DialUDP("udp", at, net.UDPAddrFromAddrPort(peer))
	if err != nil {
		return endpoint{}, err
	}
	return connectedConn(c, peer)
}

func connectedConn(c *net.UDPConn, peer netip.AddrPort) (endpoint, error) {
	b := make([]byte, maxDatagram)
	return endpoint{
		local:     local(c.LocalAddr()),
		connected: true,
		send: func(_ netip.AddrPort, size, count int) error {
			for range count {
				if n, err := c.Write(b[:size]); err != nil || n != size {
					return fmt.Errorf("sent %d of %d bytes: %w", n, size, err)
				}
			}
			return nil
		},
		recv: func(got func(int, netip.AddrPort) error) error {
			n, err := c.Read(b)
			if err != nil {
				return err
			}
			return got(n, peer)
		},
		Closer: c,
	}, prepare(c)
}

// prepare lets c lose no datagram, and notice if it does.
func prepare(c *net.UDPConn) error {
	if err := c.SetReadDeadline(time.Now().Add(lifetime)); err != nil {
		return err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	err2 := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, rcvbuf)
	})
	if err == nil {
		err = err2
	}
	return err
}

// bound is a socket with many peers, bound to self, used by sendto(2) and
// recvfrom(2).
func bound(self, _ netip.AddrPort) (endpoint, error) {
	return unconnected("udp", self)
}

// unbound is a socket with many peers that is bound to no address of its
// family.
func unbound(self, _ netip.AddrPort) (endpoint, error) {
	if self.Addr().Is6() {
		return unconnected("udp6", netip.AddrPortFrom(netip.IPv6Unspecified(), self.Port()))
	}
	return unconnected("udp4", netip.AddrPortFrom(netip.IPv4Unspecified(), self.Port()))
}

// unbound6 is an IPv6 socket with many peers, whatever their family.
func unbound6(self, _ netip.AddrPort) (endpoint, error) {
	return unconnected("udp", netip.AddrPortFrom(netip.IPv6Unspecified(), self.Port()))
}

func unconnected(network string, at netip.AddrPort) (endpoint, error) {
	c, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return endpoint{}, err
	}
	b := make([]byte, maxDatagram)
	return endpoint{
		local:    local(c.LocalAddr()),
		wildcard: at.Addr().IsUnspecified(),
		send: func(to netip.AddrPort, size, count int) error {
			for range count {
				if n, err := c.WriteToUDPAddrPort(b[:size], to); err != nil || n != size {
					return fmt.Errorf("sent %d of %d bytes: %w", n, size, err)
				}
			}
			return nil
		},
		recv: func(got func(int, netip.AddrPort) error) error {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return err
			}
			return got(n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
		},
		Closer: c,
	}, prepare(c)
}

// connected6 is an IPv6 socket that is connected to an IPv4 peer.
func connected6(_, peer netip.AddrPort) (endpoint, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return endpoint{}, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "udp")
	defer f.Close()
	if err := unix.Connect(fd, &unix.SockaddrInet6{Addr: peer.Addr().As16(), Port: int(peer.Port())}); err != nil {
		return endpoint{}, os.NewSyscallError("connect", err)
	}
	c, err := net.FileConn(f)
	if err != nil {
		return endpoint{}, err
	}
	return connectedConn(c.(*net.UDPConn), peer)
}

// withoutAddress is a socket with many peers that receives by recv(2), which
// does not tell the sender.
func withoutAddress(self, peer netip.AddrPort) (endpoint, error) {
	c, at, err := socket4(unix.SOCK_DGRAM, 0, netip.AddrPort{})
	if err != nil {
		return endpoint{}, err
	}
	b := make([]byte, maxDatagram)
	return endpoint{
		local:    at,
		wildcard: true,
		send: func(to netip.AddrPort, size, count int) error {
			for range count {
				if err := unix.Sendto(int(c), b[:size], 0, sockaddr4(to)); err != nil {
					return os.NewSyscallError("sendto", err)
				}
			}
			return nil
		},
		recv: func(got func(int, netip.AddrPort) error) error {
			n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(c), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
			if errno == unix.EINTR {
				return nil
			} else if errno != 0 {
				return os.NewSyscallError("recv", errno)
			}
			return got(int(n), peer)
		},
		Closer: c,
	}, nil
}

// segmented is connected, but sends and receives several datagrams by one
// system call (UDP_SEGMENT and UDP_GRO), as servers of QUIC do.
func segmented(self, peer netip.AddrPort) (endpoint, error) {
	e, err := connected(self, peer)
	if err != nil {
		return e, err
	}
	c := e.Closer.(*net.UDPConn)
	raw, err := c.SyscallConn()
	if err != nil {
		return e, err
	}
	set := func(option, value int) (err error) {
		err2 := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, option, value) })
		if err == nil {
			err = err2
		}
		if err == unix.ENOPROTOOPT {
			err = fmt.Errorf("the kernel has no segmentation of UDP: %w", errors.ErrUnsupported)
		}
		return err
	}
	if err := set(unix.UDP_GRO, 1); err != nil {
		return e, err
	}
	b, oob := make([]byte, maxDatagram), make([]byte, 256)
	e.send = func(_ netip.AddrPort, size, count int) error {
		if err := set(unix.UDP_SEGMENT, size); err != nil {
			return err
		}
		for count > 0 {
			n := min(count, 32)
			if m, err := c.Write(b[:n*size]); err != nil || m != n*size {
				return fmt.Errorf("sent %d of %d bytes: %w", m, n*size, err)
			}
			count -= n
		}
		return nil
	}
	e.recv = func(got func(int, netip.AddrPort) error) error {
		n, m, _, _, err := c.ReadMsgUDPAddrPort(b, oob)
		if err != nil {
			return err
		}
		messages, err := syscall.ParseSocketControlMessage(oob[:m])
		if err != nil {
			return err
		}
		segment := n
		for _, m := range messages {
			if m.Header.Level == unix.SOL_UDP && m.Header.Type == unix.UDP_GRO {
				segment = int(binary.NativeEndian.Uint32(m.Data))
			}
		}
		for n > 0 {
			size := min(segment, n)
			if err := got(size, peer); err != nil {
				return err
			}
			n -= size
		}
		return nil
	}
	return e, nil
}

// A fd is the descriptor of a socket that blocks, with a time limit.
type fd int

func (f fd) Close() error { return unix.Close(int(f)) }

// socket4 makes an IPv4 socket that is bound to an address, unless that is the
// zero one, and returns its name.
func socket4(kind, proto int, at netip.AddrPort) (_ fd, name netip.AddrPort, err error) {
	s, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return -1, name, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			unix.Close(s)
		}
	}()
	if !at.IsValid() {
		at = netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	}
	if err := unix.Bind(s, sockaddr4(at)); err != nil {
		return -1, name, os.NewSyscallError("bind", err)
	}
	limit := unix.NsecToTimeval(int64(maxDelay))
	if err := unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return -1, name, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, rcvbuf); err != nil {
		return -1, name, os.NewSyscallError("setsockopt", err)
	}
	sa, err := unix.Getsockname(s)
	if err != nil {
		return -1, name, os.NewSyscallError("getsockname", err)
	}
	return fd(s), addr4(sa), nil
}

func sockaddr4(a netip.AddrPort) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
}

func addr4(sa unix.Sockaddr) netip.AddrPort {
	if sa, ok := sa.(*unix.SockaddrInet4); ok {
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
