package mapview

import (
	"image"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
)

func editing(text string) (*View, *editor) {
	v := &View{}
	e := &editor{}
	e.set(text)
	return v, e
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
		v, e := editing("one two\nthree")
		for _, k := range tt.keys {
			require.True(t, e.key(v, k))
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

func TestEditorClipboard(t *testing.T) {
	v, e := editing("one two")
	e.key(v, Ctrl|'c')
	assert.Empty(t, v.effects, "nothing is selected")
	e.key(v, Shift|Ctrl|KeyLeft)
	e.key(v, Ctrl|'c')
	assert.Equal(t, []Effect{Copy{"two"}}, v.effects)
	v.effects = nil
	e.key(v, Ctrl|'x')
	assert.Equal(t, []Effect{Copy{"two"}}, v.effects)
	assert.Equal(t, "one ", e.text)
	v.effects = nil
	e.key(v, Ctrl|'v')
	assert.Equal(t, []Effect{Paste{}}, v.effects)
	e.insert("a\r\nb\x00\x1b\u202ec\xff", false)
	assert.Equal(t, "one a\nbc?", e.text, "what is pasted is text")
	e.key(v, Ctrl|'z')
	assert.Equal(t, "one ", e.text)
}

func TestEditorIsBounded(t *testing.T) {
	v, e := editing(strings.Repeat("漢", longestText))
	assert.LessOrEqual(t, len(e.text), longestText)
	assert.True(t, utf8.ValidString(e.text))
	n := len(e.text)
	assert.False(t, e.insert(strings.Repeat("x", 100), false))
	assert.Equal(t, n, len(e.text))
	for range 1000 {
		e.key(v, KeyBackspace)
		e.key(v, 'x')
	}
	assert.LessOrEqual(t, len(e.undos), mostUndos)
}

// TestPasteTooMuch: what has no room is not pasted in part, and that is said.
func TestPasteTooMuch(t *testing.T) {
	v := &View{}
	v.Update(noon, frame("q"), state())
	before := v.console.editor.text
	in := frame("")
	in.Answers = []Answer{Pasted{strings.Repeat("SELECT 1 ", longestText/9+1)}}
	v.Update(noon, in, v.st)
	assert.Equal(t, before, v.console.editor.text)
	assert.Contains(t, texts(v), "not pasted: a question has at most 64 KiB")
}

// TestEditorLikeTwin compares with an editor that holds runes and knows no lines.
func TestEditorLikeTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	keys := []Key{'a', 'é', '漢', KeyEnter, KeyBackspace, KeyDelete, KeyLeft, KeyRight, KeyHome, KeyEnd, Ctrl | KeyHome, Ctrl | KeyEnd, Shift | KeyLeft, Shift | KeyRight, Ctrl | 'a'}
	v, e := editing("")
	var text []rune
	at, mark := 0, 0
	for range 20_000 {
		k := keys[r.IntN(len(keys))]
		e.key(v, k)
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

func FuzzEditor(f *testing.F) {
	f.Add("SELECT 1", []byte("abc\x01\x02\x03"))
	f.Fuzz(func(t *testing.T, text string, typed []byte) {
		var v View
		v.Update(noon, frame("q"), state())
		p := v.sql()
		p.editor.set(text)
		special := []Key{KeyEnter, KeyBackspace, KeyDelete, KeyTab, KeyLeft, KeyRight, KeyUp, KeyDown, KeyHome, KeyEnd, KeyPageUp, KeyPageDown, Ctrl | 'a', Ctrl | 'x', Ctrl | 'z', Ctrl | 'y'}
		for i, b := range typed[:min(len(typed), 200)] {
			k := Key(b & 0x7f)
			if b&0x80 != 0 {
				k = special[b&15] | Key(b>>4&1)*Shift | Key(b>>5&1)*Ctrl
			}
			in := press(k)
			in.Inside, in.Cursor = true, image.Pt(100+int(b)*3, 60+i)
			in.Press, in.Held = b%3 == 0, b%5 < 3
			v.Update(noon, in, v.st)
			e := &p.editor
			require.True(t, utf8.ValidString(e.text))
			require.True(t, 0 <= e.at && e.at <= len(e.text) && 0 <= e.mark && e.mark <= len(e.text))
			require.True(t, utf8.ValidString(e.text[:e.at]))
			require.LessOrEqual(t, len(e.text), longestText)
		}
	})
}

func TestColorSQL(t *testing.T) {
	sql := "SELECT 'it''s', \"x\", 12.5e3, a_b -- end\n/* two\nlines */ FROM t:x ORDER by 'open"
	got := ""
	for _, s := range colorSQL(sql, &dark) {
		kind := map[bool]string{true: "k"}[s.color == dark.keyword]
		switch s.color {
		case dark.literal:
			kind = "l"
		case dark.dim:
			kind = "c"
		}
		got += kind + "<" + sql[s.from:s.to] + ">"
	}
	assert.Equal(t, "k<SELECT>< >l<'it'>l<'s'><, >l<\"x\"><, >l<12.5e3><, ><a_b>< >c<-- end><\n>c</* two\nlines */>< >k<FROM>< ><t><:x>< >k<ORDER>< >k<by>< >l<'open>", got)
	for _, s := range []string{"", "'", "/*", "--", "/", "-", "漢字 'ü' :é"} {
		at := 0
		for _, sp := range colorSQL(s, &dark) {
			assert.Equal(t, at, sp.from)
			assert.Greater(t, sp.to, sp.from)
			at = sp.to
		}
		assert.Equal(t, len(s), at)
	}
}

// TestEditorMouse selects by dragging, and extends with Shift.
func TestEditorMouse(t *testing.T) {
	var v View
	v.Update(noon, frame("q"), state())
	p := v.sql()
	p.editor.set("one two\nthree")
	v.Update(noon, frame(""), v.st)
	x, y := at(t, &v, "one")
	char := v.canvas.width(typeface.Mono, editorSize, "m")
	left := int(x) - 3
	drag(&v, image.Pt(left+int(4.1*char), int(y)), image.Pt(left+int(2.1*char), int(y)+editorRow))
	e := &p.editor
	from, to := e.selection()
	assert.Equal(t, "two\nth", e.text[from:to])
	in := click(float64(left)+1, y)
	in.Shift = true
	v.Update(noon, in, v.st)
	from, to = e.selection()
	assert.Equal(t, "one ", e.text[from:to])
}
