//go:build unix

package private

import "syscall"

const hasModes = true

// NoCoreDumps keeps the memory of this process, and of those that it starts, out of files
// that the system writes of programs that crash. Some dumps go to a program instead; that of
// systemd keeps to this too.
func NoCoreDumps() { syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }
