package ranges

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"github.com/connmapgo/connmap/internal/temp"
	"github.com/connmapgo/connmap/internal/unpack"
)

// A File is an open file for a Reader.
type File struct {
	*bufio.Reader // the content, unpacked if it is compressed
	Name          string
	Size          int64       // of the file, which may be compressed
	ModTime       time.Time   // by unpack.Date, but for members of archives
	At            io.ReaderAt // the file as it lies there; nil if it is a member of an archive
	Beside        fs.FS       // the archive of which it is a member; nil: it lies in a folder
	In            *File       // likewise, as a file
	// Again returns the content of a member of an archive from its beginning; nil if there is no
	// way back.
	Again func() (io.Reader, error)
}

// A Reader reads files in the formats of one package, and makes a table of them.
type Reader interface {
	// Read adds the rows of a file. It returns the date of its data, and what its users should
	// know. The file is neither empty nor a compiled table.
	Read(f *File) (date time.Time, remarks []string, err error)
	// Table makes the table of all rows.
	Table(info Info, stamp Stamp) (*Table, error)
}

// A Stamp identifies the state of files by their sizes and modification times, on Linux also by when
// they were changed, since a modification time can be set.
type Stamp [16]byte

// ErrNotCached means that a compiled table could not be saved, and is only in memory.
var ErrNotCached = errors.New("the compiled table could not be kept")

// Open makes one table of files. It calls progress with the bytes read and their total; progress
// may be nil. The table has the name of the first file and the date of the oldest.
func (f *Form) Open(r Reader, progress func(done, size int64), names ...string) (*Table, error) {
	stamp, size, err := f.stampOf(names)
	if err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	info := Info{Name: filepath.Base(names[0])}
	done := int64(0)
	for _, name := range names {
		t, file, about, err := f.read(r, name, func(n int64) { progress(done+n, size) })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if t != nil {
			if len(names) > 1 {
				return nil, fmt.Errorf("%s: is a compiled table, which cannot be combined with others", name)
			}
			return t, nil
		}
		done += file
		if at := about.Date; info.Date.IsZero() || !at.IsZero() && at.Before(info.Date) {
			info.Date = at
		}
		for _, remark := range about.Remarks {
			if len(names) > 1 {
				remark = filepath.Base(name) + ": " + remark
			}
			info.Remarks = append(info.Remarks, remark)
		}
	}
	t, err := r.Table(info, stamp)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", names[0], err)
	}
	progress(size, size)
	return t, nil
}

// read has r read a file, and returns the size of the file and what is known of its data. If the
// file is a compiled table it returns that.
func (f *Form) read(r Reader, name string, tell func(done int64)) (*Table, int64, Info, error) {
	file, info, err := unpack.Open(name)
	if err != nil {
		return nil, 0, Info{}, pathless(err)
	}
	defer file.Close()
	br, err := unpack.Reader(&counted{r: file, tell: tell}, f.Max)
	if err != nil {
		return nil, 0, Info{}, pathless(err)
	}
	// If this fails, r fails too.
	switch head, err := br.Peek(magicSize); {
	case len(head) == 0 && err == io.EOF:
		return nil, 0, Info{}, errors.New("the file is empty")
	case string(head) == f.Magic:
		t, err := f.readTable(br, info.Size())
		return t, 0, Info{}, err
	}
	modified := unpack.Date(name, info.ModTime())
	date, remarks, err := r.Read(&File{Reader: br, Name: name, Size: info.Size(), ModTime: modified, At: file})
	if future := unpack.FutureDate(name, info.ModTime()); !future.IsZero() && date.Equal(modified) {
		remarks = append(remarks, unpack.FutureRemark(future))
	}
	return nil, info.Size(), Info{Date: date, Remarks: remarks}, err
}

