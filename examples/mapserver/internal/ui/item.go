// Package ui has the widgets of the map window: what they show, and what keys and the mouse do
// to them. It knows neither the map nor its state, and paints nothing itself: a Canvas collects
// Items for a painter.
package ui

import (
	"image"
	"image/color"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
)

// A Shape is what an Item draws.
type Shape uint8

// The shapes. Coordinates and lengths are in pixels of the picture, y down.
const (
	Disc     Shape = iota + 1 // filled, around X, Y with radius R
	Ring                      // around X, Y, its middle line at radius R, W wide
	Arc                       // part of such a ring, From and To in turns clockwise from the top
	Rect                      // filled, corner X, Y, size X2, Y2, corners rounded by R
	Frame                     // outline of such a rectangle, W wide, inside its edge
	Text                      // Text in Font at Size, its baseline starts at X, Y
	Line                      // from X, Y to X2, Y2, W wide, with round ends
	Triangle                  // filled or, if W is not 0, its outline; equilateral, point up, around X, Y, its corners at R
	Picture                   // Picture, its upper left corner at X, Y, a pixel a pixel
)

// An Item is one thing to draw. Which fields count depends on Shape.
type Item struct {
	Shape    Shape
	Font     typeface.Font
	Color    color.NRGBA
	X, Y     float32
	X2, Y2   float32
	R, W     float32
	From, To float32
	Size     float32 // of the font, pixels per em
	Text     string
	Picture  *image.RGBA // not to be changed once it was shown
}

// Box returns the bounds of what an Item other than Text draws.
func (i *Item) Box() (x0, y0, x1, y1 float32) {
	switch i.Shape {
	case Rect, Frame:
		return i.X, i.Y, i.X + i.X2, i.Y + i.Y2
	case Line:
		r := i.W / 2
		return min(i.X, i.X2) - r, min(i.Y, i.Y2) - r, max(i.X, i.X2) + r, max(i.Y, i.Y2) + r
	case Triangle:
		return i.X - i.R, i.Y - i.R, i.X + i.R, i.Y + i.R
	}
	r := i.R + i.W/2
	return i.X - r, i.Y - r, i.X + r, i.Y + r
}
