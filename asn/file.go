package asn

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/connmapgo/connmap/internal/unpack"
)

// A file is the content of a file, unpacked if it is compressed.
type file struct {
	*bufio.Reader
	f    *os.File
	stat fs.FileInfo
	info Info // its date is by unpack.Date
}

// openRegistry is openFile of what is no archive.
func openRegistry(name string, max int64) (*file, error) {
	f, err := openFile(name, max)
	if err != nil {
		return nil, err
	}
	if head, _ := f.Peek(512); unpack.IsArchive(head) {
		f.Close()
		return nil, fmt.Errorf("%s: is an archive: unpack it first", name)
	}
	return f, nil
}

// openFile opens a file, and reads at most max bytes of content. Its errors name the file, but
// not the package.
func openFile(name string, max int64) (*file, error) {
	f, stat, err := unpack.Open(name)
	if err != nil {
		return nil, err
	}
	br, err := unpack.Reader(f, max)
	if err == nil {
		skipMark(br)
		if _, err = br.Peek(1); err == io.EOF {
			err = errors.New("is empty")
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &file{br, f, stat, Info{Name: filepath.Base(name), Date: unpack.Date(name, stat.ModTime()).Truncate(time.Second).UTC()}}, nil
}

// skipMark skips the byte order mark of UTF-8.
func skipMark(r *bufio.Reader) {
	if head, _ := r.Peek(3); string(head) == "\xef\xbb\xbf" {
		r.Discard(3)
	}
}

func (f *file) Close() error { return f.f.Close() }
