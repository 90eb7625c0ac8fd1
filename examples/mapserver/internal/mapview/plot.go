package mapview

import (
	"image/color"
	"math"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/internal/numbers"
)

const (
	plotTime   = 15 * time.Second
	plotRadius = 8
	replayFade = 2 * time.Second
	maxReplays = 4000 // places that fade at a time
)

// plots are triangles on the map: places of an answer, for a while or until they are
// cleared.
type plots struct {
	list  []plot
	until time.Time // zero: they stay
}

type plot struct {
	lat, lon float64
	color    color.NRGBA
}

// plot shows the places of an answer on the map.
func (v *View) plot(r resultRows) {
	v.plots = plots{until: v.now.Add(plotTime)}
	seen := make(map[[2]float64]bool)
	for i, p := range r.places {
		if math.IsNaN(p[0]) || math.IsNaN(p[1]) || seen[p] {
			continue
		}
		seen[p] = true
		col := r.Color(i)
		if col.A == 0 {
			col = v.theme.Accent
		}
		v.plots.list = append(v.plots.list, plot{p[0], p[1], ui.Opaque(col)})
	}
	if len(v.plots.list) == 0 {
		v.say("no row of the answer has a place: it needs lat and lon, or ip")
		return
	}
	if p := v.panels.Find(sqlName); p != nil {
		var points [][2]float64
		for _, q := range v.plots.list {
			x, y := v.world.Pixel(q.lat, q.lon)
			points = append(points, [2]float64{x, y})
		}
		v.makeWay(p, points)
	}
	v.say(numbers.Count(len(v.plots.list), "place", "places") + " plotted for 15 s; Keep or x keeps them")
}

// keepPlots lets the triangles stay, or clears those that stay already.
func (v *View) keepPlots() {
	switch {
	case len(v.plots.list) == 0:
		v.say("nothing is plotted: q asks a question, whose answer has Plot on map")
	case v.plots.until.IsZero():
		v.clearPlots()
	default:
		v.plots.until = time.Time{}
		v.say("the plotted places stay; x clears them")
	}
}

// clearPlots clears the triangles, and what was said of them.
func (v *View) clearPlots() { v.plots, v.toast.text = plots{}, "" }

// expire clears triangles that were not kept.
func (p *plots) expire(v *View) {
	if !p.until.IsZero() && !v.before(p.until, plotTime) {
		*p = plots{}
	}
}

func (v *View) drawPlots() {
	p := &v.plots
	if len(p.list) == 0 {
		return
	}
	if !p.until.IsZero() {
		v.wake(p.until)
	}
	taken := make(map[[2]int]bool)
	for _, q := range p.list {
		x, y := v.world.Pixel(q.lat, q.lon)
		at := [2]int{int(math.Round(x)), int(math.Round(y))}
		if v.size.Grow(plotRadius).Contains(x, y) && !taken[at] {
			taken[at] = true
			v.canvas.Triangle(x, y, plotRadius, q.color, v.theme.outline)
		}
	}
}

var white = color.NRGBA{0xff, 0xff, 0xff, 0xff}
