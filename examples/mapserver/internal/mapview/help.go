package mapview

import (
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

// helpPanel lists every key and mouse action.
type helpPanel struct{ scroller }

const (
	helpRow     = 18.5
	helpWidth   = 470 // of a column
	helpNarrow  = 340 // of one of two, at least
	helpKeys    = 136 // of its keys
	helpEntries = 6   // lines of an entry, at most
)

const helpName = "help"

func (*helpPanel) name() string       { return helpName }
func (*helpPanel) title(*View) string { return "Keys and mouse" }

// A helpLine is an entry, or what of it does not fit a line.
type helpLine struct{ keys, what string }

// lines lays the entries out in columns of a width.
func (*helpPanel) lines(v *View, w float64) (columns [][]helpLine) {
	n, high := 1, 0
	if w >= 2*helpNarrow {
		n = 2
	}
	w = (w - barWidth) / float64(n)
	var entries [][]helpLine
	for _, b := range Bindings {
		if b.What == "" {
			continue
		}
		var e []helpLine
		for i, s := range v.canvas.Wrap(typeface.Regular, 12.5, b.What, w-helpKeys-14, helpEntries) {
			e = append(e, helpLine{what: s})
			if i == 0 {
				e[0].keys = b.Keys
			}
		}
		entries = append(entries, e)
		high += len(e)
	}
	columns = make([][]helpLine, n)
	at := 0
	for _, e := range entries {
		if at < n-1 && 2*len(columns[at]) >= high {
			at++
		}
		columns[at] = append(columns[at], e...)
	}
	return columns
}

func (p *helpPanel) size(v *View) (w, h float64) {
	w = helpWidth
	if room := v.size.W - 2*panelAir - 8; room >= 2*helpNarrow {
		w = min(2*helpWidth, room)
	}
	return w, float64(len(p.lines(v, w)[0])) * helpRow
}

func (p *helpPanel) show(v *View, b ui.Box) {
	c, t, columns := &v.canvas, v.theme, p.lines(v, b.W)
	high := 0
	for _, lines := range columns {
		high = max(high, len(lines))
	}
	n := p.scroller.show(v, b, high, helpRow)
	width := (b.W - barWidth) / float64(len(columns))
	for i, lines := range columns {
		x := b.X + float64(i)*width + 4
		for row, l := range lines[min(p.top, len(lines)):min(p.top+n, len(lines))] {
			y := b.Y + 14 + float64(row)*helpRow
			c.Text(x, y, typeface.Medium, 12.5, t.Accent, c.Elide(typeface.Medium, 12.5, l.keys, helpKeys-6))
			c.Text(x+helpKeys, y, typeface.Regular, 12.5, t.Text, l.what)
		}
	}
}

func (p *helpPanel) key(_ *View, k ui.Key) bool {
	// Arrows and letters are the map's, of which the panel speaks.
	return (k == ui.KeyPageUp || k == ui.KeyPageDown) && p.keys(k, 10)
}
