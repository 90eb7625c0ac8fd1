package ui

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
)

const (
	EditorRow = 18       // height of a line of an Editor
	MaxText   = 64 << 10 // bytes of its text

	editorSize = 13
	maxUndos   = 200
)

// An Editor edits a text of several lines, in SQL. Positions are bytes of it. Copying and
// pasting is up to its owner. The zero Editor is empty.
type Editor struct {
	text      string
	at, mark  int // the cursor, and the other end of the selection
	undos     []edit
	redos     []edit
	typing    bool // the last edit can grow
	selecting bool // the mouse does
	reveal    bool // the cursor has moved by keys

	scroller Scroller
	box      Box      // of the text and the bar
	lines    []string // of the text
	shown    int      // lines
	page     int      // lines that have room
	left     int      // characters scrolled out at the left
	columns  int      // characters of a line that have room
	char     float64  // width of a character
}

// An edit is how a text was before it was changed.
type edit struct {
	text     string
	at, mark int
}

// NewEditor returns an editor of a text.
func NewEditor(text string) Editor {
	text = clip(text)
	return Editor{text: text, at: len(text), mark: len(text), reveal: true}
}

// Text returns the text.
func (e *Editor) Text() string { return e.text }

// Selected returns what is selected.
func (e *Editor) Selected() string {
	from, to := e.selection()
	return e.text[from:to]
}

// Set replaces the text, which can be undone.
func (e *Editor) Set(text string) {
	e.save()
	e.text = clip(text)
	e.at, e.mark = len(e.text), len(e.text)
	e.typing, e.reveal = false, true
}

