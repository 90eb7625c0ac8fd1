package worldmap

import (
	"encoding/binary"
	"image"
	"image/color"
	"image/draw"
	"math"
	"sync"

	"golang.org/x/image/vector"
)

const (
	// A picture is painted in strips of at most this many pixels: they stay
	// in the processor's cache, and the memory for a picture of any size is
	// that for one strip.
	stripPixels = 1 << 18

	// Nearer points of an outline are left out, in pixels.
	fine = 0.3

	// A world of fewer pixels shows nothing, and a picture has many of them.
	minZoom, maxZoom = 0.01, 1e6
)

// A strip holds what one strip of the picture is covered by, 255 for all of
// the pixel: land, borders and coasts.
type strip struct {
	z                     vector.Rasterizer
	land, borders, coasts []uint8
	top, width, height    int
	view                  View
}

var strips = sync.Pool{New: func() any { return new(strip) }}

// Render paints the map over the whole of dst, opaque. Beyond the poles the
// sea goes on in the north and the land in the south. A view that is not
// finite or whose zoom is not between 0.01 and 1e6 shows only sea. Render is
// safe for concurrent use.
func Render(dst *image.RGBA, v View, p Palette) {
	size := dst.Bounds().Size()
	if size.X <= 0 || size.Y <= 0 {
		return
	}
	if !(v.Zoom >= minZoom && v.Zoom <= maxZoom && math.Abs(v.X) < 1e9 && math.Abs(v.Y) < 1e9) {
		draw.Draw(dst, dst.Bounds(), image.NewUniform(opaque(p.Sea)), image.Point{}, draw.Src)
		return
	}
	if p.Scale <= 0 {
		p.Scale = 1
	}
	o := outlines()
	s := strips.Get().(*strip)
	defer strips.Put(s)
	rows := max(stripPixels/size.X, 16)
	for top := 0; top < size.Y; top += rows {
		s.reset(v, size.X, top, min(rows, size.Y-top))
		s.fill(o.land)
		s.stroke(s.borders, o.borders, p.BorderWidth*p.Scale)
		s.stroke(s.coasts, o.land, p.CoastWidth*p.Scale)
		s.paint(dst, p)
	}
}

func (s *strip) reset(v View, width, top, height int) {
	s.view, s.top, s.width, s.height = v, top, width, height
	n := width * height
	if n > cap(s.land) {
		s.land, s.borders, s.coasts = make([]uint8, n), make([]uint8, n), make([]uint8, n)
	}
	s.land, s.borders, s.coasts = s.land[:n], s.borders[:n], s.coasts[:n]
	clear(s.borders)
	clear(s.coasts)
}

// visible calls f for each repetition of a line that may touch the strip, with
// the distance by which it is moved in world coordinates. The margin is in
// pixels.
func (s *strip) visible(lines []line, margin float64, f func(l *line, shift float64)) {
	v := s.view
	margin /= v.Zoom
	left, right := v.X-margin, v.X+float64(s.width)/v.Zoom+margin
	top := v.Y + float64(s.top)/v.Zoom - margin
	bottom := v.Y + float64(s.top+s.height)/v.Zoom + margin
	for i := range lines {
		l := &lines[i]
		if float64(l.maxY) < top || float64(l.minY) > bottom {
			continue
		}
		last := math.Floor((right - float64(l.minX)) / FrameWidth)
		for k := math.Ceil((left - float64(l.maxX)) / FrameWidth); k <= last; k++ {
			f(l, k*FrameWidth)
		}
	}
}

// fill finds the land. Rings of land and of the waters in it go round
// opposite ways, so that their areas cancel.
func (s *strip) fill(rings []line) {
	s.z.Reset(s.width, s.height)
	s.z.DrawOp = draw.Src
	s.visible(rings, 0, func(l *line, shift float64) {
		zoom := s.view.Zoom
		dx, dy := shift-s.view.X, -s.view.Y-float64(s.top)/zoom
		var x, y float64
		for i, p := range l.points {
			x1, y1 := (float64(p.x)+dx)*zoom, (float64(p.y)+dy)*zoom
			if i == 0 {
				x, y = x1, y1
			} else if math.Abs(x1-x) >= fine || math.Abs(y1-y) >= fine || i == len(l.points)-1 {
				s.edge(x, y, x1, y1)
				x, y = x1, y1
			}
		}
	})
	box := image.Rect(0, 0, s.width, s.height)
	s.z.Draw(&image.Alpha{Pix: s.land, Stride: s.width, Rect: box}, box, image.Opaque, image.Point{})
}

// edge adds an edge of an area, cut to the strip: coordinates far outside
// would overflow in the rasterizer. What lies beside the strip counts at its
// side, as it decides whether the row begins inside; what lies above or below
// does not count.
func (s *strip) edge(x0, y0, x1, y1 float64) {
	w, h := float64(s.width), float64(s.height)
	if (y0 <= 0 && y1 <= 0) || (y0 >= h && y1 >= h) {
		return
	}
	if x0 >= 0 && x0 <= w && x1 >= 0 && x1 <= w && y0 >= 0 && y0 <= h && y1 >= 0 && y1 <= h {
		s.z.MoveTo(float32(x0), float32(y0))
		s.z.LineTo(float32(x1), float32(y1))
		return
	}
	at := func(y float64) float64 { return x0 + (y-y0)*(x1-x0)/(y1-y0) }
	ax, ay, bx, by := x0, y0, x1, y1
	if cut := min(max(ay, 0), h); cut != ay {
		ax, ay = at(cut), cut
	}
	if cut := min(max(by, 0), h); cut != by {
		bx, by = at(cut), cut
	}
	s.z.MoveTo(float32(min(max(ax, 0), w)), float32(ay))
	sides := [2]float64{0, w}
	if ax > bx {
		sides = [2]float64{w, 0}
	}
	for _, side := range sides {
		if (ax < side) != (bx < side) && ax != side && bx != side {
			y := min(max(y0+(side-x0)*(y1-y0)/(x1-x0), min(ay, by)), max(ay, by))
			s.z.LineTo(float32(side), float32(y))
		}
	}
	s.z.LineTo(float32(min(max(bx, 0), w)), float32(by))
}

