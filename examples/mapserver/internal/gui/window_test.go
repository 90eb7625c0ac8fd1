package gui

import (
	"fmt"
	"image"
	"image/color"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/hajimehoshi/ebiten/v2"
	"github.com/stretchr/testify/assert"

	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/examples/mapserver/internal/paint"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/worldmap"
)

// tests runs the tests inside a window, where pixels can be read back.
type tests struct {
	m    *testing.M
	code int
}

func (t *tests) Layout(w, h int) (int, int) { return w, h }
func (t *tests) Draw(*ebiten.Image)         {}
func (t *tests) Update() error {
	t.code = t.m.Run()
	return ebiten.Termination
}

var noDisplay string

func TestMain(m *testing.M) {
	t := &tests{m: m}
	if os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
		noDisplay = "needs a display: neither DISPLAY nor WAYLAND_DISPLAY is set"
		os.Exit(m.Run())
	}
	if err := ebiten.RunGame(t); err != nil {
		noDisplay = "needs a display: " + err.Error()
		os.Exit(m.Run())
	}
	os.Exit(t.code)
}

// TestLikePaint compares the window's picture with that of the CPU painter.
func TestLikePaint(t *testing.T) {
	if noDisplay != "" {
		t.Skip(noDisplay)
	}
	s := &mapview.Scene{Size: image.Pt(400, 200), View: worldmap.Fit(image.Pt(400, 200)), Palette: worldmap.Dark, Items: []mapview.Item{
		{Shape: mapview.Disc, X: 40.5, Y: 40, R: 3.2, Color: color.NRGBA{255, 0, 0, 255}},
		{Shape: mapview.Disc, X: 80, Y: 40, R: 20, Color: color.NRGBA{255, 255, 255, 26}},
		{Shape: mapview.Ring, X: 130, Y: 40, R: 12, W: 1.2, Color: color.NRGBA{255, 255, 255, 255}},
		{Shape: mapview.Arc, X: 180, Y: 40, R: 12, W: 4, From: 0.1, To: 0.45, Color: color.NRGBA{0, 255, 0, 255}},
		{Shape: mapview.Arc, X: 180, Y: 40, R: 12, W: 4, From: 0.45, To: 1.1, Color: color.NRGBA{0, 0, 255, 255}},
		{Shape: mapview.Rect, X: 10, Y: 100, X2: 120, Y2: 60, R: 6, Color: color.NRGBA{18, 22, 28, 242}},
		{Shape: mapview.Frame, X: 10, Y: 100, X2: 120, Y2: 60, R: 6, W: 1, Color: color.NRGBA{49, 58, 70, 255}},
		{Shape: mapview.Text, X: 20, Y: 130, Text: "203.0.113.77:443 · ↓", Font: typeface.Mono, Size: 13, Color: color.NRGBA{230, 234, 240, 255}},
		{Shape: mapview.Rect, X: 200, Y: 100, X2: 11, Y2: 11, R: 2.5, Color: color.NRGBA{255, 200, 0, 128}},
	}}
	want := image.NewRGBA(image.Rectangle{Max: s.Size})
	paint.Draw(want, s)
	dst := ebiten.NewImage(s.Size.X, s.Size.Y)
	var p painter
	for n := range 2 {
		p.draw(dst, s)
		got := make([]byte, len(want.Pix))
		dst.ReadPixels(got)
		differ, worst := 0, 0
		for i := range got {
			d := int(got[i]) - int(want.Pix[i])
			d = max(d, -d)
			worst = max(worst, d)
			if d > 6 {
				differ++
			}
		}
		// Only texts may differ, by the subpixel position of their letters.
		assert.Less(t, differ, 4*400, "drawing %d: worst difference %d", n, worst)
	}
}

func BenchmarkPainter(b *testing.B) {
	if noDisplay != "" {
		b.Skip(noDisplay)
	}
	for _, n := range []int{0, 1000, 10_000} {
		b.Run(fmt.Sprint("discs=", n), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 2))
			s := &mapview.Scene{Size: image.Pt(1000, 500), View: worldmap.Fit(image.Pt(1000, 500)), Palette: worldmap.Dark}
			for range n {
				s.Items = append(s.Items, mapview.Item{Shape: mapview.Disc, X: r.Float32() * 1000, Y: r.Float32() * 500, R: 4, Color: color.NRGBA{255, 0, 0, 255}})
			}
			dst := ebiten.NewImage(1000, 500)
			one := make([]byte, 4)
			var p painter
			for b.Loop() {
				p.draw(dst, s)
				dst.SubImage(image.Rect(0, 0, 1, 1)).(*ebiten.Image).ReadPixels(one)
			}
		})
	}
}
