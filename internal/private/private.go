// Package private closes files that hold secrets to those who are not meant to read them.
// Where files have no modes, as on Windows, it does nothing.
package private

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	// Own are the bits that a file of keys which a program has made for itself must not
	// have: nobody but its owner has anything to do with it.
	Own fs.FileMode = 0o077
	// Given are those that a file which a program was given must not have. A group may be
	// let read it on purpose, and an access control list shows as the bits of the group.
	Given fs.FileMode = 0o007
)

// largest is how much of a file is read, in bytes: keys and tokens are far smaller.
const largest = 1 << 20

// Close takes bits away from the mode of a regular file, and returns a sentence about what
// it found, or "" if all was well. It fails if the bits cannot be taken away. What is not
// there, and what is no regular file, such as a pipe, is left alone.
func Close(name string, bits fs.FileMode) (notice string, err error) {
	info, err := os.Stat(name)
	if !hasModes || errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", nil
	}
	if info.Mode()&bits != 0 {
		mode := info.Mode().Perm()
		if err := takeAway(name, bits); err != nil {
			return "", fmt.Errorf("%s may be used by others (mode %04o), and that cannot be ended: %w; as its owner, chmod %04o it", name, mode, err, mode&^bits)
		}
		notice = fmt.Sprintf("others could use %s (mode %04o): it is closed to them now (%04o), but who has read it before still knows what it holds", name, mode, mode&^bits)
	}
	return join(notice, folder(name)), nil
}

// takeAway changes the file that it has looked at, whatever its name has become meanwhile.
func takeAway(name string, bits fs.FileMode) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return f.Chmod(info.Mode().Perm() &^ bits)
}

// folder returns a sentence if anybody may put another file in the place of one.
func folder(name string) string {
	dir := filepath.Dir(name)
	info, err := os.Stat(dir)
	if err != nil || info.Mode()&0o002 == 0 || info.Mode()&fs.ModeSticky != 0 {
		return ""
	}
	return fmt.Sprintf("anybody may put another file in the place of %s: chmod o-w %s", name, dir)
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// Read reads a file that holds a secret, a megabyte of it at most: what is larger, or never
// ends, is none.
func Read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, largest+1))
	if err == nil && len(b) > largest {
		err = fmt.Errorf("%s: larger than %d bytes", name, largest)
	}
	return b, err
}
