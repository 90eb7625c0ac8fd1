// Package private protects files that hold secrets from users who must not read or replace them.
// It does nothing where files have no modes, as on Windows.
package private

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// Own are the mode bits that a key file made by the program itself must not have: only
	// its owner may use it.
	Own fs.FileMode = 0o077
	// Given are the mode bits that a file given to the program must not have. A group may
	// be allowed to read it, and an access control list shows as the bits of the group, but
	// only its owner may change it.
	Given fs.FileMode = 0o027
)

// maxSize is the maximum number of bytes read of a file: keys and tokens are far smaller.
const maxSize = 1 << 20

// Restrict removes bits from the mode of a regular file. A file for [Own] that belongs to another
// user than root it gives to the user of this process, unless its folder is that user's too: a
// service or the user that sudo was called by may have made it. Restrict returns a sentence about
// what it found, or "" if all was well. It fails if it cannot change the file. It ignores missing
// files and those that are not regular, such as pipes. The caller must know that the file
// holds a secret, and not by its name alone. A system file that somebody named by mistake must
// not change.
func Restrict(name string, bits fs.FileMode) (notice string, err error) {
	found, err := check(name, bits)
	if err != nil {
		return found.notice, err
	}
	if found.take {
		if err := change(name, func(f *os.File, _ fs.FileInfo) error { return f.Chown(os.Geteuid(), -1) }); err != nil {
			return "", fmt.Errorf("%s belongs to user %d, who may read and change it, and this process cannot change that: %w; run chown %d on it", name, found.owner, err, os.Geteuid())
		}
	}
	if mode := found.mode; mode&bits != 0 {
		if err := change(name, func(f *os.File, info fs.FileInfo) error { return f.Chmod(info.Mode().Perm() &^ bits) }); err != nil {
			return "", fmt.Errorf("%s may be used by others (mode %04o), and this process cannot change that: %w; as its owner, run chmod %04o on it", name, mode, err, mode&^bits)
		}
	}
	return found.notice, nil
}

// Check returns the sentence that Restrict would return, and changes nothing.
func Check(name string, bits fs.FileMode) string {
	found, _ := check(name, bits)
	return found.notice
}

// A finding is what is wrong with a file.
type finding struct {
	notice string
	mode   fs.FileMode
	owner  int
	take   bool // it is to belong to the user of this process
}

func check(name string, bits fs.FileMode) (found finding, err error) {
	info, err := os.Stat(name)
	if !hasModes || errors.Is(err, fs.ErrNotExist) {
		return found, nil
	}
	if err != nil || !info.Mode().IsRegular() {
		return found, err
	}
	found.mode = info.Mode().Perm()
	found.owner = ownerOf(info)
	if me := os.Geteuid(); found.owner != me && found.owner != 0 {
		if bits == Own {
			dir, err := os.Stat(filepath.Dir(name))
			found.take = err == nil && ownerOf(dir) != found.owner
		}
		if found.take {
			found.notice = fmt.Sprintf("%s belonged to user %d: it belongs to user %d now, but who has read it before still knows what it holds", name, found.owner, me)
		} else {
			found.notice = fmt.Sprintf("%s belongs to user %d, who may read and change it: if that is not meant so, run chown %d on it", name, found.owner, me)
		}
	}
	if found.mode&bits != 0 {
		found.notice = join(found.notice, fmt.Sprintf("others could use %s (mode %04o): it is closed to them now (%04o), but who has read it before still knows what it holds", name, found.mode, found.mode&^bits))
	}
	found.notice = join(found.notice, folder(name))
	return found, nil
}

// change changes the file that was checked, even if its name now means another.
func change(name string, by func(*os.File, fs.FileInfo) error) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return by(f, info)
}

// folder returns a sentence if anybody may replace a file in its folder.
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

// Read reads a regular file that holds a secret, which may have a megabyte: a larger or endless
// file holds none. It refuses pipes, which could keep the program waiting for ever.
func Read(name string) ([]byte, error) {
	if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
		if err == nil {
			err = fmt.Errorf("%s is not a regular file", name)
		}
		return nil, err
	}
	return read(name)
}

func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(b) > maxSize {
		err = fmt.Errorf("%s: larger than %d bytes", name, maxSize)
	}
	return b, err
}

// pipeWait is how long ReadGiven waits for a pipe with a name.
var pipeWait = 10 * time.Second

// ReadGiven reads a file that was given to the program. It may be a pipe: one that the program
// inherited, as of <(command) in a shell, may take any time, another one ten seconds.
func ReadGiven(name string) ([]byte, error) {
	if info, err := os.Stat(name); err != nil || info.Mode().IsRegular() || inherited(name) {
		return read(name)
	}
	type result struct {
		b   []byte
		err error
	}
	// If nobody writes into the pipe, the goroutine stays until the program ends.
	done := make(chan result, 1)
	go func() {
		b, err := read(name)
		done <- result{b, err}
	}()
	select {
	case r := <-done:
		return r.b, r.err
	case <-time.After(pipeWait):
		return nil, fmt.Errorf("%s is not a regular file, and was not written to its end within %v: name a regular file", name, pipeWait)
	}
}

// inherited reports whether a name means a file that this process has open already.
func inherited(name string) bool {
	name = filepath.Clean(name)
	return name == "/dev/stdin" || strings.HasPrefix(name, "/dev/fd/") || strings.HasPrefix(name, "/proc/self/fd/")
}

// ReadLine reads a file that holds a token or a password, as ReadGiven does: exactly one line.
func ReadLine(name string) (string, error) {
	b, err := ReadGiven(name)
	if err != nil {
		return "", err
	}
	line := strings.TrimSpace(string(b))
	if strings.ContainsAny(line, "\n\x00") {
		return "", fmt.Errorf("%s is not a file with a token or a password, which are one line each", name)
	}
	return line, nil
}
