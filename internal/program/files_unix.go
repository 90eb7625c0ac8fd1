//go:build unix

package program

import "syscall"

// MaxFiles returns how many files the process may have open; zero: unknown.
func MaxFiles() uint64 {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return 0
	}
	return uint64(r.Cur)
}
