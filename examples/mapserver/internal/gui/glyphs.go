package gui

import (
	"image"
	"math"

	"github.com/hajimehoshi/ebiten/v2"
	"golang.org/x/image/math/fixed"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

const (
	minAtlas = 512 // pixels; room for about 1800 glyphs of 12 pixels
	maxAtlas = 2048
	subpixel = 16 // of a pixel, in 64ths: glyphs are placed at multiples of it
)

// A glyphs caches the drawn glyphs in one image. So texts and shapes share a draw call, and
// text looks as paint draws it.
type glyphs struct {
	atlas *ebiten.Image
	cache map[glyphKey]glyph
	next  image.Point // free place in the current row
	row   int         // height of the current row
}

type glyphKey struct {
	font typeface.Font
	size float32
	char rune
	at   fixed.Int26_6 // part of a pixel to the right
}

type glyph struct {
	src     image.Point
	box     image.Rectangle // around the origin; empty: draws nothing
	advance fixed.Int26_6
}

// get returns a glyph. It is false if the atlas is full: call reset.
func (g *glyphs) get(k glyphKey) (glyph, bool) {
	if found, ok := g.cache[k]; ok {
		return found, true
	}
	if g.atlas == nil {
		g.reset()
	}
	// The last result is false for a character that the font draws as missing.
	box, mask, maskAt, advance, _ := typeface.Face(k.font, float64(k.size)).Glyph(fixed.Point26_6{X: k.at}, k.char)
	if box.Dx() > maxAtlas || box.Dy() > maxAtlas {
		box = image.Rectangle{}
	}
	made := glyph{box: box, advance: advance}
	if !box.Empty() {
		side := g.atlas.Bounds().Dx()
		if g.next.X+box.Dx() > side {
			g.next, g.row = image.Pt(0, g.next.Y+g.row), 0
		}
		if g.next.X+box.Dx() > side || g.next.Y+box.Dy() > side {
			return glyph{}, false
		}
		made.src = g.next
		g.next.X += box.Dx()
		g.row = max(g.row, box.Dy())
		pixels := make([]byte, 0, 4*box.Dx()*box.Dy())
		for y := range box.Dy() {
			for x := range box.Dx() {
				_, _, _, a := mask.At(maskAt.X+x, maskAt.Y+y).RGBA()
				v := byte(a >> 8)
				pixels = append(pixels, v, v, v, v)
			}
		}
		g.atlas.SubImage(image.Rectangle{made.src, made.src.Add(box.Size())}).(*ebiten.Image).WritePixels(pixels)
	}
	g.cache[k] = made
	return made, true
}

// reset empties the cache and makes the atlas larger.
func (g *glyphs) reset() {
	side := minAtlas
	if g.atlas != nil {
		side = min(2*g.atlas.Bounds().Dx(), maxAtlas)
		g.atlas.Deallocate()
	}
	g.atlas = ebiten.NewImageWithOptions(image.Rect(0, 0, side, side), &ebiten.NewImageOptions{Unmanaged: true})
	g.cache, g.next, g.row = make(map[glyphKey]glyph), image.Point{}, 0
}

// text draws as font.Drawer does, which paint uses.
func (p *painter) text(dst ebiten.FinalScreen, it *ui.Item) {
	if !(it.Size > 0 && it.Size < 1000 && abs(it.X) < 1e5 && abs(it.Y) < 1e5) {
		return
	}
	face := typeface.Face(it.Font, float64(it.Size))
	color := premultiplied(it.Color)
	dot, y, previous := fixed.Int26_6(it.X*64), int(math.Round(float64(it.Y))), rune(-1)
	for _, char := range it.Text {
		if previous >= 0 {
			dot += face.Kern(previous, char)
		}
		previous = char
		at := (dot + subpixel/2) &^ (subpixel - 1)
		k := glyphKey{it.Font, it.Size, char, at & 63}
		g, ok := p.glyphs.get(k)
		if !ok {
			p.flush(dst)
			p.glyphs.reset()
			g, _ = p.glyphs.get(k)
		}
		dot += g.advance
		if g.box.Empty() {
			continue
		}
		box := g.box.Add(image.Pt(at.Floor(), y))
		p.quad(float32(box.Min.X), float32(box.Min.Y), float32(box.Max.X), float32(box.Max.Y), ebiten.Vertex{
			SrcX: float32(g.src.X), SrcY: float32(g.src.Y), Custom2: -1,
			ColorR: color[0], ColorG: color[1], ColorB: color[2], ColorA: color[3],
		})
	}
}

func abs(v float32) float32 { return max(v, -v) }
