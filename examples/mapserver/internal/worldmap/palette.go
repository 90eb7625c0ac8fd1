package worldmap

import "image/color"

// A Palette says how the map is painted. Palettes are comparable.
type Palette struct {
	Sea, Land, Border, Coast color.NRGBA
	BorderWidth, CoastWidth  float64 // density-independent pixels; Render scales with Scale
	Scale                    float64 // pixels of the picture per density-independent pixel; zero means 1
}

// The palettes of the themes.
var (
	Dark = Palette{
		Sea: color.NRGBA{0x0d, 0x10, 0x15, 255}, Land: color.NRGBA{0x1c, 0x22, 0x2a, 255},
		Border: color.NRGBA{0x2c, 0x34, 0x3f, 255}, Coast: color.NRGBA{0x3a, 0x45, 0x52, 255},
		BorderWidth: 0.7, CoastWidth: 0.8,
	}
	Light = Palette{
		Sea: color.NRGBA{0xdf, 0xe6, 0xee, 255}, Land: color.NRGBA{0xf7, 0xf8, 0xfa, 255},
		Border: color.NRGBA{0xcc, 0xd4, 0xdd, 255}, Coast: color.NRGBA{0xaa, 0xb6, 0xc3, 255},
		BorderWidth: 0.7, CoastWidth: 0.8,
	}
)
