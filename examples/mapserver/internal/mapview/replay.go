package mapview

import (
	"math"
	"slices"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/internal/numbers"
)

// A replay shows the stored history run through in half a minute.
type replay struct {
	question
	share float64
	at    time.Time // in the history
	count int64     // of events so far
	spots []spot
	index map[[2]int]int // of spots, by what is one place
	bar   ui.Box
}

// runs reports whether there is a replay, if only the end of it that fades.
func (r *replay) runs() bool { return r.effect != nil }

// A spot is a place whose last event fades.
type spot struct {
	place    [2]int
	lat, lon float64
	label    string
	since    time.Time
}

// Playing reports whether a replay runs, which is watched without input.
func (v *View) Playing() bool { return v.replay.runs() }

// toggleReplay starts or stops the replay.
func (v *View) toggleReplay() {
	if v.replay.waiting {
		v.stopReplay()
		return
	}
	v.replay = replay{}
	v.replay.pose(&v.replay, StartReplay{}, time.Time{})
}

func (v *View) stopReplay() {
	v.replay = replay{}
	v.say("replay stopped")
}

// Replayed is a part of the history, when it is due.
type Replayed struct {
	Ask    int
	At     time.Time // in the history
	Share  float64   // of the replay that is over
	Events []live.Event
	Done   bool   // the last one
	Text   string // for people, why there is nothing; ends the replay
}

func (a Replayed) take(v *View) { v.answer(a.Ask, a, a.Done || a.Text != "") }

func (r *replay) answered(v *View, answer Answer) {
	a := answer.(Replayed)
	if a.Text != "" {
		v.replay = replay{}
		v.say(a.Text)
		return
	}
	r.share, r.at = 0, a.At
	if a.Share > 0 {
		r.share = min(a.Share, 1)
	}
	r.count += int64(len(a.Events))
	if r.index == nil {
		r.index = make(map[[2]int]int)
	}
	for _, e := range a.Events {
		// Places nearer than a twentieth of a degree are one: there may be very many.
		s := spot{[2]int{int(math.Round(e.Lat * 20)), int(math.Round(e.Lon * 20))}, e.Lat, e.Lon, e.Label, v.now}
		if i, ok := r.index[s.place]; ok {
			r.spots[i] = s
		} else if len(r.spots) < maxReplays {
			r.index[s.place] = len(r.spots)
			r.spots = append(r.spots, s)
		}
	}
}

// expire lets go of what has faded, and of a replay that is over.
func (r *replay) expire(v *View) {
	r.spots = slices.DeleteFunc(r.spots, func(s spot) bool { return v.now.Sub(s.since) >= replayFade })
	clear(r.index)
	for i, s := range r.spots {
		r.index[s.place] = i
	}
	if r.runs() && !r.waiting && len(r.spots) == 0 {
		*r = replay{}
	}
}

func (v *View) drawReplay() {
	r := &v.replay
	if !r.runs() {
		return
	}
	for _, s := range r.spots {
		x, y := v.world.Pixel(s.lat, s.lon)
		if !v.size.Grow(plotRadius).Contains(x, y) {
			continue
		}
		left := 1 - float64(max(v.now.Sub(s.since), 0))/float64(replayFade)
		col := v.colorOf(s.label)
		if col.A == 0 {
			col = v.theme.Accent
		}
		col = ui.Opaque(col)
		v.canvas.Triangle(x, y, plotRadius, ui.Fade(col, left), ui.Fade(v.theme.outline, left))
	}
	if len(r.spots) > 0 || r.waiting && !v.st.Opening {
		const frame = 50 * time.Millisecond
		v.wake(v.now.Add(frame))
	}
}

// layoutReplay places what says how far the replay is.
func (v *View) layoutReplay() {
	if !v.replay.runs() {
		return
	}
	b, ok := v.placeReplay()
	if !ok && v.note.lines != nil {
		// It matters less, and comes back.
		v.room.taken = slices.DeleteFunc(v.room.taken, func(b ui.Box) bool { return b == v.note.box })
		v.note = note{}
		b, _ = v.placeReplay()
	}
	v.replay.bar = b
	v.room.taken = append(v.room.taken, b)
}

// placeReplay returns where there is room for the bar, and whether there is.
func (v *View) placeReplay() (b ui.Box, ok bool) {
	for _, width := range [...]float64{420, 280, 200} {
		w := min(width, v.size.W-16)
		if b, ok = v.placeOverlay(ui.At((v.size.W-w)/2, v.size.H-88, w, 30), append(v.uncovered(), v.room.taken...)); ok {
			break
		}
	}
	return b, ok
}

// drawReplayBar says how far the replay is.
func (v *View) drawReplayBar() {
	r := &v.replay
	if !r.runs() {
		return
	}
	c, t, b, w := &v.canvas, v.theme, r.bar, r.bar.W
	c.Panel(b)
	label := "replay"
	if v.st.Opening {
		label += " · " + v.pendingText()
	}
	if !r.at.IsZero() {
		label += " · " + r.at.In(v.now.Location()).Format("2006-01-02 15:04 MST") + " · " + numbers.Thousands(r.count)
	}
	c.Text(b.X+10, b.Y+17, typeface.Regular, 12, t.Text, c.Elide(typeface.Regular, 12, label, w-80))
	c.TextRight(b.X+w-10, b.Y+17, typeface.Regular, 12, t.Dim, "g or Esc stops")
	c.Rect(ui.At(b.X+10, b.Y+23, w-20, 3), 1.5, t.Edge)
	c.Rect(ui.At(b.X+10, b.Y+23, (w-20)*r.share, 3), 1.5, t.Accent)
}
