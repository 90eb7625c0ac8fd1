//go:build unix

package ranges

import (
	"os"
	"syscall"
)

// mapFile returns the content of a file, which stays mapped since results of lookups refer to it.
// The info is nil if the file was read instead.
func mapFile(name string) (string, os.FileInfo, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 || info.Size() != int64(int(info.Size())) {
		return "", nil, errDamaged
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		s, err := readFile(f)
		return s, nil, err
	}
	return unsafeString(b), info, nil
}
