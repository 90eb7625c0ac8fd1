//go:build unix

package private

import "syscall"

const hasModes = true

// NoCoreDumps stops the system from writing core dumps of this process, and of those that it
// starts, into files. Programs that receive dumps may ignore that; systemd's does not.
func NoCoreDumps() { syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }
