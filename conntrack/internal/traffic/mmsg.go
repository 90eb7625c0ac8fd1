//go:build linux

package traffic

import (
	"errors"
	"net/netip"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is the number of datagrams that one system call takes at most.
const batchSize = 32

// A batch is what sendmmsg(2) and recvmmsg(2) work on.
type batch struct {
	messages [batchSize]unix.Mmsghdr
	vectors  [batchSize]unix.Iovec
	names    [batchSize]unix.RawSockaddrInet4
	buffers  [batchSize][2048]byte
}

// prepare makes the first n messages ready, with buffers of size bytes.
func (b *batch) prepare(n, size int, named bool) {
	for i := range n {
		b.vectors[i].Base = &b.buffers[i][0]
		b.vectors[i].SetLen(size)
		h := &b.messages[i].Hdr
		*h = unix.Msghdr{Iov: &b.vectors[i]}
		h.SetIovlen(1)
		if named {
			h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
			h.Namelen = unix.SizeofSockaddrInet4
		}
	}
}

// call makes a system call on the first n messages and returns how many it did.
func (b *batch) call(number uintptr, c fd, n, flags int) (int, error) {
	for {
		done, _, errno := unix.Syscall6(number, uintptr(c), uintptr(unsafe.Pointer(&b.messages)), uintptr(n), uintptr(flags), 0, 0)
		runtime.KeepAlive(b)
		switch {
		case errno == 0:
			return int(done), nil
		case errno != unix.EINTR:
			return 0, errno
		}
	}
}

// batched is a socket with many peers, bound to self, used by sendmmsg(2) and
// recvmmsg(2).
func batched(self, _ netip.AddrPort) (endpoint, error) {
	return batch4(self, netip.AddrPort{})
}

// batchedConnected is a socket with one peer, used by sendmmsg(2) and
// recvmmsg(2).
func batchedConnected(self, peer netip.AddrPort) (endpoint, error) {
	return batch4(self, peer)
}

func batch4(self, peer netip.AddrPort) (endpoint, error) {
	c, at, err := socket4(unix.SOCK_DGRAM, 0, self)
	if err != nil {
		return endpoint{}, err
	}
	connected := peer.IsValid()
	if connected {
		if err := unix.Connect(int(c), sockaddr4(peer)); err != nil {
			c.Close()
			return endpoint{}, os.NewSyscallError("connect", err)
		}
	}
	// Two, because what is received may be answered before the next is seen.
	out, in := new(batch), new(batch)
	return endpoint{
		local:     at,
		connected: connected,
		send: func(to netip.AddrPort, size, count int) error {
			if size > len(out.buffers[0]) {
				return errors.New("datagram too large for a batch")
			}
			for count > 0 {
				n := min(count, batchSize)
				out.prepare(n, size, !connected)
				for i := range n {
					out.names[i] = rawSockaddr4(to)
				}
				n, err := out.call(unix.SYS_SENDMMSG, c, n, 0)
				if err != nil {
					return os.NewSyscallError("sendmmsg", err)
				}
				count -= n
			}
			return nil
		},
		recv: func(got func(int, netip.AddrPort) error) error {
			in.prepare(batchSize, len(in.buffers[0]), true)
			n, err := in.call(unix.SYS_RECVMMSG, c, batchSize, unix.MSG_WAITFORONE)
			if err != nil {
				return os.NewSyscallError("recvmmsg", err)
			}
			for i := range n {
				if err := got(int(in.messages[i].Len), addrOfRaw4(in.names[i])); err != nil {
					return err
				}
			}
			return nil
		},
		Closer: c,
	}, nil
}

func rawSockaddr4(a netip.AddrPort) unix.RawSockaddrInet4 {
	return unix.RawSockaddrInet4{Family: unix.AF_INET, Port: swap(a.Port()), Addr: a.Addr().As4()}
}

func addrOfRaw4(sa unix.RawSockaddrInet4) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), swap(sa.Port))
}
