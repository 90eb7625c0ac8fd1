package gui

import (
	"image"
	"image/color"
	"math"

	"github.com/connmapgo/connmap/examples/mapserver/internal/worldmap"
)

// icon draws the window's icon: a place on a map of Europe and Africa.
func icon(size int) image.Image {
	const middleX, middleY, width = 520, 262, 300 // in world coordinates
	m := image.NewRGBA(image.Rect(0, 0, size, size))
	s := float64(size)
	worldmap.Render(m, worldmap.View{X: middleX - width/2, Y: middleY - width/2, Zoom: s / width}, worldmap.Palette{
		Sea: color.NRGBA{0x12, 0x2a, 0x44, 255}, Land: color.NRGBA{0xc3, 0xcc, 0xd6, 255},
	})
	disc := color.NRGBA{0xff, 0x5a, 0x3c, 255}
	for y := range size {
		for x := range size {
			d := math.Hypot(float64(x)+0.5-s*0.55, float64(y)+0.5-s*0.42) - s*0.2
			if d < 0 {
				m.Set(x, y, disc)
			} else if d < s*0.06 {
				m.Set(x, y, color.White)
			}
		}
	}
	return m
}
