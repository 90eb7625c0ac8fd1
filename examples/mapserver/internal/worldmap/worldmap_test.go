package worldmap

import (
	"fmt"
	"image"
	"image/color"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOriginalsFrame(t *testing.T) {
	lat, lon := Place(0, 0)
	assert.InDelta(t, 75.3, lat, 0.1)
	assert.InDelta(t, -169.6, lon, 0.1)
	lat, lon = Place(1000, 500)
	assert.InDelta(t, -52.9, lat, 0.1)
	assert.InDelta(t, 190.4, lon, 0.1)
	for _, p := range [][2]float64{{0, 0}, {52.5, 13.4}, {-33.9, 151.2}, {75, -169}, {-85, 180}} {
		lat, lon := Place(Point(p[0], p[1]))
		assert.InDelta(t, p[0], lat, 1e-9)
		assert.InDelta(t, p[1], lon, 1e-9)
	}
	assert.Equal(t, View{Zoom: 1}, Fit(image.Pt(1000, 500)))
	assert.Equal(t, View{Y: -250, Zoom: 1}, Fit(image.Pt(1000, 1000)), "taller: more of the poles")
	assert.Equal(t, View{X: -500, Zoom: 2}, Fit(image.Pt(4000, 1000)), "wider: the world repeats")
}

// TestKm compares with the distance of two places on a sphere.
func TestKm(t *testing.T) {
	distance := func(lat, lon, lat2, lon2 float64) float64 {
		const rad = math.Pi / 180
		sin := func(x float64) float64 { s := math.Sin(x * rad / 2); return s * s }
		return 2 * 6371.0088 * math.Asin(math.Sqrt(sin(lat2-lat)+math.Cos(lat*rad)*math.Cos(lat2*rad)*sin(lon2-lon)))
	}
	for _, lat := range []float64{0, 40, -60, 75} {
		// A thousandth of a degree east, and as far north.
		x, y := distance(lat, 0, lat, 0.001), distance(lat, 0, lat+0.001, 0)
		assert.InEpsilon(t, x, Km(lat, 0.001/360*1000), 1e-4)
		_, north := Point(lat+0.001, 0)
		_, south := Point(lat, 0)
		assert.InEpsilon(t, y, Km(lat, south-north), 1e-4)
	}
}

func render(size image.Point, v View, p Palette) *image.RGBA {
	m := image.NewRGBA(image.Rectangle{Max: size})
	Render(m, v, p)
	return m
}

func TestLandAndSea(t *testing.T) {
	size := image.Pt(1000, 500)
	for name, p := range map[string]Palette{"dark": Dark, "light": Light} {
		m := render(size, Fit(size), p)
		at := func(lat, lon float64) color.Color {
			x, y := Fit(size).Pixel(lat, lon)
			return color.NRGBAModel.Convert(m.At(int(x), int(y)))
		}
		for _, c := range [][2]float64{{23, 10}, {62, 100}, {-25, 134}, {40, -100}, {-10, -55}, {66, -178}, {68, 178}, {75, -40}} {
			assert.Equal(t, p.Land, at(c[0], c[1]), "%s land at %v", name, c)
		}
		for _, c := range [][2]float64{{30, -45}, {0, -140}, {-40, 80}, {42, 52}, {58, -176}, {-18, -170}, {60, 179}, {43.5, 35}} {
			assert.Equal(t, p.Sea, at(c[0], c[1]), "%s sea at %v", name, c)
		}
	}
}

// TestNoBands: outlines that cross the antimeridian must not be drawn as
// bands across the map: south of all land there is nothing but sea.
func TestNoBands(t *testing.T) {
	m := render(image.Pt(1000, 1000), Fit(image.Pt(1000, 1000)), Dark)
	for _, lat := range []float64{-57, -58.7} {
		_, y := Fit(image.Pt(1000, 1000)).Pixel(lat, 0)
		sea := 0
		for x := range 1000 {
			if m.At(x, int(y)) == color.RGBAModel.Convert(Dark.Sea) {
				sea++
			}
		}
		assert.Greater(t, sea, 985, "at latitude %v", lat)
	}
	assert.Equal(t, color.RGBAModel.Convert(Dark.Land), m.At(700, 999), "Antarctica goes on to the edge")
}

func TestTheWorldRepeats(t *testing.T) {
	size := image.Pt(600, 300)
	want := render(size, View{X: 100, Y: 0, Zoom: 1}, Dark)
	for _, x := range []float64{-900, 1100, 10100} {
		got := render(size, View{X: x, Y: 0, Zoom: 1}, Dark)
		differ := 0
		for i := range want.Pix {
			if d := int(want.Pix[i]) - int(got.Pix[i]); d > 2 || d < -2 {
				differ++
			}
		}
		assert.Zero(t, differ, "at %v", x)
	}
}

// TestPartsFitTheWhole: what a view shows does not depend on how much there
// is around it, so neither on strips nor on where outlines are cut.
func TestPartsFitTheWhole(t *testing.T) {
	for _, zoom := range []float64{0.25, 1, 4, 32} {
		whole := View{X: 900 - 400/zoom, Y: 130 - 300/zoom, Zoom: zoom}
		want := render(image.Pt(800, 1000), whole, Light)
		for _, part := range []image.Rectangle{image.Rect(0, 0, 1, 1), image.Rect(13, 200, 413, 317), image.Rect(640, 5, 800, 1000), image.Rect(0, 990, 800, 1000)} {
			v := View{X: whole.X + float64(part.Min.X)/zoom, Y: whole.Y + float64(part.Min.Y)/zoom, Zoom: zoom}
			got := render(part.Size(), v, Light)
			for y := range part.Dy() {
				for x := range part.Dx() {
					w, g := want.RGBAAt(part.Min.X+x, part.Min.Y+y), got.RGBAAt(x, y)
					// Pictures up to 512 pixels are rasterized with fewer bits.
					if !assert.InDelta(t, w.R, g.R, 2, "zoom %v, part %v at %d,%d", zoom, part, x, y) {
						return
					}
				}
			}
		}
	}
}

// TestPenNaive compares lines with the distance of every pixel from them.
func TestPenNaive(t *testing.T) {
	const w, h = 40, 30
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		width := 0.3 + 4*r.Float64()
		x0, y0, x1, y1 := r.Float64()*80-20, r.Float64()*60-15, r.Float64()*80-20, r.Float64()*60-15
		switch r.IntN(4) {
		case 0:
			y1 = y0
		case 1:
			x1, y1 = x0, y0
		}
		mask := make([]uint8, w*h)
		newPen(width).line(mask, w, h, x0, y0, x1, y1)
		for i, got := range mask {
			x, y := float64(i%w)+0.5, float64(i/w)+0.5
			k := 0.0
			if n := (x1-x0)*(x1-x0) + (y1-y0)*(y1-y0); n > 0 {
				k = min(max(((x-x0)*(x1-x0)+(y-y0)*(y1-y0))/n, 0), 1)
			}
			d := math.Hypot(x-x0-k*(x1-x0), y-y0-k*(y1-y0))
			want := 255 * min(max(width/2+0.5-d, 0), width, 1)
			require.InDelta(t, want, got, 12, "line %v,%v to %v,%v, width %v, pixel %v,%v", x0, y0, x1, y1, width, x, y)
		}
	}
}

