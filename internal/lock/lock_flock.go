//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package lock

import (
	"os"
	"syscall"
)

func flock(f *os.File, how int) error {
	for {
		switch err := syscall.Flock(int(f.Fd()), how); err {
		case syscall.EINTR:
		case syscall.EWOULDBLOCK:
			return ErrLocked
		case nil, syscall.ENOTSUP, syscall.ENOLCK, syscall.ENOSYS, syscall.EBADF:
			return nil // some network file systems have no locks
		default:
			return os.NewSyscallError("flock", err)
		}
	}
}

func openFolder(dir string) (*os.File, error) { return os.Open(dir) }

func try(f *os.File) error { return flock(f, syscall.LOCK_EX|syscall.LOCK_NB) }

func wait(f *os.File) error { return flock(f, syscall.LOCK_EX) }
