package mapview

import (
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
)

const beepEvery = time.Second

// sounds are the counts of the last state, of connections that may want the sound.
type sounds struct {
	known         bool // there was a state
	beeps, others uint64
	last          time.Time // of the sound
}

// sound asks for the sound if a state has new connections that want it. What was there
// at the start does not.
func (v *View) sound(st *live.State) {
	h := &v.sounds
	if st.Seq == 0 {
		return
	}
	fresh := st.Beeps > h.beeps || v.Beep && st.Others > h.others
	known := h.known
	h.known, h.beeps, h.others = true, st.Beeps, st.Others
	if fresh && known && (v.now.Sub(h.last) >= beepEvery || v.now.Before(h.last)) {
		h.last = v.now
		v.ask(Beep{})
	}
}
