package mapview

import (
	"net/netip"
	"strings"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
)

// A reportPanel shows the whois report on an address.
type reportPanel struct {
	scroller
	addr  netip.Addr
	lines []string // nil: not there yet
	page  int
}

const reportRow = 17

// openReport asks for the report on the peer of a connection.
func (v *View) openReport(c *live.Conn) {
	addr := c.Peer.Addr()
	v.open(&reportPanel{addr: addr})
	v.ask(Whois{Addr: addr})
}

// Report is the whois report on an address.
type Report struct {
	Addr netip.Addr
	Text string // lines
}

func (a Report) take(v *View) {
	if p := v.desk.find(reportName); p != nil {
		if r := p.body.(*reportPanel); r.addr == a.Addr {
			r.lines = strings.Split(strings.TrimRight(strings.ReplaceAll(a.Text, "\t", "    "), "\n"), "\n")
		}
	}
}

const reportName = "whois"

func (r *reportPanel) name() string       { return reportName }
func (r *reportPanel) title(*View) string { return "whois " + r.addr.String() }

func (r *reportPanel) size(v *View) (w, h float64) {
	w = 420
	for _, l := range r.lines {
		w = max(w, min(v.canvas.width(typeface.Mono, 12, v.canvas.elide(typeface.Mono, 12, l, 760))+barWidth+8, 760))
	}
	return w, float64(min(max(len(r.lines), 4), 24))*reportRow + footHeight
}

func (r *reportPanel) show(v *View, b box) {
	c, t := &v.canvas, v.theme
	text := box{b.x, b.y, b.w, b.h - footHeight}
	if r.lines == nil {
		c.text(b.x+2, b.y+13, typeface.Regular, 12.5, t.dim, c.elide(typeface.Regular, 12.5, "looking it up", b.w))
	} else if text.h >= reportRow {
		n := r.scroller.show(v, text, len(r.lines), reportRow)
		r.page = n
		for i, l := range r.lines[r.top : r.top+n] {
			col := t.text
			if strings.HasPrefix(l, "%") || strings.HasPrefix(l, "#") {
				col = t.dim
			}
			c.text(b.x+2, b.y+13+float64(i)*reportRow, typeface.Mono, 12, col, c.elide(typeface.Mono, 12, l, b.w-barWidth-4))
		}
	}
	if pressed, _ := v.buttons(box{b.x, b.y + b.h - 24, b.w, 26}, "Copy"); pressed == 0 {
		r.copy(v)
	}
}

func (r *reportPanel) copy(v *View) { v.ask(Copy{Text: strings.Join(r.lines, "\n") + "\n"}) }

func (r *reportPanel) key(v *View, k Key) bool {
	if k == Ctrl|'c' || k == Ctrl|'a' {
		r.copy(v)
		return true
	}
	return r.keys(k, max(r.page-1, 1))
}
