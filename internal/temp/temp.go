// Package temp makes temporary files beside the files that they will replace, and protects files
// of others from being replaced.
package temp

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Old is the age of a temporary file that no process writes any more.
const Old = 24 * time.Hour

// Create makes a temporary file as os.CreateTemp does. It removes those of the same folder and
// pattern that killed processes have left.
func Create(folder, pattern string) (*os.File, error) {
	Sweep(folder, pattern, Old)
	f, err := os.CreateTemp(folder, pattern)
	if err == nil {
		created.add(f.Name())
	}
	return f, err
}

// Sweep removes the files of a folder that Create may have made with a pattern, and that are
// older than an age.
func Sweep(folder, pattern string, age time.Duration) {
	before, after, _ := strings.Cut(pattern, "*")
	entries, _ := os.ReadDir(folder)
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), before)
		name, also := strings.CutSuffix(name, after)
		if _, err := strconv.ParseUint(name, 10, 64); err != nil || !ok || !also {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) >= age {
			os.Remove(filepath.Join(folder, e.Name()))
		}
	}
}

// created are the files that Create has made and that may still exist.
var created unfinished

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
	// Finished files have other names or are gone.
	u.names = slices.DeleteFunc(u.names, func(name string) bool {
		_, err := os.Lstat(name)
		return errors.Is(err, os.ErrNotExist)
	})
	u.names = append(u.names, name)
}

// RemoveUnfinished removes all files that Create has made and that still have the same name, for
// a program that ends in the midst of its work.
func RemoveUnfinished() {
	created.mu.Lock()
	defer created.mu.Unlock()
	for _, name := range created.names {
		os.Remove(name)
	}
	created.names = nil
}

// Write replaces a file at once, or leaves it as it is. The folder must exist.
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

// Place renames a file unless the new name exists; then the error is fs.ErrExist.
func Place(from, to string) error {
	err := os.Link(from, to)
	if err == nil {
		return os.Remove(from)
	}
	// Some file systems have no links.
	if _, e := os.Lstat(to); e == nil {
		return &fs.PathError{Op: "rename", Path: to, Err: fs.ErrExist}
	} else if errors.Is(err, fs.ErrExist) || !errors.Is(e, fs.ErrNotExist) {
		return err
	}
	return os.Rename(from, to)
}

// Replaceable returns an error if a file must not be replaced. Missing and empty files may be
// replaced, and those for whose first 64 KiB ours returns true. Links are followed. kind
// describes the files of ours, such as "picture of connmap".
func Replaceable(name, kind string, ours func(head []byte) bool) error {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file: name another", name)
	case info.Size() == 0:
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return err
	}
	if !ours(head) {
		return fmt.Errorf("%s exists and is not a %s: name another file, or move it away", name, kind)
	}
	return nil
}
