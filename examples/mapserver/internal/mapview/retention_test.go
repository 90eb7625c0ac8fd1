package mapview

import (
	"image"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/history"
)

func kept() *live.State {
	st := state(conn(1, paris, 0))
	st.HistoryStats = &history.Stats{Rows: 1_234_567, Bytes: 474e6, Oldest: noon.Add(-100 * day), Retention: history.Retention{Bytes: 4e9}}
	return st
}

func TestRetentionPanel(t *testing.T) {
	var v View
	assert.Equal(t, []Effect{ShowStats{On: true}}, v.Update(noon, frame("p"), state()))
	assert.Contains(t, texts(&v), "Nothing is recorded: start with -history FILE\n")
	assert.Empty(t, v.Update(noon, frame("1"), state()), "nothing to change")

	v.Update(noon, frame(""), kept())
	shown := texts(&v)
	assert.Contains(t, shown, "How much history is kept\n")
	assert.Contains(t, shown, "There are\n1,234,567 connections, 474 MB, since 2025-11-21 UTC\n")
	assert.Contains(t, shown, "1\nAge at most\nno limit\n2\nConnections at most\nno limit\n3\nFile size at most\n4 GB\n4\nAge of names at most\nno limit\n5\nLimits are\non\n")

	r := history.Retention{Bytes: 4e9}
	for key, want := range map[string]history.Retention{
		"1": {Bytes: 4e9, Age: 7 * day}, "2": {Bytes: 4e9, Rows: 100_000}, "3": {Bytes: 10e9}, "4": {Bytes: 4e9, Names: 7 * day}, "5": {Bytes: 4e9, Disabled: true},
	} {
		assert.Empty(t, v.Update(noon, frame(key), kept()), "nothing goes at once")
		assert.Contains(t, texts(&v), "Apply (Enter): delete what exceeds it\n")
		assert.Equal(t, []Effect{SetRetention{want}}, v.Update(noon, press(ui.KeyEnter), kept()), key)
	}
	// It can be left as it is.
	v.Update(noon, frame("2"), kept())
	x, y := at(t, &v, "Cancel (Esc)")
	assert.Empty(t, v.Update(noon, click(x, y), kept()))
	assert.Contains(t, texts(&v), "Connections at most\nno limit\n")
	v.Update(noon, frame(""), kept())
	// Each goes round, also from what is none of the choices.
	st := kept()
	seen := map[time.Duration]bool{}
	st.HistoryStats.Retention.Age = 45 * day
	for range 6 {
		v.Update(noon, frame("1"), st)
		e := v.Update(noon, press(ui.KeyEnter), st)
		r = e[0].(SetRetention).Retention
		seen[r.Age] = true
		st.HistoryStats = &history.Stats{Retention: r}
	}
	assert.Len(t, seen, 6)
	st.HistoryStats.Retention = history.Retention{Age: 3 * 365 * day, Rows: 1000, Disabled: true}
	v.Update(noon, frame(""), st)
	assert.Contains(t, texts(&v), "3 years\n2\nConnections at most\n1,000\n3\nFile size at most\nno limit\n4\nAge of names at most\nno limit\n5\nLimits are\noff, nothing goes\n")

	// A click changes it too.
	x, y = at(t, &v, "Limits are")
	r = st.HistoryStats.Retention
	r.Disabled = false
	assert.Empty(t, v.Update(noon, click(x, y), st))
	x, y = at(t, &v, "Apply (Enter): delete what exceeds it")
	assert.Equal(t, []Effect{SetRetention{r}}, v.Update(noon, click(x, y), st))
	v.Update(noon, frame(""), st)

	// Esc closes it before all else.
	assert.Equal(t, []Effect{ShowStats{}}, v.Update(noon, Input{Size: image.Pt(1000, 500), Scale: 1, Keys: []ui.Key{ui.KeyEscape}}, st))
	assert.NotContains(t, texts(&v), "How much history")
	assert.Equal(t, []Effect{Quit{}}, v.Update(noon, Input{Size: image.Pt(1000, 500), Scale: 1, Keys: []ui.Key{ui.KeyEscape}}, st))

	// Nothing leaves its box in a small window.
	v.Update(noon, Input{Size: image.Pt(200, 100), Scale: 1, Keys: []ui.Key{'p'}}, kept())
	for _, i := range v.Scene().Items {
		if i.Shape == ui.Rect || i.Shape == ui.Frame {
			assert.LessOrEqual(t, i.X+i.X2, float32(200))
		}
	}
}

func TestResetAsksFirst(t *testing.T) {
	var v View
	st := kept()
	assert.Empty(t, v.Update(noon, frame("r"), st))
	assert.Contains(t, texts(&v), "r once more deletes all stored connections and counts; Esc does not\n")
	assert.Equal(t, []Effect{ResetHistory{}}, v.Update(noon.Add(time.Second), frame("r"), st))
	// No is an answer too.
	v.Update(noon.Add(2*time.Second), frame("r"), st)
	v.Update(noon.Add(2*time.Second), frame("n"), st)
	assert.Contains(t, texts(&v), "nothing is deleted")
	assert.NotContains(t, texts(&v), "r once more")
	// Too late, or another key in between, asks anew.
	assert.Empty(t, v.Update(noon.Add(2*time.Second), frame("r"), st))
	assert.Empty(t, v.Update(noon.Add(time.Minute), frame("r"), st))
	assert.Empty(t, v.Update(noon.Add(time.Minute), frame("t"), st))
	assert.Empty(t, v.Update(noon.Add(time.Minute), frame("rr"), st), "nor before one can read it")
	assert.Equal(t, []Effect{ResetHistory{}}, v.Update(noon.Add(time.Minute+time.Second), frame("r"), st))
}

func TestSaveAndLoad(t *testing.T) {
	var v View
	assert.Equal(t, []Effect{SaveHistory{}}, v.Update(noon, frame("s"), state()))
	assert.Equal(t, []Effect{LoadHistory{}, ShowHistory{On: true}}, v.Update(noon, frame("l"), state()), "what is loaded is shown")
	assert.Equal(t, []Effect{LoadHistory{}}, v.Update(noon, frame("l"), state()))
}
