// Package terminal makes texts of others safe to show and to log: programs choose their own
// names, servers their answers, and files their contents. Only this package decides which
// characters are harmless.
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

// Reply is the maximum number of bytes of another program's answer in a message.
const Reply = 200

// Harmful reports whether a character could command a terminal, reverse the direction of writing
// or hide. Go decodes invalid UTF-8 as U+FFFD, which counts too.
func Harmful(r rune) bool {
	if r < utf8.RuneSelf {
		return r < ' ' || r == 0x7f
	}
	// Cf has the formatting characters, including most bidirectional and zero-width ones.
	// The other default-ignorable characters are invisible too. The empty Braille pattern
	// looks like a blank.
	return r == utf8.RuneError || r == 0x2800 ||
		unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// Clean returns the beginning of s without harmful characters, in UTF-8 and at most limit bytes.
func Clean(s string, limit int) string {
	if len(s) <= limit && strings.IndexFunc(s, Harmful) < 0 {
		return s
	}
	s = strings.Map(func(r rune) rune {
		if Harmful(r) {
			return -1
		}
		return r
	}, s[:min(len(s), 4*limit)])
	return strings.Clone(Cut(s, limit))
}

// Cut returns the beginning of s, at most limit bytes. If s is UTF-8, it ends with a whole
// character.
func Cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	n := limit
	for n > limit-utf8.UTFMax && n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Mask returns s with harmful characters replaced by U+FFFD. If lines is set, line ends and tabs
// stay.
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

// EscapeJSON appends a JSON text to b, and escapes the harmful characters in it that JSON allows.
// A reader of the JSON gets the same values, and a terminal at the end of a pipe gets no
// commands.
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

// Is reports whether f is a file that is a terminal.
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

// Output returns w, with a Writer before it if it is a terminal. Output to a file or to another
// program is not changed.
func Output(w io.Writer) io.Writer {
	if Is(w) {
		return &Writer{W: w}
	}
	return w
}

// A Writer passes on what is written, with harmful characters masked; line ends and tabs stay. It
// holds back an incomplete character until the rest of it is written. It is safe for concurrent
// use.
type Writer struct {
	W    io.Writer
	mu   sync.Mutex
	part []byte // of an incomplete character
}

// Write writes b. It returns b's length, or zero and an error.
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

// incomplete returns the number of bytes at the end of b that begin an incomplete character.
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
