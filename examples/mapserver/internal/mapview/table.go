package mapview

import (
	"image/color"
	"slices"
	"strings"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

const (
	tableHead  = 24
	tableRow   = 26
	widestCell = 260
	narrowCell = 34
	cellGap    = 16
	cellSize   = 12.5
)

// A column is one of a table.
type column struct {
	title string
	right bool // figures
	mono  bool // addresses
	link  bool // a click opens what is in it
}

// rows is what a table shows. Rows are numbered from zero.
type rows interface {
	len() int
	cell(row, col int) string
	compare(a, b, col int) int
	color(row int) color.NRGBA // of its rule; transparent: none
	key(row int) any           // tells the row again when rows have changed
}

// A table shows rows of which only those that can be seen cost anything. The zero
// table is ready for use.
type table struct {
	scroller
	columns  []column
	widths   []float64 // of what was shown so far
	order    []int32   // of rows, as sorted
	sort     int       // 1 more than the column, negative: descending, zero: as they come
	row, col int       // the cursor: in order, and its column
	chosen   any       // key of the cursor's row, nil: the cursor has not been set
	first    int       // column at the left edge
	page     int       // rows that are shown
	reveal   bool      // the cursor has moved by keys
	changed  bool      // rows are not those of order
}

// arrange sorts the rows again if they are others.
func (t *table) arrange(r rows) {
	if !t.changed && len(t.order) == r.len() {
		return
	}
	t.changed = false
	t.order = t.order[:0]
	for i := range r.len() {
		t.order = append(t.order, int32(i))
	}
	switch col := t.sort; {
	case col > 0:
		slices.SortStableFunc(t.order, func(a, b int32) int { return r.compare(int(a), int(b), col-1) })
	case col < 0:
		slices.SortStableFunc(t.order, func(a, b int32) int { return r.compare(int(b), int(a), -col-1) })
	}
	if t.chosen != nil {
		for i, n := range t.order {
			if r.key(int(n)) == t.chosen {
				t.row = i
				return
			}
		}
	}
	t.row, t.chosen = max(0, min(t.row, len(t.order)-1)), nil
}

// selected returns the row of the cursor, or -1.
func (t *table) selected() int {
	if t.chosen == nil || t.row >= len(t.order) {
		return -1
	}
	return int(t.order[t.row])
}

// show draws the table and returns the row and column of a link that was clicked, or
// -1, -1.
func (t *table) show(v *View, b ui.Box, r rows) (row, col int) {
	row, col = -1, -1
	t.arrange(r)
	c, th := &v.canvas, v.theme
	if len(t.widths) != len(t.columns) {
		t.widths = make([]float64, len(t.columns))
		for i, k := range t.columns {
			t.widths[i] = max(narrowCell, c.Width(typeface.Medium, 12, k.title)+14)
		}
	}
	body := ui.At(b.X, b.Y+tableHead, b.W, b.H-tableHead)
	if body.H < tableRow {
		return
	}
	t.page = max(int(body.H/tableRow), 1)
	if t.reveal {
		t.reveal = false
		t.top = max(min(t.top, t.row), t.row-t.page+1)
		t.first = min(t.first, t.col)
	}
	n := t.scroller.show(v, body, len(t.order), tableRow)
	for _, i := range t.order[t.top : t.top+n] {
		for k := range t.columns {
			t.widths[k] = max(t.widths[k], min(widestCell, c.Width(t.font(k), cellSize, c.Elide(t.font(k), cellSize, r.cell(int(i), k), widestCell))))
		}
	}
	// The last column that is shown takes what is left.
	type place struct {
		col  int
		x, w float64
	}
	var places []place
	x, end := b.X+10, b.X+b.W-barWidth-4
	t.first = max(0, min(t.first, len(t.columns)-1))
	for k := t.first; k < len(t.columns); k++ {
		w := t.widths[k]
		if x+w > end {
			// Part of a figure would be another figure.
			if room := end - x; room > narrowCell && (!t.columns[k].right || k == t.first) {
				places = append(places, place{k, x, room})
			}
			break
		}
		places = append(places, place{k, x, w})
		x += w + cellGap
	}
	if len(places) == 0 {
		return
	}
	// The cursor's column is to be seen whole, a column at a time.
	last := places[len(places)-1]
	if t.chosen != nil && t.first < t.col && (t.col > last.col || t.col == last.col && last.w < t.widths[last.col]) {
		t.first++
		v.again = true
	}
	for _, p := range places {
		k := t.columns[p.col]
		head := ui.At(p.x-cellGap/2, b.Y, p.w+cellGap, tableHead)
		title, colour := k.title, th.Dim
		switch t.sort {
		case p.col + 1:
			title, colour = title+" ↑", th.Text
		case -p.col - 1:
			title, colour = title+" ↓", th.Text
		}
		if v.hot(head) {
			colour = th.Accent
			if v.in.Press {
				t.sortBy(p.col)
				v.again = true
			}
		}
		t.cell(c, p.x, b.Y+15, p.w, typeface.Medium, 12, colour, title, k.right)
	}
	c.Rect(ui.At(b.X, b.Y+tableHead-2, b.W-barWidth, 1), 0, th.Edge)
	for i := t.top; i < t.top+n; i++ {
		line := ui.At(b.X, body.Y+float64(i-t.top)*tableRow, b.W-barWidth, tableRow)
		at := int(t.order[i])
		chosen := t.chosen != nil && i == t.row
		switch {
		case chosen:
			c.Rect(line, 3, th.Chosen)
		case v.hot(line):
			c.Rect(line, 3, th.Edge)
		case i%2 == 1:
			c.Rect(line, 3, th.Alternate)
		}
		if col := r.color(at); col.A > 0 {
			bar := ui.At(line.X+2, line.Y+5, 3, tableRow-10)
			c.Rect(bar.Grow(1), 2, th.Rim)
			c.Rect(bar, 1.5, ui.Opaque(col))
		}
		for _, p := range places {
			k := t.columns[p.col]
			here := ui.At(p.x-cellGap/2, line.Y, p.w+cellGap, tableRow)
			colour := th.Text
			if f, ok := r.(interface{ faded(row int) bool }); ok && f.faded(at) {
				colour = th.Dim
			}
			hot := v.hot(here)
			if hot && k.link {
				colour = th.Accent
			}
			if chosen && p.col == t.col && v.focused() {
				c.Frame(ui.At(p.x-5, line.Y+2, p.w+10, tableRow-4), 3, 1, th.Accent)
			}
			t.cell(c, p.x, line.Y+17, p.w, t.font(p.col), cellSize, colour, r.cell(at, p.col), k.right)
			if hot && v.in.Press {
				t.row, t.col, t.chosen = i, p.col, r.key(at)
				v.again = true
				if k.link {
					row, col = at, p.col
				}
			}
		}
	}
	return row, col
}

func (t *table) font(col int) typeface.Font {
	if k := t.columns[col]; k.mono || k.right {
		return typeface.Mono
	}
	return typeface.Regular
}

func (t *table) cell(c *ui.Canvas, x, y, w float64, f typeface.Font, size float64, col color.NRGBA, s string, right bool) {
	s = c.Elide(f, size, s, w)
	if right {
		c.TextRight(x+w, y, f, size, col, s)
	} else {
		c.Text(x, y, f, size, col, s)
	}
}

func (t *table) sortBy(col int) {
	switch t.sort {
	case col + 1:
		t.sort = -col - 1
	case -col - 1:
		t.sort = 0
	default:
		t.sort = col + 1
	}
	t.changed = true
}

// keys moves the cursor and copies, and reports whether it was a key for that.
func (t *table) keys(v *View, k ui.Key, r rows) bool {
	t.arrange(r)
	if len(t.order) == 0 {
		return false
	}
	row, col := t.row, t.col
	switch k {
	case ui.KeyUp:
		row--
	case ui.KeyDown:
		row++
	case ui.KeyPageUp:
		row -= max(t.page-1, 1)
	case ui.KeyPageDown:
		row += max(t.page-1, 1)
	case ui.KeyHome:
		row = 0
	case ui.KeyEnd:
		row = len(t.order) - 1
	case ui.KeyLeft:
		col--
	case ui.KeyRight:
		col++
	case ui.Ctrl | 'c':
		t.copy(v, r, copyCell)
		return true
	case ui.Ctrl | ui.Shift | 'c':
		t.copy(v, r, copyRow)
		return true
	case ui.Ctrl | 'a':
		t.copy(v, r, copyAll)
		return true
	default:
		return false
	}
	if t.chosen == nil && k != ui.KeyHome && k != ui.KeyEnd {
		row = t.row // the first key only shows the cursor
	}
	t.row, t.col = max(0, min(row, len(t.order)-1)), max(0, min(col, len(t.columns)-1))
	t.chosen, t.reveal = r.key(int(t.order[t.row])), true
	return true
}

// What is copied.
const (
	copyCell = iota
	copyRow
	copyAll
)

// copy copies cells as lines, with tabs between.
func (t *table) copy(v *View, r rows, what int) {
	t.arrange(r)
	if len(t.columns) == 0 {
		v.say("there is nothing to copy yet")
		return
	}
	var s strings.Builder
	line := func(row int) {
		for k := range t.columns {
			if k > 0 {
				s.WriteByte('\t')
			}
			s.WriteString(oneLine.Replace(r.cell(row, k)))
		}
	}
	switch at := t.selected(); {
	case what == copyAll:
		for k, col := range t.columns {
			if k > 0 {
				s.WriteByte('\t')
			}
			s.WriteString(col.title)
		}
		s.WriteByte('\n')
		for _, i := range t.order {
			line(int(i))
			s.WriteByte('\n')
		}
	case at < 0:
		v.say("choose a row first")
		return
	case what == copyRow:
		line(at)
	default:
		s.WriteString(r.cell(at, t.col))
	}
	v.ask(Copy{Text: s.String()})
}

// oneLine keeps a cell on its line and in its column.
var oneLine = strings.NewReplacer("\t", " ", "\n", " ", "\r", " ")
