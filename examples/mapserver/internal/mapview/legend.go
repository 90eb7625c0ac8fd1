package mapview

import (
	"strconv"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
)

const (
	legendWidth = 158
	legendRow   = 20
)

// layoutLegend chooses the lines of the legend: labels that have connections
// or had some, in the order of the rules. A label that stays when its last
// connection closes keeps the legend from jumping.
func (v *View) layoutLegend() (rows []group, at box) {
	if v.seen == nil {
		v.seen = make(map[string]bool)
	}
	for _, g := range v.stacks.groups {
		if g.count > 0 {
			v.seen[g.label] = true
		}
		if v.seen[g.label] {
			rows = append(rows, g)
		}
	}
	// What does not fit is summed up in the last line.
	if most := int((v.size.h - v.bottom - 20) / legendRow); len(rows) > most {
		most = max(most, 1)
		rest := group{label: strconv.Itoa(len(rows)-most+1) + " more"}
		for _, g := range rows[most-1:] {
			rest.count += g.count
		}
		rows = append(rows[:most-1:most-1], rest)
	}
	if len(rows) == 0 {
		return nil, box{}
	}
	h := float64(len(rows))*legendRow + 12
	at = box{8, v.size.h - h - v.bottom, legendWidth, h}
	v.taken = append(v.taken, at)
	return rows, at
}

func (v *View) drawLegend(rows []group, at box) {
	if len(rows) == 0 {
		return
	}
	c, t := &v.canvas, v.theme
	c.rect(at, 6, fade(t.panel, 0.93))
	y := at.y + 6
	for _, g := range rows {
		text, box1 := t.text, box{at.x + 8, y + 4.5, 11, 11}
		if g.count == 0 {
			text = t.dim
		}
		if g.color.A > 0 {
			c.rect(box1, 2.5, opaque(g.color))
		}
		n := strconv.Itoa(g.count)
		c.text(at.x+28, y+14.5, typeface.Regular, 12.5, text, c.elide(typeface.Regular, 12.5, g.label, 88))
		c.textRight(at.x+at.w-10, y+14.5, typeface.Regular, 12.5, t.dim, n)
		y += legendRow
	}
}
