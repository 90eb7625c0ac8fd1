package paint

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/examples/mapserver/internal/worldmap"
)

var red = color.NRGBA{255, 0, 0, 255}

func scene(size image.Point, items ...ui.Item) *mapview.Scene {
	// A view without zoom is all sea.
	return &mapview.Scene{Size: size, Palette: worldmap.Palette{Sea: color.NRGBA{0, 0, 0, 255}}, Items: items}
}

// area sums up how much of the picture an item covers, in pixels.
func area(t *testing.T, it ui.Item) float64 {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, 100, 100))
	Draw(m, scene(m.Bounds().Max, it))
	sum := 0.0
	for i := 0; i < len(m.Pix); i += 4 {
		sum += float64(m.Pix[i]) / 255
	}
	return sum
}

// TestShapesCoverTheirArea compares each shape with the formula of its area.
func TestShapesCoverTheirArea(t *testing.T) {
	tests := []struct {
		name string
		item ui.Item
		want float64
	}{
		{"disc", ui.Item{Shape: ui.Disc, X: 50, Y: 50, R: 20}, math.Pi * 400},
		{"small disc", ui.Item{Shape: ui.Disc, X: 50.3, Y: 49.8, R: 3}, math.Pi * 9},
		{"ring", ui.Item{Shape: ui.Ring, X: 50, Y: 50, R: 20, W: 4}, 2 * math.Pi * 20 * 4},
		{"quarter", ui.Item{Shape: ui.Arc, X: 50, Y: 50, R: 20, W: 4, From: 0, To: 0.25}, 2 * math.Pi * 20},
		{"most of a ring", ui.Item{Shape: ui.Arc, X: 50, Y: 50, R: 20, W: 4, From: 0.2, To: 1.1}, 2 * math.Pi * 20 * 4 * 0.9},
		{"rectangle", ui.Item{Shape: ui.Rect, X: 10, Y: 20, X2: 50, Y2: 30}, 1500},
		{"rounded", ui.Item{Shape: ui.Rect, X: 10, Y: 20, X2: 50, Y2: 30, R: 8}, 1500 - (4-math.Pi)*64},
		{"frame", ui.Item{Shape: ui.Frame, X: 10, Y: 20, X2: 50, Y2: 30, W: 1}, 156},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.item.Color = red
			assert.InEpsilon(t, tt.want, area(t, tt.item), 0.03)
		})
	}
}

func TestArcsTurnClockwiseFromTheTop(t *testing.T) {
	m := image.NewRGBA(image.Rect(0, 0, 100, 100))
	Draw(m, scene(m.Bounds().Max, ui.Item{Shape: ui.Arc, X: 50, Y: 50, R: 20, W: 6, From: 0, To: 0.25, Color: red}))
	assert.Equal(t, uint8(255), m.RGBAAt(64, 36).R, "upper right")
	for _, p := range []image.Point{{64, 64}, {36, 64}, {36, 36}} {
		assert.Zero(t, m.RGBAAt(p.X, p.Y).R, p)
	}
}

func TestText(t *testing.T) {
	it := ui.Item{Shape: ui.Text, X: 10, Y: 50, Text: "connmap", Font: typeface.Bold, Size: 16, Color: red}
	assert.Greater(t, area(t, it), 100.0)
	m := image.NewRGBA(image.Rect(0, 0, 100, 100))
	Draw(m, scene(m.Bounds().Max, it))
	right := int(10 + typeface.Width(typeface.Bold, 16, it.Text))
	for y := range 100 {
		for x := range 100 {
			if m.RGBAAt(x, y).R > 0 {
				require.True(t, x >= 9 && x <= right+1 && y >= 35 && y <= 55, "%d,%d outside of the measured box", x, y)
			}
		}
	}
}

func TestLaterItemsLieOnTop(t *testing.T) {
	m := image.NewRGBA(image.Rect(0, 0, 20, 20))
	green := color.NRGBA{0, 255, 0, 128}
	Draw(m, scene(m.Bounds().Max, ui.Item{Shape: ui.Disc, X: 10, Y: 10, R: 5, Color: red}, ui.Item{Shape: ui.Rect, X2: 20, Y2: 20, Color: green}))
	assert.InDelta(t, 127, int(m.RGBAAt(10, 10).R), 2)
	assert.InDelta(t, 128, int(m.RGBAAt(10, 10).G), 2)
}

func TestPNG(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, PNG(&b, scene(image.Pt(30, 20))))
	m, err := png.Decode(&b)
	require.NoError(t, err)
	assert.Equal(t, image.Pt(30, 20), m.Bounds().Size())
}

func FuzzDraw(f *testing.F) {
	nan := float32(math.NaN())
	f.Add(uint8(1), float32(5), float32(5), float32(3), float32(3), float32(2), float32(1), "x")
	f.Add(uint8(3), nan, nan, nan, nan, nan, nan, "\xff")
	f.Add(uint8(6), float32(1e30), float32(-1e30), float32(1e30), float32(1e38), float32(1e30), float32(-1), "漢字\x00")
	f.Fuzz(func(t *testing.T, shape uint8, x, y, x2, y2, r, w float32, s string) {
		m := image.NewRGBA(image.Rect(0, 0, 64, 64))
		Draw(m, scene(m.Bounds().Max, ui.Item{Shape: ui.Shape(shape%6 + 1), X: x, Y: y, X2: x2, Y2: y2, R: r, W: w, From: x, To: y, Size: w, Text: s, Color: red}))
	})
}

func BenchmarkDraw(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	var items []ui.Item
	for range 10_000 {
		items = append(items, ui.Item{Shape: ui.Disc, X: r.Float32() * 1000, Y: r.Float32() * 500, R: 4, Color: red})
	}
	m := image.NewRGBA(image.Rect(0, 0, 1000, 500))
	b.Run("discs=10000", func(b *testing.B) {
		for b.Loop() {
			Draw(m, scene(m.Bounds().Max, items...))
		}
	})
}
