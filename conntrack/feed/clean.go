package feed

import (
	"strings"
	"unicode"
	"unicode/utf8"
	"unique"

	"github.com/connmapgo/connmap/conntrack"
)

// mostText is how long a text from an agent may be, in bytes.
const mostText = 256

// clean makes a text from another host safe to show and to log: valid UTF-8
// of at most 256 bytes without control, formatting, bidirectional and
// invisible characters.
func clean(s string) string {
	if len(s) <= mostText && strings.IndexFunc(s, harmful) < 0 {
		return s
	}
	s = strings.Map(func(r rune) rune {
		if harmful(r) {
			return -1
		}
		return r
	}, s[:min(len(s), 4*mostText)])
	return strings.Clone(cut(s))
}

// cut returns the beginning of s, at most 256 bytes that end with a whole
// character if s is UTF-8.
func cut(s string) string {
	if len(s) <= mostText {
		return s
	}
	n := mostText
	for n > mostText-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// harmful reports whether a character may not be shown. Cf are the formatting
// characters, most bidirectional and zero-width ones among them; the other
// default-ignorable ones are invisible as well. Go decodes what is not UTF-8
// as U+FFFD.
func harmful(r rune) bool {
	if r < utf8.RuneSelf {
		return r < ' ' || r == 0x7f
	}
	return r == utf8.RuneError ||
		unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// CleanProcess returns p with texts that are safe to show: a program chooses
// its own name.
func CleanProcess(p conntrack.Process) conntrack.Process {
	p.Comm, p.Exe, p.Container = share(clean(p.Comm)), share(clean(p.Exe)), share(clean(p.Container))
	return p
}

// share returns an equal text in memory that it has in common with others: few programs
// have many connections.
func share(s string) string {
	if s == "" {
		return ""
	}
	return unique.Make(s).Value()
}
