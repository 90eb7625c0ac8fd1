package ui

import (
	"image"
	"image/color"
	"math"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
)

// A Canvas collects items. It takes density-independent pixels and stores
// pixels of the picture.
type Canvas struct {
	Items []Item
	Scale float64 // pixels of the picture per density-independent pixel
	Theme *Theme

	MouseX, MouseY float64
	Hover          bool // the mouse is over the panel that is drawn
	Focused        bool // keys go to the panel that is drawn

	widths map[textKey]float64
}

type textKey struct {
	font typeface.Font
	size float64
	text string
}

// A Box is an upright rectangle: its upper left corner and its size.
type Box struct{ X, Y, W, H float64 }

// At returns a box by its upper left corner and its size.
func At(x, y, w, h float64) Box { return Box{X: x, Y: y, W: w, H: h} }

// Contains reports whether a point is in the box.
func (b Box) Contains(x, y float64) bool {
	return x >= b.X && x < b.X+b.W && y >= b.Y && y < b.Y+b.H
}

// Overlaps reports whether two boxes have a point in common.
func (b Box) Overlaps(o Box) bool {
	return b.X < o.X+o.W && o.X < b.X+b.W && b.Y < o.Y+o.H && o.Y < b.Y+b.H
}

// Grow moves each edge outwards.
func (b Box) Grow(by float64) Box {
	return At(b.X-by, b.Y-by, b.W+2*by, b.H+2*by)
}

// Clamp moves b into o, keeping the upper left corner visible if it does not fit.
func (b Box) Clamp(o Box) Box {
	b.X = max(min(b.X, o.X+o.W-b.W), o.X)
	b.Y = max(min(b.Y, o.Y+o.H-b.H), o.Y)
	return b
}

// Hot reports whether the mouse is over a box of the panel that is drawn.
func (c *Canvas) Hot(b Box) bool { return c.Hover && b.Contains(c.MouseX, c.MouseY) }

// Highlight draws the ground of a box that the mouse is over, and can press.
func (c *Canvas) Highlight(b Box) {
	if c.Hot(b) {
		c.Rect(b, 4, c.Theme.Edge)
	}
}

func (c *Canvas) px(v float64) float32 { return float32(v * c.Scale) }

// Disc draws a filled circle.
func (c *Canvas) Disc(x, y, r float64, col color.NRGBA) {
	c.Items = append(c.Items, Item{Shape: Disc, X: c.px(x), Y: c.px(y), R: c.px(r), Color: col})
}

// Ring draws a circle whose line is w wide.
func (c *Canvas) Ring(x, y, r, w float64, col color.NRGBA) {
	c.Items = append(c.Items, Item{Shape: Ring, X: c.px(x), Y: c.px(y), R: c.px(r), W: c.px(w), Color: col})
}

// Arc draws a part of a ring, in turns clockwise from the top.
func (c *Canvas) Arc(x, y, r, w, from, to float64, col color.NRGBA) {
	c.Items = append(c.Items, Item{Shape: Arc, X: c.px(x), Y: c.px(y), R: c.px(r), W: c.px(w), From: float32(from), To: float32(to), Color: col})
}

// Rect fills a box with corners rounded by r.
func (c *Canvas) Rect(b Box, r float64, col color.NRGBA) {
	c.Items = append(c.Items, Item{Shape: Rect, X: c.px(b.X), Y: c.px(b.Y), X2: c.px(b.W), Y2: c.px(b.H), R: c.px(r), Color: col})
}

// Frame draws the outline of a box, w wide.
func (c *Canvas) Frame(b Box, r, w float64, col color.NRGBA) {
	c.Items = append(c.Items, Item{Shape: Frame, X: c.px(b.X), Y: c.px(b.Y), X2: c.px(b.W), Y2: c.px(b.H), R: c.px(r), W: c.px(w), Color: col})
}

// Panel draws the ground of a panel.
func (c *Canvas) Panel(b Box) {
	c.Rect(b, 6, c.Theme.Panel)
	c.Frame(b, 6, 1, c.Theme.Edge)
}

// Line draws a line, w wide.
func (c *Canvas) Line(x, y, x2, y2, w float64, col color.NRGBA) {
	c.Items = append(c.Items, Item{Shape: Line, X: c.px(x), Y: c.px(y), X2: c.px(x2), Y2: c.px(y2), W: c.px(w), Color: col})
}

