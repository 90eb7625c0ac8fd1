// Package unpack reads files that may be compressed. It tells gzip, xz, bzip2 and zstd by
// their first bytes and not by the name of the file, and passes all else on as
// it is. It does not trust them: little that would become much is an error.
package unpack

import (
	"bufio"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

const (
	size = 256 << 10 // of buffers

	// Content may have MaxRatio times as many bytes as its compressed form, plus Free.
	// Published tables have 5 to 30 times as many.
	MaxRatio = 100
	Free     = 16 << 20
)

// ErrTooLarge is wrapped by errors on content with too many bytes.
var ErrTooLarge = errors.New("too large")

// Reader returns the content of r, unpacked if it is compressed. Errors on damaged data say how
// much of the content came before. It fails with ErrTooLarge if there is more content than max
// bytes, or more than MaxRatio allows.
func Reader(r io.Reader, max int64) (*bufio.Reader, error) {
	in := &counter{r: r}
	br := bufio.NewReaderSize(in, size)
	head, err := br.Peek(6)
	if err != nil && err != io.EOF {
		return nil, err
	}
	p := &content{r: br, max: max}
	switch {
	case len(head) >= 2 && string(head[:2]) == "\x1f\x8b":
		p.format, p.packed = "gzip", in
		p.r, err = gzip.NewReader(br)
	case string(head) == xzMagic:
		p.format, p.packed = "xz", in
		p.r, err = newXZ(br)
	case len(head) >= 4 && string(head[:3]) == "BZh" && '1' <= head[3] && head[3] <= '9':
		p.format, p.packed, p.r, err = "bzip2", in, bzip2.NewReader(br), nil
	case len(head) >= 4 && string(head[:4]) == "\x28\xb5\x2f\xfd":
		p.format, p.packed = "zstd", in
		p.r, err = zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20), zstd.WithDecoderMaxWindow(128<<20))
	default:
		err = nil
	}
	if err != nil {
		return nil, p.damaged(err)
	}
	return bufio.NewReaderSize(p, size), nil
}

// Member is Reader of what an archive has unpacked from packed bytes: it may hold little that
// becomes much, too.
func Member(r io.Reader, packed, max int64) (*bufio.Reader, error) {
	return Reader(&content{format: "packed", r: r, packed: &counter{n: packed}, max: max}, max)
}

// All reads what is left of r, but not more than max bytes. It is quick if that
// has size bytes.
func All(r io.Reader, size, max int64) ([]byte, error) {
	// One more byte lets it find the end without growing.
	b := make([]byte, 0, min(size, max, 1<<30)+1)
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case int64(len(b)) > max:
			return nil, tooLarge("there are more than %d bytes", max)
		case err == io.EOF:
			return b, nil
		case err != nil:
			return nil, err
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}

func tooLarge(format string, args ...any) error {
	return fmt.Errorf("%w: "+format+", more than any such file has", append([]any{ErrTooLarge}, args...)...)
}

// A counter counts the bytes read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// A content reads data, which may be compressed.
type content struct {
	format string // empty: not compressed
	r      io.Reader
	packed *counter
	n, max int64
	err    error // of all later calls
}

func (p *content) Read(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.r.Read(b)
	p.n += int64(n)
	switch {
	case p.n > p.max:
		n, err = 0, tooLarge("there are more than %d bytes", p.max)
	case p.format == "":
	case p.n > Free && p.n-Free > MaxRatio*p.packed.n:
		n, err = 0, tooLarge("the %s data unpack to more than %d times their size", p.format, MaxRatio)
	case err != nil && err != io.EOF:
		err = p.damaged(err)
	}
	p.err = err
	return n, err
}

func (p *content) damaged(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("the %s data are cut off after %d bytes of content: %w", p.format, p.n, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("damaged %s data after %d bytes of content: %w", p.format, p.n, err)
}
