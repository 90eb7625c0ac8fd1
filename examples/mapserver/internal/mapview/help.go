package mapview

import "github.com/connmapgo/connmap/examples/mapserver/internal/typeface"

// keyHelp is every key and mouse action there is.
var keyHelp = [][2]string{
	{"h", "places of the stored history"},
	{"t", "labels of all connections"},
	{"a", "rule labels of all places"},
	{"f", "cycle the colours of stacked places"},
	{"m", "local and LAN peers, at the home place"},
	{"c", "read the rules file again"},
	{"s", "save the counts of all places in a file"},
	{"l", "load them"},
	{"r", "delete the stored history; asks first"},
	{"p", "how much history is kept"},
	{"i, k", "the hosts; shows and hides their connections"},
	{"space", "pause"},
	{"/", "show only what fits words such as port:443 app:ssh"},
	{"?", "this list"},
	{"Esc", "close what is open, or quit"},
	{"wheel, + and -", "zoom"},
	{"middle drag, arrows", "move the map"},
	{"0", "the whole map"},
	{"mouse over a place", "names what is there"},
	{"left drag", "moves the window"},
	{"drag at the edge", "resizes the window"},
}

func (v *View) drawHelp() {
	c, t := &v.canvas, v.theme
	const row = 18.5
	w := min(500, v.size.w-16)
	h := float64(len(keyHelp))*row + 54
	b := box{(v.size.w - w) / 2, (v.size.h - h) / 2, w, h}.clamp(v.size.grow(-4))
	v.taken = append(v.taken, b)
	c.panel(b, t)
	c.text(b.x+16, b.y+26, typeface.Bold, 13, t.text, "Keys and mouse")
	y := b.y + 54.0
	for _, k := range keyHelp {
		c.text(b.x+16, y, typeface.Medium, 12.5, t.accent, c.elide(typeface.Medium, 12.5, k[0], 130))
		c.text(b.x+150, y, typeface.Regular, 12.5, t.text, c.elide(typeface.Regular, 12.5, k[1], b.w-166))
		y += row
	}
}
