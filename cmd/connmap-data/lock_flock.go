//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"errors"
	"os"
	"syscall"
)

// lockFolder locks a folder against other updates until the result is closed.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != syscall.EINTR {
			break
		}
	}
	switch err {
	case syscall.EWOULDBLOCK:
		f.Close()
		return nil, errors.New("another update is at work in " + dir)
	case nil, syscall.ENOTSUP, syscall.ENOLCK, syscall.ENOSYS, syscall.EBADF:
		// Some network file systems cannot lock folders.
		return f, nil
	}
	f.Close()
	return nil, err
}
