package mapview

import (
	"image"
	"image/color"
	"math"
	"sort"
	"unicode/utf8"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
)

// A canvas collects items. It takes density-independent pixels and stores
// pixels of the picture.
type canvas struct {
	items  []Item
	scale  float64
	widths map[textKey]float64
}

type textKey struct {
	font typeface.Font
	size float64
	text string
}

// A box is an upright rectangle: corner and size.
type box struct{ x, y, w, h float64 }

func (b box) contains(x, y float64) bool {
	return x >= b.x && x < b.x+b.w && y >= b.y && y < b.y+b.h
}

func (b box) overlaps(o box) bool {
	return b.x < o.x+o.w && o.x < b.x+b.w && b.y < o.y+o.h && o.y < b.y+b.h
}

func (b box) grow(by float64) box {
	return box{b.x - by, b.y - by, b.w + 2*by, b.h + 2*by}
}

// clamp moves b into o, keeping the upper left corner visible if it does not fit.
func (b box) clamp(o box) box {
	b.x = max(min(b.x, o.x+o.w-b.w), o.x)
	b.y = max(min(b.y, o.y+o.h-b.h), o.y)
	return b
}

func (c *canvas) px(v float64) float32 { return float32(v * c.scale) }

func (c *canvas) disc(x, y, r float64, col color.NRGBA) {
	c.items = append(c.items, Item{Shape: Disc, X: c.px(x), Y: c.px(y), R: c.px(r), Color: col})
}

func (c *canvas) ring(x, y, r, w float64, col color.NRGBA) {
	c.items = append(c.items, Item{Shape: Ring, X: c.px(x), Y: c.px(y), R: c.px(r), W: c.px(w), Color: col})
}

func (c *canvas) arc(x, y, r, w, from, to float64, col color.NRGBA) {
	c.items = append(c.items, Item{Shape: Arc, X: c.px(x), Y: c.px(y), R: c.px(r), W: c.px(w), From: float32(from), To: float32(to), Color: col})
}

func (c *canvas) rect(b box, r float64, col color.NRGBA) {
	c.items = append(c.items, Item{Shape: Rect, X: c.px(b.x), Y: c.px(b.y), X2: c.px(b.w), Y2: c.px(b.h), R: c.px(r), Color: col})
}

func (c *canvas) frame(b box, r, w float64, col color.NRGBA) {
	c.items = append(c.items, Item{Shape: Frame, X: c.px(b.x), Y: c.px(b.y), X2: c.px(b.w), Y2: c.px(b.h), R: c.px(r), W: c.px(w), Color: col})
}

func (c *canvas) panel(b box, t *theme) {
	c.rect(b, 6, t.panel)
	c.frame(b, 6, 1, t.edge)
}

func (c *canvas) line(x, y, x2, y2, w float64, col color.NRGBA) {
	c.items = append(c.items, Item{Shape: Line, X: c.px(x), Y: c.px(y), X2: c.px(x2), Y2: c.px(y2), W: c.px(w), Color: col})
}

// triangle draws a triangle with its outline.
func (c *canvas) triangle(x, y, r float64, fill, outline color.NRGBA) {
	i := Item{Shape: Triangle, X: c.px(x), Y: c.px(y), R: c.px(r), Color: fill}
	c.items = append(c.items, i)
	i.W, i.Color = c.px(1.2), outline
	c.items = append(c.items, i)
}

// picture draws a picture, whose pixels are those of the screen.
func (c *canvas) picture(x, y float64, m *image.RGBA) {
	c.items = append(c.items, Item{Shape: Picture, X: float32(math.Round(x * c.scale)), Y: float32(math.Round(y * c.scale)), Picture: m})
}

func (c *canvas) text(x, y float64, f typeface.Font, size float64, col color.NRGBA, s string) {
	if s != "" {
		c.items = append(c.items, Item{Shape: Text, X: c.px(x), Y: c.px(y), Font: f, Size: c.px(size), Color: col, Text: s})
	}
}

// textRight draws a text that ends at x.
func (c *canvas) textRight(x, y float64, f typeface.Font, size float64, col color.NRGBA, s string) {
	c.text(x-c.width(f, size, s), y, f, size, col, s)
}

// width returns the width of a text as it will be drawn at this scale.
func (c *canvas) width(f typeface.Font, size float64, s string) float64 {
	k := textKey{f, size * c.scale, s}
	w, ok := c.widths[k]
	if !ok {
		// Measuring is slower than a look-up by a factor of about 50, and
		// most texts stay from frame to frame.
		if c.widths == nil || len(c.widths) > 20000 {
			c.widths = make(map[textKey]float64)
		}
		w = typeface.Width(f, size*c.scale, s)
		c.widths[k] = w
	}
	return w / c.scale
}

// elide shortens s with an ellipsis until it is no wider than w.
func (c *canvas) elide(f typeface.Font, size float64, s string, w float64) string {
	if w <= 0 {
		return ""
	}
	// No font has characters narrower than a sixth of its size, and a text
	// from a hostile host can be long: do not measure what cannot fit.
	if limit := int(w/size*6) + 1; len(s) > limit*utf8.UTFMax {
		s = s[:limit*utf8.UTFMax]
		for !utf8.ValidString(s) && len(s) > 0 {
			s = s[:len(s)-1]
		}
	}
	if c.width(f, size, s) <= w {
		return s
	}
	// The longest beginning that fits, by bisection over its runes.
	runes := []rune(s)
	n, fits := sort.Find(len(runes), func(i int) int {
		if typeface.Width(f, size*c.scale, string(runes[:i+1])+"…")/c.scale > w {
			return 0
		}
		return 1
	})
	if n == 0 && fits {
		return ""
	}
	return string(runes[:n]) + "…"
}
