//go:build linux

package traffic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// protoTest is the first of the protocol numbers for experiments (RFC 3692).
const protoTest = 253

const (
	icmpHeader = 8
	echo       = 8
	echoReply  = 0
)

// ping is an ICMP echo socket, which the kernel gives an identifier and which
// receives the replies to it only. Its peer is a kernel, so that each message
// is a window of its own.
func ping(_, _ netip.AddrPort) (endpoint, error) {
	// By default nobody may have such sockets, not even root.
	err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0)
	if err != nil {
		return endpoint{}, fmt.Errorf("%w: %w", err, errors.ErrUnsupported)
	}
	c, at, err := socket4(unix.SOCK_DGRAM, unix.IPPROTO_ICMP, netip.AddrPort{})
	if err != nil {
		return endpoint{}, err
	}
	return icmp(c, at, 0), nil
}

// rawICMP does the same by a raw socket, whose packets come with an IPv4 header.
func rawICMP(_, _ netip.AddrPort) (endpoint, error) {
	c, at, err := socket4(unix.SOCK_RAW, unix.IPPROTO_ICMP, netip.AddrPort{})
	if err != nil {
		return endpoint{}, err
	}
	others := ^(1 << echoReply)
	if err := unix.SetsockoptInt(int(c), unix.SOL_RAW, unix.ICMP_FILTER, others); err != nil {
		c.Close()
		return endpoint{}, os.NewSyscallError("setsockopt", err)
	}
	// What getsockname calls a port is the protocol.
	return icmp(c, netip.AddrPortFrom(at.Addr(), 0), uint16(os.Getpid())), nil
}

// icmp sends echo requests of at least a header. With an id other than zero c
// is a raw socket, otherwise the kernel sets the identifier.
func icmp(c fd, at netip.AddrPort, id uint16) endpoint {
	in := make([]byte, maxDatagram)
	sequence := uint16(0)
	return endpoint{
		local:    at,
		wildcard: true,
		send: func(to netip.AddrPort, size, count int) error {
			for range count {
				b := make([]byte, size)
				sequence++
				b[0] = echo
				binary.BigEndian.PutUint16(b[4:], id)
				binary.BigEndian.PutUint16(b[6:], sequence)
				binary.BigEndian.PutUint16(b[2:], checksum(b))
				if err := unix.Sendto(int(c), b, 0, sockaddr4(to)); err != nil {
					return os.NewSyscallError("sendto", err)
				}
			}
			return nil
		},
		recv: func(got func(int, netip.AddrPort) error) error {
			b, from, err := recvfrom(c, in, id != 0)
			if err != nil {
				return err
			}
			if len(b) < icmpHeader || b[0] != echoReply {
				return fmt.Errorf("want an echo reply, got % x", b)
			}
			if binary.BigEndian.Uint16(b[6:]) != sequence || id != 0 && binary.BigEndian.Uint16(b[4:]) != id {
				return nil // of another process
			}
			return got(len(b), from)
		},
		Closer: c,
	}
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// rawIP is a socket of a protocol without ports.
func rawIP(_, _ netip.AddrPort) (endpoint, error) {
	c, at, err := socket4(unix.SOCK_RAW, protoTest, netip.AddrPort{})
	if err != nil {
		return endpoint{}, err
	}
	in, out := make([]byte, maxDatagram), make([]byte, maxDatagram)
	return endpoint{
		local:    netip.AddrPortFrom(at.Addr(), 0),
		wildcard: true,
		send: func(to netip.AddrPort, size, count int) error {
			for range count {
				if err := unix.Sendto(int(c), out[:size], 0, sockaddr4(to)); err != nil {
					return os.NewSyscallError("sendto", err)
				}
			}
			return nil
		},
		recv: func(got func(int, netip.AddrPort) error) error {
			b, from, err := recvfrom(c, in, true)
			if err != nil {
				return err
			}
			return got(len(b), from)
		},
		Closer: c,
	}, nil
}

// recvfrom receives a packet, without its IPv4 header if there is one. The
// sender has no port.
func recvfrom(c fd, b []byte, header bool) ([]byte, netip.AddrPort, error) {
	for {
		n, sa, err := unix.Recvfrom(int(c), b, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, netip.AddrPort{}, os.NewSyscallError("recvfrom", err)
		}
		b = b[:n]
		if header {
			if n == 0 || n < int(b[0]&0xf)*4 {
				return nil, netip.AddrPort{}, fmt.Errorf("want an IPv4 header, got % x", b)
			}
			b = b[int(b[0]&0xf)*4:]
		}
		return b, netip.AddrPortFrom(addr4(sa).Addr(), 0), nil
	}
}

// swap converts a port between the orders of the host and of the network.
func swap(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}
