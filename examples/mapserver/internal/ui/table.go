package ui

import (
	"errors"
	"image/color"
	"slices"
	"strings"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
)

// The heights of a Table's titles and of each of its rows.
const (
	TableHead = 24
	TableRow  = 26
)

const (
	maxCell   = 260 // width of a column, if there is more than one
	minCell   = 34
	cellGap   = 16
	cellSize  = 12.5
	titleSize = 12
)

// A Column is one of a Table.
type Column struct {
	Title string
	Right bool // figures
	Mono  bool // addresses
	Link  bool // a click does something with what is in it
}

func (k *Column) font() typeface.Font {
	if k.Mono || k.Right {
		return typeface.Mono
	}
	return typeface.Regular
}

// Rows is what a Table shows. Rows are numbered from zero.
type Rows interface {
	Len() int
	Cell(row, col int) string
	Compare(a, b, col int) int
	Color(row int) color.NRGBA // of a mark before the row; transparent: none
	Faded(row int) bool        // the row is drawn dim
	Key(row int) any           // identifies the row in other Rows
}

// A Table shows rows, sorted by a column, with a cursor on a cell. Only rows that can be seen
// cost anything, but for sorting. The zero Table has no columns.
type Table struct {
	Columns []Column
	Changed bool // there are other rows: the next call sorts again

	scroller Scroller
	widths   []float64 // of the columns, by the rows that were shown so far
	order    []int32   // of rows, as sorted
	sort     int       // 1 more than the column, negative: descending, zero: as they come
	row, col int       // the cursor: in order, and its column
	chosen   any       // key of the cursor's row, nil: the cursor has not been set
	first    int       // column at the left edge
	page     int       // rows that are shown
	reveal   bool      // the cursor has moved by keys

	box    Box
	rows   Box // below the titles
	shown  int
	places []place
}

// NewTable returns a table whose cursor begins in a column.
func NewTable(columns []Column, col int) Table { return Table{Columns: columns, col: col} }

// A place is where a column is shown.
type place struct {
	col  int
	x, w float64
}

// box is the column between two lines, with half the gap at either side.
func (p place) box(y, h float64) Box { return At(p.x-cellGap/2, y, p.w+cellGap, h) }

// arrange sorts the rows again if they are others.
func (t *Table) arrange(r Rows) {
	if !t.Changed && len(t.order) == r.Len() {
		return
	}
	t.Changed = false
	t.order = t.order[:0]
	for i := range r.Len() {
		t.order = append(t.order, int32(i))
	}
	switch col := t.sort; {
	case col > 0:
		slices.SortStableFunc(t.order, func(a, b int32) int { return r.Compare(int(a), int(b), col-1) })
	case col < 0:
		slices.SortStableFunc(t.order, func(a, b int32) int { return r.Compare(int(b), int(a), -col-1) })
	}
	if t.chosen != nil {
		for i, n := range t.order {
			if r.Key(int(n)) == t.chosen {
				t.row = i
				return
			}
		}
	}
	t.row, t.chosen = max(0, min(t.row, len(t.order)-1)), nil
}

// Selected returns the row of the cursor, or -1.
func (t *Table) Selected() int {
	if t.chosen == nil || t.row >= len(t.order) {
		return -1
	}
	return int(t.order[t.row])
}

// Position returns the place of the cursor's row among the sorted ones.
func (t *Table) Position() int { return t.row }

// Order returns the rows as they are sorted. It is valid until the next call.
func (t *Table) Order() []int32 { return t.order }

// Moves reports whether the mouse scrolls the table.
func (t *Table) Moves(m Mouse) bool { return t.scroller.Moves(m) }

// Remeasure forgets how wide columns are: their texts have become others.
func (t *Table) Remeasure() { t.widths = nil }

// Layout sorts rows, and chooses those and the columns that are shown in a box.
func (t *Table) Layout(c *Canvas, b Box, r Rows) {
	t.arrange(r)
	t.box, t.rows = b, At(b.X, b.Y+TableHead, b.W, b.H-TableHead)
	t.shown, t.places = 0, t.places[:0]
	if len(t.widths) != len(t.Columns) {
		t.widths = make([]float64, len(t.Columns))
		for i, k := range t.Columns {
			t.widths[i] = max(minCell, c.Width(typeface.Medium, titleSize, k.Title)+14)
		}
	}
	if t.rows.H < TableRow {
		return
	}
	t.page = max(int(t.rows.H/TableRow), 1)
	if t.reveal {
		t.reveal = false
		t.scroller.Top = max(min(t.scroller.Top, t.row), t.row-t.page+1)
		t.first = min(t.first, t.col)
	}
	t.shown = t.scroller.Layout(t.rows, len(t.order), TableRow)
	t.measure(c, r)
	t.first = max(0, min(t.first, len(t.Columns)-1))
	t.placeColumns()
	// The cursor's column is to be seen whole.
	for t.chosen != nil && t.first < t.col && t.cut(t.col) {
		t.first++
		t.placeColumns()
	}
}

