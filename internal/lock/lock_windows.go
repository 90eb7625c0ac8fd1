package lock

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

func lockFile(f *os.File, how uint32) error {
	// Nobody can read or write a locked byte, so it is one beyond the end of all files.
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|how, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1 << 30})
	switch err {
	case windows.ERROR_LOCK_VIOLATION:
		return ErrLocked
	case nil, windows.ERROR_INVALID_FUNCTION, windows.ERROR_INVALID_PARAMETER, windows.ERROR_NOT_SUPPORTED:
		return nil // some file systems have no locks
	}
	return os.NewSyscallError("LockFileEx", err)
}

func openFolder(dir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
}

func try(f *os.File) error { return lockFile(f, windows.LOCKFILE_FAIL_IMMEDIATELY) }

func wait(f *os.File) error { return lockFile(f, 0) }
