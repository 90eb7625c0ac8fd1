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
	info Info // with the date of the last change
}

// openFile opens a file. Its errors name the file, but not the package.
func openFile(name string) (*file, error) {
	f, stat, err := unpack.Open(name)
	if err != nil {
		return nil, err
	}
	br, err := unpack.Reader(f)
	if err == nil {
		if head, _ := br.Peek(3); string(head) == "\xef\xbb\xbf" {
			br.Discard(3)
		}
		if _, err = br.Peek(1); err == io.EOF {
			err = errors.New("is empty")
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &file{br, f, stat, Info{filepath.Base(name), stat.ModTime().Truncate(time.Second).UTC()}}, nil
}

func (f *file) Close() error { return f.f.Close() }

// packed reports whether the file is compressed.
func (f *file) packed() bool {
	var head [6]byte
	n, _ := f.f.ReadAt(head[:], 0)
	h := string(head[:n])
	return strings.HasPrefix(h, "\x1f\x8b") || h == "\xfd7zXZ\x00"
}