// clip returns a text as an editor can hold it, without what does not fit.
func clip(s string) string {
	s = plain(s)
	if len(s) > MaxText {
		end := MaxText
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
		if r == '\n' || r == '\t' || Key(r).Rune() != 0 && !unicode.Is(unicode.Bidi_Control, r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(s, "?"))
}

func (e *Editor) save() {
	e.undos = append(e.undos, edit{e.text, e.at, e.mark})
	if len(e.undos) > maxUndos {
		e.undos = e.undos[1:]
	}
	e.redos = nil
}

func (e *Editor) selection() (from, to int) { return min(e.at, e.mark), max(e.at, e.mark) }

// Insert puts a text in place of the selection. It reports false if all would be too
// long, and changes nothing then.
func (e *Editor) Insert(s string, typed bool) (fits bool) {
	from, to := e.selection()
	s = plain(s)
	if len(e.text)-(to-from)+len(s) > MaxText {
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
func (e *Editor) restore(from, to *[]edit) {
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

func (e *Editor) lineStart(at int) int { return strings.LastIndexByte(e.text[:at], '\n') + 1 }

func (e *Editor) lineEnd(at int) int {
	if i := strings.IndexByte(e.text[at:], '\n'); i >= 0 {
		return at + i
	}
	return len(e.text)
}

func (e *Editor) before(at int) int {
	_, n := utf8.DecodeLastRuneInString(e.text[:at])
	return at - n
}

func (e *Editor) after(at int) int {
	_, n := utf8.DecodeRuneInString(e.text[at:])
	return at + n
}

func wordRune(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// word returns the edge of a word before or after a position.
func (e *Editor) word(at int, forward bool) int {
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
func (e *Editor) line(at, by int) int {
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

// Key takes in a key and reports whether it means something to an editor.
func (e *Editor) Key(k Key) bool {
	if to, ok := e.target(k); ok {
		e.at = to
		if k&Shift == 0 {
			e.mark = to
		}
		e.typing, e.reveal = false, true
		return true
	}
	return e.change(k)
}

// target returns where a key moves the cursor.
func (e *Editor) target(k Key) (to int, ok bool) {
	from, end := e.selection()
	// Without Shift a selection ends at the side to which the cursor moves.
	leave := from != end && k&Shift == 0
	switch k &^ Shift {
	case Ctrl | KeyLeft:
		return e.word(e.at, false), true
	case Ctrl | KeyRight:
		return e.word(e.at, true), true
	case Ctrl | KeyHome:
		return 0, true
	case Ctrl | KeyEnd:
		return len(e.text), true
	}
	switch k &^ Shift &^ Ctrl {
	case KeyLeft:
		if leave {
			return from, true
		}
		return e.before(e.at), true
	case KeyRight:
		if leave {
			return end, true
		}
		return e.after(e.at), true
	case KeyUp:
		return e.line(e.at, -1), true
	case KeyDown:
		return e.line(e.at, 1), true
	case KeyPageUp:
		return e.line(e.at, -max(e.page-1, 1)), true
	case KeyPageDown:
		return e.line(e.at, max(e.page-1, 1)), true
	case KeyHome:
		return e.lineStart(e.at), true
	case KeyEnd:
		return e.lineEnd(e.at), true
	}
	return 0, false
}

// change changes the text, or what of it is selected, and reports whether a key does.
func (e *Editor) change(k Key) bool {
	if plain := k &^ Shift &^ Ctrl; plain == KeyBackspace || plain == KeyDelete {
		k &^= Shift // held for a capital
	}
	switch k {
	case KeyEnter, Shift | KeyEnter:
		e.Insert("\n", true)
	case KeyTab:
		e.Insert("  ", true)
	case KeyBackspace:
		e.delete(e.before(e.at))
	case KeyDelete:
		e.delete(e.after(e.at))
	case Ctrl | KeyBackspace:
		e.delete(e.word(e.at, false))
	case Ctrl | KeyDelete:
		e.delete(e.word(e.at, true))
	case Ctrl | 'a':
		e.mark, e.at = 0, len(e.text)
	case Ctrl | 'z':
		e.restore(&e.undos, &e.redos)
	case Ctrl | 'y', Ctrl | Shift | 'z':
		e.restore(&e.redos, &e.undos)
	default:
		if k.Rune() == 0 {
			return false
		}
		e.Insert(string(k.Rune()), true)
	}
	return true
}

// delete takes out what is selected, or else what is between the cursor and a position.
func (e *Editor) delete(to int) {
	if e.at == e.mark {
		e.mark = to
	}
	e.Insert("", false)
}

// Layout gives the editor its place.
func (e *Editor) Layout(c *Canvas, b Box) {
	e.box, e.shown = At(b.X+8, b.Y+5, b.W-8, b.H-8), 0
	if e.box.H < EditorRow || e.box.W < 40 {
		return
	}
	e.char = c.Width(typeface.Mono, editorSize, "m")
	e.columns = max(int((e.box.W-BarWidth-6)/e.char), 4)
	e.lines = slices.AppendSeq(e.lines[:0], strings.SplitSeq(e.text, "\n"))
	e.page = max(int(e.box.H/EditorRow), 1)
	if e.reveal {
		e.reveal = false
		e.showCursor()
	}
	e.shown = e.scroller.Layout(e.box, len(e.lines), EditorRow)
}

// showCursor scrolls as little as brings the cursor into sight.
func (e *Editor) showCursor() {
	row := strings.Count(e.text[:e.at], "\n")
	e.scroller.Top = max(min(e.scroller.Top, row), row-e.page+1)
	column := utf8.RuneCountInString(e.text[e.lineStart(e.at):e.at])
	e.left = max(min(e.left, column), column-e.columns+1)
	// Nothing stays scrolled out that has room.
	longest := 0
	for _, line := range e.lines {
		longest = max(longest, utf8.RuneCountInString(line))
	}
	e.left = min(e.left, max(longest+1-e.columns, 0))
}

// Draw draws the text in the box of an editor, with a cursor if keys go to it. wrong is where
// a mistake is, or negative.
func (e *Editor) Draw(c *Canvas, b Box, focused bool, wrong int) {
	t := c.Theme
	c.Rect(b, 5, t.Alternate)
	edge := t.Edge
	if focused {
		edge = t.Dim
	}
	c.Frame(b, 5, 1, edge)
	if e.shown == 0 {
		return
	}
	e.scroller.Draw(c)
	spans := colorSQL(e.text, t)
	start := 0
	for i, text := range e.lines {
		l := textLine{e, text, start, e.box.Y + float64(i-e.scroller.Top)*EditorRow}
		start += len(text) + 1
		if i < e.scroller.Top || i >= e.scroller.Top+e.shown {
			continue
		}
		l.drawSelection(c)
		for _, s := range spans {
			l.drawSpan(c, s)
		}
		if wrong >= l.start && wrong <= l.end() {
			l.underline(c, wrong)
		}
		if focused && e.at >= l.start && e.at <= l.end() {
			l.drawCursor(c)
		}
	}
}

// A textLine is a line of an editor where it is drawn.
type textLine struct {
	e     *Editor
	text  string
	start int // in the editor's text
	y     float64
}

func (l textLine) end() int { return l.start + len(l.text) }

// column returns which character from the left edge a position is, negative: it is scrolled
// out.
func (l textLine) column(at int) int {
	return utf8.RuneCountInString(l.text[:min(max(at-l.start, 0), len(l.text))]) - l.e.left
}

// x returns where a column begins, or the edge that it is beyond.
func (l textLine) x(column int) float64 {
	return l.e.box.X + float64(max(min(column, l.e.columns), 0))*l.e.char
}

func (l textLine) drawSelection(c *Canvas) {
	from, to := l.e.selection()
	if from >= to || from > l.end() || to < l.start {
		return
	}
	left, right := l.x(l.column(from)), l.x(l.column(to))
	if to > l.end() {
		right += l.e.char / 2
	}
	if right > left {
		c.Rect(At(left, l.y, right-left, EditorRow), 0, c.Theme.Chosen)
	}
}

// drawSpan writes what of a span is in the line and in sight.
func (l textLine) drawSpan(c *Canvas, s span) {
	from, to := max(s.from, l.start), min(s.to, l.end())
	if from >= to {
		return
	}
	text := []rune(l.e.text[from:to])
	column := l.column(from)
	if column < 0 {
		text = text[min(-column, len(text)):]
		column = 0
	}
	if column >= l.e.columns {
		return
	}
	text = text[:min(len(text), l.e.columns-column)]
	c.Text(l.x(column), l.y+13.5, typeface.Mono, editorSize, s.color, strings.ReplaceAll(string(text), "\t", " "))
}

// underline marks the word that begins at a position.
func (l textLine) underline(c *Canvas, at int) {
	to := at
	for to < l.end() && wordRune(rune(l.e.text[to])) {
		to++
	}
	left := l.x(l.column(at))
	c.Rect(At(left, l.y+EditorRow-2.5, max(l.x(l.column(to))-left, l.e.char), 2), 0, c.Theme.Wrong)
}

func (l textLine) drawCursor(c *Canvas) {
	if col := l.column(l.e.at); col >= 0 && col <= l.e.columns {
		c.Rect(At(l.x(col)-0.5, l.y+1, 1.5, EditorRow-2), 0, c.Theme.Accent)
	}
}

// Mouse scrolls, sets the cursor and selects.
func (e *Editor) Mouse(m Mouse) {
	if e.shown == 0 {
		return
	}
	pressed := m.Clicked(At(e.box.X, e.box.Y, e.box.W-BarWidth, e.box.H))
	e.selecting = m.Held && e.selecting || pressed
	if e.selecting {
		e.at, e.typing = e.position(m), false
		if pressed && !m.Shift {
			e.mark = e.at
		}
	}
	e.scroller.Mouse(m)
}

// position returns where in the text the mouse is.
func (e *Editor) position(m Mouse) int {
	row := e.scroller.Top + max(min(int((m.Y-e.box.Y)/EditorRow), e.shown-1), 0)
	at := 0
	for ; row > 0; row-- {
		at = min(e.lineEnd(at)+1, len(e.text))
	}
	end := e.lineEnd(at)
	for col := int((m.X-e.box.X)/e.char+0.5) + e.left; col > 0 && at < end; col-- {
		at = e.after(at)
	}
	return at
}
