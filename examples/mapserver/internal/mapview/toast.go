package mapview

import (
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

const (
	toastTime = 4 * time.Second
	toastRow  = 18
)

// A toast is a short message over the map.
type toast struct {
	text  string // empty: there is none
	until time.Time
	box   ui.Box
	lines []string // in box; none: it stands in place of a title
}

// say shows a short message for a few seconds.
func (v *View) say(text string) {
	v.toast.text, v.toast.until = text, v.now.Add(toastTime)
}

func (v *View) sayOnOff(what string, on bool) {
	if on {
		v.say(what + " on")
	} else {
		v.say(what + " off")
	}
}

// layoutToast places the message where it covers as little as possible. Without room it
// stands in place of the front panel's title.
func (v *View) layoutToast() {
	v.toast.box, v.toast.lines = ui.Box{}, nil
	if v.toast.text == "" {
		return
	}
	c := &v.canvas
	for _, off := range [][]ui.Box{append(v.room.taken[:len(v.room.taken):len(v.room.taken)], v.unknownBox()), v.uncovered()} {
		for _, width := range [...]float64{560, 360, 240, 160} {
			lines := c.Wrap(typeface.Medium, 13, v.toast.text, min(width, v.size.W-48), 5)
			w := 0.0
			for _, l := range lines {
				w = max(w, c.Width(typeface.Medium, 13, l)+24)
			}
			h := float64(len(lines))*toastRow + 10
			if b, ok := v.placeOverlay(ui.At((v.size.W-w)/2, v.size.H-56-h, w, h), off); ok {
				v.toast.box, v.toast.lines = b, lines
				return
			}
		}
	}
}

func (v *View) drawToast() {
	if v.toast.text == "" {
		return
	}
	v.wake(v.toast.until)
	c, t := &v.canvas, v.theme
	if v.toast.lines != nil {
		c.Panel(v.toast.box)
		for i, l := range v.toast.lines {
			c.Text(v.toast.box.X+12, v.toast.box.Y+18.5+float64(i)*toastRow, typeface.Medium, 13, t.Text, l)
		}
		return
	}
	b := ui.At(8, v.size.H-28, v.size.W-16, 24) // over the status
	if p := v.panels.Front(); p != nil {
		b = ui.At(p.Box.X+4, p.Box.Y+4, p.Box.W-66, ui.TitleHeight-8)
	}
	c.Rect(b, 4, ui.Opaque(t.Alternate))
	c.Text(b.X+10, b.Y+b.H/2+5, typeface.Medium, 13, t.Accent, c.Elide(typeface.Medium, 13, v.toast.text, b.W-16))
}
