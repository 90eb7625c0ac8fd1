//go:build !linux

package history

import (
	"os"
	"time"
)

func sinceNow() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}

func allocate(f *os.File, size int64) error {
	_, err := f.Write(make([]byte, size))
	return err
}
