// Package worldmap projects the world and paints its outlines.
// It knows no connections and no window: it paints a map into a picture.
package worldmap

import (
	"image"
	"math"
)

// The frame is the picture the original program drew on, a cut-out of a
// Mercator map. World coordinates are its pixels: x grows eastwards and
// repeats every 1000, y grows southwards.
const (
	FrameWidth  = 1000
	FrameHeight = 500
)

// MaxLat is the latitude at which the Mercator map is as high as it is wide.
const MaxLat = 85.0511287798066

// Point returns the world coordinates of a place given in degrees. Latitudes
// beyond MaxLat are drawn at MaxLat. The result lies in the frame's own
// period: -29 <= x <= 971.
func Point(lat, lon float64) (x, y float64) {
	lat = max(-MaxLat, min(MaxLat, lat))
	m := math.Log(math.Tan(math.Pi/4 + lat*math.Pi/360))
	return (lon+180)/360*1000 - 29, 250 - 1000*m/(2*math.Pi) + 76
}

// Place is the inverse of Point.
func Place(x, y float64) (lat, lon float64) {
	m := (250 + 76 - y) / 1000 * 2 * math.Pi
	return math.Atan(math.Sinh(m)) * 180 / math.Pi, (x+29)/1000*360 - 180
}

// Km returns how many kilometres so many pixels of the frame are at a latitude.
func Km(lat, pixels float64) float64 {
	const earth = 6371.0088 // its mean radius (IUGG)
	return pixels * 2 * math.Pi * earth / 1000 * math.Cos(lat*math.Pi/180)
}

// A View says which part of the world fills a picture. Views are comparable:
// equal views of the same size show the same map.
type View struct {
	X, Y float64 // world coordinates of the picture's upper left corner
	Zoom float64 // picture pixels per world unit
}

// Fit returns the view that shows the whole frame in the middle of a picture
// of the given size.
func Fit(size image.Point) View {
	z := min(float64(size.X)/FrameWidth, float64(size.Y)/FrameHeight)
	z = max(z, 0.01)
	return View{
		X:    FrameWidth/2 - float64(size.X)/2/z,
		Y:    FrameHeight/2 - float64(size.Y)/2/z,
		Zoom: z,
	}
}

// Pixel returns where in the picture a place lies; of its repetitions the
// leftmost at or right of the picture's left edge.
func (v View) Pixel(lat, lon float64) (x, y float64) {
	wx, wy := Point(lat, lon)
	wx -= v.X
	wx -= math.Floor(wx/FrameWidth) * FrameWidth
	return wx * v.Zoom, (wy - v.Y) * v.Zoom
}

// Place is the inverse of Pixel.
func (v View) Place(x, y float64) (lat, lon float64) {
	lat, lon = Place(v.X+x/v.Zoom, v.Y+y/v.Zoom)
	return lat, lon - 360*math.Floor((lon+180)/360)
}
