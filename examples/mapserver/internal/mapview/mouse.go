package mapview

import (
	"image"

	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

const dragSlack = 3 // a press that moves no farther than this is a click

// mouse handles the mouse, by the layout that the user has seen.
func (v *View) mouse() {
	m := ui.Mouse{Press: v.in.Press, Right: v.in.Right, Held: v.in.Held, Middle: v.in.MiddleHeld, Shift: v.in.Shift, Wheel: v.in.Wheel}
	m.X, m.Y = v.cursor()
	v.bar.mouse(v, m)
	taken := v.mousePanels(m)
	if !taken && v.in.Inside {
		v.mouseOnMap(m)
	}
	v.dragWindow(m, taken)
	v.move(m, taken)
}

// mouseOnMap handles the mouse where no panel is.
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

// A windowDrag is a press on the map, which moves the window once the mouse moves.
type windowDrag struct {
	pressed, moves bool
	from           image.Point
}

// dragWindow turns a drag of the map into moves of the window. The window follows
// the mouse, so the cursor's place in it stays that of the press.
func (v *View) dragWindow(m ui.Mouse, taken bool) {
	if m.Press {
		v.window.pressed = !taken && !v.onSomething(m.X, m.Y)
		v.window.moves = false
		v.window.from = v.in.Cursor
	}
	if !m.Held || v.in.Release {
		v.window.pressed = false
	}
	if !v.window.pressed {
		return
	}
	by := v.in.Cursor.Sub(v.window.from)
	slack := int(dragSlack * v.in.Scale)
	if !v.window.moves && max(by.X, -by.X, by.Y, -by.Y) <= slack {
		return
	}
	v.window.moves = true
	if by != (image.Point{}) {
		v.ask(MoveWindow{By: by})
	}
}

// onSomething reports whether something stands at a point of the map, in the scene that
// the user saw when pressing.
func (v *View) onSomething(x, y float64) bool {
	return v.onPanel(x, y) || v.stacks.over(x, y) != nil
}

func (v *View) cursor() (x, y float64) {
	return float64(v.in.Cursor.X) / v.in.Scale, float64(v.in.Cursor.Y) / v.in.Scale
}

// onMap reports whether the mouse is over the map, and not over a panel.
func (v *View) onMap() bool { return v.in.Inside && v.panels.Over == nil }
