package sqlite

import (
	"slices"
	"strings"
)

type tokenKind uint8

const (
	word   tokenKind = iota // name or keyword, in lower case
	quoted                  // name in quotes, in lower case without them
	text
	numeral // not negative
	blobLiteral
	param
	symbol
)

type token struct {
	kind       tokenKind
	text       string
	start, end int // in bytes
}

func (t token) is(texts ...string) bool {
	return (t.kind == word || t.kind == symbol) && slices.Contains(texts, t.text)
}

func (t token) name() bool { return t.kind == quoted || t.kind == word && !stops[t.text] }

// stops are the keywords that no operand of a comparison contains, but in parentheses.
var stops = func() map[string]bool {
	m := make(map[string]bool)
	for _, s := range strings.Fields(`and or not is in like glob regexp match between isnull notnull escape where group order having limit offset
		union except intersect window from select distinct all as on using join left right full inner cross natural outer when then else
		asc desc nulls by values with set indexed explain query plan`) {
		m[s] = true
	}
	return m
}()

// symbols are the operators of more than one character, longer ones first.
var symbols = []string{"->>", "->", "<<", ">>", "<=", ">=", "<>", "!=", "==", "||"}

// tokenize never fails: what SQLite would refuse becomes some symbol.
func tokenize(sql string) (tokens []token) {
	for at := 0; at < len(sql); {
		if n := blank(sql[at:]); n > 0 && sql[at] != ';' {
			at += n
			continue
		}
		start, c := at, sql[at]
		t := token{kind: symbol, start: start}
		switch {
		case c == '\'' || c == '"' || c == '`' || c == '[':
			closing := c
			if c == '[' {
				closing = ']'
			}
			var b strings.Builder
			for at++; at < len(sql); at++ {
				if sql[at] == closing {
					if c == '[' || at+1 >= len(sql) || sql[at+1] != closing {
						break
					}
					at++
				}
				b.WriteByte(sql[at])
			}
			at = min(at+1, len(sql))
			t.kind, t.text = quoted, strings.ToLower(b.String())
			if c == '\'' {
				t.kind, t.text = text, b.String()
			}
		case (c == 'x' || c == 'X') && strings.HasPrefix(sql[at+1:], "'"):
			end := strings.IndexByte(sql[at+2:], '\'')
			if at = len(sql); end >= 0 {
				at = start + 3 + end
			}
			t.kind = blobLiteral
		case digit(c) || c == '.' && at+1 < len(sql) && digit(sql[at+1]):
			for at++; at < len(sql) && (inName(sql[at]) || sql[at] == '.' || (sql[at] == '+' || sql[at] == '-') && (sql[at-1] == 'e' || sql[at-1] == 'E') && !strings.HasPrefix(sql[start:], "0x")); at++ {
			}
			t.kind = numeral
		case strings.IndexByte("?:@$", c) >= 0:
			for at++; at < len(sql) && inName(sql[at]); at++ {
			}
			t.kind = param
		case inName(c):
			for at++; at < len(sql) && inName(sql[at]); at++ {
			}
			t.kind, t.text = word, strings.ToLower(sql[start:at])
		default:
			at++
			for _, s := range symbols {
				if strings.HasPrefix(sql[start:], s) {
					at = start + len(s)
					break
				}
			}
			t.text = sql[start:at]
		}
		t.end = at
		tokens = append(tokens, t)
	}
	return tokens
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func inName(c byte) bool {
	return digit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '$' || c >= 0x80
}
