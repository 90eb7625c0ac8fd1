package mapview

import (
	"image/color"
	"slices"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
)

// apart are colours that stay apart also for those who lack a kind of cones: the
// distance CIEDE2000 of any two is at least apartLeast as seen by all, and as seen with
// protanopia, deuteranopia and tritanopia. Those that are first are farthest.
var apart = [...]color.NRGBA{
	{0xff, 0x77, 0x00, 0xff}, {0xaa, 0xbb, 0xff, 0xff}, {0x55, 0x66, 0x77, 0xff}, {0x99, 0x00, 0xee, 0xff}, {0xff, 0xee, 0x88, 0xff},
	{0x99, 0x55, 0x55, 0xff}, {0xdd, 0x00, 0x00, 0xff}, {0xdd, 0xee, 0xcc, 0xff}, {0xaa, 0xff, 0xff, 0xff}, {0xbb, 0xaa, 0xbb, 0xff},
	{0x11, 0x99, 0x88, 0xff}, {0xbb, 0x66, 0xff, 0xff}, {0x99, 0xaa, 0x77, 0xff},
}

const apartLeast = 14

// recolored is a state in other colours.
type recolored struct{ from, shown *live.State }

// colored returns a state with the colours of the rules, or with those of apart: each
// label has one, in the order of the rules.
func (v *View) colored(st *live.State) *live.State {
	if !v.Apart {
		v.recolored = recolored{}
		return st
	}
	if v.recolored.from == st {
		return v.recolored.shown
	}
	s := *st
	s.Rules = slices.Clone(st.Rules)
	colors := map[string]color.NRGBA{}
	for i, r := range s.Rules {
		c, ok := colors[r.Label]
		if !ok {
			c = apart[len(colors)%len(apart)]
			colors[r.Label] = c
		}
		s.Rules[i].Color = c
	}
	v.recolored = recolored{st, &s}
	return &s
}
