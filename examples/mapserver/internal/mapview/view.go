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
	"github.com/connmapgo/connmap/examples/mapserver/internal/worldmap"
	"github.com/connmapgo/connmap/history"
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
	FirstQuery string               // in SQL, that the SQL panel begins with
	Saved      []history.SavedQuery // without parameters, that are offered in the SQL panel

	now     time.Time
	in      Input
	base    *live.State // what is shown, in the colours of the rules
	st      *live.State // the same in the user's
	effects []Effect
	heard   sounds
	theme   *theme

	recolored recolored

	canvas canvas
	size   box // of the picture, density-independent like all boxes
	world  worldmap.View

	stacks   stacks
	legend   legend
	badges   []badge
	taken    []box   // where there is more than map
	overlays []box   // of what stands over the map for a moment
	bottom   float64 // free at the lower edge, left
	edge     float64 // down to which things at the upper edge reach, left
	problems box
	bar      bar
	next     time.Time
	started  bool // there was an Update
	again    bool // what was drawn has changed by being clicked
	asks     int  // the number of the last question to the caller

	pressed, dragging bool
	from              image.Point

	camera  camera
	desk    desk
	agents  agentsPanel
	paused  pause
	filter  filter
	search  search
	console *sqlPanel
	curve   curvePanel
	addrs   bool // of the history are asked for
	plots   plots
	turned  map[string]int // of rows of buttons that have no room, the first that is shown, by the label of their first
	replay  replay
	panning bool
	panFrom image.Point

	asked      time.Time // until when a second press of r counts
	toast      string
	toastAt    box // over the map; none in place of a title
	toastUntil time.Time

	scene Scene
	spare []Item
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
	if in.Hidden {
		v.next = time.Time{}
		return v.effects
	}
	v.desk.mouse(v)
	v.pointAtMap()
	v.drag()
	v.move()
	v.compose()
	// A click may change what was drawn before, and a cursor go beyond many columns.
	for n := 0; v.again && n < 50; n++ {
		v.again = false
		v.in.Press, v.in.Right, v.in.Wheel, v.in.Keys = false, false, 0, nil
		v.compose()
	}
	if want := v.History && v.desk.find(v.curve.name()) != nil; want != v.addrs {
		v.addrs = want
		v.ask(ShowAddrs{On: want})
	}
	return v.effects
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
func (v *View) drag() {
	if v.in.Press {
		x, y := v.cursor()
		v.pressed = v.desk.over == nil && !v.onSomething(x, y)
		v.dragging = false
		v.from = v.in.Cursor
	}
	if !v.in.Held || v.in.Release {
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

// pointAtMap opens what a click on the map means.
func (v *View) pointAtMap() {
	x, y := v.cursor()
	if !v.in.Inside || v.desk.over != nil || v.onPanel(x, y) {
		return
	}
	if k := v.stacks.over(x, y); v.in.Press && k != nil {
		v.openPlace(k)
	}
	if v.in.Right {
		v.openNearby(x, y)
	}
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

func (v *View) compose() {
	v.next = time.Time{}
	v.theme = &dark
	if v.Light {
		v.theme = &light
	}
	v.taken, v.overlays = v.taken[:0], v.overlays[:0]
	c := &v.canvas
	c.scale = v.in.Scale
	c.items = v.spare[:0]
	v.world = v.camera.view(v.size)
	v.layoutBar()
	v.edge = v.top().y - 6
	v.searchHistory()
	problems := v.layoutProblems()
	filterAt := v.layoutFilter()

	v.stacks.update(v)
	hover := v.hovered()

	v.drawMarks()
	v.drawHome()
	v.drawLines()
	v.drawFound()
	v.drawStacks(hover)
	v.drawPlots()
	v.drawReplay()
	for _, p := range v.desk.panels {
		v.layout(p)
	}
	status := v.layoutStatus()
	// Where the status line reaches below the legend, that stands above it.
	v.bottom = 22
	if status.x < 2*legendWidth {
		v.bottom = 34
	}
	note := v.layoutNote(status)
	rows, at := v.layoutLegend()
	v.drawLabels(hover)
	v.drawNowhere(hover)
	v.drawLegend(rows, at)
	v.drawStatus(status)
	v.drawNote(note)
	v.drawProblems(problems)
	v.drawReplayBar()
	v.drawFilter(filterAt)
	v.drawBar()
	v.drawHover(hover)
	v.useBar()
	v.drawPanels()
	v.drawToast()

	picture := v.world
	picture.Zoom *= c.scale
	palette := v.theme.palette
	palette.Scale = c.scale
	if v.scene.Size != v.in.Size || v.scene.View != picture || v.scene.Palette != palette ||
		!slices.Equal(v.scene.Items, c.items) {
		v.scene.Rev++
	}
	v.spare = v.scene.Items
	v.scene.Size, v.scene.View, v.scene.Palette, v.scene.Items = v.in.Size, picture, palette, c.items
}

// drawMarks draws the stored history: a faint disc per place, its radius by
// the logarithm of the count.
func (v *View) drawMarks() {
	if !v.History {
		return
	}
	for _, m := range v.st.Marks {
		x, y := v.world.Pixel(m.Lat, m.Lon)
		if v.size.grow(20).contains(x, y) {
			v.canvas.disc(x, y, 6+1.8*math.Log1p(float64(m.Count)), v.theme.mark)
		}
	}
}

// drawHome draws the ring that marks where this machine is.
func (v *View) drawHome() {
	if x, y, ok := v.home(); ok {
		v.canvas.disc(x, y, 6.5, v.theme.palette.Sea)
		v.canvas.ring(x, y, 4.5, 2, v.theme.text)
	}
}

func (v *View) home() (x, y float64, ok bool) {
	if v.st.Home.Precision == 0 {
		return 0, 0, false
	}
	x, y = v.world.Pixel(v.st.Home.Lat, v.st.Home.Lon)
	return x, y, true
}
