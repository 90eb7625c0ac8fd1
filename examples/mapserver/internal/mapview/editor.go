package mapview

import (
	"image/color"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

const (
	editorRow   = 18
	editorSize  = 13
	longestText = 64 << 10 // bytes
	mostUndos   = 200
)

// An editor edits a text of several lines. Positions are bytes of it. The zero
// editor is empty.
type editor struct {
	scroller
	text      string
	at, mark  int // the cursor, and the other end of the selection
	left      int // characters scrolled out at the left
	undos     []edit
	redos     []edit
	typing    bool // the last edit can grow
	selecting bool
	page      int
	reveal    bool
}

// An edit is how a text was before it was changed.
type edit struct {
	text     string
	at, mark int
}

// set replaces the text, which can be undone.
func (e *editor) set(text string) {
	e.save()
	e.text = clip(text)
	e.at, e.mark = len(e.text), len(e.text)
	e.typing, e.reveal = false, true
}

// clip returns a text as an editor can hold it, without what does not fit.
func clip(s string) string {
	s = plain(s)
	if len(s) > longestText {
		end := longestText
		for !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	return s
}

// plain returns a text with the line ends of an editor and without control characters.
func plain(s string) string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || ui.Key(r).Rune() != 0 && !unicode.Is(unicode.Bidi_Control, r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(s, "?"))
}

func (e *editor) save() {
	e.undos = append(e.undos, edit{e.text, e.at, e.mark})
	if len(e.undos) > mostUndos {
		e.undos = e.undos[1:]
	}
	e.redos = nil
}

func (e *editor) selection() (from, to int) { return min(e.at, e.mark), max(e.at, e.mark) }

// insert puts a text in place of the selection. It reports false if all would be too
// long, and changes nothing then.
func (e *editor) insert(s string, typed bool) (fits bool) {
	from, to := e.selection()
	s = plain(s)
	if len(e.text)-(to-from)+len(s) > longestText {
		return false
	}
	if s == "" && from == to {
		return true
	}
	if !typed || !e.typing || from != to {
		e.save()
	}
	e.typing = typed && s != "\n"
	e.text = e.text[:from] + s + e.text[to:]
	e.at, e.mark = from+len(s), from+len(s)
	e.reveal = true
	return true
}

// restore moves an edit from one stack to the other.
func (e *editor) restore(from, to *[]edit) {
	n := len(*from)
	if n == 0 {
		return
	}
	was := (*from)[n-1]
	*from = (*from)[:n-1]
	*to = append(*to, edit{e.text, e.at, e.mark})
	e.text, e.at, e.mark = was.text, was.at, was.mark
	e.typing, e.reveal = false, true
}

func (e *editor) lineStart(at int) int { return strings.LastIndexByte(e.text[:at], '\n') + 1 }

func (e *editor) lineEnd(at int) int {
	if i := strings.IndexByte(e.text[at:], '\n'); i >= 0 {
		return at + i
	}
	return len(e.text)
}

func (e *editor) before(at int) int {
	_, n := utf8.DecodeLastRuneInString(e.text[:at])
	return at - n
}

func (e *editor) after(at int) int {
	_, n := utf8.DecodeRuneInString(e.text[at:])
	return at + n
}

func wordRune(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// word returns the edge of a word before or after a position.
func (e *editor) word(at int, forward bool) int {
	next := func() (rune, int) {
		if forward {
			return utf8.DecodeRuneInString(e.text[at:])
		}
		r, n := utf8.DecodeLastRuneInString(e.text[:at])
		return r, -n
	}
	inside := false
	for {
		r, n := next()
		if n == 0 || inside && !wordRune(r) {
			return at
		}
		inside = inside || wordRune(r)
		at += n
	}
}

// line moves a position by lines, in its column if there is one.
func (e *editor) line(at, by int) int {
	column := utf8.RuneCountInString(e.text[e.lineStart(at):at])
	start := e.lineStart(at)
	for ; by < 0; by++ {
		if start == 0 {
			return 0
		}
		start = e.lineStart(start - 1)
	}
	for ; by > 0; by-- {
		end := e.lineEnd(start)
		if end == len(e.text) {
			return end
		}
		start = end + 1
	}
	end := e.lineEnd(start)
	for ; column > 0 && start < end; column-- {
		start = e.after(start)
	}
	return start
}

// key takes in a key and reports whether it means something to an editor.
func (e *editor) key(v *View, k ui.Key) bool {
	extend := k&ui.Shift != 0
	if plain := k &^ ui.Shift &^ ui.Ctrl; plain == ui.KeyBackspace || plain == ui.KeyDelete {
		k &^= ui.Shift // held for a capital
	}
	ctrl := k&ui.Ctrl != 0
	to := -1
	switch plain := k &^ ui.Shift &^ ui.Ctrl; {
	case k == ui.KeyEnter || k == ui.Shift|ui.KeyEnter:
		e.insert("\n", true)
	case k == ui.KeyTab:
		e.insert("  ", true)
	case k == ui.KeyBackspace || k == ui.KeyDelete || k == ui.Ctrl|ui.KeyBackspace || k == ui.Ctrl|ui.KeyDelete:
		if from, end := e.selection(); from == end {
			switch k {
			case ui.KeyBackspace:
				e.mark = e.before(e.at)
			case ui.KeyDelete:
				e.mark = e.after(e.at)
			case ui.Ctrl | ui.KeyBackspace:
				e.mark = e.word(e.at, false)
			case ui.Ctrl | ui.KeyDelete:
				e.mark = e.word(e.at, true)
			}
		}
		e.insert("", false)
	case plain == ui.KeyLeft && ctrl:
		to = e.word(e.at, false)
	case plain == ui.KeyRight && ctrl:
		to = e.word(e.at, true)
	case plain == ui.KeyLeft:
		if from, end := e.selection(); from != end && !extend {
			to = from
		} else {
			to = e.before(e.at)
		}
	case plain == ui.KeyRight:
		if from, end := e.selection(); from != end && !extend {
			to = end
		} else {
			to = e.after(e.at)
		}
	case plain == ui.KeyUp:
		to = e.line(e.at, -1)
	case plain == ui.KeyDown:
		to = e.line(e.at, 1)
	case plain == ui.KeyPageUp:
		to = e.line(e.at, -max(e.page-1, 1))
	case plain == ui.KeyPageDown:
		to = e.line(e.at, max(e.page-1, 1))
	case plain == ui.KeyHome && ctrl:
		to = 0
	case plain == ui.KeyEnd && ctrl:
		to = len(e.text)
	case plain == ui.KeyHome:
		to = e.lineStart(e.at)
	case plain == ui.KeyEnd:
		to = e.lineEnd(e.at)
	case k == ui.Ctrl|'a':
		e.mark, e.at = 0, len(e.text)
	case k == ui.Ctrl|'c', k == ui.Ctrl|'x':
		from, end := e.selection()
		if from == end {
			break
		}
		v.ask(Copy{Text: e.text[from:end]})
		if k == ui.Ctrl|'x' {
			e.insert("", false)
		}
	case k == ui.Ctrl|'v':
		v.ask(Paste{})
	case k == ui.Ctrl|'z':
		e.restore(&e.undos, &e.redos)
	case k == ui.Ctrl|'y', k == ui.Ctrl|ui.Shift|'z':
		e.restore(&e.redos, &e.undos)
	case k.Rune() != 0:
		e.insert(string(k.Rune()), true)
	default:
		return false
	}
	if to >= 0 {
		e.at = to
		if !extend {
			e.mark = to
		}
		e.typing, e.reveal = false, true
	}
	return true
}

// A span is a part of a text in one colour.
type span struct {
	from, to int
	color    color.NRGBA
}

// show draws the text, with a cursor if keys go to it. wrong is where a mistake is, or negative.
func (e *editor) show(v *View, b ui.Box, focused bool, wrong int) {
	c, t := &v.canvas, v.theme
	c.Rect(b, 5, t.Alternate)
	edge := t.Edge
	if focused {
		edge = t.Dim
	}
	c.Frame(b, 5, 1, edge)
	in := ui.At(b.X+8, b.Y+5, b.W-8, b.H-8)
	if in.H < editorRow || in.W < 40 {
		return
	}
	char := c.Width(typeface.Mono, editorSize, "m")
	fit := max(int((in.W-barWidth-6)/char), 4)
	lines := strings.Split(e.text, "\n")
	e.page = max(int(in.H/editorRow), 1)
	if e.reveal {
		e.reveal = false
		at := strings.Count(e.text[:e.at], "\n")
		e.top = max(min(e.top, at), at-e.page+1)
		column := utf8.RuneCountInString(e.text[e.lineStart(e.at):e.at])
		e.left = max(min(e.left, column), column-fit+1)
		// Nothing stays scrolled out that has room.
		longest := 0
		for _, line := range lines {
			longest = max(longest, utf8.RuneCountInString(line))
		}
		e.left = min(e.left, max(longest+1-fit, 0))
	}
	n := e.scroller.show(v, in, len(lines), editorRow)
	e.mouse(v, ui.At(in.X, in.Y, in.W-barWidth, in.H), char, n)
	spans := colorSQL(e.text, t)
	start := 0
	for i, line := range lines {
		if i >= e.top && i < e.top+n {
			y := in.Y + float64(i-e.top)*editorRow
			e.showLine(v, in.X, y, char, fit, start, line, spans, focused, wrong)
		}
		start += len(line) + 1
	}
}

func (e *editor) showLine(v *View, x, y, char float64, fit, start int, line string, spans []span, focused bool, wrong int) {
	c, t := &v.canvas, v.theme
	column := func(at int) int { return utf8.RuneCountInString(line[:min(max(at-start, 0), len(line))]) - e.left }
	place := func(col int) float64 { return x + float64(max(min(col, fit), 0))*char }
	end := start + len(line)
	if from, to := e.selection(); from < to && from <= end && to >= start {
		l, r := place(column(from)), place(column(to))
		if to > end {
			r += char / 2
		}
		if r > l {
			c.Rect(ui.At(l, y, r-l, editorRow), 0, t.Chosen)
		}
	}
	for _, s := range spans {
		from, to := max(s.from, start), min(s.to, end)
		if from >= to {
			continue
		}
		text := []rune(e.text[from:to])
		col := column(from)
		if col < 0 {
			text = text[min(-col, len(text)):]
			col = 0
		}
		if col >= fit {
			continue
		}
		text = text[:min(len(text), fit-col)]
		c.Text(place(col), y+13.5, typeface.Mono, editorSize, s.color, strings.ReplaceAll(string(text), "\t", " "))
	}
	if wrong >= start && wrong <= end {
		to := wrong
		for to < end && wordRune(rune(e.text[to])) {
			to++
		}
		l := place(column(wrong))
		c.Rect(ui.At(l, y+editorRow-2.5, max(place(column(to))-l, char), 2), 0, t.Wrong)
	}
	if focused && e.at >= start && e.at <= end {
		if col := column(e.at); col >= 0 && col <= fit {
			c.Rect(ui.At(place(col)-0.5, y+1, 1.5, editorRow-2), 0, t.Accent)
		}
	}
}

// mouse sets the cursor and selects.
func (e *editor) mouse(v *View, in ui.Box, char float64, rows int) {
	if !v.in.Held {
		e.selecting = false
	}
	pressed := v.clicked(in)
	if !pressed && !e.selecting {
		return
	}
	x, y := v.cursor()
	row := e.top + max(min(int((y-in.Y)/editorRow), rows-1), 0)
	at := 0
	for ; row > 0; row-- {
		at = min(e.lineEnd(at)+1, len(e.text))
	}
	end := e.lineEnd(at)
	for col := int((x-in.X)/char+0.5) + e.left; col > 0 && at < end; col-- {
		at = e.after(at)
	}
	e.at = at
	if pressed {
		e.selecting = true
		if !v.in.Shift {
			e.mark = at
		}
	}
	e.typing = false
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

// colorSQL divides a text into spans by what they are.
func colorSQL(s string, t *theme) (spans []span) {
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
