package mapview

import "github.com/connmapgo/connmap/examples/mapserver/internal/typeface"

// helpPanel lists every key and mouse action.
type helpPanel struct{ scroller }

const helpRow = 18.5

func (*helpPanel) name() string       { return "help" }
func (*helpPanel) title(*View) string { return "Keys and mouse" }
func (p *helpPanel) rows() (n []int) {
	for i, b := range Bindings {
		if b.What != "" {
			n = append(n, i)
		}
	}
	return n
}

func (p *helpPanel) size(*View) (w, h float64) { return 500, float64(len(p.rows())) * helpRow }

func (p *helpPanel) show(v *View, b box) {
	c, t, rows := &v.canvas, v.theme, p.rows()
	n := p.scroller.show(v, b, len(rows), helpRow)
	y := b.y + 14
	for _, i := range rows[p.top : p.top+n] {
		k := Bindings[i]
		c.text(b.x+4, y, typeface.Medium, 12.5, t.accent, c.elide(typeface.Medium, 12.5, k.Keys, min(132, b.w-8)))
		c.text(b.x+142, y, typeface.Regular, 12.5, t.text, c.elide(typeface.Regular, 12.5, k.What, b.w-142-barWidth))
		y += helpRow
	}
}

func (p *helpPanel) key(_ *View, k Key) bool {
	// Arrows and letters are the map's, of which the panel speaks.
	return (k == KeyPageUp || k == KeyPageDown) && p.keys(k, 10)
}
