package mapview

import (
	"strconv"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

const (
	legendWidth = 158
	legendRow   = 20
	labelWidth  = 88
)

// A legend counts connections by label, at the lower left.
type legend struct {
	extents map[string][2]int // fewest and most connections seen of a label
	box     ui.Box
	rows    []group
	extent  extent
}

// An extent says what was seen of the label under the mouse.
type extent struct {
	box  ui.Box // empty: there is none
	text string
}

// count takes in how many connections there are of each label.
func (l *legend) count(v *View) {
	if l.extents == nil {
		l.extents = make(map[string][2]int)
	}
	for _, g := range v.stacks.groups {
		e, ok := l.extents[g.label]
		switch {
		case ok:
			l.extents[g.label] = [2]int{min(e[0], g.all), max(e[1], g.all)}
		case g.count > 0:
			l.extents[g.label] = [2]int{g.all, g.all}
		}
	}
}

// layoutLegend chooses the lines of the legend: labels that have connections
// or had some, in the order of the rules. A label that stays when its last
// connection closes keeps the legend from jumping.
func (v *View) layoutLegend() {
	l := &v.legend
	l.count(v)
	l.box, l.rows = ui.Box{}, l.rows[:0]
	rows := l.rows
	for _, g := range v.stacks.groups {
		if _, seen := l.extents[g.label]; seen {
			rows = append(rows, g)
		}
	}
	// The last line sums up what does not fit. The problems and the filter at the upper
	// edge have their room first.
	if fit := int((v.size.H - v.room.bottom - 18 - max(v.room.edge, 2)) / legendRow); len(rows) > fit {
		if fit < 1 {
			return
		}
		rest := group{label: strconv.Itoa(len(rows)-fit+1) + " more"}
		for _, g := range rows[fit-1:] {
			rest.count += g.count
		}
		rows = append(rows[:fit-1], rest)
	}
	l.rows = rows
	if len(rows) == 0 {
		return
	}
	h := float64(len(rows))*legendRow + 12
	l.box = ui.At(8, v.size.H-h-v.room.bottom, min(legendWidth, v.size.W-16), h)
	v.room.taken = append(v.room.taken, l.box)
}

// row is where a line of the legend is.
func (l *legend) row(i int) ui.Box {
	return ui.At(l.box.X+4, l.box.Y+6+float64(i)*legendRow, l.box.W-8, legendRow)
}

// at returns the line of a label at a point, or -1.
func (l *legend) at(x, y float64) int {
	for i, g := range l.rows {
		if g.color.A > 0 && l.row(i).Contains(x, y) {
			return i
		}
	}
	return -1
}

// onSquare reports whether a point is at the square of its line.
func (l *legend) onSquare(x float64) bool { return x < l.row(0).X+20 }

// pressLegend has the square of a line switch the label, and its text list the connections.
func (v *View) pressLegend(m ui.Mouse) {
	i := v.legend.at(m.X, m.Y)
	if i < 0 {
		return
	}
	if label := v.legend.rows[i].label; v.legend.onSquare(m.X) {
		v.write(!v.written(label), label)
	} else {
		v.open(newRuleList(label))
	}
}

func (v *View) drawLegend() {
	l := &v.legend
	if len(l.rows) == 0 {
		return
	}
	c, t := &v.canvas, v.theme
	c.Rect(l.box, 6, ui.Fade(t.Panel, 0.93))
	for i, g := range l.rows {
		row := l.row(i)
		text, square := t.Text, ui.At(row.X+4, row.Y+4.5, 11, 11)
		if g.count == 0 {
			text = t.Dim
		}
		if g.color.A > 0 {
			c.Highlight(row)
			c.Rect(square, 2.5, ui.Opaque(g.color))
			if v.Light {
				c.Frame(square, 2.5, 0.8, t.Rim)
			}
			if v.written(g.label) {
				c.Frame(square.Grow(2.5), 4, 1.2, t.Text)
			}
		}
		c.Text(row.X+24, row.Y+14.5, typeface.Regular, 12.5, text, c.Elide(typeface.Regular, 12.5, g.label, labelWidth))
		c.TextRight(row.X+row.W-6, row.Y+14.5, typeface.Regular, 12.5, t.Dim, strconv.Itoa(g.count))
	}
	if b := l.extent.box; b.W > 0 {
		c.Panel(b)
		c.Text(b.X+8, b.Y+14, typeface.Regular, 11.5, t.Text, l.extent.text)
	}
}

// layoutExtent places the extent of the label whose text is under the mouse.
func (v *View) layoutExtent() {
	l := &v.legend
	l.extent = extent{}
	x, y := v.cursor()
	i := l.at(x, y)
	if !v.onMap() || i < 0 || l.onSquare(x) {
		return
	}
	c, label := &v.canvas, l.rows[i].label
	s := ""
	if c.Elide(typeface.Regular, 12.5, label, labelWidth) != label {
		s = label + ": "
	}
	seen := l.extents[label]
	s += "min " + strconv.Itoa(seen[0]) + ", max " + strconv.Itoa(seen[1])
	row := l.row(i)
	b := ui.At(row.X+row.W+8, row.Y, c.Width(typeface.Regular, 11.5, s)+16, legendRow).Clamp(v.size)
	l.extent = extent{v.placeTip(b), s}
}
