// Package lock keeps processes from doing the same thing at the same time.
// On operating systems and file systems without such locks it does nothing.
package lock

import (
	"errors"
	"io"
	"os"
)

// ErrLocked says that another process holds the lock.
var ErrLocked = errors.New("locked by another process")

// Try locks an open file until it is closed, or fails with ErrLocked.
func Try(f *os.File) error { return try(f) }

// Inode locks what an open file is, by whatever name it was opened, until that is closed, or
// fails with ErrLocked. The file must be open for writing. Other locks on the same file are
// neither seen nor touched. It does nothing but on Linux.
func Inode(f *os.File) error { return inode(f) }

// Folder locks a folder until the result is closed. It waits for others. On Windows, which
// has no locks of folders, it makes and locks the file .lock in it.
func Folder(dir string) (io.Closer, error) { return folder(dir, wait) }

// TryFolder is Folder, but fails with ErrLocked instead of waiting.
func TryFolder(dir string) (io.Closer, error) { return folder(dir, try) }

func folder(dir string, lock func(*os.File) error) (io.Closer, error) {
	f, err := openFolder(dir)
	if err == nil {
		err = lock(f)
	}
	if err != nil {
		f.Close() // of nil it does nothing
		return nil, err
	}
	return f, nil
}
