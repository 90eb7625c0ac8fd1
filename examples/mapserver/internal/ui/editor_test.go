package ui

import (
	"image/color"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func editing(text string) *Editor {
	e := &Editor{}
	e.Set(text)
	return e
}

func TestEditorKeys(t *testing.T) {
	tests := []struct {
		keys []Key
		want string // with | for the cursor and [ ] around the selection
	}{
		{[]Key{KeyHome, 'x'}, "one two\nx|three"},
		{[]Key{KeyUp, 'x'}, "one tx|wo\nthree"},
		{[]Key{KeyLeft, KeyBackspace}, "one two\nthr|e"},
		{[]Key{KeyLeft, KeyLeft, KeyDelete}, "one two\nthr|e"},
		{[]Key{Ctrl | KeyHome, KeyEnter}, "\n|one two\nthree"},
		{[]Key{Ctrl | KeyLeft, Ctrl | KeyLeft, 'x'}, "one x|two\nthree"},
		{[]Key{Ctrl | KeyHome, Ctrl | KeyRight, 'x'}, "onex| two\nthree"},
		{[]Key{Ctrl | KeyBackspace}, "one two\n|"},
		{[]Key{Ctrl | KeyHome, Ctrl | KeyDelete}, "| two\nthree"},
		{[]Key{Shift | KeyHome}, "one two\n|[three]"},
		{[]Key{Shift | KeyHome, 'x'}, "one two\nx|"},
		{[]Key{Shift | KeyUp}, "one t|[wo\nthree]"},
		{[]Key{Shift | KeyLeft, KeyRight}, "one two\nthree|"},
		{[]Key{Shift | KeyLeft, Shift | KeyLeft, KeyLeft}, "one two\nthr|ee"},
		{[]Key{Ctrl | 'a', KeyDelete}, "|"},
		{[]Key{Ctrl | 'a', KeyDelete, Ctrl | 'z'}, "[one two\nthree|]"},
		{[]Key{'a', 'b', Ctrl | 'z'}, "one two\nthree|"},
		{[]Key{'a', 'b', Ctrl | 'z', Ctrl | 'y'}, "one two\nthreeab|"},
		{[]Key{'a', KeyEnter, 'b', Ctrl | 'z', Ctrl | 'z', Ctrl | Shift | 'z'}, "one two\nthreea\n|"},
		{[]Key{KeyTab}, "one two\nthree  |"},
		{[]Key{KeyUp, KeyUp, KeyDown}, "one two\n|three"},
		{[]Key{Ctrl | KeyHome, KeyDown, KeyDown}, "one two\nthree|"},
		{[]Key{Shift | Ctrl | KeyHome}, "|[one two\nthree]"},
		{[]Key{Ctrl | KeyHome, Shift | Ctrl | KeyEnd}, "[one two\nthree|]"},
		{[]Key{'ß', 'Ω', '漢', KeyBackspace, KeyLeft}, "one two\nthreeß|Ω"},
	}
	for _, tt := range tests {
		e := editing("one two\nthree")
		for _, k := range tt.keys {
			require.True(t, e.Key(k))
		}
		got := e.text[:e.at] + "|" + e.text[e.at:]
		if e.mark > e.at {
			got = e.text[:e.at] + "|[" + e.text[e.at:e.mark] + "]" + e.text[e.mark:]
		} else if e.mark < e.at {
			got = e.text[:e.mark] + "[" + e.text[e.mark:e.at] + "|]" + e.text[e.at:]
		}
		assert.Equal(t, tt.want, got, "%v", tt.keys)
	}
}

func TestEditorIsBounded(t *testing.T) {
	e := editing(strings.Repeat("漢", MaxText))
	assert.LessOrEqual(t, len(e.text), MaxText)
	assert.True(t, utf8.ValidString(e.text))
	n := len(e.text)
	assert.False(t, e.Insert(strings.Repeat("x", 100), false))
	assert.Equal(t, n, len(e.text))
	for range 1000 {
		e.Key(KeyBackspace)
		e.Key('x')
	}
	assert.LessOrEqual(t, len(e.undos), maxUndos)
}

// TestEditorLikeTwin compares with an editor that holds runes and knows no lines.
func TestEditorLikeTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	keys := []Key{'a', 'é', '漢', KeyEnter, KeyBackspace, KeyDelete, KeyLeft, KeyRight, KeyHome, KeyEnd, Ctrl | KeyHome, Ctrl | KeyEnd, Shift | KeyLeft, Shift | KeyRight, Ctrl | 'a'}
	e := editing("")
	var text []rune
	at, mark := 0, 0
	for range 20_000 {
		k := keys[r.IntN(len(keys))]
		e.Key(k)
		from, to := min(at, mark), max(at, mark)
		put := func(s ...rune) {
			text = append(append(append([]rune{}, text[:from]...), s...), text[to:]...)
			at = from + len(s)
			mark = at
		}
		switch k {
		case 'a', 'é', '漢':
			put(rune(k))
		case KeyEnter:
			put('\n')
		case KeyBackspace:
			if from == to {
				from = max(from-1, 0)
			}
			put()
		case KeyDelete:
			if from == to {
				to = min(to+1, len(text))
			}
			put()
		case KeyLeft, KeyRight, Shift | KeyLeft, Shift | KeyRight:
			switch {
			case k == KeyLeft && from != to:
				at = from
			case k == KeyRight && from != to:
				at = to
			case k&^Shift == KeyLeft:
				at = max(at-1, 0)
			default:
				at = min(at+1, len(text))
			}
			if k&Shift == 0 {
				mark = at
			}
		case KeyHome:
			for at > 0 && text[at-1] != '\n' {
				at--
			}
			mark = at
		case KeyEnd:
			for at < len(text) && text[at] != '\n' {
				at++
			}
			mark = at
		case Ctrl | KeyHome:
			at, mark = 0, 0
		case Ctrl | KeyEnd:
			at, mark = len(text), len(text)
		case Ctrl | 'a':
			at, mark = len(text), 0
		}
		require.Equal(t, string(text), e.text)
		require.Equal(t, len(string(text[:at])), e.at)
		require.Equal(t, len(string(text[:mark])), e.mark)
	}
}

