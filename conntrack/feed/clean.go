package feed

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/connmapgo/connmap/conntrack"
)

// mostText is how long a text from an agent may be, in bytes.
const mostText = 256

// clean makes a text from another host safe to show and to log: valid UTF-8
// of at most 256 bytes without control, formatting and bidirectional
// characters.
func clean(s string) string {
	ok := len(s) <= mostText
	for _, r := range s {
		if !harmless(r) {
			ok = false
			break
		}
	}
	if ok {
		return s
	}
	if len(s) > 4*mostText {
		s = s[:4*mostText]
	}
	s = strings.Map(func(r rune) rune {
		if !harmless(r) {
			return -1
		}
		return r
	}, s)
	if len(s) > mostText {
		n := mostText
		for !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return s
}

// harmless reports whether a character may be shown. Cf are the formatting
// characters, the bidirectional and zero-width ones among them.
func harmless(r rune) bool {
	return r != utf8.RuneError && !unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// CleanProcess returns p with texts that are safe to show: a program chooses
// its own name.
func CleanProcess(p conntrack.Process) conntrack.Process {
	p.Comm, p.Exe, p.Container = clean(p.Comm), clean(p.Exe), clean(p.Container)
	return p
}
