// Package terminal makes texts of others safe to show and to log: programs choose their own
// names, servers what they answer, and files what they hold. It is the one place that says
// which characters are harmless.
package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Reply is how many bytes of another program's answer stand in a message at most.
const Reply = 200

// Harmful reports whether a character could command a terminal, turn the direction of
// writing or hide. Go decodes what is not UTF-8 as U+FFFD, which counts too.
func Harmful(r rune) bool {
	if r < utf8.RuneSelf {
		return r < ' ' || r == 0x7f
	}
	// Cf are the formatting characters, most bidirectional and zero-width ones among them;
	// the other default-ignorable ones are invisible as well.
	// The empty pattern of Braille is no blank, but looks like one.
	return r == utf8.RuneError || r == 0x2800 ||
		unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// Clean returns the beginning of s, at most that many bytes, in UTF-8 and without harmful
// characters.
func Clean(s string, most int) string {
	if len(s) <= most && strings.IndexFunc(s, Harmful) < 0 {
		return s
	}
	s = strings.Map(func(r rune) rune {
		if Harmful(r) {
			return -1
		}
		return r
	}, s[:min(len(s), 4*most)])
	return strings.Clone(Cut(s, most))
}

// Cut returns the beginning of s, at most that many bytes that end with a whole character
// if s is UTF-8.
func Cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	n := most
	for n > most-utf8.UTFMax && n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Mask returns s with harmful characters replaced by U+FFFD; lines and tabs stay if lines
// is set.
func Mask(s string, lines bool) string {
	harmful := func(r rune) bool {
		if r == '\n' || r == '\t' {
			return !lines
		}
		return Harmful(r)
	}
	if strings.IndexFunc(s, harmful) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if harmful(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// EscapeJSON appends a JSON text to b, with the harmful characters that JSON lets stand as
// they are escaped: what reads it sees the same, and a terminal at the end of a pipe nothing
// of them.
func EscapeJSON(b, text []byte) []byte {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if r < ' ' || !Harmful(r) {
			b = append(b, text[:n]...)
		} else {
			for _, half := range utf16.AppendRune(nil, r) {
				b = fmt.Appendf(b, `\u%04x`, half)
			}
		}
		text = text[n:]
	}
	return b
}

// Is reports whether f, if it is a file, is a terminal.
func Is(f any) bool {
	file, ok := f.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	// The null device is a character device too.
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// Output returns w, with a Writer before it if it is a terminal: what goes into a file or to
// another program stays as it is.
func Output(w io.Writer) io.Writer {
	if Is(w) {
		return &Writer{W: w}
	}
	return w
}

// A Writer passes on what is written with harmful characters masked; lines and tabs stay. It
// keeps the beginning of a character until the rest of it is written. It is safe for
// concurrent use.
type Writer struct {
	W    io.Writer
	mu   sync.Mutex
	part []byte // of a character
}

// Write writes b. It reports b's length, or nothing and an error.
func (w *Writer) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := b
	if len(w.part) > 0 {
		text = append(w.part, b...)
		w.part = nil
	}
	if n := incomplete(text); n > 0 {
		w.part = append([]byte(nil), text[len(text)-n:]...)
		text = text[:len(text)-n]
	}
	if _, err := io.WriteString(w.W, Mask(string(text), true)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// incomplete returns how many bytes at the end of b begin a character that is not whole.
func incomplete(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if tail := b[len(b)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}
