package mapview

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

// TestClosing: a connection that is being closed is no disc and not counted as live; lists,
// details and the card of the mouse say what it is, and a filter finds it.
func TestClosing(t *testing.T) {
	a, b, c := conn(1, paris, 0), conn(2, rio, 0), conn(3, rio, 1)
	a.State, b.State, c.State = conntrack.Established, conntrack.CloseWait, conntrack.FinWait2
	st := state(a, b, c)
	var v View
	v.Update(noon, frame(""), st)
	assert.Contains(t, texts(&v), "1 live · 2 closing")
	_, ok := discAt(&v, paris)
	assert.True(t, ok)
	_, ok = discAt(&v, rio)
	assert.False(t, ok, "it is not on the map")

	v.Update(noon, press(ui.KeyEnter), st)
	assert.Contains(t, texts(&v), "All connections · 1 live · 2 closing\n")
	l := v.panels.Find("connection list").Body.(*connList)
	assert.Equal(t, []string{"live", "closing", "closing"}, []string{l.rows.Cell(0, colSeen), l.rows.Cell(1, colSeen), l.rows.Cell(2, colSeen)})
	assert.Equal(t, []string{"tcp out", "tcp out, closing"}, []string{l.rows.Cell(0, colDirection), l.rows.Cell(2, colDirection)})
	v.Update(noon, press(ui.KeyHome), st)
	v.Update(noon, press(ui.KeyDown), st)
	x, y := at(t, &v, "Details")
	v.Update(noon, click(x, y), st)
	v.Update(noon, frame(""), st)
	assert.Contains(t, texts(&v), "protocol\ntcp, out, closing (fin-wait-2)\n")
	assert.Contains(t, v.about(c), "closing")
	assert.NotContains(t, v.about(a), "closing")

	// The history has no states: that nothing of it is found has a reason.
	v = View{}
	v.Update(noon, frame("/state:closing"), st)
	v.Update(noon, press(ui.KeyEnter), st)
	v.Update(noon, press(ui.KeyEnter), st)
	in := frame("")
	in.Answers = []Answer{Found{Ask: v.search.number}}
	v.Update(noon, in, st)
	assert.Contains(t, texts(&v), "Search state:closing · 0 live · 2 closing · the history has no states\n")

	for filter, want := range map[string]string{
		"state:closing": "23", "state:close-wait": "2", "state:fin": "3", "state:established": "1", "-state:closing": "1", "closing": "", "state:listen": "",
	} {
		var v View
		v.Update(noon, frame("/"+filter), st)
		closing := strings.Trim(want, "1")
		assert.Contains(t, texts(&v), fmt.Sprintf(" · %d live", len(want)-len(closing)), filter)
		if v.filter.states {
			assert.Equal(t, closing != "", strings.Contains(texts(&v), fmt.Sprintf("live · %d closing", len(closing))), filter)
		}
		got := ""
		for _, c := range st.Conns {
			if v.fits(c) {
				got += string(rune('0' + c.ID))
			}
		}
		assert.Equal(t, want, got, filter)
		assert.Equal(t, len(want), v.stacks.shown, "who asks for a state sees it on the map: %s", filter)
	}
}
