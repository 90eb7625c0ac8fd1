package geoip

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"github.com/connmapgo/connmap/internal/temp"
)

// OpenCached is [Open] that keeps what it has compiled in a folder, which it
// makes if it is missing. The next time, it maps that into memory, which takes
// no time and little memory of its own, unless a file has changed since: then it
// is compiled anew. progress may be nil; while something is compiled it is
// called with how many bytes of all have been read.
//
// What lies in the folder is checked before it is used, each part when it is
// looked at for the first time. Lookup does not know the addresses of a damaged
// part, nor of one that somebody has cut off since; [DB.Verify] tells, and
// [DB.Err] when Lookup has met it. Such a file is removed, so that it is compiled
// anew the next time. If the folder cannot be written to, the table is compiled
// into memory, and the error wraps [ErrNotCached] beside the DB.
func OpenCached(folder string, progress func(done, size int64), names ...string) (*DB, error) {
	stamp, _, err := stampOf(names)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(folder, cacheName(names))
	if db, err := openMapped(file); err == nil && db.t.stamp == stamp {
		return db, nil
	}
	db, err := compileFiles(names, progress)
	if err != nil {
		return nil, err
	}
	if db.t.stamp != stamp {
		return db, nil // a compiled table, or a file that has changed meanwhile
	}
	err = os.MkdirAll(folder, 0o700)
	if err == nil {
		err = db.write(file)
	}
	if err != nil {
		return db, fmt.Errorf("geoip: %w in %s: %w", ErrNotCached, folder, err)
	}
	mapped, err := openMapped(file)
	if err != nil {
		return db, fmt.Errorf("geoip: %w in %s: %w", ErrNotCached, folder, err)
	}
	return mapped, nil
}

// ErrNotCached says that a table had to be compiled into memory.
var ErrNotCached = errors.New("the compiled table could not be kept")

// CompileFile compiles a file that [Open] understands into another, which it
// replaces when all is written. Open takes it as it takes the source. progress
// may be nil; it is told how many bytes of all have been read.
func CompileFile(source, target string, progress func(done, size int64)) (Info, error) {
	db, err := compileFiles([]string{source}, progress)
	if err != nil {
		return Info{}, err
	}
	if err := db.write(target); err != nil {
		return Info{}, fmt.Errorf("geoip: %w", err)
	}
	return db.Info(), nil
}

// write replaces a file when all is written.
func (db *DB) write(name string) error {
	f, err := temp.Create(filepath.Dir(name), filepath.Base(name)+".*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = db.WriteTo(f)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// openMapped opens a compiled table where it lies.
func openMapped(name string) (*DB, error) {
	data, mapped, err := mapFile(name)
	if err != nil {
		return nil, err
	}
	var db *DB
	if !unlessCut(data, func() {
		if db, err = load(data); err == nil {
			db.t.doubt()
			db.cached, db.mapped = name, mapped
		}
	}) {
		return nil, errDamaged
	}
	return db, err
}

// cacheName is the name of the compiled table of files.
func cacheName(names []string) string {
	h := sha256.New()
	for _, name := range names {
		if abs, err := filepath.Abs(name); err == nil {
			name = abs
		}
		fmt.Fprintf(h, "%s\x00", name)
	}
	base, _, _ := strings.Cut(filepath.Base(names[0]), ".")
	return base + "-" + hex.EncodeToString(h.Sum(nil)[:6]) + ".geo"
}

// stampOf tells the state of files by their sizes and times of modification, and
// returns the sum of the sizes.
func stampOf(names []string) (stamp [16]byte, size int64, err error) {
	if len(names) == 0 {
		return stamp, 0, errors.New("geoip: no file is named")
	}
	h := sha256.New()
	for _, name := range names {
		for i, file := range append([]string{name}, stampedWith(name)...) {
			info, err := os.Stat(file)
			if err != nil {
				return stamp, 0, fmt.Errorf("geoip: %s: %w", file, pathless(err))
			}
			fmt.Fprintf(h, "%d %d %d\x00", i, info.Size(), info.ModTime().UnixNano())
			if i == 0 {
				size += info.Size()
			}
		}
	}
	return [16]byte(h.Sum(nil)), size, nil
}

// unsafeString returns bytes that nobody changes any more as a string.
func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// unsafeBytes returns a string as bytes that nobody may change.
func unsafeBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// readFile is mapFile where files cannot be mapped.
func readFile(f *os.File) (string, error) {
	b, err := io.ReadAll(f)
	return unsafeString(b), err
}
