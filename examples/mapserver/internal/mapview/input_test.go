package mapview

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestKeysByPlace: where the layout types no ASCII, commands go by the key, texts by what
// it types.
func TestKeysByPlace(t *testing.T) {
	for _, tt := range []struct {
		name string
		key  Key
		want []Effect
	}{
		{"Cyrillic р is h", Key('р').At('h'), []Effect{ShowHistory{On: true}}},
		{"Greek ψ is c", Key('ψ').At('c'), []Effect{ReloadRules{}}},
		{"Hebrew slash is q", Key('/').At('q'), nil},
		{"Arabic س is s", Key('س').At('s'), []Effect{SaveHistory{}}},
		{"nothing at the place, so the character", Key('c').At('7'), []Effect{ReloadRules{}}},
		{"a character that means nothing", Key('é'), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var v View
			assert.Equal(t, tt.want, v.Update(noon, press(tt.key), state()))
			assert.False(t, v.filter.editing)
		})
	}
	var v View
	v.Update(noon, press(Key('/').At('q')), state())
	require.NotNil(t, v.desk.find("sql"))
	// A text takes what was typed.
	v.Update(noon, press(Ctrl|'a', Key('й').At('q'), Key('/').At('q')), state())
	assert.Equal(t, "й/", v.console.editor.text)
	v.Update(noon, press(KeyEscape), state())
	v.Update(noon, press(Key('.').At('/'), Key('й').At('q'), Key('Й').At('Q')), state())
	assert.Equal(t, "йЙ", v.filter.text)
	// Panels have commands too.
	v = View{}
	st := state()
	st.Addrs = []uint32{1}
	v.Update(noon, press(Key('я').At('z'), Key('٠').At('+')), st)
	assert.EqualValues(t, 2, v.curve.zoom)
	// r asks first on every layout, and once more deletes.
	v = View{}
	assert.Empty(t, v.Update(noon, press(Key('к').At('r')), st))
	assert.Equal(t, []Effect{ResetHistory{}}, v.Update(noon.Add(toastTime/2), press(Key('к').At('r')), st))
}
