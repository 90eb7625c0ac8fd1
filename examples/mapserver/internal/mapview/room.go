package mapview

import (
	"math"

	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

// A room says which parts of the window are taken, so that nothing covers them.
type room struct {
	taken    []ui.Box // by panels and by what stands at the edges
	overlays []ui.Box // by tips, cards and messages
	bottom   float64  // height of what stands at the lower edge, at its left end
	edge     float64  // where what stands at the upper edge ends, at its left end
}

// uncovered is what nothing over the map may cover: the bar, the legend and open panels.
func (v *View) uncovered() []ui.Box {
	list := []ui.Box{v.bar.box, v.legend.box}
	for _, p := range v.panels.List {
		list = append(list, p.Box)
	}
	return list
}

// overlayAir is the minimum distance between overlays.
const overlayAir = 4

// placeOverlay moves a box by the shortest way to where it is in the window and covers none of
// some others. It returns false, and the box as it was, if there is no such place.
func (v *View) placeOverlay(b ui.Box, off []ui.Box) (ui.Box, bool) {
	room := v.size.Grow(-overlayAir)
	off = append(off[:len(off):len(off)], v.room.overlays...)
	// The nearest such place is where the box is, or beside an edge of another.
	xs, ys := []float64{b.Clamp(room).X}, []float64{b.Clamp(room).Y}
	for _, o := range off {
		if o.W > 0 {
			xs = append(xs, o.X-b.W-overlayAir, o.X+o.W+overlayAir)
			ys = append(ys, o.Y-b.H-overlayAir, o.Y+o.H+overlayAir)
		}
	}
	best, nearest := b, math.Inf(1)
	for _, x := range xs {
	next:
		for _, y := range ys {
			at := ui.At(x, y, b.W, b.H)
			far := math.Hypot(x-b.X, y-b.Y)
			if far >= nearest || at.Clamp(room) != at || b.W > room.W || b.H > room.H {
				continue
			}
			for _, o := range off {
				if at.Overlaps(o) {
					continue next
				}
			}
			best, nearest = at, far
		}
	}
	if math.IsInf(nearest, 1) {
		return b, false
	}
	v.room.overlays = append(v.room.overlays, best)
	return best, true
}

// placeTip places a box that is about what is under the mouse. Without room beside the panels it
// lies under them, but never over the legend or the bar.
func (v *View) placeTip(b ui.Box, off ...ui.Box) ui.Box {
	off = off[:len(off):len(off)]
	at, ok := v.placeOverlay(b, append(append(off, v.unknownBox()), v.uncovered()...))
	if !ok {
		at, _ = v.placeOverlay(b, append(off, v.bar.box, v.legend.box))
	}
	return at
}
