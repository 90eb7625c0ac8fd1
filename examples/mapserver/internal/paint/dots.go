package paint

import (
	"image"
	"image/color"
	"math"

	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

const (
	subpixels = 8   // parts of a pixel by which dots are placed
	arcSteps  = 256 // parts of a turn by which arcs are cut
	maxRadius = 64  // radius of what is a dot
)

// Dots paints many discs, rings and arcs fast: it caches how much of each pixel they cover.
// The zero Dots is ready for use. It is not safe for concurrent use.
type Dots struct {
	masks map[dotKey]*mask
}

// A dotKey describes a dot. Of discs only r and the position are set.
type dotKey struct {
	shape    ui.Shape
	r, w     float32
	from, to int16 // parts of a turn
	x, y     uint8 // parts of a pixel
}

// A mask says how much of pixels around a middle is covered, of 255.
type mask struct {
	reach int // pixels from that of the middle to the edge
	cover []uint8
}

// Leading returns how many of the first items are discs, rings and arcs.
func Leading(items []ui.Item) int {
	for i := range items {
		switch items[i].Shape {
		case ui.Disc, ui.Ring, ui.Arc:
		default:
			return i
		}
	}
	return len(items)
}

// Draw paints such items over an opaque picture.
func (d *Dots) Draw(dst *image.RGBA, items []ui.Item) {
	bounds := dst.Bounds()
	for i := range items {
		it := &items[i]
		if !(it.R > 0 && it.R+it.W < maxRadius && abs(it.X) < 1e6 && abs(it.Y) < 1e6 && abs(it.From) < 100 && abs(it.To) < 100) {
			shape(dst, it)
			continue
		}
		x, y := int(math.Floor(float64(it.X)*subpixels+0.5)), int(math.Floor(float64(it.Y)*subpixels+0.5))
		// Sizes are rounded to quarters of a pixel, to keep the masks few.
		k := dotKey{shape: it.Shape, r: quarters(it.R)}
		switch it.Shape {
		case ui.Arc:
			k.from, k.to = int16(math.Round(float64(it.From)*arcSteps)), int16(math.Round(float64(it.To)*arcSteps))
			fallthrough
		case ui.Ring:
			// There are many kinds of these: round their position more.
			k.w, x, y = quarters(it.W), x&^1, y&^1
		}
		k.x, k.y = uint8(x&(subpixels-1)), uint8(y&(subpixels-1))
		m := d.masks[k]
		if m == nil {
			if d.masks == nil || len(d.masks) > 8192 {
				d.masks = make(map[dotKey]*mask)
			}
			m = newMask(k)
			d.masks[k] = m
		}
		px, py := x>>3, y>>3 // fine is 8
		side := 2*m.reach + 1
		r, g, b, a := uint32(it.Color.R), uint32(it.Color.G), uint32(it.Color.B), uint32(it.Color.A)
		for row := range side {
			py := py - m.reach + row
			if py < bounds.Min.Y || py >= bounds.Max.Y {
				continue
			}
			from, to := max(px-m.reach, bounds.Min.X), min(px+m.reach+1, bounds.Max.X)
			if from >= to {
				continue
			}
			cover := m.cover[row*side+from-(px-m.reach):][:to-from]
			pix := dst.Pix[dst.PixOffset(from, py):][:4*(to-from)]
			for n, c := range cover {
				if c == 0 {
					continue
				}
				share := uint32(c) * a // of 255*255
				rest := 255*255 - share
				p := pix[4*n : 4*n+3 : 4*n+3]
				p[0] = uint8((uint32(p[0])*rest + r*share + 32512) / 65025)
				p[1] = uint8((uint32(p[1])*rest + g*share + 32512) / 65025)
				p[2] = uint8((uint32(p[2])*rest + b*share + 32512) / 65025)
			}
		}
	}
}

func quarters(v float32) float32 { return max(float32(math.Round(float64(v)*4))/4, 0.25) }

// newMask paints the dot once, white on black.
func newMask(k dotKey) *mask {
	m := &mask{reach: int(k.r+k.w/2) + 2}
	side := 2*m.reach + 1
	it := ui.Item{Shape: k.shape, X: float32(m.reach) + float32(k.x)/subpixels, Y: float32(m.reach) + float32(k.y)/subpixels, R: k.r, W: k.w,
		From: float32(k.from) / arcSteps, To: float32(k.to) / arcSteps, Color: color.NRGBA{255, 255, 255, 255}}
	picture := image.NewRGBA(image.Rect(0, 0, side, side))
	shape(picture, &it)
	m.cover = make([]uint8, side*side)
	for i := range m.cover {
		m.cover[i] = picture.Pix[4*i]
	}
	return m
}
