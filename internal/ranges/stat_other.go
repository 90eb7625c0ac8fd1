//go:build !linux

package ranges

import "io/fs"

// changedAt returns 0 where only the modification time is read.
func changedAt(fs.FileInfo) int64 { return 0 }
