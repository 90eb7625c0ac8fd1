package mapview

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/history"
)

// TestEscIsSafe: each press of Esc ends one thing, and quits only when nothing is left.
func TestEscIsSafe(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0))
	st.HistoryStats = &history.Stats{Rows: 5}
	now := noon.Add(time.Second)
	esc := func() []Effect { return v.Update(now, press(ui.KeyEscape), st) }
	v.Update(noon, frame("h"), st)
	v.Update(noon, frame(" "), st)
	v.plots = plots{list: []plot{{lat: 1, lon: 2}}}
	v.Update(noon, press('/', 'p', ui.KeyEnter), st)
	v.Update(noon, frame("i"), st)
	v.Update(noon, frame("?"), st)
	v.Update(noon, frame("p"), st)
	v.Update(noon, frame("1"), st)
	v.Update(noon, frame("g"), st)
	v.Update(noon, frame("r"), st)

	// The question is answered with no: r afterwards asks again.
	assert.Empty(t, esc())
	assert.Contains(t, texts(&v), "nothing is deleted")
	assert.Empty(t, v.Update(now, frame("r"), st), "it asks, and deletes nothing")
	assert.Empty(t, esc())
	assert.Equal(t, []Effect{CancelQuery{Ask: v.requests.last}}, esc())
	assert.NotContains(t, texts(&v), "g or Esc stops")
	// What was chosen is dropped first, then the panel goes.
	assert.Contains(t, texts(&v), "Apply (Enter)")
	assert.Empty(t, esc())
	assert.NotContains(t, texts(&v), "Apply (Enter)")
	assert.Equal(t, []Effect{ShowStats{}}, esc())
	for _, gone := range []string{"Keys and mouse", "capture"} {
		assert.Contains(t, texts(&v), gone)
		assert.Empty(t, esc())
		assert.NotContains(t, texts(&v), gone)
	}
	assert.NotEmpty(t, v.filter.terms)
	assert.Equal(t, []Effect{CancelQuery{Ask: 1}}, esc(), "the search in the history ends with it")
	assert.Empty(t, v.filter.terms)
	assert.NotNil(t, v.states.paused.at)
	assert.Empty(t, esc())
	assert.Nil(t, v.states.paused.at)
	assert.NotEmpty(t, v.plots.list)
	assert.Empty(t, esc())
	assert.Empty(t, v.plots.list)
	assert.Equal(t, []Effect{Quit{}}, esc())
}

// TestEscWhileTheLastOfAReplayFades: there is nothing to stop any more, and no quit.
func TestEscWhileTheLastOfAReplayFades(t *testing.T) {
	var v View
	v.Update(noon, frame("g"), state())
	hand(&v, Replayed{Ask: 1, Share: 1, Done: true, Events: []live.Event{{Lat: 1, Lon: 2}}})
	assert.Empty(t, v.Update(noon, press(ui.KeyEscape), state()))
	assert.False(t, v.replay.runs())
	assert.Equal(t, []Effect{Quit{}}, v.Update(noon, press(ui.KeyEscape), state()))
}

// TestEscLeavesTheFilter: while it is typed, Esc is about nothing else.
func TestEscLeavesTheFilter(t *testing.T) {
	var v View
	v.Update(noon, press('g', '/', 'x', ui.KeyEscape), state())
	assert.Empty(t, v.filter.text)
	assert.True(t, v.replay.runs())
}
