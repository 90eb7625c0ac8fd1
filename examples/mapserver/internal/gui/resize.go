package gui

import (
	"image"

	"github.com/hajimehoshi/ebiten/v2"

	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
)

// edgeWidth is how near to an edge the mouse must be to drag it, in density-independent
// pixels.
const edgeWidth = 6

// A resize lets the mouse drag an edge of the window, which has no frame of the desktop.
type resize struct {
	active    bool
	sides     image.Point // -1 left or top, 1 right or bottom, 0 neither
	start     image.Point // of the mouse on the screen
	pos, size image.Point // of the window at the start
}

// update reports whether the mouse acts on an edge, and so not on the map.
func (r *resize) update(in *mapview.Input) bool {
	x, y := ebiten.WindowPosition()
	mouse := image.Pt(x+int(float64(in.Cursor.X)/in.Scale), y+int(float64(in.Cursor.Y)/in.Scale))
	if !r.active {
		sides := image.Point{}
		if in.Inside && (!in.Held || in.Press) {
			sides = image.Pt(side(in.Cursor.X, in.Size.X, in.Scale), side(in.Cursor.Y, in.Size.Y, in.Scale))
		}
		if sides != r.sides {
			r.sides = sides
			ebiten.SetCursorShape(shape(sides))
		}
		if !in.Press || sides == (image.Point{}) {
			return false
		}
		w, h := ebiten.WindowSize()
		r.active, r.start, r.pos, r.size = true, mouse, image.Pt(x, y), image.Pt(w, h)
		return true
	}
	if !in.Held {
		r.active = false
		return true
	}
	by := mouse.Sub(r.start)
	size := image.Pt(max(r.size.X+r.sides.X*by.X, minWidth), max(r.size.Y+r.sides.Y*by.Y, minHeight))
	pos := r.pos
	// The opposite edge stays where it is.
	if r.sides.X < 0 {
		pos.X += r.size.X - size.X
	}
	if r.sides.Y < 0 {
		pos.Y += r.size.Y - size.Y
	}
	if w, h := ebiten.WindowSize(); size != image.Pt(w, h) {
		ebiten.SetWindowSize(size.X, size.Y)
	}
	if pos != image.Pt(x, y) {
		ebiten.SetWindowPosition(pos.X, pos.Y)
	}
	return true
}

func side(at, size int, scale float64) int {
	reach := int(edgeWidth * scale)
	switch {
	case at < reach:
		return -1
	case at >= size-reach:
		return 1
	}
	return 0
}

func shape(sides image.Point) ebiten.CursorShapeType {
	switch {
	case sides == image.Point{}:
		return ebiten.CursorShapeDefault
	case sides.X == 0:
		return ebiten.CursorShapeNSResize
	case sides.Y == 0:
		return ebiten.CursorShapeEWResize
	case sides.X == sides.Y:
		return ebiten.CursorShapeNWSEResize
	}
	return ebiten.CursorShapeNESWResize
}