// measure widens columns to what is shown in them.
func (t *Table) measure(c *Canvas, r Rows) {
	for _, i := range t.visible() {
		for k := range t.Columns {
			f := t.Columns[k].font()
			t.widths[k] = max(t.widths[k], min(maxCell, c.Width(f, cellSize, c.Elide(f, cellSize, r.Cell(int(i), k), maxCell))))
		}
	}
}

// visible returns the rows that are shown.
func (t *Table) visible() []int32 { return t.order[t.scroller.Top : t.scroller.Top+t.shown] }

// placeColumns places the columns that have room. The last one takes what is left.
func (t *Table) placeColumns() {
	t.places = t.places[:0]
	x, end := t.box.X+10, t.box.X+t.box.W-BarWidth-4
	for k := t.first; k < len(t.Columns); k++ {
		w := t.widths[k]
		if x+w > end {
			// Part of a figure would be another figure.
			if room := end - x; room > minCell && (!t.Columns[k].Right || k == t.first) {
				t.places = append(t.places, place{k, x, room})
			}
			return
		}
		t.places = append(t.places, place{k, x, w})
		x += w + cellGap
	}
}

// cut reports whether a column beyond the first is not shown whole.
func (t *Table) cut(col int) bool {
	if len(t.places) == 0 {
		return false
	}
	last := t.places[len(t.places)-1]
	return col > last.col || col == last.col && last.w < t.widths[col]
}

// Mouse scrolls, sorts by a title that is pressed and sets the cursor. It returns the cell of
// a link that is pressed, or -1, -1.
func (t *Table) Mouse(m Mouse, r Rows) (row, col int) {
	row, col = -1, -1
	if m.Press && len(t.order) == r.Len() {
		row, col = t.press(m, r)
	}
	t.scroller.Mouse(m)
	return row, col
}

func (t *Table) press(m Mouse, r Rows) (row, col int) {
	at := int(m.Y-t.rows.Y) / TableRow
	for _, p := range t.places {
		switch {
		case m.Over(p.box(t.box.Y, TableHead)):
			t.SortBy(p.col)
		case m.Y >= t.rows.Y && at < t.shown && m.Over(p.box(t.rows.Y+float64(at)*TableRow, TableRow)):
			t.row, t.col = t.scroller.Top+at, p.col
			n := int(t.order[t.row])
			t.chosen = r.Key(n)
			if t.Columns[p.col].Link {
				return n, p.col
			}
		}
	}
	return -1, -1
}

// Draw draws the table. The cell of the cursor has a frame if keys go to the panel.
func (t *Table) Draw(c *Canvas, r Rows) {
	if len(t.places) == 0 {
		return
	}
	t.scroller.Draw(c)
	for _, p := range t.places {
		t.drawTitle(c, p)
	}
	c.Rect(At(t.box.X, t.rows.Y-2, t.box.W-BarWidth, 1), 0, c.Theme.Edge)
	for i, n := range t.visible() {
		t.drawRow(c, r, i, int(n))
	}
}

func (t *Table) drawTitle(c *Canvas, p place) {
	k := t.Columns[p.col]
	s := style{typeface.Medium, titleSize, c.Theme.Dim, k.Right}
	title := k.Title
	switch t.sort {
	case p.col + 1:
		title, s.color = title+" ↑", c.Theme.Text
	case -p.col - 1:
		title, s.color = title+" ↓", c.Theme.Text
	}
	if c.Hot(p.box(t.box.Y, TableHead)) {
		s.color = c.Theme.Accent
	}
	s.draw(c, p, t.box.Y+15, title)
}

