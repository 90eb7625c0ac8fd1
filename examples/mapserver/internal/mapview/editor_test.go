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
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

func editing(text string) (*View, *editor) {
	v := &View{}
	e := &editor{}
	e.set(text)
	return v, e
}

func TestEditorKeys(t *testing.T) {
	tests := []struct {
		keys []ui.Key
		want string // with | for the cursor and [ ] around the selection
	}{
		{[]ui.Key{ui.KeyHome, 'x'}, "one two\nx|three"},
		{[]ui.Key{ui.KeyUp, 'x'}, "one tx|wo\nthree"},
		{[]ui.Key{ui.KeyLeft, ui.KeyBackspace}, "one two\nthr|e"},
		{[]ui.Key{ui.KeyLeft, ui.KeyLeft, ui.KeyDelete}, "one two\nthr|e"},
		{[]ui.Key{ui.Ctrl | ui.KeyHome, ui.KeyEnter}, "\n|one two\nthree"},
		{[]ui.Key{ui.Ctrl | ui.KeyLeft, ui.Ctrl | ui.KeyLeft, 'x'}, "one x|two\nthree"},
		{[]ui.Key{ui.Ctrl | ui.KeyHome, ui.Ctrl | ui.KeyRight, 'x'}, "onex| two\nthree"},
		{[]ui.Key{ui.Ctrl | ui.KeyBackspace}, "one two\n|"},
		{[]ui.Key{ui.Ctrl | ui.KeyHome, ui.Ctrl | ui.KeyDelete}, "| two\nthree"},
		{[]ui.Key{ui.Shift | ui.KeyHome}, "one two\n|[three]"},
		{[]ui.Key{ui.Shift | ui.KeyHome, 'x'}, "one two\nx|"},
		{[]ui.Key{ui.Shift | ui.KeyUp}, "one t|[wo\nthree]"},
		{[]ui.Key{ui.Shift | ui.KeyLeft, ui.KeyRight}, "one two\nthree|"},
		{[]ui.Key{ui.Shift | ui.KeyLeft, ui.Shift | ui.KeyLeft, ui.KeyLeft}, "one two\nthr|ee"},
		{[]ui.Key{ui.Ctrl | 'a', ui.KeyDelete}, "|"},
		{[]ui.Key{ui.Ctrl | 'a', ui.KeyDelete, ui.Ctrl | 'z'}, "[one two\nthree|]"},
		{[]ui.Key{'a', 'b', ui.Ctrl | 'z'}, "one two\nthree|"},
		{[]ui.Key{'a', 'b', ui.Ctrl | 'z', ui.Ctrl | 'y'}, "one two\nthreeab|"},
		{[]ui.Key{'a', ui.KeyEnter, 'b', ui.Ctrl | 'z', ui.Ctrl | 'z', ui.Ctrl | ui.Shift | 'z'}, "one two\nthreea\n|"},
		{[]ui.Key{ui.KeyTab}, "one two\nthree  |"},
		{[]ui.Key{ui.KeyUp, ui.KeyUp, ui.KeyDown}, "one two\n|three"},
		{[]ui.Key{ui.Ctrl | ui.KeyHome, ui.KeyDown, ui.KeyDown}, "one two\nthree|"},
		{[]ui.Key{ui.Shift | ui.Ctrl | ui.KeyHome}, "|[one two\nthree]"},
		{[]ui.Key{ui.Ctrl | ui.KeyHome, ui.Shift | ui.Ctrl | ui.KeyEnd}, "[one two\nthree|]"},
		{[]ui.Key{'ß', 'Ω', '漢', ui.KeyBackspace, ui.KeyLeft}, "one two\nthreeß|Ω"},
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
	e.key(v, ui.Ctrl|'c')
	assert.Empty(t, v.effects, "nothing is selected")
	e.key(v, ui.Shift|ui.Ctrl|ui.KeyLeft)
	e.key(v, ui.Ctrl|'c')
	assert.Equal(t, []Effect{Copy{"two"}}, v.effects)
	v.effects = nil
	e.key(v, ui.Ctrl|'x')
	assert.Equal(t, []Effect{Copy{"two"}}, v.effects)
	assert.Equal(t, "one ", e.text)
	v.effects = nil
	e.key(v, ui.Ctrl|'v')
	assert.Equal(t, []Effect{Paste{}}, v.effects)
	e.insert("a\r\nb\x00\x1b\u202ec\xff", false)
	assert.Equal(t, "one a\nbc?", e.text, "what is pasted is text")
	e.key(v, ui.Ctrl|'z')
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
		e.key(v, ui.KeyBackspace)
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
	keys := []ui.Key{'a', 'é', '漢', ui.KeyEnter, ui.KeyBackspace, ui.KeyDelete, ui.KeyLeft, ui.KeyRight, ui.KeyHome, ui.KeyEnd, ui.Ctrl | ui.KeyHome, ui.Ctrl | ui.KeyEnd, ui.Shift | ui.KeyLeft, ui.Shift | ui.KeyRight, ui.Ctrl | 'a'}
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
		case ui.KeyEnter:
			put('\n')
		case ui.KeyBackspace:
			if from == to {
				from = max(from-1, 0)
			}
			put()
		case ui.KeyDelete:
			if from == to {
				to = min(to+1, len(text))
			}
			put()
		case ui.KeyLeft, ui.KeyRight, ui.Shift | ui.KeyLeft, ui.Shift | ui.KeyRight:
			switch {
			case k == ui.KeyLeft && from != to:
				at = from
			case k == ui.KeyRight && from != to:
				at = to
			case k&^ui.Shift == ui.KeyLeft:
				at = max(at-1, 0)
			default:
				at = min(at+1, len(text))
			}
			if k&ui.Shift == 0 {
				mark = at
			}
		case ui.KeyHome:
			for at > 0 && text[at-1] != '\n' {
				at--
			}
			mark = at
		case ui.KeyEnd:
			for at < len(text) && text[at] != '\n' {
				at++
			}
			mark = at
		case ui.Ctrl | ui.KeyHome:
			at, mark = 0, 0
		case ui.Ctrl | ui.KeyEnd:
			at, mark = len(text), len(text)
		case ui.Ctrl | 'a':
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
		special := []ui.Key{ui.KeyEnter, ui.KeyBackspace, ui.KeyDelete, ui.KeyTab, ui.KeyLeft, ui.KeyRight, ui.KeyUp, ui.KeyDown, ui.KeyHome, ui.KeyEnd, ui.KeyPageUp, ui.KeyPageDown, ui.Ctrl | 'a', ui.Ctrl | 'x', ui.Ctrl | 'z', ui.Ctrl | 'y'}
		for i, b := range typed[:min(len(typed), 200)] {
			k := ui.Key(b & 0x7f)
			if b&0x80 != 0 {
				k = special[b&15] | ui.Key(b>>4&1)*ui.Shift | ui.Key(b>>5&1)*ui.Ctrl
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
		kind := map[bool]string{true: "k"}[s.color == dark.Keyword]
		switch s.color {
		case dark.Literal:
			kind = "l"
		case dark.Dim:
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
	char := v.canvas.Width(typeface.Mono, editorSize, "m")
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
