package mapview

import (
	"image"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

// TestManyButtons: in a small window, buttons without room come one after another.
func TestManyButtons(t *testing.T) {
	for _, size := range []image.Point{{320, 240}, {400, 240}} {
		v, q := asked(t)
		in := func(i Input) Input { i.Size = size; return i }
		hand(v, answered(q.Ask))
		v.Update(noon, in(frame("")), v.st)
		seen := ""
		for range 12 {
			seen += texts(v)
			x, y := at(t, v, ui.MoreButtons)
			v.Update(noon, in(click(x, y)), v.st)
			v.Update(noon, in(mouse(x, y)), v.st)
		}
		for _, label := range []string{"Saved", "Previous", "Plot on map", "CSV", "JSON", "Copy"} {
			assert.True(t, strings.Contains(seen, label+"\n"), "%s at %v", label, size)
		}
	}
}
