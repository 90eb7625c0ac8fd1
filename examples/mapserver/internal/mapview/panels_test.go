package mapview

import (
	"image"
	"image/color"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

// drag presses the left button at one point, moves to another and lets go.
func drag(v *View, from, to image.Point) []Effect {
	st := v.st
	in := frame("")
	in.Inside, in.Cursor = true, from
	v.Update(noon, in, st)
	in.Press, in.Held = true, true
	e := v.Update(noon, in, st)
	in.Press, in.Cursor = false, to
	e = append(e, v.Update(noon, in, st)...)
	in.Held, in.Release = false, true
	return append(e, v.Update(noon, in, st)...)
}

func corner(p *panel) image.Point { return image.Pt(int(p.Box.X+p.Box.W-4), int(p.Box.Y+p.Box.H-4)) }

func TestPanelsMoveAndResize(t *testing.T) {
	var v View
	v.Update(noon, frame("i"), hosts(3))
	p := v.panels.Find(agentsName)
	require.NotNil(t, p)
	before := p.Box
	x, y := at(t, &v, "3 agents")
	assert.Empty(t, drag(&v, image.Pt(int(x), int(y)), image.Pt(int(x)+50, int(y)+40)), "the window does not move")
	assert.Equal(t, ui.At(before.X+50, before.Y+40, before.W, before.H), p.Box)
	assert.Empty(t, v.Panels, "its size is its own")

	drag(&v, corner(p), corner(p).Add(image.Pt(-200, 60)))
	assert.Equal(t, before.W-200, p.Box.W)
	assert.Equal(t, before.H+60, p.Box.H)
	assert.Equal(t, [4]float64{p.Box.X, p.Box.Y, p.Box.W, p.Box.H}, v.Panels[agentsName])
	// Not out of the window, and not to nothing.
	drag(&v, corner(p), image.Pt(5000, 5000))
	assert.LessOrEqual(t, p.Box.X+p.Box.W, 1000.0)
	assert.LessOrEqual(t, p.Box.Y+p.Box.H, 500.0)
	drag(&v, corner(p), image.Pt(0, 0))
	assert.Equal(t, float64(ui.MinWidth), p.Box.W)
	assert.Equal(t, float64(ui.MinHeight), p.Box.H)
	x, y = p.Box.X+20, p.Box.Y+10
	drag(&v, image.Pt(int(x), int(y)), image.Pt(-3000, -3000))
	assert.GreaterOrEqual(t, p.Box.X, 0.0)
	assert.GreaterOrEqual(t, p.Box.Y, 0.0)
	within(t, &v)
	// It comes back where and as it was.
	was := p.Box
	v.Update(noon, frame("i"), v.st)
	assert.Nil(t, v.panels.Find(agentsName))
	v.Update(noon, frame("i"), v.st)
	assert.Equal(t, was, v.panels.Find(agentsName).Box)
}

func TestSeveralPanels(t *testing.T) {
	var v View
	st := kept()
	v.Update(noon, frame("ip"), st)
	agents, retention := v.panels.Find(agentsName), v.panels.Find("retention")
	require.NotNil(t, agents)
	require.NotNil(t, retention)
	assert.Same(t, retention, v.panels.Focus)
	assert.NotEqual(t, agents.Box, retention.Box)
	// A press on one brings it to the front, and keys go to it.
	x, y := agents.Box.X+30, agents.Box.Y+8
	require.False(t, retention.Box.Contains(x, y))
	v.Update(noon, click(x, y), st)
	assert.Same(t, agents, v.panels.Focus)
	assert.Same(t, agents, v.panels.List[1])
	assert.Empty(t, v.Update(noon, frame("1"), st), "1 is the other's")
	// Esc closes the front one, then the other, then asks to quit.
	v.Update(noon, frame(""), st)
	assert.Empty(t, v.Update(noon, press(ui.KeyEscape), st))
	assert.Nil(t, v.panels.Find(agentsName))
	assert.Equal(t, []Effect{ShowStats{}}, v.Update(noon, press(ui.KeyEscape), st))
	assert.Equal(t, []Effect{Quit{}}, v.Update(noon, press(ui.KeyEscape), st))
}

func TestPanelsClose(t *testing.T) {
	var v View
	st := kept()
	v.Update(noon, frame("p"), st)
	b := v.panels.Find("retention").CloseBox()
	assert.Equal(t, []Effect{ShowStats{}}, v.Update(noon, click(b.X+10, b.Y+10), st))
	assert.Nil(t, v.panels.Find("retention"))
	assert.NotContains(t, texts(&v), "How much history", "at once")
}

func TestFocusIsWhereOnePointed(t *testing.T) {
	var v View
	st := hosts(50)
	v.Update(noon, frame("i"), st)
	in := press(ui.KeyDown)
	in.Arrows = image.Pt(0, 1)
	v.Update(noon, in, st)
	assert.Equal(t, 0, v.agents.table.Selected())
	assert.False(t, v.camera.zoomed, "arrows are the panel's")
	v.Update(noon, click(990, 250), st) // the map
	v.Update(noon, in, st)
	assert.Equal(t, 0, v.agents.table.Selected())
	assert.True(t, v.camera.zoomed, "arrows are the map's")
	v.Update(noon, frame("t"), st)
	assert.True(t, v.Labels)
}

func TestRepeatedKeysOnlyType(t *testing.T) {
	var v View
	v.Update(noon, press('t'|ui.Repeat), state())
	assert.False(t, v.Labels)
	v.Update(noon, frame("/"), state())
	v.Update(noon, press('t'|ui.Repeat, 't'|ui.Repeat), state())
	assert.Equal(t, "tt", v.filter.text)
}

func TestHiddenWindow(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0))
	v.Update(noon, frame(""), st)
	rev := v.Scene().Rev
	more := state(conn(1, paris, 0), conn(2, rio, 1))
	more.Others, more.Beeps = 1, 1
	in := frame("")
	in.Hidden = true
	assert.Equal(t, []Effect{Beep{}}, v.Update(noon.Add(time.Minute), in, more), "it can be heard")
	assert.Equal(t, rev, v.Scene().Rev)
	assert.Equal(t, 1, v.stacks.shown, "nothing is computed")
	v.Update(noon.Add(time.Minute), frame(""), more)
	assert.Equal(t, 2, v.stacks.shown)
}

