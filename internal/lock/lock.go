// Package lock stops processes from doing the same thing at the same time. It does nothing if the
// operating system or the file system has no such locks, as Windows has none on folders.
package lock

import (
	"errors"
	"os"
)

// ErrLocked means that another process holds the lock.
var ErrLocked = errors.New("locked by another process")

// Try locks an open file or folder until it is closed, or fails with ErrLocked.
func Try(f *os.File) error { return try(f) }

// Inode locks the file behind an open file, whatever its name is, until the file is closed, or
// fails with ErrLocked. The file must be open for writing. Other locks on it have no effect and
// are not affected. It does nothing on systems other than Linux.
func Inode(f *os.File) error { return inode(f) }

// Folder locks a folder until the returned file is closed. It waits for other processes.
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
