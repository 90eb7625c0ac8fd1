// Package lock keeps processes from doing the same thing at the same time.
// On operating systems and file systems without such locks it does nothing.
package lock

import (
	"errors"
	"io"
	"os"
	"time"
)

// ErrLocked means that another process holds the lock.
var ErrLocked = errors.New("locked by another process")

// patience is how long a lock is tried before it fails: a file that this process has locked and closed
// stays locked while it starts a program, which has copies of all open files until it runs.
const patience = 200 * time.Millisecond

func patiently(lock func(*os.File) error, f *os.File) error {
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if err := lock(f); err != ErrLocked || time.Now().After(end) {
			return err
		}
	}
}

// Try locks an open file until it is closed, or fails with ErrLocked.
func Try(f *os.File) error { return patiently(try, f) }

// Inode locks the file behind an open file, whatever its name is, until the file is closed, or
// fails with ErrLocked. The file must be open for writing. Other locks on it have no effect and
// are not affected. It does nothing on systems other than Linux.
func Inode(f *os.File) error { return patiently(inode, f) }

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
