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
	"strings"
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
// there, and what is no regular file, such as a pipe, is left alone. Whoever calls it knows
// that the file holds a secret, and not by its name alone: a file of the system that somebody
// has named by mistake is to stay as it is.
func Close(name string, bits fs.FileMode) (notice string, err error) {
	notice, mode, err := look(name, bits)
	if err == nil && mode&bits != 0 {
		if err := takeAway(name, bits); err != nil {
			return "", fmt.Errorf("%s may be used by others (mode %04o), and that cannot be ended: %w; as its owner, chmod %04o it", name, mode, err, mode&^bits)
		}
	}
	return notice, err
}

// Look returns the sentence that Close would return, and changes nothing.
func Look(name string, bits fs.FileMode) string {
	notice, _, _ := look(name, bits)
	return notice
}

func look(name string, bits fs.FileMode) (notice string, mode fs.FileMode, err error) {
	info, err := os.Stat(name)
	if !hasModes || errors.Is(err, fs.ErrNotExist) {
		return "", 0, nil
	}
	if err != nil || !info.Mode().IsRegular() {
		return "", 0, err
	}
	mode = info.Mode().Perm()
	if mode&bits != 0 {
		notice = fmt.Sprintf("others could use %s (mode %04o): it is closed to them now (%04o), but who has read it before still knows what it holds", name, mode, mode&^bits)
	}
	return join(notice, folder(name)), mode, nil
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

// ReadLine reads a file that holds a token or a password: one line. A file with more of them
// is something else.
func ReadLine(name string) (string, error) {
	b, err := Read(name)
	if err != nil {
		return "", err
	}
	line := strings.TrimSpace(string(b))
	if strings.ContainsAny(line, "\n\x00") {
		return "", fmt.Errorf("%s is no file with a token or a password, which are a line each", name)
	}
	return line, nil
}
