package asn

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
)

// split fills f with the fields between bars, and returns how many there are. It ignores the
// fields after the last of f.
func split(f [][]byte, line []byte) int {
	for i := range f {
		field, rest, more := bytes.Cut(line, []byte("|"))
		f[i] = field
		if !more {
			return i + 1
		}
		line = rest
	}
	return len(f)
}

// isNumber reports whether b is a version such as 2 or 2.3.
func isNumber(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && c != '.' {
			return false
		}
	}
	return len(b) > 0
}

// clip shortens a text for an error.
func clip(b []byte) []byte { return b[:min(len(b), 60)] }

// errLong says that a line is no row.
var errLong = fmt.Errorf("the line has more than %d bytes", maxLine)

// A lineReader reads lines.
type lineReader struct {
	r      *bufio.Reader
	number int  // of the last line
	ended  bool // the last line had an end
	cut    bool // the last line was longer than maxLine
	long   []byte
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// maxLine is longer than any valid line.
const maxLine = 1 << 20

// next returns the next line without its end, valid until the next call. Of a line longer than
// maxLine it returns the beginning, and sets cut.
func (lr *lineReader) next() ([]byte, error) {
	lr.number++
	lr.long, lr.cut = lr.long[:0], false
	for {
		line, err := lr.r.ReadSlice('\n')
		if err == nil || err == io.EOF && len(line)+len(lr.long) > 0 {
			lr.ended = err == nil
			if len(lr.long) > 0 {
				line = append(lr.long, line...)
			}
			line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
			if len(line) > maxLine {
				line, lr.cut = line[:maxLine], true
			}
			return line, nil
		}
		if err != bufio.ErrBufferFull {
			return nil, err
		}
		if len(lr.long) <= maxLine {
			lr.long = append(lr.long, line...)
		}
	}
}
