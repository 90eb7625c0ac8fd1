package worldmap

import (
	"fmt"
	"image"
	"image/color"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
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
