package mapview

import (
	"image/color"
	"slices"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
)

// distinctColors are colours that stay apart also for those who lack a kind of cones: as seen by
// all, and with protanopia, deuteranopia and tritanopia. They go to labels in the order of
// the legend, where those that are near each other are farthest. They are what a search
// among colours with 16 steps of red, green and blue found best.
var distinctColors = [...]color.NRGBA{
	{0x99, 0x77, 0x00, 0xff}, {0xff, 0xcc, 0xff, 0xff}, {0x00, 0xee, 0x99, 0xff}, {0xaa, 0x44, 0xff, 0xff}, {0x00, 0x77, 0x66, 0xff},
	{0xdd, 0xff, 0xee, 0xff}, {0xdd, 0xaa, 0x22, 0xff}, {0x66, 0x44, 0x99, 0xff}, {0x33, 0xaa, 0xaa, 0xff}, {0x88, 0x44, 0x22, 0xff},
	{0xff, 0xff, 0x33, 0xff}, {0xff, 0x33, 0x88, 0xff}, {0xbb, 0x99, 0xff, 0xff},
}

// The minimum distances of two of them, by CIEDE2000 and in CIE L*a*b*, whoever sees them.
const (
	minDistance, minDistance76 = 15, 20
	minNear, minNear76         = 19, 30 // with at most one between them in the legend
)

// recolored is a state in other colours.
type recolored struct{ from, shown *live.State }

// colored returns a state with the colours of the rules, or with distinctColors: each
// label has one, in the order of the rules.
func (v *View) colored(st *live.State) *live.State {
	if !v.Apart {
		v.states.recolored = recolored{}
		return st
	}
	if v.states.recolored.from == st {
		return v.states.recolored.shown
	}
	s := *st
	s.Rules = slices.Clone(st.Rules)
	colors := map[string]color.NRGBA{}
	for i, r := range s.Rules {
		c, ok := colors[r.Label]
		if !ok {
			c = distinctColors[len(colors)%len(distinctColors)]
			colors[r.Label] = c
		}
		s.Rules[i].Color = c
	}
	v.states.recolored = recolored{st, &s}
	return &s
}