// TestPartOfAPicture: only the rectangle of a sub-image is painted.
func TestPartOfAPicture(t *testing.T) {
	m := image.NewRGBA(image.Rect(-3, -2, 103, 57))
	Render(m.SubImage(image.Rect(0, 0, 100, 50)).(*image.RGBA), Fit(image.Pt(100, 50)), Dark)
	want := render(image.Pt(100, 50), Fit(image.Pt(100, 50)), Dark)
	for y := m.Rect.Min.Y; y < m.Rect.Max.Y; y++ {
		for x := m.Rect.Min.X; x < m.Rect.Max.X; x++ {
			require.Equal(t, want.RGBAAt(x, y), m.RGBAAt(x, y), "%d,%d", x, y)
		}
	}
}

func FuzzRender(f *testing.F) {
	f.Add(200, 100, 0.0, 0.0, 1.0)
	f.Add(1, 1, -1e8, 1e8, 1e-9)
	f.Add(0, 5, math.Inf(1), math.NaN(), 60.0)
	f.Add(640, 480, 400.0, 100.0, 5000.0)
	f.Fuzz(func(t *testing.T, w, h int, x, y, zoom float64) {
		w, h = w&1023, h&1023
		m := render(image.Pt(w, h), View{x, y, zoom}, Dark)
		for i := 3; i < len(m.Pix); i += 4 {
			if m.Pix[i] != 255 {
				t.Fatal("not opaque")
			}
		}
	})
}

func BenchmarkRender(b *testing.B) {
	for _, size := range []image.Point{{1000, 500}, {1920, 960}, {3840, 1920}} {
		b.Run(fmt.Sprintf("size=%dx%d", size.X, size.Y), func(b *testing.B) {
			m := image.NewRGBA(image.Rectangle{Max: size})
			b.ReportAllocs()
			for b.Loop() {
				Render(m, Fit(size), Dark)
			}
		})
	}
}
