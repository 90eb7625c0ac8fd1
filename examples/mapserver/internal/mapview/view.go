// Package mapview decides what the map window shows: state and input in,
// effects and a scene out.
// It draws nothing and knows no window, file, socket or clock: gui and paint
// draw its scenes, and the time is an argument.
package mapview

import (
	"slices"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/examples/mapserver/internal/worldmap"
	"github.com/connmapgo/connmap/history"
)

// A View is the view model of one window. The zero View is ready for use and
// dark. It is not safe for concurrent use.
type View struct {
	Settings
	FirstQuery string               // in SQL, that the SQL panel begins with
	Saved      []history.SavedQuery // without parameters, that are offered in the SQL panel

	moment
	started bool // there was an Update
	states  states
	sounds  sounds

	layers
	borders
	room  room
	toast toast

	window windowDrag
	pan    pan
	camera camera

	panels  ui.Panels[*View]
	agents  agentsPanel
	console *sqlPanel
	curve   curvePanel

	filter     filter
	search     search
	resetUntil time.Time // a second press of r counts

	requests requests
	effects  []Effect
	canvas   ui.Canvas
	scene    Scene
	spare    []ui.Item // of the scene before
	next     time.Time
}

// A moment is what is shown, and when.
type moment struct {
	now   time.Time
	in    Input
	st    *live.State // what is shown, in the user's colours
	size  ui.Box      // of the picture, density-independent like all boxes
	world worldmap.View
	theme *theme
}

// layers are what lies on the map.
type layers struct {
	stacks stacks
	labels []label
	plots  plots
	replay replay
	hover  hover
}

// borders are what stands at the edges of the window.
type borders struct {
	bar      bar
	problems problems
	status   status
	note     note
	legend   legend
	chips    []ui.Box // of the filter's terms, or of what is typed
}

var noState = &live.State{}

// Update takes in what happened and what is, and computes the scene. It
// returns what the caller must do.
func (v *View) Update(now time.Time, in Input, st *live.State) []Effect {
	if st == nil {
		st = noState
	}
	if in.Scale <= 0 {
		in.Scale = 1
	}
	if v.TextSize > 0 {
		in.Scale *= v.TextSize
	}
	v.now, v.in = now, in
	v.effects = nil
	v.show(v.states.paused.of(st))
	v.size = v.pictureSize()
	v.sound(st)
	if !v.started {
		v.started = true
		v.restore()
	}
	for _, a := range in.Answers {
		a.take(v)
	}
	for _, k := range in.Keys {
		v.key(k)
	}
	v.next = time.Time{}
	if in.Hidden {
		v.request()
		return v.effects
	}
	v.mouse()
	v.layout()
	v.request()
	v.compose()
	return v.effects
}

// show takes a state as the one that is shown.
func (v *View) show(st *live.State) { v.states.base, v.st = st, v.colored(st) }

// ask asks the caller for something.
func (v *View) ask(e Effect) { v.effects = append(v.effects, e) }

// Scene returns what the last Update computed.
func (v *View) Scene() *Scene { return &v.scene }

// Next returns when the scene changes by itself. The zero time means: not
// before there is input or a new state.
func (v *View) Next() time.Time { return v.next }

// before reports whether a time that was at most d ahead is still to come. A clock that
// was set back does not make it longer.
func (v *View) before(at time.Time, d time.Duration) bool {
	left := at.Sub(v.now)
	return left > 0 && left <= d
}

// wake asks for an Update at a time.
func (v *View) wake(at time.Time) {
	if v.next.IsZero() || at.Before(v.next) {
		v.next = at
	}
}

// layout takes in the state, and gives everything its place.
func (v *View) layout() {
	v.theme = &dark
	if v.Light {
		v.theme = &light
	}
	c := &v.canvas
	c.Scale, c.Theme = v.in.Scale, &v.theme.Theme
	v.expire()
	v.room.taken, v.room.overlays = v.room.taken[:0], v.room.overlays[:0]
	v.world = v.camera.view(v.size)
	v.layoutBar()
	v.room.edge = v.top().Y - 6
	v.search.update(v)
	v.layoutProblems()
	v.layoutFilter()
	v.stacks.update(v)
	v.hover.stack = v.hovered()
	v.layoutPanels()
	v.layoutStatus()
	v.layoutNote()
	v.layoutLegend()
	v.layoutBadges()
	v.layoutLabels()
	// What stands over the map for a moment comes last, each off those before.
	v.layoutExtent()
	v.layoutReplay()
	v.layoutCard()
	v.layoutToolTip()
	for _, p := range v.panels.List {
		v.room.taken = append(v.room.taken, p.Box)
	}
	v.layoutToast()
}

// expire ends what has been shown long enough.
func (v *View) expire() {
	v.plots.expire(v)
	v.replay.expire(v)
	if !v.before(v.toast.until, toastTime) {
		v.toast.text = ""
	}
}

// compose computes the scene of what was laid out. It changes nothing else.
func (v *View) compose() {
	c := &v.canvas
	c.Items = v.spare[:0]
	c.MouseX, c.MouseY = v.cursor()
	c.Hover, c.Focused = v.onMap(), false
	v.drawMarks()
	v.drawHome()
	v.drawLines()
	v.drawFound()
	v.drawStacks()
	v.drawPlots()
	v.drawReplay()
	v.drawLabels()
	v.drawUnknown()
	v.drawLegend()
	v.drawStatus()
	v.drawNote()
	v.drawProblems()
	v.drawReplayBar()
	v.drawFilter()
	v.drawBar()
	v.drawCard()
	v.drawToolTip()
	v.panels.Draw(v, c)
	v.drawToast()

	picture := v.world
	picture.Zoom *= c.Scale
	palette := v.theme.palette
	palette.Scale = c.Scale
	if v.scene.Size != v.in.Size || v.scene.View != picture || v.scene.Palette != palette ||
		!slices.Equal(v.scene.Items, c.Items) {
		v.scene.Rev++
	}
	v.spare = v.scene.Items
	v.scene.Size, v.scene.View, v.scene.Palette, v.scene.Items = v.in.Size, picture, palette, c.Items
}
