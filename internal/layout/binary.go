package layout

import (
	"bytes"
	"fmt"
	"io"
	"math"

	"github.com/connmapgo/connmap/internal/mmdb"
	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/internal/unpack"
)

// readBinary passes on the rows of a file that is no text and begins with head. It reads only
// the beginning and the end of one without a sign of a table, such as a large backup that lies
// beside the tables.
func readBinary(f *ranges.File, head []byte, sink Sink, limit int64) (Report, error) {
	data, err := content(f, head, limit == math.MaxInt64 && sink != Sink(nothing{}))
	if err != nil {
		return Report{}, err
	}
	if mmdb.Is(data) {
		return readMMDB(data, sink, limit)
	}
	if d, ok := openDAT(data); ok {
		return d.read(sink, limit)
	}
	if b, ok := openBIN(data); ok {
		return b.read(sink, limit)
	}
	return Report{}, fmt.Errorf("%w: binary data without the metadata that ends a MaxMind DB file: truncated, or no table; %s", ErrUnknown, Understood)
}

// signed reports whether the beginning and the end of a file of some size have the sign of a
// table. The end has mmdb.MaxMeta bytes, or all.
func signed(head, end []byte, size int64) bool {
	_, dat := openDAT(end)
	_, bin := binHeader(head, size)
	return dat || bin || mmdb.Is(end)
}

// content returns what a file holds, or nil if it has no sign of a table. What must be unpacked
// to find the end is unpacked twice and not held meanwhile, unless a table is expected.
func content(f *ranges.File, head []byte, expected bool) ([]byte, error) {
	if asItLies(f, head) {
		end := make([]byte, min(f.Size, mmdb.MaxMeta))
		if _, err := f.At.ReadAt(end, f.Size-int64(len(end))); err != nil && err != io.EOF {
			return nil, err
		}
		switch {
		case !signed(head, end, f.Size):
			return nil, nil
		case f.Size > maxDB:
			return nil, tooLarge()
		}
		return unpack.All(f, f.Size, maxDB)
	}
	if expected || f.At == nil && f.Again == nil {
		return unpack.All(f, f.Size, maxDB)
	}
	head = bytes.Clone(head) // which is of the buffer of f
	var end tail
	n, err := io.Copy(&end, io.LimitReader(f, maxDB+1))
	switch {
	case err != nil:
		return nil, err
	case n > maxDB:
		return nil, tooLarge()
	case !signed(head, end.last(), n):
		return nil, nil
	}
	r, err := again(f)
	if err != nil {
		return nil, err
	}
	return unpack.All(r, n, maxDB)
}

func tooLarge() error {
	return fmt.Errorf("%w: there are more than %d bytes, more than any such file has", unpack.ErrTooLarge, maxDB)
}

// asItLies reports whether a file, whose content begins with head, is not compressed.
func asItLies(f *ranges.File, head []byte) bool {
	if f.At == nil {
		return false
	}
	begin := make([]byte, len(head))
	_, err := f.At.ReadAt(begin, 0)
	return (err == nil || err == io.EOF) && bytes.Equal(begin, head)
}

// again returns the content of a file from its beginning.
func again(f *ranges.File) (io.Reader, error) {
	if f.At != nil {
		return unpack.Reader(io.NewSectionReader(f.At, 0, f.Size), Max)
	}
	return f.Again()
}

// A tail keeps the last mmdb.MaxMeta bytes that are written to it.
type tail struct{ b []byte }

func (t *tail) Write(b []byte) (int, error) {
	if len(t.b)+len(b) > 4*mmdb.MaxMeta {
		t.b = append(t.b[:0], t.last()...)
	}
	t.b = append(t.b, b[max(0, len(b)-mmdb.MaxMeta):]...)
	return len(b), nil
}

func (t *tail) last() []byte { return t.b[max(0, len(t.b)-mmdb.MaxMeta):] }
