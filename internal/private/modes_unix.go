//go:build unix

package private

import (
	"io/fs"
	"syscall"
)

const hasModes = true

// ownerOf returns the user to whom a file belongs.
func ownerOf(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// NoCoreDumps stops the system from writing core dumps of this process, and of those that it
// starts, into files. Programs that receive dumps may ignore that; systemd's does not.
func NoCoreDumps() { syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }
