package mapview

import (
	"image/color"

	"github.com/connmapgo/connmap/examples/mapserver/internal/worldmap"
)

// A theme is the colours of everything that is not data.
type theme struct {
	palette                worldmap.Palette
	text, dim, accent      color.NRGBA
	onAccent               color.NRGBA // text over accent
	keyword, literal       color.NRGBA // of SQL, besides text and dim
	panel, edge, alternate color.NRGBA
	chosen                 color.NRGBA // a row
	warning, wrong         color.NRGBA
	mark                   color.NRGBA // places of the history
	rim                    color.NRGBA // around discs
	outline                color.NRGBA // of triangles
}

var dark = theme{
	palette:   worldmap.Dark,
	text:      color.NRGBA{0xe6, 0xea, 0xf0, 0xff},
	dim:       color.NRGBA{0x8b, 0x96, 0xa5, 0xff},
	accent:    color.NRGBA{0x5a, 0xa9, 0xff, 0xff},
	onAccent:  color.NRGBA{0x0d, 0x10, 0x15, 0xff},
	keyword:   color.NRGBA{0x5a, 0xa9, 0xff, 0xff},
	literal:   color.NRGBA{0xd9, 0xb4, 0x6a, 0xff},
	panel:     color.NRGBA{0x12, 0x16, 0x1c, 0xf2},
	edge:      color.NRGBA{0x31, 0x3a, 0x46, 0xff},
	alternate: color.NRGBA{0x17, 0x1c, 0x23, 0xff},
	chosen:    color.NRGBA{0x1f, 0x33, 0x4d, 0xff},
	warning:   color.NRGBA{0xff, 0xc8, 0x5a, 0xff},
	wrong:     color.NRGBA{0xff, 0x7b, 0x72, 0xff},
	mark:      color.NRGBA{0xff, 0xff, 0xff, 0x1a},
	rim:       worldmap.Dark.Sea,
	outline:   white,
}

var light = theme{
	palette:   worldmap.Light,
	text:      color.NRGBA{0x1a, 0x20, 0x28, 0xff},
	dim:       color.NRGBA{0x5a, 0x66, 0x74, 0xff},
	accent:    color.NRGBA{0x0b, 0x62, 0xc4, 0xff},
	onAccent:  color.NRGBA{0xff, 0xff, 0xff, 0xff},
	keyword:   color.NRGBA{0x0b, 0x62, 0xc4, 0xff},
	literal:   color.NRGBA{0x8a, 0x5a, 0x00, 0xff},
	panel:     color.NRGBA{0xff, 0xff, 0xff, 0xf2},
	edge:      color.NRGBA{0xc3, 0xcc, 0xd6, 0xff},
	alternate: color.NRGBA{0xf0, 0xf3, 0xf7, 0xff},
	chosen:    color.NRGBA{0xd3, 0xe5, 0xf8, 0xff},
	warning:   color.NRGBA{0x8a, 0x5a, 0x00, 0xff},
	wrong:     color.NRGBA{0xb4, 0x23, 0x18, 0xff},
	mark:      color.NRGBA{0x00, 0x00, 0x00, 0x1a},
	rim:       color.NRGBA{0x4a, 0x56, 0x64, 0xff}, // pale colours would be lost on pale land
	outline:   color.NRGBA{0x1a, 0x20, 0x28, 0xff},
}

// opaque returns c without transparency, for text and small marks.
func opaque(c color.NRGBA) color.NRGBA {
	c.A = 255
	return c
}

// fade returns c at a share of its opacity.
func fade(c color.NRGBA, share float64) color.NRGBA {
	c.A = uint8(float64(c.A) * share)
	return c
}
