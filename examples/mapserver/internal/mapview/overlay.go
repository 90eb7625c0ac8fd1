package mapview

import (
	"math"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
)

// solid is what nothing over the map may cover: the bar, the legend and open panels.
func (v *View) solid() []box {
	list := []box{v.bar.box, v.legend.box}
	for _, p := range v.desk.panels {
		list = append(list, p.box)
	}
	return list
}

// overlayAir is the least room between what stands over the map.
const overlayAir = 4

// overlay moves a box over the map as little as may be, so that it is in the window and
// off some others. It is false, and the box as it was, if there is no room.
func (v *View) overlay(b box, off []box) (box, bool) {
	room := v.size.grow(-overlayAir)
	off = append(off[:len(off):len(off)], v.overlays...)
	// What is nearest touches an edge of something, or is where it wants to be.
	xs, ys := []float64{b.clamp(room).x}, []float64{b.clamp(room).y}
	for _, o := range off {
		if o.w > 0 {
			xs = append(xs, o.x-b.w-overlayAir, o.x+o.w+overlayAir)
			ys = append(ys, o.y-b.h-overlayAir, o.y+o.h+overlayAir)
		}
	}
	best, least := b, math.Inf(1)
	for _, x := range xs {
	next:
		for _, y := range ys {
			at := box{x, y, b.w, b.h}
			far := math.Hypot(x-b.x, y-b.y)
			if far >= least || at.clamp(room) != at || b.w > room.w || b.h > room.h {
				continue
			}
			for _, o := range off {
				if at.overlaps(o) {
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
func (v *View) tip(b box, off ...box) box {
	off = off[:len(off):len(off)]
	at, ok := v.overlay(b, append(append(off, v.nowhereBox()), v.solid()...))
	if !ok {
		at, _ = v.overlay(b, append(off, v.bar.box, v.legend.box))
	}
	return at
}

const toastRow = 18

// drawToast draws the short message where it covers nothing that matters. With no room
// for it, it stands for a while in place of the front panel's title.
func (v *View) drawToast() {
	v.toastAt = box{}
	if v.toast == "" || !v.before(v.toastUntil, toastTime) {
		v.toast = ""
		return
	}
	v.wake(v.toastUntil)
	c, t := &v.canvas, v.theme
	for _, off := range [][]box{append(v.taken[:len(v.taken):len(v.taken)], v.nowhereBox()), v.solid()} {
		for _, most := range [...]float64{560, 360, 240, 160} {
			lines := c.wrap(typeface.Medium, 13, v.toast, min(most, v.size.w-48), 5)
			w := 0.0
			for _, l := range lines {
				w = max(w, c.width(typeface.Medium, 13, l)+24)
			}
			h := float64(len(lines))*toastRow + 10
			b, ok := v.overlay(box{(v.size.w - w) / 2, v.size.h - 56 - h, w, h}, off)
			if !ok {
				continue
			}
			v.toastAt = b
			c.panel(b, t)
			for i, l := range lines {
				c.text(b.x+12, b.y+18.5+float64(i)*toastRow, typeface.Medium, 13, t.text, l)
			}
			return
		}
	}
	b := box{8, v.size.h - 28, v.size.w - 16, 24} // over the status
	if n := len(v.desk.panels); n > 0 {
		p := v.desk.panels[n-1].box
		b = box{p.x + 4, p.y + 4, p.w - 66, titleHeight - 8}
	}
	c.rect(b, 4, opaque(t.alternate))
	c.text(b.x+10, b.y+b.h/2+5, typeface.Medium, 13, t.accent, c.elide(typeface.Medium, 13, v.toast, b.w-16))
}
