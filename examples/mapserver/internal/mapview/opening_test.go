package mapview

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

// TestWaitsForTheHistory: what is asked while the history is opened says so, and has
// its answer when that is done, without being asked again.
func TestWaitsForTheHistory(t *testing.T) {
	const waits = "waiting until the history is open"
	opening := state(conn(1, paris, 0), conn(2, paris, 1), conn(3, paris, 1))
	opening.Opening = true
	open := *opening
	open.Opening = false
	for name, ask := range map[string]func(v *View) (e []Effect, a Answer){
		"search": func(v *View) ([]Effect, Answer) {
			e := v.Update(noon, typedThen("/prog", ui.KeyEnter), opening)
			return e, Found{Ask: 1}
		},
		"nearby": func(v *View) ([]Effect, Answer) {
			in := mouse(500, 300)
			in.Right = true
			return v.Update(noon, in, opening), Found{Ask: 1}
		},
		"place": func(v *View) ([]Effect, Answer) {
			v.Update(noon, frame(""), opening)
			x, y := v.Scene().View.Pixel(paris.Lat, paris.Lon)
			return v.Update(noon, click(x, y), opening), Found{Ask: 1}
		},
		"details": func(v *View) ([]Effect, Answer) {
			one := *opening
			one.Conns = one.Conns[:1]
			v.Update(noon, frame(""), &one)
			x, y := v.Scene().View.Pixel(paris.Lat, paris.Lon)
			return v.Update(noon, click(x, y), &one), First{Ask: 1}
		},
		"sql": func(v *View) ([]Effect, Answer) {
			return v.Update(noon, press('q', ui.Ctrl|ui.KeyEnter), opening), Answered{Ask: 1}
		},
		"replay": func(v *View) ([]Effect, Answer) {
			return v.Update(noon, frame("g"), opening), Replayed{Ask: 1, At: noon, Share: 0.5}
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := View{FirstQuery: firstQuery}
			e, a := ask(&v)
			require.Len(t, e, 1)
			v.Update(noon, frame(""), opening)
			assert.Contains(t, texts(&v), waits)
			if name != "search" {
				assert.True(t, v.Next().IsZero() || v.Next().Sub(noon) > 100e6, "nothing moves until then")
			}
			assert.Empty(t, v.Update(noon, frame(""), &open))
			hand(&v, a)
			assert.NotContains(t, texts(&v), waits)
		})
	}
}

// typedThen types a text, then presses a key.
func typedThen(text string, k ui.Key) Input {
	in := frame(text)
	in.Keys = append(in.Keys, k)
	return in
}

// TestQuestionsAreDropped of which nobody wants the answer any more.
func TestQuestionsAreDropped(t *testing.T) {
	v := View{FirstQuery: firstQuery}
	st := state(conn(1, paris, 0), conn(2, rio, 1))
	right := func(x, y float64) Input {
		in := mouse(x, y)
		in.Right = true
		return in
	}
	require.IsType(t, FindNearby{}, v.Update(noon, right(500, 300), st)[0])
	e := v.Update(noon, right(20, 200), st)
	require.Len(t, e, 2)
	assert.Equal(t, CancelQuery{Ask: 1}, e[0], "another list in its place")
	assert.IsType(t, FindNearby{}, e[1])
	assert.Equal(t, []Effect{CancelQuery{Ask: 2}}, v.Update(noon, press(ui.KeyEscape), st), "it is closed")
	v.Update(noon, right(20, 200), st)
	hand(&v, Found{Ask: 3})
	assert.Empty(t, v.Update(noon, press(ui.KeyEscape), st), "there was an answer")
	// A question in SQL goes on while its panel is closed.
	v.Update(noon, press('q', ui.Ctrl|ui.KeyEnter), st)
	assert.Empty(t, v.Update(noon, press(ui.KeyEscape), st))
	hand(&v, answered(4))
	assert.NotEmpty(t, v.console.result.Rows)
	// A report that is not read any more is not waited for.
	st.Conns = st.Conns[:1]
	v.openReport(st.Conns[0])
	v.Update(noon, frame(""), st)
	assert.Equal(t, []Effect{CancelQuery{Ask: 5}}, v.Update(noon, press(ui.KeyEscape), st))
}
