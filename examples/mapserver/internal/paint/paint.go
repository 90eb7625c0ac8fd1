// Package paint draws scenes on the CPU, for pictures without a display.
// It knows no window: gui draws the same scenes there.
package paint

import (
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"

	"golang.org/x/image/font"
	"golang.org/x/image/math/fixed"

	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/examples/mapserver/internal/worldmap"
)

// PNG writes a scene as a PNG picture.
func PNG(w io.Writer, s *mapview.Scene) error {
	m := image.NewRGBA(image.Rectangle{Max: s.Size})
	Draw(m, s)
	return png.Encode(w, m)
}

// Draw paints a scene over dst, whose upper left corner is that of the scene.
func Draw(dst *image.RGBA, s *mapview.Scene) {
	worldmap.Render(dst, s.View, s.Palette)
	for i := range s.Items {
		switch it := &s.Items[i]; it.Shape {
		case ui.Text:
			text(dst, it)
		case ui.Picture:
			at := image.Pt(pixel(it.X), pixel(it.Y))
			draw.Draw(dst, it.Picture.Bounds().Add(at), it.Picture, it.Picture.Bounds().Min, draw.Over)
		default:
			shape(dst, it)
		}
	}
}

func text(dst *image.RGBA, it *ui.Item) {
	if !(it.Size > 0 && it.Size < 1000 && abs(it.X) < 1e5 && abs(it.Y) < 1e5) {
		return
	}
	d := font.Drawer{Dst: dst, Src: image.NewUniform(it.Color), Face: typeface.Face(it.Font, float64(it.Size))}
	// Whole pixels upright keep the horizontal strokes of letters crisp.
	d.Dot = fixed.Point26_6{X: fixed.Int26_6(it.X * 64), Y: fixed.I(int(math.Round(float64(it.Y))))}
	d.DrawString(it.Text)
}

// shape blends what an item covers of each pixel, by the distance of the
// pixel's middle from the item's edge.
func shape(dst *image.RGBA, it *ui.Item) {
	x0, y0, x1, y1 := it.Box()
	box := image.Rect(pixel(x0)-1, pixel(y0)-1, pixel(x1)+2, pixel(y1)+2).Intersect(dst.Bounds())
	if box.Empty() || it.R < 0 {
		return
	}
	cx, cy, hx, hy := (x0+x1)/2, (y0+y1)/2, (x1-x0)/2, (y1-y0)/2
	r := min(it.R, hx, hy)
	width := float32(0)
	switch it.Shape {
	case ui.Disc:
	case ui.Ring, ui.Arc:
		r, width = hx, it.W
	case ui.Frame, ui.Triangle:
		width = it.W
	}
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			dx, dy := float32(x)+0.5-cx, float32(y)+0.5-cy
			var d float32
			switch it.Shape {
			case ui.Line:
				d = fromLine(float32(x)+0.5, float32(y)+0.5, it)
			case ui.Triangle:
				d = max(dy, abs(dx)*0.8660254-dy/2) - it.R/2
			default:
				d = distance(dx, dy, hx, hy, r)
			}
			if width > 0 {
				d = abs(d+width/2) - width/2
			}
			cover := min(max(0.5-d, 0), 1)
			if cover > 0 && it.Shape == ui.Arc {
				cover *= within(dx, dy, it.From, it.To)
			}
			if cover > 0 {
				blend(dst.Pix[dst.PixOffset(x, y):], it.Color, cover)
			}
		}
	}
}

// distance returns how far a point is outside a rectangle around the origin
// with half sizes hx, hy and corners rounded by r; negative: inside.
func distance(x, y, hx, hy, r float32) float32 {
	qx, qy := abs(x)-hx+r, abs(y)-hy+r
	outside := float32(math.Hypot(float64(max(qx, 0)), float64(max(qy, 0))))
	return outside + min(max(qx, qy), 0) - r
}

// fromLine returns how far a point is outside a line with round ends.
func fromLine(x, y float32, it *ui.Item) float32 {
	dx, dy := it.X2-it.X, it.Y2-it.Y
	share := float32(0)
	if length := dx*dx + dy*dy; length > 0 {
		share = min(max(((x-it.X)*dx+(y-it.Y)*dy)/length, 0), 1)
	}
	return float32(math.Hypot(float64(x-it.X-share*dx), float64(y-it.Y-share*dy))) - it.W/2
}

// within returns how much of a pixel at an offset from the middle lies
// between two turns.
func within(x, y, from, to float32) float32 {
	turn := float32(math.Atan2(float64(x), float64(-y)) / (2 * math.Pi))
	// The nearest of the turn's repetitions to the middle of the arc.
	middle := (from + to) / 2
	turn += float32(math.Round(float64(middle - turn)))
	radius := float32(math.Hypot(float64(x), float64(y)))
	edge := (abs(turn-middle) - (to-from)/2) * 2 * math.Pi * radius
	return min(max(0.5-edge, 0), 1)
}

// blend lays a colour over an opaque pixel.
func blend(pix []uint8, c color.NRGBA, cover float32) {
	a := cover * float32(c.A) / 255
	pix[0] = uint8(float32(pix[0])*(1-a) + float32(c.R)*a + 0.5)
	pix[1] = uint8(float32(pix[1])*(1-a) + float32(c.G)*a + 0.5)
	pix[2] = uint8(float32(pix[2])*(1-a) + float32(c.B)*a + 0.5)
}

// pixel returns the pixel of a coordinate, limited to what pictures have.
func pixel(v float32) int {
	if v != v {
		return 0
	}
	return int(min(max(v, -1e6), 1e6))
}

func abs(v float32) float32 { return max(v, -v) }