// drawRow draws the row that is the i-th of those that are shown.
func (t *Table) drawRow(c *Canvas, r Rows, i, row int) {
	th := c.Theme
	line := At(t.rows.X, t.rows.Y+float64(i)*TableRow, t.rows.W-BarWidth, TableRow)
	at := t.scroller.Top + i
	chosen := t.chosen != nil && at == t.row
	switch {
	case chosen:
		c.Rect(line, 3, th.Chosen)
	case c.Hot(line):
		c.Rect(line, 3, th.Edge)
	case at%2 == 1:
		c.Rect(line, 3, th.Alternate)
	}
	if col := r.Color(row); col.A > 0 {
		bar := At(line.X+2, line.Y+5, 3, TableRow-10)
		c.Rect(bar.Grow(1), 2, th.Rim)
		c.Rect(bar, 1.5, Opaque(col))
	}
	text := th.Text
	if r.Faded(row) {
		text = th.Dim
	}
	for _, p := range t.places {
		k := &t.Columns[p.col]
		s := style{k.font(), cellSize, text, k.Right}
		if k.Link && c.Hot(p.box(line.Y, TableRow)) {
			s.color = th.Accent
		}
		if chosen && p.col == t.col && c.Focused {
			c.Frame(At(p.x-5, line.Y+2, p.w+10, TableRow-4), 3, 1, th.Accent)
		}
		s.draw(c, p, line.Y+17, r.Cell(row, p.col))
	}
}

// A style is how a text of a table is written.
type style struct {
	font  typeface.Font
	size  float64
	color color.NRGBA
	right bool
}

// draw writes a text into a column, as far as it fits.
func (s style) draw(c *Canvas, p place, y float64, text string) {
	text = c.Elide(s.font, s.size, text, p.w)
	if s.right {
		c.TextRight(p.x+p.w, y, s.font, s.size, s.color, text)
	} else {
		c.Text(p.x, y, s.font, s.size, s.color, text)
	}
}

// SortBy sorts by a column: up, then down, then as the rows come.
func (t *Table) SortBy(col int) {
	switch t.sort {
	case col + 1:
		t.sort = -col - 1
	case -col - 1:
		t.sort = 0
	default:
		t.sort = col + 1
	}
	t.Changed = true
}

// Key moves the cursor, and reports whether it was a key for that.
func (t *Table) Key(k Key, r Rows) bool {
	t.arrange(r)
	if len(t.order) == 0 {
		return false
	}
	row, col := t.row, t.col
	switch k {
	case KeyUp:
		row--
	case KeyDown:
		row++
	case KeyPageUp:
		row -= max(t.page-1, 1)
	case KeyPageDown:
		row += max(t.page-1, 1)
	case KeyHome:
		row = 0
	case KeyEnd:
		row = len(t.order) - 1
	case KeyLeft:
		col--
	case KeyRight:
		col++
	default:
		return false
	}
	if t.chosen == nil && k != KeyHome && k != KeyEnd {
		row = t.row // the first key only shows the cursor
	}
	t.row, t.col = max(0, min(row, len(t.order)-1)), max(0, min(col, len(t.Columns)-1))
	t.chosen, t.reveal = r.Key(int(t.order[t.row])), true
	return true
}

// A Part is a part of a Table.
type Part int

// What of a table is copied.
const (
	Cell Part = iota + 1 // of the cursor
	Row                  // of the cursor
	All                  // all rows, and the titles
)

// CopyKey returns what a key copies of a table, zero: nothing.
func CopyKey(k Key) Part {
	switch k {
	case Ctrl | 'c':
		return Cell
	case Ctrl | Shift | 'c':
		return Row
	case Ctrl | 'a':
		return All
	}
	return 0
}

// Text returns a part of the table as lines, with tabs between the cells. Its errors are for
// people.
func (t *Table) Text(r Rows, part Part) (string, error) {
	t.arrange(r)
	at := t.Selected()
	switch {
	case len(t.Columns) == 0:
		return "", errors.New("there is nothing to copy yet")
	case part != All && at < 0:
		return "", errors.New("choose a row first")
	case part == Cell:
		return r.Cell(at, t.col), nil
	}
	var s strings.Builder
	line := func(cell func(col int) string) {
		for k := range t.Columns {
			if k > 0 {
				s.WriteByte('\t')
			}
			s.WriteString(cell(k))
		}
	}
	row := func(row int) { line(func(col int) string { return OneLine(r.Cell(row, col)) }) }
	if part == Row {
		row(at)
		return s.String(), nil
	}
	line(func(col int) string { return t.Columns[col].Title })
	s.WriteByte('\n')
	for _, i := range t.order {
		row(int(i))
		s.WriteByte('\n')
	}
	return s.String(), nil
}

// OneLine keeps a text on its line and in its column.
func OneLine(s string) string { return oneLine.Replace(s) }

var oneLine = strings.NewReplacer("\t", " ", "\n", " ", "\r", " ")