func TestTextSize(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0))
	v.Update(noon, frame(""), st)
	size := func() float32 {
		for _, i := range v.Scene().Items {
			if i.Shape == ui.Text {
				return i.Size
			}
		}
		return 0
	}
	before := size()
	v.Update(noon, press(ui.Ctrl|'+'), st)
	assert.Greater(t, size(), before, "at once")
	for range 40 {
		v.Update(noon, press(ui.Ctrl|'+'), st)
	}
	assert.EqualValues(t, maxText, v.TextSize)
	within(t, &v)
	for range 40 {
		v.Update(noon, press(ui.Ctrl|'-'), st)
	}
	assert.InDelta(t, minText, v.TextSize, 1e-9)
	v.Update(noon, press(ui.Ctrl|'0'), st)
	v.Update(noon, frame(""), st)
	assert.Equal(t, before, size())
	x, y := v.Scene().View.Pixel(paris.Lat, paris.Lon)
	v.Update(noon, press(ui.Ctrl|'+'), st)
	x2, y2 := v.Scene().View.Pixel(paris.Lat, paris.Lon)
	assert.InDelta(t, x, x2, 1, "the map stays")
	assert.InDelta(t, y, y2, 1)
}

func TestRestoredSettings(t *testing.T) {
	var v View
	v.History, v.TextSize = true, -5
	v.Panels = map[string][4]float64{agentsName: {9000, -9000, 1, 1e9}}
	for range 100 {
		v.Queries = append(v.Queries, "SELECT 1")
	}
	assert.Equal(t, []Effect{ShowHistory{On: true}}, v.Update(noon, frame("i"), hosts(3)))
	assert.Empty(t, v.Update(noon, frame(""), hosts(3)))
	assert.Len(t, v.Queries, maxQueries)
	assert.Zero(t, v.TextSize)
	within(t, &v)
}