// OpenCached is Open with a cache: it saves the table in a folder, which it makes if it is
// missing. Until a source file changes, the next call maps that file into memory and does not
// use r. If the folder cannot be written to, it returns the table together with an error that
// wraps ErrNotCached.
//
// Each block of a mapped file is checked when it is first used. Lookups find nothing in a damaged
// block. See [Table.Verify] and [Table.Err].
func (f *Form) OpenCached(folder string, r Reader, progress func(done, size int64), names ...string) (*Table, error) {
	stamp, _, err := f.stampOf(names)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(folder, f.cacheName(names))
	if t, err := f.openMapped(file); err == nil && t.stamp == stamp {
		return t, nil
	}
	t, err := f.Open(r, progress, names...)
	if err != nil {
		return nil, err
	}
	if t.stamp != stamp {
		return t, nil // a compiled table, or a file that has changed meanwhile
	}
	err = os.MkdirAll(folder, 0o700)
	if err == nil {
		err = t.write(file)
	}
	var mapped *Table
	if err == nil {
		mapped, err = f.openMapped(file)
	}
	if err != nil {
		return t, fmt.Errorf("%w in %s: %w", ErrNotCached, folder, err)
	}
	return mapped, nil
}

// CompileFile compiles a file that r reads into another file, which it replaces when all is
// written.
func (f *Form) CompileFile(r Reader, source, target string, progress func(done, size int64)) (*Table, error) {
	t, err := f.Open(r, progress, source)
	if err != nil {
		return nil, err
	}
	return t, t.write(target)
}

// readTable reads a compiled table of about size bytes and verifies it.
func (f *Form) readTable(r io.Reader, size int64) (*Table, error) {
	data, err := unpack.All(r, size, math.MaxInt32) // the maximum of Encode
	if err != nil {
		return nil, pathless(err)
	}
	t, err := f.Load(unsafeString(data))
	if err == nil {
		err = t.Verify()
	}
	return t, err
}

// write replaces a file when all is written.
func (t *Table) write(name string) error {
	f, err := temp.Create(filepath.Dir(name), filepath.Base(name)+".*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = t.WriteTo(f)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// openMapped opens a compiled table in a mapped file.
func (f *Form) openMapped(name string) (*Table, error) {
	data, mapped, err := mapFile(name)
	if err != nil {
		return nil, err
	}
	var t *Table
	if !guard(data, func() {
		if t, err = f.Load(data); err == nil {
			t.distrust()
			t.file, t.mapped = name, mapped
		}
	}) {
		return nil, errDamaged
	}
	return t, err
}

// cacheName returns the name of the compiled table of files.
func (f *Form) cacheName(names []string) string {
	h := sha256.New()
	for _, name := range names {
		if abs, err := filepath.Abs(name); err == nil {
			name = abs
		}
		fmt.Fprintf(h, "%s\x00", name)
	}
	base, _, _ := strings.Cut(filepath.Base(names[0]), ".")
	return base + "-" + hex.EncodeToString(h.Sum(nil)[:6]) + f.Ending
}

// stampOf returns the stamp of files and the sum of their sizes.
func (f *Form) stampOf(names []string) (stamp Stamp, size int64, err error) {
	if len(names) == 0 {
		return stamp, 0, errors.New("no file is named")
	}
	h := sha256.New()
	for _, name := range names {
		files := []string{name}
		if f.Beside != nil {
			files = append(files, f.Beside(name)...)
		}
		for i, file := range files {
			info, err := os.Stat(file)
			if err != nil {
				return stamp, 0, fmt.Errorf("%s: %w", file, pathless(err))
			}
			fmt.Fprintf(h, "%d %d %d %d\x00", i, info.Size(), info.ModTime().UnixNano(), changedAt(info))
			if i == 0 {
				size += info.Size()
			}
		}
	}
	return Stamp(h.Sum(nil)[:len(stamp)]), size, nil
}

// pathless returns an error without its path, which the caller adds.
func pathless(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err
	}
	return err
}

// A counted reports how much of r has been read.
type counted struct {
	r    io.Reader
	n    int64
	tell func(done int64)
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	c.tell(c.n)
	return n, err
}

// unsafeString returns bytes that nobody changes any more as a string.
func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// unsafeBytes returns a string as bytes that nobody may change.
func unsafeBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// readFile replaces mapFile where files cannot be mapped.
func readFile(f *os.File) (string, error) {
	b, err := io.ReadAll(f)
	return unsafeString(b), err
}
