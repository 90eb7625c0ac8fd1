package asn

import (
	"strings"
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
