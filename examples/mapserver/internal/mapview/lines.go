package mapview

import (
	"image/color"
	"math"
	"time"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

const (
	maxLines   = 300 // to the places with the most connections
	dashLength = 7.0
	dashGap    = 5.0
	rateValid  = 5 * time.Second // since the bytes of a connection were counted
)

// drawLines draws an arc from home to each place, with an arrow that points where the
// connections were opened to, or where most of their bytes go. It is the wider the more
// bytes go over it in a second.
func (v *View) drawLines() {
	if !v.Lines {
		return
	}
	hx, hy, ok := v.home()
	if !ok {
		return
	}
	now := v.now
	if v.states.paused.at != nil {
		now = v.st.Time
	}
	n := 0
	for i := range v.stacks.list {
		k := &v.stacks.list[i]
		if k.unknown || math.Hypot(k.x-hx, k.y-hy) < 12 {
			continue
		}
		if n++; n > maxLines {
			break
		}
		rate, outward := traffic(now, k.conns)
		if rate > 0 {
			v.wake(v.now.Add(rateValid)) // it may be over then
		}
		col := ui.Fade(ui.Opaque(v.stacks.groups[k.shares[0].group].color), 0.42)
		v.drawLine(hx, hy, k.x, k.y, lineWidth(rate), outward, col)
	}
}

// lineWidth is 1 to 2.6: from 1 kB/s on each tenfold is wider.
func lineWidth(rate float64) float64 {
	return 1 + min(max(math.Log10(rate/1000+1)*0.4, 0), 1.6)
}

// traffic returns the bytes a second of connections, and whether they go out.
func traffic(now time.Time, conns []*live.Conn) (rate float64, outward bool) {
	var tx, rx float64
	out, in := 0, 0
	for _, c := range conns {
		if now.Sub(c.Counted.Time()) < rateValid {
			tx += float64(c.TxRate)
			rx += float64(c.RxRate)
		}
		switch c.Direction {
		case conntrack.Out:
			out++
		case conntrack.In:
			in++
		}
	}
	if tx != rx {
		return tx + rx, tx > rx
	}
	return tx + rx, out >= in
}

// drawLine draws a dashed arc that rises over its chord, and its arrow in the middle.
func (v *View) drawLine(x0, y0, x1, y1, w float64, outward bool, col color.NRGBA) {
	c := &v.canvas
	length := math.Hypot(x1-x0, y1-y0)
	// The middle of a quadratic arc, above the chord.
	mx, my := (x0+x1)/2, (y0+y1)/2-length*0.16
	at := func(s float64) (x, y float64) {
		a, b, d := (1-s)*(1-s), 2*s*(1-s), s*s
		return a*x0 + b*mx + d*x1, a*y0 + b*my + d*y1
	}
	step := dashLength + dashGap
	for from := 8.0; from < length-8; from += step {
		ax, ay := at(from / length)
		bx, by := at(min(from+dashLength, length-8) / length)
		if v.size.Grow(20).Contains(ax, ay) || v.size.Grow(20).Contains(bx, by) {
			c.Line(ax, ay, bx, by, w, col)
		}
	}
	px, py := at(0.5)
	dx, dy := (x1-x0)/length, (y1-y0)/length
	if !outward {
		dx, dy = -dx, -dy
	}
	size := 3.5 + w
	col.A = 0xff
	for _, side := range [2]float64{1, -1} {
		c.Line(px+dx*size/2, py+dy*size/2, px-dx*size/2-side*dy*size*0.8, py-dy*size/2+side*dx*size*0.8, max(w, 1.3), col)
	}
}
