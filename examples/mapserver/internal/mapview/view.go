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
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
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
	Light bool // the light theme

	labels, ruleLabels, cycle, local, history, help, retention bool

	asked      bool // whether to delete the history
	askedUntil time.Time

	now    time.Time
	in     Input
	st     *live.State
	theme  *theme
	canvas canvas
	size   box // of the picture, density-independent like all boxes
	world  worldmap.View

	stacks stacks
	seen   map[string]bool // legend labels that had a connection
	taken  []box           // where panels are
	badges []badge
	bottom float64 // free at the lower edge, left
	next   time.Time

	pressed, dragging bool
	from              image.Point

	camera  camera
	panel   agentsPanel
	paused  pause
	filter  filter
	panning bool
	panFrom image.Point

	toast      string
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
	v.now, v.in, v.st = now, in, st
	v.st = v.paused.of(st)
	v.theme = &dark
	if v.Light {
		v.theme = &light
	}
	effects := v.keys(nil, st)
	v.panel.mouse(v)
	effects = v.drag(effects)
	v.move()
	v.compose()
	return effects
}

// Scene returns what the last Update computed.
func (v *View) Scene() *Scene { return &v.scene }

// Next returns when the scene changes by itself. The zero time means: not
// before there is input or a new state.
func (v *View) Next() time.Time { return v.next }

// Say shows a short message for a few seconds, from the next Update on.
func (v *View) Say(now time.Time, text string) {
	v.toast, v.toastUntil = text, now.Add(toastTime)
}

func (v *View) keys(effects []Effect, st *live.State) []Effect {
	for _, k := range v.in.Keys {
		if k != 'r' {
			v.asked = false
		}
		if v.filter.editing {
			v.filter.typed(k)
			continue
		}
		if v.retention {
			var done bool
			if effects, done = v.retentionKeys(k, effects); done {
				continue
			}
		}
		switch k {
		case KeyEscape:
			switch {
			case v.help:
				v.help = false
			case v.retention:
				v.retention = false
				effects = append(effects, ShowKept{})
			case v.panel.open:
				v.panel.open = false
			case len(v.filter.terms) > 0:
				v.filter = filter{}
			default:
				effects = append(effects, Quit{})
			}
		case 'p':
			v.retention = !v.retention
			effects = append(effects, ShowKept{On: v.retention})
		case 'r':
			effects = v.confirm(effects)
		case 's':
			effects = append(effects, SaveHistory{})
		case 'l':
			effects = append(effects, LoadHistory{})
			if !v.history {
				v.history = true
				effects = append(effects, ShowHistory{On: true})
			}
		case '?':
			v.help = !v.help
		case 'h':
			v.history = !v.history
			effects = append(effects, ShowHistory{On: v.history})
			v.sayOnOff("history", v.history)
		case 't':
			v.labels = !v.labels
			v.sayOnOff("connection labels", v.labels)
		case 'a':
			v.ruleLabels = !v.ruleLabels
			v.sayOnOff("rule labels", v.ruleLabels)
		case 'f':
			v.cycle = !v.cycle
			v.sayOnOff("colour cycling", v.cycle)
		case 'm':
			v.local = !v.local
			v.sayOnOff("local and LAN peers", v.local)
		case 'c':
			effects = append(effects, ReloadRules{})
		case '/':
			v.filter.editing = true
		case 'i', 'k':
			v.panel.open = !v.panel.open
		case ' ':
			v.paused.toggle(st)
			v.st = v.paused.of(st)
		case '0':
			v.camera = camera{}
		case '+', '=':
			v.zoomKey(wheelZoom)
		case '-':
			v.zoomKey(1 / wheelZoom)
		}
	}
	return effects
}

func (v *View) sayOnOff(what string, on bool) {
	if on {
		v.Say(v.now, what+" on")
	} else {
		v.Say(v.now, what+" off")
	}
}

// drag turns a drag of the map into moves of the window. The window follows
// the mouse, so the cursor's place in it stays that of the press.
func (v *View) drag(effects []Effect) []Effect {
	if v.in.Press {
		x, y := v.cursor()
		v.pressed = !v.onSomething(x, y)
		v.dragging = false
		v.from = v.in.Cursor
	}
	if !v.in.Held || v.in.Release {
		v.pressed = false
	}
	if !v.pressed {
		return effects
	}
	by := v.in.Cursor.Sub(v.from)
	slack := int(dragSlack * v.in.Scale)
	if !v.dragging && max(by.X, -by.X, by.Y, -by.Y) <= slack {
		return effects
	}
	v.dragging = true
	if by != (image.Point{}) {
		effects = append(effects, MoveWindow{By: by})
	}
	return effects
}

// onSomething reports whether there is more than map at a point, in the scene
// that the user saw when pressing.
func (v *View) onSomething(x, y float64) bool {
	return v.onPanel(x, y) || v.stacks.at(x, y) != nil
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
	v.taken = v.taken[:0]
	c := &v.canvas
	c.scale = v.in.Scale
	c.items = v.spare[:0]
	v.size = v.pictureSize()
	v.world = v.camera.view(v.size)

	v.stacks.update(v)
	hover := v.hovered()

	v.drawMarks()
	v.drawHome()
	v.drawStacks(hover)
	status := v.layoutStatus()
	// Where the status line reaches below the legend, that stands above it.
	v.bottom = 22
	if status.x < 2*legendWidth {
		v.bottom = 34
	}
	rows, at := v.layoutLegend()
	v.drawLabels(hover)
	v.drawNowhere(hover)
	v.drawLegend(rows, at)
	v.drawStatus(status)
	v.drawProblems()
	v.drawFilter()
	v.drawHover(hover)
	if v.panel.open {
		v.drawAgents()
	}
	if v.retention {
		v.drawRetention()
	}
	if v.help {
		v.drawHelp()
	}
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
	if !v.history {
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

func (v *View) drawToast() {
	if v.toast == "" || !v.now.Before(v.toastUntil) {
		v.toast = ""
		return
	}
	v.wake(v.toastUntil)
	c := &v.canvas
	s := c.elide(typeface.Medium, 13, v.toast, v.size.w-48)
	w := c.width(typeface.Medium, 13, s) + 24
	b := box{(v.size.w - w) / 2, 12, w, 28}
	c.panel(b, v.theme)
	c.text(b.x+12, b.y+18.5, typeface.Medium, 13, v.theme.text, s)
}
