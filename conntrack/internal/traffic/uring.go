//go:build linux

package traffic

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of linux/io_uring.h.
const (
	uringOffSQ   = 0
	uringOffCQ   = 0x8000000
	uringOffSQEs = 0x10000000

	uringEnterGetEvents = 1
	uringRegisterFiles  = 2
	uringFixedFile      = 1 // flag of an operation: fd is a place in the table

	uringSendMsg = 9
	uringRecvMsg = 10
	uringSend    = 26
	uringRecv    = 27
)

type uringParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFD uint32
	_                                                                      [3]uint32
	sq                                                                     struct {
		head, tail, ringMask, ringEntries, flags, dropped, array, _ uint32
		_                                                           uint64
	}
	cq struct {
		head, tail, ringMask, ringEntries, overflow, cqes, flags, _ uint32
		_                                                           uint64
	}
}

type uringSQE struct {
	opcode, flags uint8
	ioprio        uint16
	fd            int32
	off, addr     uint64
	len, opFlags  uint32
	userData      uint64
	_             [3]uint64
}

type uringCQE struct {
	userData uint64
	res      int32
	flags    uint32
}

// A ring is an io_uring that does one thing at a time. It is not safe for
// concurrent use.
type ring struct {
	fd       int
	params   uringParams
	sq, cq   []byte
	sqes     []byte
	memory   []byte // of the operations, where the kernel may write at any time
	messages int    // bytes of memory before the buffer
	flags    uint8  // of each operation
}

func newRing() (_ *ring, err error) {
	u := &ring{fd: -1, messages: 4096}
	n, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 4, uintptr(unsafe.Pointer(&u.params)), 0)
	switch errno {
	case 0:
	case unix.ENOSYS, unix.EPERM, unix.EACCES:
		return nil, fmt.Errorf("the kernel has no io_uring, or refuses it (%w): %w", errno, errors.ErrUnsupported)
	default:
		return nil, os.NewSyscallError("io_uring_setup", errno)
	}
	u.fd = int(n)
	defer func() {
		if err != nil {
			u.Close()
		}
	}()
	unix.CloseOnExec(u.fd)
	p := &u.params
	for _, m := range []struct {
		memory *[]byte
		fd     int
		offset int64
		size   uint32
		flags  int
	}{
		{&u.sq, u.fd, uringOffSQ, p.sq.array + p.sqEntries*4, unix.MAP_SHARED | unix.MAP_POPULATE},
		{&u.cq, u.fd, uringOffCQ, p.cq.cqes + p.cqEntries*uint32(unsafe.Sizeof(uringCQE{})), unix.MAP_SHARED | unix.MAP_POPULATE},
		{&u.sqes, u.fd, uringOffSQEs, p.sqEntries * uint32(unsafe.Sizeof(uringSQE{})), unix.MAP_SHARED | unix.MAP_POPULATE},
		{&u.memory, -1, 0, uint32(u.messages + maxDatagram), unix.MAP_PRIVATE | unix.MAP_ANONYMOUS},
	} {
		if *m.memory, err = unix.Mmap(m.fd, m.offset, int(m.size), unix.PROT_READ|unix.PROT_WRITE, m.flags); err != nil {
			return nil, os.NewSyscallError("mmap", err)
		}
	}
	return u, nil
}

func (u *ring) Close() error {
	var errs []error
	for _, m := range [][]byte{u.sq, u.cq, u.sqes, u.memory} {
		if m != nil {
			errs = append(errs, unix.Munmap(m))
		}
	}
	return errors.Join(append(errs, unix.Close(u.fd))...)
}

// take puts the file of a descriptor into the ring's own table, as place 0, and out of the
// process's, where something else takes its place. Operations are on that table from then on.
func (u *ring) take(fd int) error {
	table := int32(fd)
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(u.fd), uringRegisterFiles, uintptr(unsafe.Pointer(&table)), 1, 0, 0); errno != 0 {
		return os.NewSyscallError("io_uring_register", errno)
	}
	u.flags = uringFixedFile
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	return os.NewSyscallError("dup3", unix.Dup3(int(null.Fd()), fd, unix.O_CLOEXEC))
}

func (u *ring) buffer() []byte { return u.memory[u.messages:] }

// do does one operation on fd and waits for its result.
func (u *ring) do(opcode uint8, fd int, addr unsafe.Pointer, n, flags int) (int, error) {
	// Some operations end on the thread that began them.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	tail := word(u.sq, u.params.sq.tail)
	slot := *tail & *word(u.sq, u.params.sq.ringMask)
	sqe := (*uringSQE)(unsafe.Pointer(&u.sqes[slot*uint32(unsafe.Sizeof(uringSQE{}))]))
	*sqe = uringSQE{opcode: opcode, flags: u.flags, fd: int32(fd), addr: uint64(uintptr(addr)), len: uint32(n), opFlags: uint32(flags)}
	*word(u.sq, u.params.sq.array+slot*4) = slot
	atomic.StoreUint32(tail, *tail+1)

	head := word(u.cq, u.params.cq.head)
	for submit := uintptr(1); atomic.LoadUint32(word(u.cq, u.params.cq.tail)) == *head; {
		n, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(u.fd), submit, 1, uringEnterGetEvents, 0, 0)
		if errno != 0 && errno != unix.EINTR {
			return 0, os.NewSyscallError("io_uring_enter", errno)
		}
		if errno == 0 {
			submit -= n
		}
	}
	at := u.params.cq.cqes + *head&*word(u.cq, u.params.cq.ringMask)*uint32(unsafe.Sizeof(uringCQE{}))
	res := (*uringCQE)(unsafe.Pointer(&u.cq[at])).res
	atomic.StoreUint32(head, *head+1)
	switch {
	case res == -int32(unix.EINVAL) || res == -int32(unix.EOPNOTSUPP):
		return 0, fmt.Errorf("the io_uring of the kernel has no operation %d: %w", opcode, errors.ErrUnsupported)
	case res < 0:
		return 0, unix.Errno(-res)
	}
	return int(res), nil
}

func word(b []byte, offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&b[offset])) }
