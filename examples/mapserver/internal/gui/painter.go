package gui

import (
	_ "embed"
	"image"
	"image/color"

	"github.com/hajimehoshi/ebiten/v2"

	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/examples/mapserver/internal/worldmap"
)

//go:embed shape.kage
var shapeSource []byte

// A painter draws scenes: the map, and all items in one draw call.
type painter struct {
	shader *ebiten.Shader
	glyphs glyphs

	base    *ebiten.Image // the map, painted when the view changes
	view    worldmap.View
	palette worldmap.Palette
	size    image.Point

	vertices []ebiten.Vertex
	indices  []uint32
}

func (p *painter) draw(dst *ebiten.Image, s *mapview.Scene) {
	if s.Size.X <= 0 || s.Size.Y <= 0 {
		return
	}
	p.drawMap(dst, s)
	for i := range s.Items {
		if it := &s.Items[i]; it.Shape == mapview.Text {
			p.text(dst, it)
		} else {
			p.shape(it)
		}
	}
	p.flush(dst)
}

func (p *painter) drawMap(dst *ebiten.Image, s *mapview.Scene) {
	if p.base == nil || p.size != s.Size {
		if p.base != nil {
			p.base.Deallocate()
		}
		p.base = ebiten.NewImageWithOptions(image.Rectangle{Max: s.Size}, &ebiten.NewImageOptions{Unmanaged: true})
		p.view = worldmap.View{}
	}
	if p.view != s.View || p.palette != s.Palette || p.size != s.Size {
		m := image.NewRGBA(image.Rectangle{Max: s.Size})
		worldmap.Render(m, s.View, s.Palette)
		p.base.WritePixels(m.Pix)
		p.view, p.palette, p.size = s.View, s.Palette, s.Size
	}
	dst.DrawImage(p.base, &ebiten.DrawImageOptions{Blend: ebiten.BlendCopy})
}

// shape hands the numbers of a shape to the shader, in the vertices.
func (p *painter) shape(it *mapview.Item) {
	x0, y0, x1, y1 := it.Box()
	cx, cy, hx, hy := (x0+x1)/2, (y0+y1)/2, (x1-x0)/2, (y1-y0)/2
	if !(hx >= 0 && hy >= 0) {
		return
	}
	a, width := min(it.R, hx, hy), it.W
	switch it.Shape {
	case mapview.Disc, mapview.Rect:
		width = 0
	case mapview.Ring:
		a = hx
	case mapview.Arc:
		a, hy = it.From, -1-it.To
	}
	color := premultiplied(it.Color)
	x0, y0, x1, y1 = x0-1, y0-1, x1+1, y1+1 // room for the soft edge
	p.quad(x0, y0, x1, y1, ebiten.Vertex{
		SrcX: a, SrcY: width, Custom0: x0 - cx, Custom1: y0 - cy, Custom2: hx, Custom3: hy,
		ColorR: color[0], ColorG: color[1], ColorB: color[2], ColorA: color[3],
	})
}

// quad adds the rectangle of a shape or, if Custom2 is negative, of a glyph,
// given its upper left corner's numbers.
func (p *painter) quad(x0, y0, x1, y1 float32, v ebiten.Vertex) {
	n := uint32(len(p.vertices))
	for _, at := range [4][2]float32{{x0, y0}, {x1, y0}, {x0, y1}, {x1, y1}} {
		c := v
		c.DstX, c.DstY = at[0], at[1]
		if c.Custom2 < 0 {
			c.SrcX, c.SrcY = c.SrcX+at[0]-x0, c.SrcY+at[1]-y0
		} else {
			c.Custom0, c.Custom1 = c.Custom0+at[0]-x0, c.Custom1+at[1]-y0
		}
		p.vertices = append(p.vertices, c)
	}
	p.indices = append(p.indices, n, n+1, n+2, n+1, n+2, n+3)
}

func premultiplied(c color.NRGBA) [4]float32 {
	a := float32(c.A) / 255
	return [4]float32{float32(c.R) / 255 * a, float32(c.G) / 255 * a, float32(c.B) / 255 * a, a}
}

func (p *painter) flush(dst *ebiten.Image) {
	if len(p.indices) == 0 {
		return
	}
	if p.shader == nil {
		shader, err := ebiten.NewShader(shapeSource)
		if err != nil {
			panic("gui: embedded shader: " + err.Error())
		}
		p.shader = shader
	}
	if p.glyphs.atlas == nil {
		p.glyphs.reset()
	}
	op := ebiten.DrawTrianglesShaderOptions{Images: [4]*ebiten.Image{p.glyphs.atlas}}
	dst.DrawTrianglesShader32(p.vertices, p.indices, p.shader, &op)
	p.vertices, p.indices = p.vertices[:0], p.indices[:0]
}
