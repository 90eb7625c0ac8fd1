package ui

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A pad is a body that writes down what the mouse does.
type pad struct {
	name string
	log  []string
}

func (p *pad) Name() string                      { return p.name }
func (p *pad) Title(*Canvas) string              { return "a " + p.name }
func (p *pad) Size(*Canvas) (w, h float64)       { return 300, 200 }
func (p *pad) Layout(*Canvas, Box)               {}
func (p *pad) Draw(_ *Canvas, c *Canvas, in Box) { c.Frame(in, 0, 1, c.Theme.Edge) }
func (p *pad) Key(_ *Canvas, k Key) bool         { return k == 'x' }
func (p *pad) Mouse(_ *Canvas, m Mouse) {
	s := "over"
	if m.Press {
		s = "press"
	} else if m.Held {
		s = "held"
	}
	p.log = append(p.log, s)
}

// told returns what a pad was told since the last call.
func (p *pad) told() string {
	s := strings.Join(p.log, " ")
	p.log = nil
	return s
}

func TestPanels(t *testing.T) {
	var d Panels[*Canvas]
	c, size := &Canvas{Scale: 1, Theme: &theme}, At(0, 0, 1000, 500)
	mouse := func(x, y float64, press, held bool) *Panel[*Canvas] {
		m := Mouse{X: x, Y: y, Press: press, Held: held}
		d.Point(c, m, true)
		changed := d.Mouse(c, m, size)
		d.Layout(c, size)
		return changed
	}
	one, two := &pad{name: "one"}, &pad{name: "two"}
	p := d.Open(one)
	d.Layout(c, size)
	assert.Equal(t, At(338, 127, 324, 246), p.Box, "in the middle")
	q := d.Open(two)
	d.Layout(c, size)
	assert.Equal(t, p.Box.X+24, q.Box.X, "not just over the other")
	assert.Same(t, q, d.Focus)
	assert.Same(t, q, d.Front())
	assert.Same(t, q, d.Open(&pad{name: "two"}), "one of a kind")
	q.Body = two

	// The mouse is the front panel's, until its button is up again.
	two.told()
	mouse(500, 300, false, false)
	assert.Equal(t, "over", two.told())
	mouse(500, 300, true, true)
	mouse(5, 5, false, true)
	assert.Equal(t, "press held", two.told(), "also outside")
	mouse(5, 5, false, false)
	assert.Equal(t, "over", two.told(), "it is told of the end")
	assert.Nil(t, d.Over)
	assert.Empty(t, one.told())

	// A press raises what is under it, and none takes the focus away.
	mouse(345, 300, true, true)
	assert.Same(t, p, d.Front())
	assert.Same(t, p, d.Focus)
	mouse(5, 5, false, false)
	mouse(5, 5, true, true)
	assert.Nil(t, d.Focus)

	// The title moves, the corner resizes, and neither is the body's.
	one.told()
	mouse(5, 5, false, false)
	mouse(400, 140, true, true)
	assert.Same(t, p, mouse(410, 150, false, true))
	assert.Equal(t, At(348, 137, 324, 246), p.Box)
	assert.False(t, p.Sized)
	mouse(410, 150, false, false)
	mouse(670, 381, true, true)
	assert.Same(t, p, mouse(690, 391, false, true))
	assert.True(t, p.Sized)
	assert.Equal(t, At(348, 137, 344, 256), p.Box)
	mouse(690, 391, false, false)
	assert.NotContains(t, one.told(), "press")

	// The square fills the window and the cross closes.
	b := p.FillBox()
	mouse(b.X+5, b.Y+5, true, true)
	assert.Equal(t, size.Grow(-4), p.Box)
	assert.True(t, p.Full)
	mouse(5, 499, false, false)
	d.Draw(c, c)
	var texts []string
	for _, i := range c.Items {
		if i.Shape == Text {
			texts = append(texts, i.Text)
		}
	}
	assert.Equal(t, []string{"a two", "a one"}, texts, "the front one last")
	b = p.CloseBox()
	mouse(b.X+5, b.Y+5, true, true)
	assert.Equal(t, []*Panel[*Canvas]{q}, d.List)
	assert.Same(t, q, d.Focus)
	mouse(b.X+5, b.Y+5, false, false)

	// A panel that made way goes back.
	before := q.Box
	q.MakeWay(At(10, 10, 310, 72), true)
	mouse(15, 60, true, true)
	mouse(60, 100, false, true)
	assert.Equal(t, At(10, 10, 310, 72), q.Box, "a strip moves by its title alone")
	mouse(60, 100, false, false)
	q.GoBack()
	assert.Equal(t, before, q.Box)
}

func TestScroller(t *testing.T) {
	var s Scroller
	b := At(10, 20, 200, 105)
	assert.Equal(t, 10, s.Layout(b, 100, 10))
	s.Mouse(Mouse{X: 50, Y: 50, Wheel: -1})
	assert.Equal(t, 3, s.Top)
	s.Mouse(Mouse{X: 500, Y: 50, Wheel: -1})
	assert.Equal(t, 3, s.Top, "not over the rows")
	for range 3 {
		s.Mouse(Mouse{X: 50, Y: 50, Wheel: -0.125})
	}
	assert.Equal(t, 4, s.Top, "parts of a notch add up")
	require.True(t, s.Key(KeyEnd, 9))
	assert.Equal(t, 10, s.Layout(b, 100, 10))
	assert.Equal(t, 90, s.Top)
	s.Mouse(Mouse{X: 206, Y: 21, Press: true, Held: true})
	assert.Zero(t, s.Top, "the bar follows")
	s.Mouse(Mouse{X: 900, Y: 900, Held: true})
	assert.Equal(t, 90, s.Top, "wherever the mouse is")
	s.Mouse(Mouse{X: 206, Y: 21})
	s.Mouse(Mouse{X: 206, Y: 21, Held: true})
	assert.Equal(t, 90, s.Top, "until the button is up")
	assert.Equal(t, 4, s.Layout(b, 4, 10), "fewer rows")
	assert.Zero(t, s.Top)
}

func TestButtonsWithoutRoom(t *testing.T) {
	var r Buttons
	c := &Canvas{Scale: 1, Theme: &theme}
	labels := []string{"first", "second", "third", "fourth"}
	seen := map[string]bool{}
	for range labels {
		r.Layout(c, At(0, 0, 140, 26), labels...)
		for _, b := range r.shown {
			seen[b.Label] = true
			assert.LessOrEqual(t, b.X+b.W, 140.0)
			if m := (Mouse{X: b.X + 1, Y: 5, Press: true}); b.Label != MoreButtons {
				assert.Equal(t, b.Label, r.Mouse(m))
				m.Press = false
				assert.Empty(t, r.Mouse(m))
			}
		}
		more := r.shown[len(r.shown)-1]
		require.Equal(t, MoreButtons, more.Label)
		assert.Empty(t, r.Mouse(Mouse{X: more.X + 1, Y: 5, Press: true}))
	}
	for _, label := range labels {
		assert.True(t, seen[label], label)
	}
	r.Layout(c, At(0, 0, 900, 26), labels...)
	assert.Len(t, r.shown, 4)
}
