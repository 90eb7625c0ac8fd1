// Package lock keeps processes from doing the same thing at the same time.
// Where an operating system or a file system has no such locks, as Windows of folders, it does
// nothing.
package lock

import (
	"errors"
	"os"
)

// ErrLocked says that another process holds the lock.
var ErrLocked = errors.New("locked by another process")

// Try locks an open file or folder until it is closed, or fails with ErrLocked.
func Try(f *os.File) error { return try(f) }

// Inode locks what an open file is, by whatever name it was opened, until that is closed, or
// fails with ErrLocked. The file must be open for writing. Other locks on the same file are
// neither seen nor touched. It does nothing but on Linux.
func Inode(f *os.File) error { return inode(f) }

// Folder locks a folder until the result is closed. It waits for others.
func Folder(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := wait(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
