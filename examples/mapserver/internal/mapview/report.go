package mapview

import (
	"image/color"
	"net/netip"
	"strings"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

// A reportPanel shows the whois report on an address.
type reportPanel struct {
	question
	textPanel
	addr  netip.Addr
	lines []string // nil: not there yet
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

func (r *reportPanel) answered(_ *View, a Answer) {
	r.lines = strings.Split(strings.TrimRight(strings.ReplaceAll(a.(Report).Text, "\t", "    "), "\n"), "\n")
}

const reportName = "whois"

func (r *reportPanel) Name() string       { return reportName }
func (r *reportPanel) Title(*View) string { return "whois " + r.addr.String() }

func (r *reportPanel) Size(v *View) (w, h float64) {
	w = 420
	for _, l := range r.lines {
		w = max(w, min(v.canvas.Width(typeface.Mono, 12, v.canvas.Elide(typeface.Mono, 12, l, 760))+ui.BarWidth+8, 760))
	}
	return w, float64(min(max(len(r.lines), 4), 24))*reportRow + footHeight
}

func (r *reportPanel) Layout(v *View, b ui.Box) {
	r.text.Font, r.text.Size, r.text.Row = typeface.Mono, 12, reportRow
	r.layout(v, b, r.lines, strings.Join(r.lines, "\n")+"\n")
}

func (r *reportPanel) Draw(v *View, c *ui.Canvas, b ui.Box) {
	if r.lines == nil {
		c.Text(b.X+2, b.Y+13, typeface.Regular, 12.5, v.theme.Dim, c.Elide(typeface.Regular, 12.5, "looking it up", b.W))
	}
	r.text.Draw(c, func(line string) color.NRGBA {
		if strings.HasPrefix(line, "%") || strings.HasPrefix(line, "#") {
			return v.theme.Dim
		}
		return v.theme.Text
	})
	r.buttons.Draw(c)
}
