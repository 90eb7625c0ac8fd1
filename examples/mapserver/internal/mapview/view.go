// Package mapview decides what the map window shows: state and input in,
// effects and a scene out.
// It draws nothing and knows no window, file, socket or clock: gui and paint
// draw its scenes, and the time is an argument.
package mapview

import (
	"image"
	"math"
	"slices"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/examples/mapserver/internal/worldmap"
)

const (
	cycleTime  = 600 * time.Millisecond // one colour of a cycling stack
	toastTime  = 4 * time.Second
	dragSlack  = 3  // a press that moves no farther than this is a click
	hoverReach = 8  // how far from a disc's edge the mouse still means it
	cycleReach = 28 // how far from a stack the mouse makes it cycle
)

// A View is the view model of one window. The zero View is ready for use and
// dark. It is not safe for concurrent use.
type View struct {
	Settings
	Saved []Query // that are offered in the SQL panel

	now     time.Time
	in      Input
	base    *live.State // what is shown, in the colours of the rules
	st      *live.State // the same in the user's
	effects []Effect
	heard   sounds
	theme   *theme

	recolored recolored

	canvas ui.Canvas
	size   ui.Box // of the picture, density-independent like all boxes
	world  worldmap.View

	stacks   stacks
	legend   legend
	taken    []ui.Box // where there is more than map
	overlays []ui.Box // of what stands over the map for a moment
	bottom   float64  // free at the lower edge, left
	edge     float64  // down to which things at the upper edge reach, left
	problems problems
	status   status
	note     note
	hover    *stack // under the mouse
	card     card   // that names it
	labels   []label
	bar      bar
	next     time.Time
	started  bool // there was an Update

	pressed, dragging bool
	from              image.Point

	camera   camera
	panels   ui.Panels[*View]
	agents   agentsPanel
	paused   pause
	filter   filter
	search   search
	console  *sqlPanel
	requests requests
	curve    curvePanel
	plots    plots
	replay   replay
	panning  bool
	panFrom  image.Point

	asked      time.Time // until when a second press of r counts
	toast      string
	toastLines []string // in toastAt; none: it stands in place of a title
	toastAt    ui.Box   // over the map
	toastUntil time.Time

	scene Scene
	spare []ui.Item
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
	v.show(v.paused.of(st))
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

// mouse takes in what the mouse did to what was laid out last, as the user has seen it.
func (v *View) mouse() {
	m := ui.Mouse{Press: v.in.Press, Right: v.in.Right, Held: v.in.Held, Middle: v.in.MiddleHeld, Shift: v.in.Shift, Wheel: v.in.Wheel}
	m.X, m.Y = v.cursor()
	v.bar.mouse(v, m)
	taken := v.mousePanels(m)
	if !taken && v.in.Inside {
		v.mouseOnMap(m)
	}
	v.drag(m, taken)
	v.move(m, taken)
}

// mouseOnMap takes in what the mouse did where no panel is.
func (v *View) mouseOnMap(m ui.Mouse) {
	if m.Press {
		v.pressTool(m)
		v.pressLegend(m)
		v.pressNote(m)
		v.pressProblems(m)
		v.pressFilter(m)
	}
	if v.onPanel(m.X, m.Y) {
		return
	}
	if k := v.stacks.over(m.X, m.Y); m.Press && k != nil {
		v.openPlace(k)
	}
	if m.Right {
		v.openNearby(m.X, m.Y)
	}
}

// show takes a state as the one that is shown.
func (v *View) show(st *live.State) { v.base, v.st = st, v.colored(st) }

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

// say shows a short message for a few seconds.
func (v *View) say(text string) {
	v.toast, v.toastUntil = text, v.now.Add(toastTime)
}

func (v *View) sayOnOff(what string, on bool) {
	if on {
		v.say(what + " on")
	} else {
		v.say(what + " off")
	}
}

// drag turns a drag of the map into moves of the window. The window follows
// the mouse, so the cursor's place in it stays that of the press.
func (v *View) drag(m ui.Mouse, taken bool) {
	if m.Press {
		v.pressed = !taken && !v.onSomething(m.X, m.Y)
		v.dragging = false
		v.from = v.in.Cursor
	}
	if !m.Held || v.in.Release {
		v.pressed = false
	}
	if !v.pressed {
		return
	}
	by := v.in.Cursor.Sub(v.from)
	slack := int(dragSlack * v.in.Scale)
	if !v.dragging && max(by.X, -by.X, by.Y, -by.Y) <= slack {
		return
	}
	v.dragging = true
	if by != (image.Point{}) {
		v.ask(MoveWindow{By: by})
	}
}

// onSomething reports whether there is more than map at a point, in the scene
// that the user saw when pressing.
func (v *View) onSomething(x, y float64) bool {
	return v.onPanel(x, y) || v.stacks.over(x, y) != nil
}

func (v *View) cursor() (x, y float64) {
	return float64(v.in.Cursor.X) / v.in.Scale, float64(v.in.Cursor.Y) / v.in.Scale
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
	v.taken, v.overlays = v.taken[:0], v.overlays[:0]
	v.world = v.camera.view(v.size)
	v.layoutBar()
	v.edge = v.top().Y - 6
	v.search.update(v)
	v.layoutProblems()
	v.layoutFilter()
	v.stacks.update(v)
	v.hover = v.hovered()
	v.layoutPanels()
	v.layoutStatus()
	v.layoutNote()
	v.layoutLegend()
	v.layoutLabels()
	// What stands over the map for a moment comes last, each off those before.
	v.layoutExtent()
	v.layoutReplay()
	v.layoutCard()
	v.layoutToolTip()
	for _, p := range v.panels.List {
		v.taken = append(v.taken, p.Box)
	}
	v.layoutToast()
}

// expire ends what has been shown long enough.
func (v *View) expire() {
	v.plots.expire(v)
	v.replay.expire(v)
	if !v.before(v.toastUntil, toastTime) {
		v.toast = ""
	}
}

// onMap reports whether the mouse is over the map, and not over a panel.
func (v *View) onMap() bool { return v.in.Inside && v.panels.Over == nil }

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
	v.drawNowhere()
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

// drawMarks draws the stored history: a faint disc per place, its radius by
// the logarithm of the count.
func (v *View) drawMarks() {
	if !v.History {
		return
	}
	for _, m := range v.st.Marks {
		x, y := v.world.Pixel(m.Lat, m.Lon)
		if v.size.Grow(20).Contains(x, y) {
			v.canvas.Disc(x, y, 6+1.8*math.Log1p(float64(m.Count)), v.theme.mark)
		}
	}
}

// drawHome draws the ring that marks where this machine is.
func (v *View) drawHome() {
	if x, y, ok := v.home(); ok {
		v.canvas.Disc(x, y, 6.5, v.theme.palette.Sea)
		v.canvas.Ring(x, y, 4.5, 2, v.theme.Text)
	}
}

func (v *View) home() (x, y float64, ok bool) {
	if v.st.Home.Precision == 0 {
		return 0, 0, false
	}
	x, y = v.world.Pixel(v.st.Home.Lat, v.st.Home.Lon)
	return x, y, true
}
