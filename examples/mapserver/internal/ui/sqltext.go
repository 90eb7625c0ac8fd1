package ui

import (
	"image/color"
	"strings"
	"unicode/utf8"
)

// A span is a part of a text in one colour.
type span struct {
	from, to int
	color    color.NRGBA
}

// keywords are those of queries, and the functions of SQLite that people use.
var keywords = func() map[string]bool {
	m := make(map[string]bool)
	for _, s := range strings.Fields(`all and as asc between by case cast collate cross desc distinct else end escape except exists
		explain filter from full glob group having in inner intersect is isnull join left like limit match materialized natural not
		notnull null offset on or order outer over partition query plan recursive regexp right select then union using values when
		where window with`) {
		m[s] = true
	}
	return m
}()

// colorSQL divides a text in SQL into spans by what they are.
func colorSQL(s string, t *Theme) (spans []span) {
	for i := 0; i < len(s); {
		from := i
		col := t.Text
		switch ch := s[i]; {
		case ch == '\'' || ch == '"' || ch == '`':
			col = t.Literal
			for i++; i < len(s) && s[i] != ch; i++ {
			}
			i = min(i+1, len(s))
		case strings.HasPrefix(s[i:], "--"):
			col = t.Dim
			for ; i < len(s) && s[i] != '\n'; i++ {
			}
		case strings.HasPrefix(s[i:], "/*"):
			col = t.Dim
			if n := strings.Index(s[i+2:], "*/"); n >= 0 {
				i += n + 4
			} else {
				i = len(s)
			}
		case ch >= '0' && ch <= '9':
			col = t.Literal
			for ; i < len(s) && (wordRune(rune(s[i])) || s[i] == '.'); i++ {
			}
		case ch == ':' || wordRune(rune(ch)) || ch >= utf8.RuneSelf:
			for i++; i < len(s) && (wordRune(rune(s[i])) || s[i] >= utf8.RuneSelf); i++ {
			}
			if keywords[strings.ToLower(s[from:i])] {
				col = t.Keyword
			}
		default:
			for i++; i < len(s) && strings.IndexByte("'\"`-/:", s[i]) < 0 && !wordRune(rune(s[i])) && s[i] < utf8.RuneSelf; i++ {
			}
		}
		spans = append(spans, span{from, i, col})
	}
	return spans
}