// stroke finds what lines of a width cover. Where steps of a line overlap,
// the larger coverage counts, so that detail smaller than a pixel does not
// add up to blots.
func (s *strip) stroke(mask []uint8, lines []line, width float64) {
	if !(width > 0 && width < 1000) {
		return
	}
	pen := newPen(width)
	s.visible(lines, pen.reach, func(l *line, shift float64) {
		zoom := s.view.Zoom
		dx, dy := shift-s.view.X, -s.view.Y-float64(s.top)/zoom
		var x, y float64
		for i, p := range l.points {
			x1, y1 := (float64(p.x)+dx)*zoom, (float64(p.y)+dy)*zoom
			if i > 0 && math.Abs(x1-x) < fine && math.Abs(y1-y) < fine && i < len(l.points)-1 {
				continue
			}
			// The way to the pole and back is no coast.
			if i > 0 && p.y < poleY && l.points[i-1].y < poleY {
				pen.line(mask, s.width, s.height, x, y, x1, y1)
			}
			x, y = x1, y1
		}
	})
}

// A pen draws lines of one width into a mask.
type pen struct {
	reach float64 // from the middle of a line to where nothing is covered
	scale float64 // entries of cover per square pixel
	cover []uint8 // by the square of the distance from the middle
}

func newPen(width float64) *pen {
	p := &pen{reach: width/2 + 0.5}
	p.cover = make([]uint8, 512)
	p.scale = float64(len(p.cover)) / (p.reach * p.reach)
	for i := range p.cover {
		d := math.Sqrt((float64(i) + 0.5) / p.scale)
		p.cover[i] = uint8(255*min(p.reach-d, width, 1) + 0.5)
	}
	return p
}

// line draws a line with round ends.
func (p *pen) line(mask []uint8, width, height int, x0, y0, x1, y1 float64) {
	r := p.reach
	if max(x0, x1) <= -r || min(x0, x1) >= float64(width)+r || max(y0, y1) <= -r || min(y0, y1) >= float64(height)+r {
		return
	}
	if y0 > y1 {
		x0, y0, x1, y1 = x1, y1, x0, y0
	}
	dx, dy := x1-x0, y1-y0
	inv := 0.0
	if n := dx*dx + dy*dy; n > 0 {
		inv = 1 / n
	}
	slope := 0.0
	if dy > 0 {
		slope = dx / dy
	}
	first := int(max(math.Ceil(y0-r-0.5), 0))
	last := int(min(math.Floor(y1+r-0.5), float64(height-1)))
	for row := first; row <= last; row++ {
		y := float64(row) + 0.5
		// Only the part of the line near this row reaches pixels of it.
		a, b := x0, x1
		if y-r > y0 {
			a = x0 + (y-r-y0)*slope
		}
		if y+r < y1 {
			b = x0 + (y+r-y0)*slope
		}
		if a > b {
			a, b = b, a
		}
		from := int(max(math.Ceil(a-r-0.5), 0))
		to := int(min(math.Floor(b+r-0.5), float64(width-1)))
		if from > to {
			continue
		}
		pixels := mask[row*width+from : row*width+to+1]
		py := y - y0
		for i := range pixels {
			px := float64(from+i) + 0.5 - x0
			t := min(max((px*dx+py*dy)*inv, 0), 1)
			ex, ey := px-t*dx, py-t*dy
			if k := int((ex*ex + ey*ey) * p.scale); k < len(p.cover) && p.cover[k] > pixels[i] {
				pixels[i] = p.cover[k]
			}
		}
	}
}

// paint lays land, borders and coasts over the sea.
func (s *strip) paint(dst *image.RGBA, p Palette) {
	sea, land := opaque(p.Sea), p.Land
	plain := [2]uint32{pack(sea), pack(over(sea, land, 255))}
	min := dst.Bounds().Min
	for row := range s.height {
		off := dst.PixOffset(min.X, min.Y+s.top+row)
		pix := dst.Pix[off : off+4*s.width]
		i := row * s.width
		a, b, c := s.land[i:i+s.width], s.borders[i:i+s.width], s.coasts[i:i+s.width]
		for x, cover := range a {
			out := pix[4*x : 4*x+4 : 4*x+4]
			if b[x]|c[x] == 0 && (cover == 0 || cover == 255) {
				binary.LittleEndian.PutUint32(out, plain[cover&1])
				continue
			}
			col := over(over(over(sea, land, cover), p.Border, b[x]), p.Coast, c[x])
			binary.LittleEndian.PutUint32(out, pack(col))
		}
	}
}

// over lays c over an opaque colour where it covers cover/255 of it.
func over(under, c color.NRGBA, cover uint8) color.NRGBA {
	a := uint32(c.A) * uint32(cover) // of 255 squared
	const one = 255 * 255
	mix := func(u, c uint8) uint8 { return uint8((uint32(u)*(one-a) + uint32(c)*a + one/2) / one) }
	return color.NRGBA{mix(under.R, c.R), mix(under.G, c.G), mix(under.B, c.B), 255}
}

func opaque(c color.NRGBA) color.NRGBA {
	c.A = 255
	return c
}

func pack(c color.NRGBA) uint32 {
	return uint32(c.R) | uint32(c.G)<<8 | uint32(c.B)<<16 | uint32(c.A)<<24
}
