package mapview

import (
	"image"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/worldmap"
	"github.com/connmapgo/connmap/geoip"
)

func wheel(x, y, notches float64) Input {
	in := mouse(x, y)
	in.Wheel = notches
	return in
}

// under returns the place under a point of the last scene, in degrees.
func under(v *View, x, y float64) (lat, lon float64) {
	w := v.Scene().View
	lat, lon = worldmap.Place(w.X+x/w.Zoom, w.Y+y/w.Zoom)
	return lat, math.Mod(lon+540, 360) - 180
}

func TestWheelZoomsToThePointer(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, scale := range []float64{1, 1.5, 2} {
		var v View
		size := image.Pt(int(1000*scale), int(500*scale))
		step := func(in Input) {
			in.Scale, in.Size = scale, size
			v.Update(noon, in, state(conn(1, paris, 0)))
		}
		step(frame(""))
		for range 200 {
			x, y := float64(r.IntN(size.X)), float64(r.IntN(size.Y-150))
			if v.onPanel(x/scale, y/scale) {
				continue
			}
			lat, lon := under(&v, x, y)
			before := v.Scene().View
			in := wheel(x, y, float64(r.IntN(9)-4))
			step(in)
			if v.Scene().View.Zoom == before.Zoom || !v.camera.zoomed {
				continue // as far as it goes
			}
			lat2, lon2 := under(&v, x, y)
			// At the northern and southern edge the map stays in the window.
			c := v.camera
			c.keep(v.size)
			h := v.size.H / 2 / v.world.Zoom
			if c.y > northEdge+h+1e-6 && c.y < southEdge-h-1e-6 {
				require.InDelta(t, lat, lat2, 1e-6)
			}
			require.InDelta(t, lon, lon2, 1e-6)
		}
	}
}

func TestZoomHasLimits(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0))
	for range 50 {
		v.Update(noon, wheel(500, 200, 3), st)
	}
	assert.InDelta(t, maxZoom, v.camera.zoom, 1e-9)
	assert.Contains(t, texts(&v), "64x, 0 shows all")
	v.Update(noon, wheel(500, 200, math.Inf(1)), st)
	for range 50 {
		v.Update(noon, wheel(100, 100, -3), st)
	}
	assert.Equal(t, worldmap.Fit(image.Pt(1000, 500)), v.Scene().View, "all the way out is where it began")
	v.Update(noon, frame("+++"), st)
	assert.InDelta(t, math.Pow(wheelZoom, 3), v.camera.zoom, 1e-9)
	v.Update(noon, frame("-"), st)
	assert.InDelta(t, math.Pow(wheelZoom, 2), v.camera.zoom, 1e-9)
	v.Update(noon, frame("0"), st)
	assert.Equal(t, worldmap.Fit(image.Pt(1000, 500)), v.Scene().View)
	// The wheel over a panel is the panel's.
	panel := v.room.taken[len(v.room.taken)-1]
	v.Update(noon, wheel(panel.X+panel.W/2, panel.Y+panel.H/2, 3), st)
	assert.Equal(t, worldmap.Fit(image.Pt(1000, 500)), v.Scene().View)
}

func TestMiddleDragPansRound(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0))
	v.Update(noon, frame(""), st)
	lat, lon := under(&v, 300, 200)
	in := mouse(300, 200)
	in.MiddleHeld = true
	assert.Empty(t, v.Update(noon, in, st))
	in.Cursor = image.Pt(420, 260)
	assert.Empty(t, v.Update(noon, in, st))
	lat2, lon2 := under(&v, 420, 260)
	assert.InDelta(t, lat, lat2, 1e-6)
	assert.InDelta(t, lon, lon2, 1e-6)
	// Once round the world, in steps.
	for range 10 {
		in = mouse(100, 100)
		in.MiddleHeld = true
		v.Update(noon, mouse(100, 100), st)
		v.Update(noon, in, st)
		in.Cursor.X += 100
		v.Update(noon, in, st)
	}
	_, lon3 := under(&v, 420, 260)
	assert.InDelta(t, lon, lon3, 1e-6)
	d, ok := discAt(&v, paris)
	require.True(t, ok)
	assert.Equal(t, blue.Color, d.Color)
	// Not beyond the north.
	for range 20 {
		v.Update(noon, mouse(100, 100), st)
		in = mouse(100, 100)
		in.MiddleHeld = true
		v.Update(noon, in, st)
		in.Cursor.Y += 400
		v.Update(noon, in, st)
	}
	assert.InDelta(t, float64(northEdge), v.Scene().View.Y, 1e-6)
}

func TestArrowsPanByTheClock(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0))
	v.Update(noon, frame(""), st)
	at := noon
	press := func(x, y int, after time.Duration) float64 {
		in := frame("")
		in.Arrows = image.Pt(x, y)
		before := v.Scene().View.X
		at = at.Add(after)
		v.Update(at, in, st)
		d := (v.Scene().View.X - before) * v.Scene().View.Zoom
		return math.Mod(d+1500, 1000) - 500
	}
	assert.InDelta(t, 20, press(1, 0, 0), 1e-6, "a tap")
	assert.InDelta(t, 60, press(1, 0, 100*time.Millisecond), 1e-6)
	assert.InDelta(t, 9.6, press(1, 0, 16*time.Millisecond), 1e-6)
	press(0, 0, 0)
	assert.InDelta(t, -20, press(-1, 0, time.Hour), 1e-6)
	y := v.Scene().View.Y
	press(0, 1, time.Hour)
	assert.Greater(t, v.Scene().View.Y, y)
}

// TestClustersOpen: what lies on one another far away is apart near by, and what is
// beyond the picture is counted all the same.
func TestClustersOpen(t *testing.T) {
	near := geoip.Place{Lat: paris.Lat + 0.02, Lon: paris.Lon + 0.02, Country: "FR", Precision: geoip.City}
	st := state(conn(1, paris, 0), conn(2, near, 1), conn(3, rio, 1))
	var v View
	v.Update(noon, frame(""), st)
	assert.Len(t, v.stacks.list, 2)
	x, y := v.Scene().View.Pixel(paris.Lat, paris.Lon)
	for range 12 {
		v.Update(noon, wheel(x, y, 2), st)
	}
	assert.Len(t, v.stacks.list, 2, "rio is out of the picture")
	assert.NotEqual(t, v.stacks.list[0].x, v.stacks.list[1].x)
	assert.Contains(t, texts(&v), "Web\n1\nMail\n2\n")
	assert.Contains(t, texts(&v), "3 live")
	v.Update(noon, frame("0"), st)
	assert.Len(t, v.stacks.list, 2)
}