func TestColorSQL(t *testing.T) {
	sql := "SELECT 'it''s', \"x\", 12.5e3, a_b -- end\n/* two\nlines */ FROM t:x ORDER by 'open"
	got := ""
	for _, s := range colorSQL(sql, &theme) {
		kind := map[bool]string{true: "k"}[s.color == theme.Keyword]
		switch s.color {
		case theme.Literal:
			kind = "l"
		case theme.Dim:
			kind = "c"
		}
		got += kind + "<" + sql[s.from:s.to] + ">"
	}
	assert.Equal(t, "k<SELECT>< >l<'it'>l<'s'><, >l<\"x\"><, >l<12.5e3><, ><a_b>< >c<-- end><\n>c</* two\nlines */>< >k<FROM>< ><t><:x>< >k<ORDER>< >k<by>< >l<'open>", got)
	for _, s := range []string{"", "'", "/*", "--", "/", "-", "漢字 'ü' :é"} {
		at := 0
		for _, sp := range colorSQL(s, &theme) {
			assert.Equal(t, at, sp.from)
			assert.Greater(t, sp.to, sp.from)
			at = sp.to
		}
		assert.Equal(t, len(s), at)
	}
}

// theme tells what is coloured.
var theme = Theme{Text: color.NRGBA{A: 1}, Dim: color.NRGBA{A: 2}, Keyword: color.NRGBA{A: 3}, Literal: color.NRGBA{A: 4}}

// TestEditorTakesText: what is pasted is text.
func TestEditorTakesText(t *testing.T) {
	e := editing("one ")
	e.Insert("a\r\nb\x00\x1b\u202ec\xff", false)
	assert.Equal(t, "one a\nbc?", e.text)
	e.Key(Ctrl | 'z')
	assert.Equal(t, "one ", e.text)
}

// TestEditorMouse selects by dragging, and extends with Shift.
func TestEditorMouse(t *testing.T) {
	e := editing("one two\nthree")
	e.Layout(&Canvas{Scale: 1}, At(100, 50, 400, 100))
	at := func(column float64, line int) Mouse {
		return Mouse{X: e.box.X + column*e.char, Y: e.box.Y + float64(line*EditorRow) + 3, Held: true}
	}
	m := at(4.1, 0)
	m.Press = true
	e.Mouse(m)
	e.Mouse(at(2.1, 1))
	assert.Equal(t, "two\nth", e.Selected())
	m = at(0.1, 0)
	m.Held = false
	e.Mouse(m)
	assert.Equal(t, "two\nth", e.Selected(), "the button is up")
	m.Press, m.Shift = true, true
	e.Mouse(m)
	assert.Equal(t, "one ", e.Selected())
}

func FuzzEditor(f *testing.F) {
	f.Add("SELECT 1", []byte("abc\x01\x02\x03"))
	f.Fuzz(func(t *testing.T, text string, typed []byte) {
		e, c, b := editing(text), &Canvas{Scale: 1, Theme: &theme}, At(100, 50, 300, 100)
		special := []Key{KeyEnter, KeyBackspace, KeyDelete, KeyTab, KeyLeft, KeyRight, KeyUp, KeyDown, KeyHome, KeyEnd, KeyPageUp, KeyPageDown, Ctrl | 'a', Ctrl | 'x', Ctrl | 'z', Ctrl | 'y'}
		for i, n := range typed[:min(len(typed), 200)] {
			k := Key(n & 0x7f)
			if n&0x80 != 0 {
				k = special[n&15] | Key(n>>4&1)*Shift | Key(n>>5&1)*Ctrl
			}
			e.Key(k)
			e.Mouse(Mouse{X: 100 + float64(n)*3, Y: 40 + float64(i), Press: n%3 == 0, Held: n%5 < 3, Wheel: float64(n%7) - 3})
			e.Layout(c, b)
			e.Draw(c, b, true, int(n))
			require.True(t, utf8.ValidString(e.text))
			require.True(t, 0 <= e.at && e.at <= len(e.text) && 0 <= e.mark && e.mark <= len(e.text))
			require.True(t, utf8.ValidString(e.text[:e.at]))
			require.LessOrEqual(t, len(e.text), MaxText)
		}
	})
}
