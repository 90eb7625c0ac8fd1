package mapview

import (
	"net/netip"
	"strings"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

// A reportPanel shows the whois report on an address.
type reportPanel struct {
	scroller
	question
	addr  netip.Addr
	lines []string // nil: not there yet
	page  int
}

const reportRow = 17

// openReport asks for the report on the peer of a connection.
func (v *View) openReport(c *live.Conn) {
	p := &reportPanel{addr: c.Peer.Addr()}
	p.pose(p, Whois{Addr: p.addr}, time.Time{})
	v.open(p)
}

// Report is the whois report on an address.
type Report struct {
	Ask  int
	Text string // lines
}

func (a Report) take(v *View) { v.answer(a.Ask, a, true) }

func (r *reportPanel) needs(_ *View, n *needs) { n.questions = append(n.questions, &r.question) }

func (r *reportPanel) answered(_ *View, a Answer) {
	r.lines = strings.Split(strings.TrimRight(strings.ReplaceAll(a.(Report).Text, "\t", "    "), "\n"), "\n")
}

const reportName = "whois"

func (r *reportPanel) name() string       { return reportName }
func (r *reportPanel) title(*View) string { return "whois " + r.addr.String() }

func (r *reportPanel) size(v *View) (w, h float64) {
	w = 420
	for _, l := range r.lines {
		w = max(w, min(v.canvas.Width(typeface.Mono, 12, v.canvas.Elide(typeface.Mono, 12, l, 760))+barWidth+8, 760))
	}
	return w, float64(min(max(len(r.lines), 4), 24))*reportRow + footHeight
}

func (r *reportPanel) show(v *View, b ui.Box) {
	c, t := &v.canvas, v.theme
	text := ui.At(b.X, b.Y, b.W, b.H-footHeight)
	if r.lines == nil {
		c.Text(b.X+2, b.Y+13, typeface.Regular, 12.5, t.Dim, c.Elide(typeface.Regular, 12.5, "looking it up", b.W))
	} else if text.H >= reportRow {
		n := r.scroller.show(v, text, len(r.lines), reportRow)
		r.page = n
		for i, l := range r.lines[r.top : r.top+n] {
			col := t.Text
			if strings.HasPrefix(l, "%") || strings.HasPrefix(l, "#") {
				col = t.Dim
			}
			c.Text(b.X+2, b.Y+13+float64(i)*reportRow, typeface.Mono, 12, col, c.Elide(typeface.Mono, 12, l, b.W-barWidth-4))
		}
	}
	if pressed, _ := v.buttons(ui.At(b.X, b.Y+b.H-24, b.W, 26), "Copy"); pressed == 0 {
		r.copy(v)
	}
}

func (r *reportPanel) copy(v *View) { v.ask(Copy{Text: strings.Join(r.lines, "\n") + "\n"}) }

func (r *reportPanel) key(v *View, k ui.Key) bool {
	if k == ui.Ctrl|'c' || k == ui.Ctrl|'a' {
		r.copy(v)
		return true
	}
	return r.keys(k, max(r.page-1, 1))
}
