package asn

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/connmapgo/connmap/internal/unpack"
)

// A file is the content of a file, unpacked if it is compressed.
type file struct {
	*bufio.Reader
	f    *os.File
	stat fs.FileInfo
	info Info // its date is the modification time
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
	return &file{br, f, stat, Info{Name: filepath.Base(name), Date: stat.ModTime().Truncate(time.Second).UTC()}}, nil
}

// skipMark skips the byte order mark of UTF-8.
func skipMark(r *bufio.Reader) {
	if head, _ := r.Peek(3); string(head) == "\xef\xbb\xbf" {
		r.Discard(3)
	}
}

func (f *file) Close() error { return f.f.Close() }

// end returns the last n bytes of the content. A compressed file is read to its end.
func (f *file) end(n int) ([]byte, error) {
	var head [6]byte
	k, _ := f.f.ReadAt(head[:], 0)
	if h := string(head[:k]); !strings.HasPrefix(h, "\x1f\x8b") && h != "\xfd7zXZ\x00" {
		b := make([]byte, min(int64(n), f.stat.Size()))
		k, err := f.f.ReadAt(b, f.stat.Size()-int64(len(b)))
		if err == io.EOF {
			err = nil
		}
		return b[:k], err
	}
	b := make([]byte, 0, 4*n)
	for {
		k, err := f.Read(b[len(b):cap(b)])
		b = b[:len(b)+k]
		if err == io.EOF {
			return b[max(0, len(b)-n):], nil
		}
		if err != nil {
			return nil, err
		}
		if len(b) == cap(b) {
			b = b[:copy(b, b[len(b)-n:])]
		}
	}
}
