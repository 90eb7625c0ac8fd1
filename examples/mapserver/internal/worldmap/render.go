package worldmap

import (
	"image"
	"image/color"
	"image/draw"
	"math"
	"sync"

	"golang.org/x/image/vector"
)

// rasterizers are kept: each holds a buffer of the size of the picture.
var rasterizers = sync.Pool{New: func() any { return &vector.Rasterizer{} }}

// Render paints the map over the whole of dst, with the view's corner at the
// picture's. It is safe for concurrent use.
func Render(dst *image.RGBA, v View, p Palette) {
	size := dst.Bounds().Size()
	if size.X <= 0 || size.Y <= 0 {
		return
	}
	draw.Draw(dst, dst.Bounds(), image.NewUniform(p.Sea), image.Point{}, draw.Src)
	if !(v.Zoom > 0 && v.Zoom < 1e6) || math.IsNaN(v.X+v.Y) || math.Abs(v.X) > 1e9 || math.Abs(v.Y) > 1e9 {
		return
	}
	if p.Scale == 0 {
		p.Scale = 1
	}
	r := &renderer{dst: dst, size: size, view: v, z: rasterizers.Get().(*vector.Rasterizer)}
	defer rasterizers.Put(r.z)
	o := outlines()
	r.paint(o.land, p.Land, 0)
	r.paint(o.borders, p.Border, p.BorderWidth*p.Scale)
	r.paint(o.land, p.Coast, p.CoastWidth*p.Scale)
}

type renderer struct {
	dst  *image.RGBA
	size image.Point
	view View
	z    *vector.Rasterizer
}

// paint fills the lines if width is zero, else strokes them. Lines repeat
// every FrameWidth of world coordinates.
func (r *renderer) paint(lines []line, c color.NRGBA, width float64) {
	r.z.Reset(r.size.X, r.size.Y)
	v := r.view
	// The margin keeps strokes whose middle lies outside.
	margin := width / v.Zoom
	left, right := v.X-margin, v.X+float64(r.size.X)/v.Zoom+margin
	top, bottom := v.Y-margin, v.Y+float64(r.size.Y)/v.Zoom+margin
	// A view of very many worlds would take very long and show nothing.
	if right-left > 50*FrameWidth {
		return
	}
	for i := range lines {
		l := &lines[i]
		if float64(l.maxY) < top || float64(l.minY) > bottom {
			continue
		}
		for k := math.Floor((left - float64(l.maxX)) / FrameWidth); k*FrameWidth+float64(l.minX) <= right; k++ {
			if k*FrameWidth+float64(l.maxX) < left {
				continue
			}
			if width == 0 {
				r.fill(l, k*FrameWidth-v.X)
			} else {
				r.stroke(l, k*FrameWidth-v.X, float32(width/2))
			}
		}
	}
	r.z.Draw(r.dst, r.dst.Bounds(), image.NewUniform(c), image.Point{})
}

const fine = 0.35 // pixels: nearer points are left out

// at returns a vertex as a pixel, not so far away that float32 gets coarse.
func (r *renderer) at(p vertex, shift float64) (x, y float32) {
	const far = 1 << 20
	return float32(min(max((float64(p.x)+shift)*r.view.Zoom, -far), far)),
		float32(min(max((float64(p.y)-r.view.Y)*r.view.Zoom, -far), far))
}

func (r *renderer) fill(l *line, shift float64) {
	x, y := r.at(l.points[0], shift)
	r.z.MoveTo(x, y)
	for _, p := range l.points[1:] {
		x1, y1 := r.at(p, shift)
		if abs(x1-x) < fine && abs(y1-y) < fine {
			continue
		}
		x, y = x1, y1
		r.z.LineTo(x, y)
	}
	r.z.ClosePath()
}

// stroke draws a quadrilateral along each step. All go round the same way,
// so that where they overlap nothing is taken away.
func (r *renderer) stroke(l *line, shift float64, half float32) {
	w, h := float32(r.size.X)+half, float32(r.size.Y)+half
	x, y := r.at(l.points[0], shift)
	last := len(l.points) - 1
	for i, p := range l.points[1:] {
		x1, y1 := r.at(p, shift)
		dx, dy := x1-x, y1-y
		if i+1 < last && abs(dx) < fine && abs(dy) < fine {
			continue
		}
		from := vertex{x, y}
		x, y = x1, y1
		// The way to the pole and back is no coast.
		if p.y > 9e4 || l.points[i].y > 9e4 {
			continue
		}
		if max(from.x, x1) < -half || min(from.x, x1) > w || max(from.y, y1) < -half || min(from.y, y1) > h {
			continue
		}
		n := float32(math.Hypot(float64(dx), float64(dy)))
		if n == 0 {
			continue
		}
		nx, ny := -dy/n*half, dx/n*half
		r.z.MoveTo(from.x+nx, from.y+ny)
		r.z.LineTo(x1+nx, y1+ny)
		r.z.LineTo(x1-nx, y1-ny)
		r.z.LineTo(from.x-nx, from.y-ny)
		r.z.ClosePath()
	}
}

func abs(v float32) float32 { return max(v, -v) }
