// Package unpack reads files that may be compressed. It tells gzip and xz by
// their first bytes and not by the name of the file, and passes all else on as
// it is.
package unpack

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/ulikunitz/xz"
)

const size = 256 << 10 // of buffers

// Reader returns the content of r, unpacked if it is compressed. Errors of
// damaged data say how much of the content came before.
func Reader(r io.Reader) (*bufio.Reader, error) {
	br := bufio.NewReaderSize(r, size)
	head, err := br.Peek(6)
	if err != nil && err != io.EOF {
		return nil, err
	}
	p := &packed{}
	switch {
	case len(head) >= 2 && string(head[:2]) == "\x1f\x8b":
		p.format = "gzip"
		p.r, err = gzip.NewReader(br)
	case string(head) == "\xfd7zXZ\x00":
		p.format = "xz"
		p.end = &tail{r: br}
		p.r, err = xz.NewReader(p.end)
	default:
		return br, nil
	}
	if err != nil {
		return nil, p.damaged(err)
	}
	return bufio.NewReaderSize(p, size), nil
}

// A packed is the content of compressed data.
type packed struct {
	format string
	r      io.Reader
	n      int64
	end    *tail // of xz
}

func (p *packed) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n += int64(n)
	switch {
	case err == nil:
	case err != io.EOF:
		err = p.damaged(err)
	case p.end != nil && string(p.end.last[:]) != "YZ":
		// The reader of xz takes some cuts for the end.
		err = p.damaged(io.ErrUnexpectedEOF)
	}
	return n, err
}

// A tail remembers the last two bytes read, padding apart.
type tail struct {
	r    io.Reader
	last [2]byte
}

func (t *tail) Read(b []byte) (int, error) {
	n, err := t.r.Read(b)
	if end := bytes.TrimRight(b[:n], "\x00"); len(end) > 1 {
		t.last = [2]byte(end[len(end)-2:])
	} else if len(end) == 1 {
		t.last = [2]byte{t.last[1], end[0]}
	}
	return n, err
}

func (p *packed) damaged(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("the %s data are cut off after %d bytes of content: %w", p.format, p.n, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("damaged %s data after %d bytes of content: %w", p.format, p.n, err)
}
