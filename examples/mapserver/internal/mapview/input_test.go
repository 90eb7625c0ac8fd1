package mapview

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

// TestKeysByPlace: where the layout types no ASCII, commands go by the key, texts by what
// it types.
func TestKeysByPlace(t *testing.T) {
	for _, tt := range []struct {
		name string
		key  ui.Key
		want []Effect
	}{
		{"Cyrillic р is h", ui.Key('р').At('h'), []Effect{ShowHistory{On: true}}},
		{"Greek ψ is c", ui.Key('ψ').At('c'), []Effect{ReloadRules{}}},
		{"Hebrew slash is q", ui.Key('/').At('q'), nil},
		{"Arabic س is s", ui.Key('س').At('s'), []Effect{SaveHistory{}}},
		{"nothing at the place, so the character", ui.Key('c').At('7'), []Effect{ReloadRules{}}},
		{"a character that means nothing", ui.Key('é'), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var v View
			assert.Equal(t, tt.want, v.Update(noon, press(tt.key), state()))
			assert.False(t, v.filter.editing)
		})
	}
	var v View
	v.Update(noon, press(ui.Key('/').At('q')), state())
	require.NotNil(t, v.panels.Find("sql"))
	// A text takes what was typed.
	v.Update(noon, press(ui.Ctrl|'a', ui.Key('й').At('q'), ui.Key('/').At('q')), state())
	assert.Equal(t, "й/", v.console.editor.Text())
	v.Update(noon, press(ui.KeyEscape), state())
	v.Update(noon, press(ui.Key('.').At('/'), ui.Key('й').At('q'), ui.Key('Й').At('Q')), state())
	assert.Equal(t, "йЙ", v.filter.text)
	// Panels have commands too.
	v = View{}
	st := state()
	st.Addrs = []uint32{1}
	v.Update(noon, press(ui.Key('я').At('z'), ui.Key('٠').At('+')), st)
	assert.EqualValues(t, 2, v.curve.zoom)
	// r asks first on every layout, and once more deletes.
	v = View{}
	assert.Empty(t, v.Update(noon, press(ui.Key('к').At('r')), st))
	assert.Equal(t, []Effect{ResetHistory{}}, v.Update(noon.Add(toastTime/2), press(ui.Key('к').At('r')), st))
}
