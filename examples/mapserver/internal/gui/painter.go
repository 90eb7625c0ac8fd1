package gui

import (
	_ "embed"
	"image"
	"image/color"
	"math"

	"github.com/hajimehoshi/ebiten/v2"

	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/examples/mapserver/internal/paint"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
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
	mapOnly *image.RGBA // the map alone, nil unless there are many dots
	layer   *image.RGBA // the map with dots
	dots    paint.Dots
	hasDots bool // base contains dots

	pictures map[*image.RGBA]*picture // of the last frame

	vertices []ebiten.Vertex
	indices  []uint32
}

func (p *painter) draw(dst ebiten.FinalScreen, s *mapview.Scene) {
	if s.Size.X <= 0 || s.Size.Y <= 0 {
		return
	}
	painted := p.drawMap(dst, s)
	for i := painted; i < len(s.Items); i++ {
		switch it := &s.Items[i]; it.Shape {
		case ui.Text:
			p.text(dst, it)
		case ui.Picture:
			p.flush(dst)
			p.picture(dst, it)
		case ui.Line:
			p.line(it)
		default:
			p.shape(it)
		}
	}
	p.flush(dst)
	for m, pic := range p.pictures {
		if !pic.used {
			pic.Deallocate()
			delete(p.pictures, m)
		}
		pic.used = false
	}
}

// A picture is an uploaded picture of a scene.
type picture struct {
	*ebiten.Image
	used bool // in the frame that is drawn
}

func (p *painter) picture(dst ebiten.FinalScreen, it *ui.Item) {
	if it.Picture.Bounds().Empty() {
		return
	}
	pic := p.pictures[it.Picture]
	if pic == nil {
		pic = &picture{Image: ebiten.NewImageFromImageWithOptions(it.Picture, &ebiten.NewImageFromImageOptions{Unmanaged: true})}
		if p.pictures == nil {
			p.pictures = make(map[*image.RGBA]*picture)
		}
		p.pictures[it.Picture] = pic
	}
	pic.used = true
	var op ebiten.DrawImageOptions
	op.GeoM.Translate(float64(it.X), float64(it.Y))
	dst.DrawImage(pic.Image, &op)
}

// line adds a line: a rectangle with round corners that is turned.
func (p *painter) line(it *ui.Item) {
	dx, dy := it.X2-it.X, it.Y2-it.Y
	length := float32(math.Hypot(float64(dx), float64(dy)))
	ux, uy := float32(1), float32(0)
	if length > 0 {
		ux, uy = dx/length, dy/length
	}
	if !(length < 1e6) {
		return
	}
	hx, hy := (length+it.W)/2, it.W/2
	cx, cy := (it.X+it.X2)/2, (it.Y+it.Y2)/2
	color := premultiplied(it.Color)
	n := uint32(len(p.vertices))
	for _, at := range [4][2]float32{{-hx - 1, -hy - 1}, {hx + 1, -hy - 1}, {-hx - 1, hy + 1}, {hx + 1, hy + 1}} {
		p.vertices = append(p.vertices, ebiten.Vertex{
			DstX: cx + at[0]*ux - at[1]*uy, DstY: cy + at[0]*uy + at[1]*ux,
			SrcX: hy, Custom0: at[0], Custom1: at[1], Custom2: hx, Custom3: hy,
			ColorR: color[0], ColorG: color[1], ColorB: color[2], ColorA: color[3],
		})
	}
	p.indices = append(p.indices, n, n+1, n+2, n+1, n+2, n+3)
}

// minDots is the number of discs from which on the CPU paints them and they are uploaded with
// the map. Without a graphics processor that is much faster; with one it makes no difference.
const minDots = 1500

// drawMap draws the map with the leading items of the scene, and returns their number.
func (p *painter) drawMap(dst ebiten.FinalScreen, s *mapview.Scene) (painted int) {
	if p.base == nil || p.size != s.Size {
		if p.base != nil {
			p.base.Deallocate()
		}
		p.base = ebiten.NewImageWithOptions(image.Rectangle{Max: s.Size}, &ebiten.NewImageOptions{Unmanaged: true})
		p.view = worldmap.View{}
	}
	fresh := p.view != s.View || p.palette != s.Palette || p.size != s.Size
	p.view, p.palette, p.size = s.View, s.Palette, s.Size
	painted = paint.Leading(s.Items)
	if painted < minDots {
		painted = 0
	}
	if fresh || p.hasDots && painted == 0 || painted > 0 && p.mapOnly == nil {
		m := image.NewRGBA(image.Rectangle{Max: s.Size})
		worldmap.Render(m, s.View, s.Palette)
		p.base.WritePixels(m.Pix)
		p.mapOnly, p.hasDots = nil, false
		if painted > 0 {
			p.mapOnly = m
		}
	}
	if painted > 0 {
		if p.layer == nil || p.layer.Rect.Max != s.Size {
			p.layer = image.NewRGBA(image.Rectangle{Max: s.Size})
		}
		copy(p.layer.Pix, p.mapOnly.Pix)
		p.dots.Draw(p.layer, s.Items[:painted])
		p.base.WritePixels(p.layer.Pix)
		p.hasDots = true
	} else {
		p.layer = nil
	}
	dst.DrawImage(p.base, &ebiten.DrawImageOptions{Blend: ebiten.BlendCopy})
	return painted
}

// shape adds a shape. The vertices hold its parameters for the shader.
func (p *painter) shape(it *ui.Item) {
	x0, y0, x1, y1 := it.Box()
	cx, cy, hx, hy := (x0+x1)/2, (y0+y1)/2, (x1-x0)/2, (y1-y0)/2
	if !(hx >= 0 && hy >= 0) {
		return
	}
	a, width := min(it.R, hx, hy), it.W
	switch it.Shape {
	case ui.Disc, ui.Rect:
		width = 0
	case ui.Ring:
		a = hx
	case ui.Arc:
		a, hy = it.From, -1-it.To
	case ui.Triangle:
		a, hy = 0, -0.5
	}
	color := premultiplied(it.Color)
	x0, y0, x1, y1 = x0-1, y0-1, x1+1, y1+1 // room for the soft edge
	p.quad(x0, y0, x1, y1, ebiten.Vertex{
		SrcX: a, SrcY: width, Custom0: x0 - cx, Custom1: y0 - cy, Custom2: hx, Custom3: hy,
		ColorR: color[0], ColorG: color[1], ColorB: color[2], ColorA: color[3],
	})
}

// quad adds the rectangle of a shape or, if Custom2 is negative, of a glyph. v is its upper
// left vertex.
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

func (p *painter) flush(dst ebiten.FinalScreen) {
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
