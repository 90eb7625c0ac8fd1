package paint

import (
	"image"
	"image/color"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

func discs(n int) (items []ui.Item) {
	r := rand.New(rand.NewPCG(1, 2))
	for range n {
		items = append(items, ui.Item{Shape: ui.Disc, X: r.Float32()*1100 - 50, Y: r.Float32()*600 - 50, R: 3 + 3*float32(r.IntN(3)),
			Color: color.NRGBA{uint8(r.Uint32()), uint8(r.Uint32()), uint8(r.Uint32()), uint8(128 + r.IntN(128))}})
	}
	return items
}

// TestDotsLikeShapes compares with what is computed for each pixel.
func TestDotsLikeShapes(t *testing.T) {
	got, want := image.NewRGBA(image.Rect(0, 0, 1000, 500)), image.NewRGBA(image.Rect(0, 0, 1000, 500))
	for i := range got.Pix {
		got.Pix[i], want.Pix[i] = 255, 255
	}
	items := discs(300)
	items = append(items, ui.Item{Shape: ui.Disc, X: 100, Y: 100, R: 90, Color: color.NRGBA{255, 0, 0, 255}},
		ui.Item{Shape: ui.Disc, X: 1e9, Y: 100, R: 5}, ui.Item{Shape: ui.Disc, X: 5, Y: 5, R: -1},
		ui.Item{Shape: ui.Arc, X: 50, Y: 50, R: 8, W: 4, From: 0.1, To: 0.6, Color: color.NRGBA{255, 0, 0, 255}})
	var d Dots
	d.Draw(got, items)
	for i := range items {
		shape(want, &items[i])
	}
	worst, sum := 0, 0
	for i := range got.Pix {
		n := int(got.Pix[i]) - int(want.Pix[i])
		n = max(n, -n)
		worst = max(worst, n)
		sum += n
	}
	assert.LessOrEqual(t, worst, 40, "a sixteenth of a pixel at an edge, twice")
	assert.Less(t, float64(sum)/float64(len(got.Pix)), 0.3)
}

func TestLeading(t *testing.T) {
	assert.Equal(t, 0, Leading(nil))
	assert.Equal(t, 2, Leading(append(discs(2), ui.Item{Shape: ui.Text}, ui.Item{Shape: ui.Disc})))
	assert.Equal(t, 3, Leading(append(discs(1), ui.Item{Shape: ui.Arc}, ui.Item{Shape: ui.Ring}, ui.Item{Shape: ui.Line})))
	assert.Equal(t, 3, Leading(discs(3)))
}

func BenchmarkDots(b *testing.B) {
	m, items := image.NewRGBA(image.Rect(0, 0, 1000, 500)), discs(10_000)
	for i := range items {
		items[i].R = 4
	}
	b.Run("dots", func(b *testing.B) {
		var d Dots
		for b.Loop() {
			d.Draw(m, items)
		}
	})
	b.Run("shapes", func(b *testing.B) {
		for b.Loop() {
			for i := range items {
				shape(m, &items[i])
			}
		}
	})
}
