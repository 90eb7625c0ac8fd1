package lock

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// inode locks a byte beyond the end of all files, for the open file and not for the process
// (F_OFD_SETLK, Linux 3.15). So it affects no lock that another part of the process has on the
// same file.
func inode(f *os.File) error {
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: 1 << 62, Len: 1}
	for {
		switch err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l); err {
		case unix.EINTR:
		case unix.EAGAIN, unix.EACCES:
			return ErrLocked
		case nil, unix.EINVAL, unix.ENOTSUP, unix.ENOLCK, unix.ENOSYS, unix.EOVERFLOW:
			return nil // some file systems have no such locks
		default:
			return os.NewSyscallError("fcntl", err)
		}
	}
}