// Triangle draws a triangle with its outline.
func (c *Canvas) Triangle(x, y, r float64, fill, outline color.NRGBA) {
	i := Item{Shape: Triangle, X: c.px(x), Y: c.px(y), R: c.px(r), Color: fill}
	c.Items = append(c.Items, i)
	i.W, i.Color = c.px(1.2), outline
	c.Items = append(c.Items, i)
}

// Picture draws a picture, whose pixels are those of the screen.
func (c *Canvas) Picture(x, y float64, m *image.RGBA) {
	c.Items = append(c.Items, Item{Shape: Picture, X: float32(math.Round(x * c.Scale)), Y: float32(math.Round(y * c.Scale)), Picture: m})
}

// Text writes a text whose baseline starts at a point.
func (c *Canvas) Text(x, y float64, f typeface.Font, size float64, col color.NRGBA, s string) {
	if s != "" {
		c.Items = append(c.Items, Item{Shape: Text, X: c.px(x), Y: c.px(y), Font: f, Size: c.px(size), Color: col, Text: s})
	}
}

// TextRight draws a text that ends at x.
func (c *Canvas) TextRight(x, y float64, f typeface.Font, size float64, col color.NRGBA, s string) {
	c.Text(x-c.Width(f, size, s), y, f, size, col, s)
}

// Width returns the width of a text as it will be drawn at this scale.
func (c *Canvas) Width(f typeface.Font, size float64, s string) float64 {
	k := textKey{f, size * c.Scale, s}
	w, ok := c.widths[k]
	if !ok {
		// Measuring is slower than a look-up by a factor of about 50, and
		// most texts stay from frame to frame.
		if c.widths == nil || len(c.widths) > 20000 {
			c.widths = make(map[textKey]float64)
		}
		w = typeface.Width(f, size*c.Scale, s)
		c.widths[k] = w
	}
	return w / c.Scale
}

// Elide shortens s with an ellipsis until it is no wider than w.
func (c *Canvas) Elide(f typeface.Font, size float64, s string, w float64) string {
	if w <= 0 {
		return ""
	}
	// No font has characters narrower than a sixth of its size, and a text
	// from a hostile agent can be long: do not measure what cannot fit.
	if limit := int(w/size*6) + 1; len(s) > limit*utf8.UTFMax {
		s = s[:limit*utf8.UTFMax]
		for !utf8.ValidString(s) && len(s) > 0 {
			s = s[:len(s)-1]
		}
	}
	if c.Width(f, size, s) <= w {
		return s
	}
	// The longest beginning that fits, by bisection over its runes.
	runes := []rune(s)
	n, fits := sort.Find(len(runes), func(i int) int {
		if typeface.Width(f, size*c.Scale, string(runes[:i+1])+"…")/c.Scale > w {
			return 0
		}
		return 1
	})
	if n == 0 && fits {
		return ""
	}
	return string(runes[:n]) + "…"
}

// Sign writes a short text around a point.
func (c *Canvas) Sign(x, y, size float64, col color.NRGBA, s string) {
	c.Text(x-c.Width(typeface.Bold, size, s)/2, y+size*0.35, typeface.Bold, size, col, s)
}

// Cross draws two lines that cross.
func (c *Canvas) Cross(x, y, r, w float64, col color.NRGBA) {
	c.Line(x-r, y-r, x+r, y+r, w, col)
	c.Line(x+r, y-r, x-r, y+r, w, col)
}

// Wrap breaks a text at blanks into at most n lines of a width; the last is
// cut with an ellipsis.
func (c *Canvas) Wrap(f typeface.Font, size float64, s string, w float64, n int) []string {
	var lines []string
	line := ""
	words := strings.Fields(s)
	for i, word := range words {
		next := word
		if line != "" {
			next = line + " " + word
		}
		if line == "" || c.Width(f, size, next) <= w {
			line = next
			continue
		}
		if len(lines) == n-1 {
			line = strings.Join(append([]string{line}, words[i:]...), " ")
			break
		}
		lines = append(lines, c.Elide(f, size, line, w))
		line = word
	}
	return append(lines, c.Elide(f, size, line, w))
}
