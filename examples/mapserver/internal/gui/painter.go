package gui

import (
	_ "embed"
	"image"
	"math"

	"github.com/hajimehoshi/ebiten/v2"
	"github.com/hajimehoshi/ebiten/v2/text/v2"

	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/worldmap"
)

//go:embed shape.kage
var shapeSource []byte

// A painter draws scenes. All shapes between two texts are one draw call.
type painter struct {
	shader *ebiten.Shader
	faces  map[faceKey]text.Face

	base    *ebiten.Image // the map, painted when the view changes
	view    worldmap.View
	palette worldmap.Palette
	size    image.Point

	vertices []ebiten.Vertex
	indices  []uint32
}

type faceKey struct {
	font typeface.Font
	size float32
}

func (p *painter) draw(dst *ebiten.Image, s *mapview.Scene) {
	if s.Size.X <= 0 || s.Size.Y <= 0 {
		return
	}
	p.drawMap(dst, s)
	for i := range s.Items {
		it := &s.Items[i]
		if it.Shape == mapview.Text {
			p.flush(dst)
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

func (p *painter) shape(it *mapview.Item) {
	x0, y0, x1, y1 := it.Box()
	cx, cy, hx, hy := (x0+x1)/2, (y0+y1)/2, (x1-x0)/2, (y1-y0)/2
	a, width := min(it.R, hx, hy), it.W
	switch it.Shape {
	case mapview.Disc, mapview.Rect:
		width = 0
	case mapview.Ring:
		a = hx
	case mapview.Arc:
		a, hy = it.From, -1-it.To
	}
	n := uint32(len(p.vertices))
	for _, corner := range [4][2]float32{{x0 - 1, y0 - 1}, {x1 + 1, y0 - 1}, {x0 - 1, y1 + 1}, {x1 + 1, y1 + 1}} {
		p.vertices = append(p.vertices, ebiten.Vertex{
			DstX: corner[0], DstY: corner[1], SrcX: a, SrcY: width,
			ColorR:  float32(it.Color.R) / 255 * float32(it.Color.A) / 255,
			ColorG:  float32(it.Color.G) / 255 * float32(it.Color.A) / 255,
			ColorB:  float32(it.Color.B) / 255 * float32(it.Color.A) / 255,
			ColorA:  float32(it.Color.A) / 255,
			Custom0: corner[0] - cx, Custom1: corner[1] - cy, Custom2: hx, Custom3: hy,
		})
	}
	p.indices = append(p.indices, n, n+1, n+2, n+1, n+2, n+3)
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
	dst.DrawTrianglesShader32(p.vertices, p.indices, p.shader, nil)
	p.vertices, p.indices = p.vertices[:0], p.indices[:0]
}

func (p *painter) text(dst *ebiten.Image, it *mapview.Item) {
	k := faceKey{it.Font, it.Size}
	face := p.faces[k]
	if face == nil {
		if p.faces == nil {
			p.faces = make(map[faceKey]text.Face)
		}
		face = text.NewGoXFace(typeface.Face(it.Font, float64(it.Size)))
		p.faces[k] = face
	}
	var op text.DrawOptions
	// The position is that of the upper left corner, the item's that of the
	// baseline. Whole pixels upright keep letters crisp.
	op.GeoM.Translate(float64(it.X), math.Round(float64(it.Y))-face.Metrics().HAscent)
	op.ColorScale.ScaleWithColor(it.Color)
	text.Draw(dst, it.Text, face, &op)
}
