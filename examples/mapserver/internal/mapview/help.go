package mapview

import "github.com/connmapgo/connmap/examples/mapserver/internal/typeface"

// helpPanel lists every key and mouse action.
type helpPanel struct{ scroller }

const (
	helpRow   = 18.5
	helpWidth = 440 // of a column
)

const helpName = "help"

func (*helpPanel) name() string       { return helpName }
func (*helpPanel) title(*View) string { return "Keys and mouse" }
func (p *helpPanel) rows() (n []int) {
	for i, b := range Bindings {
		if b.What != "" {
			n = append(n, i)
		}
	}
	return n
}

// columns says in how many columns the list fits a width.
func (*helpPanel) columns(w float64) int {
	if w >= 2*helpWidth {
		return 2
	}
	return 1
}

func (p *helpPanel) size(v *View) (w, h float64) {
	n := p.columns(v.size.w - 2*panelAir - 8)
	return float64(n) * helpWidth, float64((len(p.rows())+n-1)/n) * helpRow
}

func (p *helpPanel) show(v *View, b box) {
	c, t, rows := &v.canvas, v.theme, p.rows()
	columns := p.columns(b.w)
	high := (len(rows) + columns - 1) / columns
	n := p.scroller.show(v, b, high, helpRow)
	width := (b.w - barWidth) / float64(columns)
	for i := range columns * n {
		at := i/n*high + p.top + i%n
		if at >= len(rows) {
			break
		}
		k := Bindings[rows[at]]
		x, y := b.x+float64(i/n)*width+4, b.y+14+float64(i%n)*helpRow
		c.text(x, y, typeface.Medium, 12.5, t.accent, c.elide(typeface.Medium, 12.5, k.Keys, min(130, width-8)))
		c.text(x+136, y, typeface.Regular, 12.5, t.text, c.elide(typeface.Regular, 12.5, k.What, width-146))
	}
}

func (p *helpPanel) key(_ *View, k Key) bool {
	// Arrows and letters are the map's, of which the panel speaks.
	return (k == KeyPageUp || k == KeyPageDown) && p.keys(k, 10)
}
