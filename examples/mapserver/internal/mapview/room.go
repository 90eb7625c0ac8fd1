package mapview

import (
	"math"

	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

// A room is where there is more than map.
type room struct {
	taken    []ui.Box // by what does not move
	overlays []ui.Box // by what stands over the map for a moment
	bottom   float64  // free at the lower edge, left
	edge     float64  // down to which things at the upper edge reach, left
}

// solid is what nothing over the map may cover: the bar, the legend and open panels.
func (v *View) solid() []ui.Box {
	list := []ui.Box{v.bar.box, v.legend.box}
	for _, p := range v.panels.List {
		list = append(list, p.Box)
	}
	return list
}

// overlayAir is the least room between what stands over the map.
const overlayAir = 4

// overlay moves a box over the map as little as may be, so that it is in the window and
// off some others. It is false, and the box as it was, if there is no room.
func (v *View) overlay(b ui.Box, off []ui.Box) (ui.Box, bool) {
	room := v.size.Grow(-overlayAir)
	off = append(off[:len(off):len(off)], v.room.overlays...)
	// What is nearest touches an edge of something, or is where it wants to be.
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

// tip moves a box over the map that is about the place under the mouse. Where panels leave
// no room they hide it rather than that it hides the legend.
func (v *View) tip(b ui.Box, off ...ui.Box) ui.Box {
	off = off[:len(off):len(off)]
	at, ok := v.overlay(b, append(append(off, v.nowhereBox()), v.solid()...))
	if !ok {
		at, _ = v.overlay(b, append(off, v.bar.box, v.legend.box))
	}
	return at
}
