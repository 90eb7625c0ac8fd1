package mapview

import (
	"fmt"
	"image"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

// tool returns where a button of the bar is.
func (v *View) tool(i int) (x, y float64) {
	cell := (v.bar.box.W - 8) / float64(len(tools))
	return v.bar.box.X + 4 + (float64(i)+0.5)*cell, v.bar.box.Y + 12
}

// TestBarDoesWhatKeysDo: each button names its key and does the same.
func TestBarDoesWhatKeysDo(t *testing.T) {
	for i, k := range tools {
		t.Run(k.what, func(t *testing.T) {
			var keyed, pressed View
			st := state(conn(1, paris, 0))
			pressed.Update(noon, frame(""), st)
			x, y := pressed.tool(i)
			pressed.Update(noon, mouse(x, y), st)
			assert.Contains(t, texts(&pressed), k.what+"\n"+k.key+"\n")
			effects := pressed.Update(noon, click(x, y), st)
			pressed.Update(noon, frame(""), st)
			key := k.does
			if key == 0 {
				key = ui.KeyEscape
			}
			assert.Equal(t, keyed.Update(noon, press(key), st), effects)
			keyed.Update(noon, frame(""), st)
			assert.Equal(t, texts(&keyed), texts(&pressed))
			assert.Equal(t, keyed.Settings, pressed.Settings)
			assert.True(t, strings.Contains(fmt.Sprint(Bindings), "{"+k.key) || k.key == "i" || k.key == "Esc", "the help has it")
			if k.does != 0 && k.does != 'd' {
				// The same button ends it.
				require.True(t, k.on(&pressed))
				pressed.Update(noon, click(x, y), st)
				assert.False(t, k.on(&pressed))
			}
		})
	}
}

// TestBarIsDimUntilTheMouseMoves, and then takes no frame of its own.
func TestBarIsDimUntilTheMouseMoves(t *testing.T) {
	var v View
	st := state()
	bright := func() bool {
		for _, i := range v.Scene().Items {
			if i.Shape == ui.Frame && i.X == float32(v.bar.box.X) && i.Y == float32(v.bar.box.Y) {
				return true
			}
		}
		return false
	}
	v.Update(noon, frame(""), st)
	assert.False(t, bright())
	assert.True(t, v.Next().IsZero())
	v.Update(noon, mouse(500, 300), st)
	assert.True(t, bright())
	assert.Equal(t, noon.Add(barTime), v.Next())
	rev := v.Scene().Rev
	v.Update(noon.Add(time.Second), mouse(501, 300), st)
	assert.Equal(t, rev, v.Scene().Rev, "each motion draws nothing anew")
	v.Update(v.Next(), mouse(501, 300), st)
	assert.False(t, bright())
	assert.True(t, v.Next().IsZero())
	// It stays while the mouse is on it.
	x, y := v.tool(3)
	v.Update(noon.Add(time.Minute), mouse(x, y), st)
	v.Update(noon.Add(2*time.Minute), mouse(x, y), st)
	assert.True(t, bright())
}

// TestBarHidesNothing: what else is at the upper edge stays beside or below it.
func TestBarHidesNothing(t *testing.T) {
	for _, size := range []image.Point{{320, 160}, {400, 240}, {560, 300}, {1000, 500}, {3000, 1500}} {
		var v View
		st := state(conn(1, paris, 0))
		st.Problems = []string{strings.Repeat("what is wrong ", 20)}
		in := press('/', 'p', 'o', ui.KeyEnter)
		in.Size = size
		v.Update(noon, in, st)
		require.NotZero(t, v.bar.box.W, "%v", size)
		assert.False(t, v.problems.box.Overlaps(v.bar.box), "%v", size)
		for i, a := range v.room.taken {
			for _, b := range v.room.taken[:i] {
				assert.False(t, a.Overlaps(b) && size.X >= 560, "%v %v %v", size, a, b)
			}
		}
		in = frame("")
		in.Size = size
		in.Press, in.Held, in.Inside = true, true, true
		x, y := v.tool(0)
		in.Cursor = image.Pt(int(x), int(y))
		v.Update(noon, in, st)
		assert.NotNil(t, v.panels.Find(helpName), "%v", size)
	}
}

// TestPanelsFillTheWindow: a panel can be as large as the window, and come back.
func TestPanelsFillTheWindow(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0))
	v.Update(noon, frame("z"), st)
	p := v.panels.Find("hilbert")
	before := p.Box
	at := p.FillBox()
	v.Update(noon, click(at.X+8, at.Y+8), st)
	assert.Equal(t, v.size.Grow(-4), p.Box)
	// It does not move, and follows the window.
	drag(&v, image.Pt(300, 15), image.Pt(400, 90))
	in := frame("")
	in.Size = image.Pt(1600, 1200)
	v.Update(noon, in, st)
	assert.Equal(t, v.size.Grow(-4), p.Box)
	assert.Greater(t, v.curve.img.Rect.Dx(), 1000, "the curve is as large")
	v.Update(noon, frame(""), st)
	at = p.FillBox()
	v.Update(noon, click(at.X+8, at.Y+8), st)
	v.Update(noon, frame(""), st)
	assert.Equal(t, before, p.Box)
}
