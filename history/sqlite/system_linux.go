package sqlite

import (
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sinceNow returns a clock that nobody sets and that runs on while the computer
// is suspended, unlike Go's.
func sinceNow() func() time.Duration {
	boot := func() time.Duration {
		var ts unix.Timespec
		unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
		return time.Duration(ts.Nano())
	}
	start := boot()
	return func() time.Duration { return boot() - start }
}

func allocate(f *os.File, size int64) error { return unix.Fallocate(int(f.Fd()), 0, 0, size) }

// links returns how many names a file has.
func links(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink)
	}
	return 1
}

// giveTo has a file that root has just made beside a history be that of the owner of the
// history, as SQLite does with its own: else that user could not record into it any more.
func giveTo(f *os.File, history string) {
	var st unix.Stat_t
	if os.Geteuid() == 0 && unix.Stat(history, &st) == nil && st.Uid != 0 {
		f.Chown(int(st.Uid), int(st.Gid)) // without the right to, it is as before
	}
}
