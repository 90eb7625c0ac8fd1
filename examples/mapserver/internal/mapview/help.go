package mapview

import (
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

// helpPanel lists every key and mouse action.
type helpPanel struct {
	scroller ui.Scroller
	columns  [][]helpLine
	shown    int // lines of each
}

const (
	helpRow     = 18.5
	helpWidth   = 470 // of a column
	helpNarrow  = 340 // of one of two, at least
	helpKeys    = 136 // of its keys
	helpEntries = 6   // lines of an entry, at most
)

const helpName = "help"

func (*helpPanel) Name() string       { return helpName }
func (*helpPanel) Title(*View) string { return "Keys and mouse" }

// A helpLine is an entry, or what of it does not fit a line.
type helpLine struct{ keys, what string }

// lines lays the entries out in columns of a width.
func (*helpPanel) lines(v *View, w float64) (columns [][]helpLine) {
	n, high := 1, 0
	if w >= 2*helpNarrow {
		n = 2
	}
	w = (w - ui.BarWidth) / float64(n)
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

func (p *helpPanel) Size(v *View) (w, h float64) {
	w = helpWidth
	if room := v.size.W - 2*ui.PanelAir - 8; room >= 2*helpNarrow {
		w = min(2*helpWidth, room)
	}
	return w, float64(len(p.lines(v, w)[0])) * helpRow
}

func (p *helpPanel) Layout(v *View, b ui.Box) {
	p.columns = p.lines(v, b.W)
	high := 0
	for _, lines := range p.columns {
		high = max(high, len(lines))
	}
	p.shown = p.scroller.Layout(b, high, helpRow)
}

func (p *helpPanel) Mouse(_ *View, m ui.Mouse) { p.scroller.Mouse(m) }

func (p *helpPanel) Draw(v *View, c *ui.Canvas, b ui.Box) {
	p.scroller.Draw(c)
	top := p.scroller.Top
	width := (b.W - ui.BarWidth) / float64(len(p.columns))
	for i, lines := range p.columns {
		x := b.X + float64(i)*width + 4
		for row, l := range lines[min(top, len(lines)):min(top+p.shown, len(lines))] {
			y := b.Y + 14 + float64(row)*helpRow
			c.Text(x, y, typeface.Medium, 12.5, v.theme.Accent, c.Elide(typeface.Medium, 12.5, l.keys, helpKeys-6))
			c.Text(x+helpKeys, y, typeface.Regular, 12.5, v.theme.Text, l.what)
		}
	}
}

func (p *helpPanel) Key(_ *View, k ui.Key) bool {
	// Arrows and letters are the map's, of which the panel speaks.
	return (k == ui.KeyPageUp || k == ui.KeyPageDown) && p.scroller.Key(k, 10)
}
