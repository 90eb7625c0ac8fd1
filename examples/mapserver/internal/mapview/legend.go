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

// legend is what the legend remembers.
type legend struct {
	extents map[string][2]int // fewest and most connections seen of a label
	box     ui.Box
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
func (v *View) layoutLegend() (rows []group, at ui.Box) {
	v.legend.count(v)
	v.legend.box = ui.Box{}
	for _, g := range v.stacks.groups {
		if _, seen := v.legend.extents[g.label]; seen {
			rows = append(rows, g)
		}
	}
	// What does not fit is summed up in the last line. What stands at the upper edge has
	// its room first.
	if most := int((v.size.H - v.bottom - 18 - max(v.edge, 2)) / legendRow); len(rows) > most {
		if most < 1 {
			return nil, ui.Box{}
		}
		rest := group{label: strconv.Itoa(len(rows)-most+1) + " more"}
		for _, g := range rows[most-1:] {
			rest.count += g.count
		}
		rows = append(rows[:most-1:most-1], rest)
	}
	if len(rows) == 0 {
		return nil, ui.Box{}
	}
	h := float64(len(rows))*legendRow + 12
	at = ui.At(8, v.size.H-h-v.bottom, min(legendWidth, v.size.W-16), h)
	v.legend.box = at
	v.taken = append(v.taken, at)
	return rows, at
}

func (v *View) drawLegend(rows []group, at ui.Box) {
	if len(rows) == 0 {
		return
	}
	c, t := &v.canvas, v.theme
	c.Rect(at, 6, ui.Fade(t.Panel, 0.93))
	y := at.Y + 6
	for _, g := range rows {
		text, square := t.Text, ui.At(at.X+8, y+4.5, 11, 11)
		if g.count == 0 {
			text = t.Dim
		}
		row := ui.At(at.X+4, y, at.W-8, legendRow)
		if g.color.A > 0 {
			v.legendMouse(g, row)
			c.Rect(square, 2.5, ui.Opaque(g.color))
			if v.Light {
				c.Frame(square, 2.5, 0.8, t.Rim)
			}
			if v.written(g.label) {
				c.Frame(square.Grow(2.5), 4, 1.2, t.Text)
			}
		}
		n := strconv.Itoa(g.count)
		c.Text(at.X+28, y+14.5, typeface.Regular, 12.5, text, c.Elide(typeface.Regular, 12.5, g.label, labelWidth))
		c.TextRight(at.X+at.W-10, y+14.5, typeface.Regular, 12.5, t.Dim, n)
		y += legendRow
	}
}

// legendMouse has the square of a line switch the label, and its text list the
// connections and tell the extent.
func (v *View) legendMouse(g group, row ui.Box) {
	if !v.hot(row) {
		return
	}
	c, t := &v.canvas, v.theme
	c.Rect(row, 4, t.Edge)
	x, _ := v.cursor()
	if x < row.X+20 {
		if v.in.Press {
			v.write(!v.written(g.label), g.label)
			v.again = true
		}
		return
	}
	if v.in.Press {
		v.open(newRuleList(g.label))
	}
	e := v.legend.extents[g.label]
	s := ""
	if c.Elide(typeface.Regular, 12.5, g.label, labelWidth) != g.label {
		s = g.label + ": "
	}
	s += "least " + strconv.Itoa(e[0]) + ", most " + strconv.Itoa(e[1])
	w := c.Width(typeface.Regular, 11.5, s) + 16
	b := ui.At(row.X+row.W+8, row.Y, w, legendRow).Clamp(v.size)
	b = v.tip(b)
	c.Panel(b)
	c.Text(b.X+8, b.Y+14, typeface.Regular, 11.5, t.Text, s)
}
