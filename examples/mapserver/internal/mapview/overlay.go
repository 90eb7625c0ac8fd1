package mapview

import (
	"math"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

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
	off = append(off[:len(off):len(off)], v.overlays...)
	// What is nearest touches an edge of something, or is where it wants to be.
	xs, ys := []float64{b.Clamp(room).X}, []float64{b.Clamp(room).Y}
	for _, o := range off {
		if o.W > 0 {
			xs = append(xs, o.X-b.W-overlayAir, o.X+o.W+overlayAir)
			ys = append(ys, o.Y-b.H-overlayAir, o.Y+o.H+overlayAir)
		}
	}
	best, least := b, math.Inf(1)
	for _, x := range xs {
	next:
		for _, y := range ys {
			at := ui.At(x, y, b.W, b.H)
			far := math.Hypot(x-b.X, y-b.Y)
			if far >= least || at.Clamp(room) != at || b.W > room.W || b.H > room.H {
				continue
			}
			for _, o := range off {
				if at.Overlaps(o) {
					continue next
				}
			}
			best, least = at, far
		}
	}
	if math.IsInf(least, 1) {
		return b, false
	}
	v.overlays = append(v.overlays, best)
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

const toastRow = 18

// layoutToast places the short message where it covers nothing that matters. With no room
// for it, it stands for a while in place of the front panel's title.
func (v *View) layoutToast() {
	v.toastAt, v.toastLines = ui.Box{}, nil
	if v.toast == "" {
		return
	}
	c := &v.canvas
	for _, off := range [][]ui.Box{append(v.taken[:len(v.taken):len(v.taken)], v.nowhereBox()), v.solid()} {
		for _, most := range [...]float64{560, 360, 240, 160} {
			lines := c.Wrap(typeface.Medium, 13, v.toast, min(most, v.size.W-48), 5)
			w := 0.0
			for _, l := range lines {
				w = max(w, c.Width(typeface.Medium, 13, l)+24)
			}
			h := float64(len(lines))*toastRow + 10
			if b, ok := v.overlay(ui.At((v.size.W-w)/2, v.size.H-56-h, w, h), off); ok {
				v.toastAt, v.toastLines = b, lines
				return
			}
		}
	}
}

func (v *View) drawToast() {
	if v.toast == "" {
		return
	}
	v.wake(v.toastUntil)
	c, t := &v.canvas, v.theme
	if v.toastLines != nil {
		c.Panel(v.toastAt)
		for i, l := range v.toastLines {
			c.Text(v.toastAt.X+12, v.toastAt.Y+18.5+float64(i)*toastRow, typeface.Medium, 13, t.Text, l)
		}
		return
	}
	b := ui.At(8, v.size.H-28, v.size.W-16, 24) // over the status
	if p := v.panels.Front(); p != nil {
		b = ui.At(p.Box.X+4, p.Box.Y+4, p.Box.W-66, ui.TitleHeight-8)
	}
	c.Rect(b, 4, ui.Opaque(t.Alternate))
	c.Text(b.X+10, b.Y+b.H/2+5, typeface.Medium, 13, t.Accent, c.Elide(typeface.Medium, 13, v.toast, b.W-16))
}
