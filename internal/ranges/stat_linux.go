package ranges

import (
	"io/fs"
	"syscall"
)

// changedAt returns when a file was last changed, which no program can set.
func changedAt(info fs.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ctim.Nano()
	}
	return 0
}
