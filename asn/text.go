package asn

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// utf8Text returns s if it is UTF-8, else its bytes taken for ISO 8859-1.
func utf8Text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + len(s)/8)
	for i := range len(s) {
		b.WriteRune(rune(s[i]))
	}
	return b.String()
}

// commands reports whether a character could command a terminal or turn the
// direction of writing.
func commands(r rune) bool {
	if r < 0x7f {
		return r < ' '
	}
	return r < 0xa0 || r > 0x600 && unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
}

// clean returns s with what could command a terminal or turn the direction of
// writing replaced; lines and tabs stay if lines is set.
func clean(s string, lines bool) string {
	bad := func(r rune) bool {
		if r == '\n' || r == '\t' {
			return !lines
		}
		return commands(r)
	}
	if strings.IndexFunc(s, bad) < 0 && utf8.ValidString(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if bad(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}
