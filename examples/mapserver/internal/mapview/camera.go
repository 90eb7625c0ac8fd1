package mapview

import (
	"image"
	"math"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/examples/mapserver/internal/worldmap"
)

const (
	maxZoom   = 64   // beyond, the outlines have no more detail
	wheelZoom = 1.25 // of a notch of the wheel
	panSpeed  = 600  // density-independent pixels in a second, of an arrow key that is held
)

// A camera says what part of the world is shown. The zero camera shows the frame of
// the original.
type camera struct {
	zoomed bool
	zoom   float64 // over that of the whole frame
	x, y   float64 // world coordinates of the picture's middle
	arrows time.Time
}

// A pan is a drag of the map under the window.
type pan struct {
	on   bool
	from image.Point
}

// The world's own edges: Mercator's square.
const (
	northEdge = 250 + 76 - worldmap.FrameWidth/2
	southEdge = northEdge + worldmap.FrameWidth
)

// view returns what the camera shows in a picture.
func (c *camera) view(size ui.Box) worldmap.View {
	v := worldmap.Fit(image.Pt(int(size.W), int(size.H)))
	if !c.zoomed {
		return v
	}
	v.Zoom *= c.zoom
	v.X, v.Y = c.x-size.W/2/v.Zoom, c.y-size.H/2/v.Zoom
	return v
}

// start begins with what is shown now.
func (c *camera) start(size ui.Box) {
	if c.zoomed {
		return
	}
	v := worldmap.Fit(image.Pt(int(size.W), int(size.H)))
	*c = camera{zoomed: true, zoom: 1, x: v.X + size.W/2/v.Zoom, y: v.Y + size.H/2/v.Zoom}
}

// zoomAt zooms so that the place under a point stays there.
func (c *camera) zoomAt(size ui.Box, x, y, factor float64) {
	c.start(size)
	before := c.view(size)
	c.zoom = min(max(c.zoom*factor, 1), maxZoom)
	after := c.view(size)
	c.x += x/before.Zoom - x/after.Zoom - (size.W/2/before.Zoom - size.W/2/after.Zoom)
	c.y += y/before.Zoom - y/after.Zoom - (size.H/2/before.Zoom - size.H/2/after.Zoom)
	if c.zoom == 1 && factor < 1 {
		*c = camera{} // all the way out is the whole map
		return
	}
	c.keep(size)
}

// pan moves the map under the window by density-independent pixels.
func (c *camera) pan(size ui.Box, dx, dy float64) {
	c.start(size)
	z := c.view(size).Zoom
	c.x -= dx / z
	c.y -= dy / z
	c.keep(size)
}

// keep keeps the picture between the world's north and south edge; east and west it
// goes round.
func (c *camera) keep(size ui.Box) {
	h := size.H / 2 / c.view(size).Zoom
	north, south := float64(northEdge)+h, float64(southEdge)-h
	if north > south {
		north, south = (northEdge+southEdge)/2, (northEdge+southEdge)/2
	}
	c.y = min(max(c.y, north), south)
	c.x -= math.Floor(c.x/worldmap.FrameWidth) * worldmap.FrameWidth
}

// move takes in the wheel, the middle button and the arrow keys.
func (v *View) move(m ui.Mouse, taken bool) {
	size := v.pictureSize()
	c := &v.camera
	if w := m.Wheel; w != 0 && v.in.Inside && !taken && !v.onPanel(m.X, m.Y) {
		c.zoomAt(size, m.X, m.Y, math.Pow(wheelZoom, min(max(w, -8), 8)))
	}
	if m.Middle && !taken {
		if v.pan.on {
			by := v.in.Cursor.Sub(v.pan.from)
			if by != (image.Point{}) {
				c.pan(size, float64(by.X)/v.in.Scale, float64(by.Y)/v.in.Scale)
			}
		}
		v.pan.from = v.in.Cursor
	}
	v.pan.on = m.Middle && !taken
	if a := v.in.Arrows; a != (image.Point{}) && v.mapHasArrows() {
		// A tap moves by a thirtieth of a second.
		dt := time.Second / 30
		if d := v.now.Sub(c.arrows); !c.arrows.IsZero() && d > 0 && d < time.Second/4 {
			dt = d
		}
		step := panSpeed * dt.Seconds()
		c.pan(size, -float64(a.X)*step, -float64(a.Y)*step)
		c.arrows = v.now
	} else {
		c.arrows = time.Time{}
	}
}

// mapHasArrows reports whether no panel takes the arrow keys. The help does not.
func (v *View) mapHasArrows() bool {
	f := v.panels.Focus
	return !v.filter.editing && (f == nil || f.Name() == helpName)
}

// zoomKey zooms about the middle.
func (v *View) zoomKey(factor float64) {
	size := v.pictureSize()
	v.camera.zoomAt(size, size.W/2, size.H/2, factor)
}

func (v *View) pictureSize() ui.Box {
	return ui.At(0, 0, float64(v.in.Size.X)/v.in.Scale, float64(v.in.Size.Y)/v.in.Scale)
}

func (v *View) onPanel(x, y float64) bool {
	for _, b := range v.room.taken {
		if b.Contains(x, y) {
			return true
		}
	}
	return false
}
