// Package temp makes temporary files beside those they are to replace.
package temp

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Old is how old a temporary file is that nobody writes any more.
const Old = 24 * time.Hour

// Create makes a temporary file as os.CreateTemp does, and removes those of the
// same folder and pattern that were left behind by processes that were killed.
func Create(folder, pattern string) (*os.File, error) {
	before, after, _ := strings.Cut(pattern, "*")
	entries, _ := os.ReadDir(folder)
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), before)
		name, also := strings.CutSuffix(name, after)
		if _, err := strconv.ParseUint(name, 10, 64); err != nil || !ok || !also {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > Old {
			os.Remove(filepath.Join(folder, e.Name()))
		}
	}
	f, err := os.CreateTemp(folder, pattern)
	if err == nil {
		begun.add(f.Name())
	}
	return f, err
}

// begun are the files that Create has made and that may still be there.
var begun unfinished

type unfinished struct {
	mu    sync.Mutex
	names []string
}

func (u *unfinished) add(name string) {
	if abs, err := filepath.Abs(name); err == nil {
		name = abs
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	// Those that are finished have other names, or are gone.
	u.names = slices.DeleteFunc(u.names, func(name string) bool {
		_, err := os.Lstat(name)
		return errors.Is(err, os.ErrNotExist)
	})
	u.names = append(u.names, name)
}

// RemoveUnfinished removes all files that Create has made and that have still the name it
// gave them: for a program that ends in the midst of its work.
func RemoveUnfinished() {
	begun.mu.Lock()
	defer begun.mu.Unlock()
	for _, name := range begun.names {
		os.Remove(name)
	}
	begun.names = nil
}

// Write replaces a file in one go, or leaves it as it is. The folder must exist.
func Write(name string, mode os.FileMode, data []byte) error {
	f, err := Create(filepath.Dir(name), filepath.Base(name)+".*.new")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