func TestTheme(t *testing.T) {
	var v View
	v.Update(noon, frame("d"), state())
	assert.Equal(t, light.palette.Sea, v.Scene().Palette.Sea)
	v.Update(noon, frame("d"), state())
	assert.Equal(t, dark.palette.Sea, v.Scene().Palette.Sea)
}

// TestContrast: text can be read, by WCAG 2 AA.
func TestContrast(t *testing.T) {
	for name, th := range map[string]theme{"dark": dark, "light": light} {
		for what, pair := range map[string][2]color.NRGBA{
			"text":      {th.Text, th.Panel},
			"dim":       {th.Dim, th.Panel},
			"accent":    {th.Accent, th.Panel},
			"onAccent":  {th.OnAccent, th.Accent},
			"keyword":   {th.Keyword, th.Alternate},
			"literal":   {th.Literal, th.Alternate},
			"comment":   {th.Dim, th.Alternate},
			"wrong":     {th.Wrong, th.Panel},
			"chosen":    {th.Text, th.Chosen},
			"alternate": {th.Text, th.Alternate},
			"edge":      {th.Text, th.Edge},
		} {
			assert.GreaterOrEqual(t, ui.Contrast(pair[0], pair[1]), 4.5, "%s %s", name, what)
		}
	}
}

// TestClockGoesBack: nothing lasts longer for it, and r does not delete at once.
func TestClockGoesBack(t *testing.T) {
	var v View
	v.Update(noon, frame("r"), state())
	assert.Contains(t, texts(&v), "r once more")
	v.Update(noon.Add(-time.Hour), frame(""), state())
	assert.NotContains(t, texts(&v), "r once more")
	assert.Empty(t, v.Update(noon.Add(-time.Hour), frame("r"), state()), "it asks again")
	v.plots = plots{list: []plot{{1, 2, white}}, until: noon.Add(plotTime)}
	v.replay = replay{question: question{effect: StartReplay{}}, spots: []spot{{lat: 1, since: noon}}, index: map[[2]int]int{}}
	v.Update(noon, frame(""), state())
	n, _ := triangles(&v)
	assert.Equal(t, 2, n)
	v.Update(noon.Add(-time.Hour), frame(""), state())
	n, last := triangles(&v)
	assert.Equal(t, 1, n)
	assert.EqualValues(t, 255, last.Color.A)
}

// TestPanelStaysWhereItIsResized: also if the mouse goes far out.
func TestPanelStaysWhereItIsResized(t *testing.T) {
	var v View
	v.Update(noon, frame("i"), hosts(3))
	p := v.panels.Find(agentsName)
	left, top := p.Box.X, p.Box.Y
	for range 3 {
		drag(&v, corner(p), image.Pt(1200, 900))
	}
	assert.Equal(t, left, p.Box.X)
	assert.Equal(t, top, p.Box.Y)
}

// TestTypingGoesWhereOnePointed: a click into a panel ends the typing of the filter.
func TestTypingGoesWhereOnePointed(t *testing.T) {
	v := View{FirstQuery: firstQuery}
	v.Update(noon, frame("q"), state())
	x, y := at(t, &v, "SELECT")
	v.Update(noon, click(5, 250), v.st)
	v.Update(noon, frame("/a"), v.st)
	assert.Equal(t, []Effect{Paste{}}, v.Update(noon, press(ui.Ctrl|'v'), v.st))
	v.Update(noon, click(x, y), v.st)
	v.Update(noon, frame("b"), v.st)
	assert.Equal(t, "a", v.filter.text)
	assert.Contains(t, v.sql().editor.Text(), "b")
	v.sql().editor.Set("AB")
	v.Update(noon, press(ui.Shift|ui.KeyBackspace), v.st)
	assert.Equal(t, "A", v.sql().editor.Text(), "Shift is held for capitals")
}
