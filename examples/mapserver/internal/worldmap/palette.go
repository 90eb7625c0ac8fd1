package worldmap

import "image/color"

// A Palette says how the map is painted. Palettes are comparable.
type Palette struct {
	Sea, Land, Border, Coast color.NRGBA
	BorderWidth, CoastWidth  float64 // pixels of the picture
}
