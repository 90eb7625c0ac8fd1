package mapview

import "math"

// drawMarks draws the stored history: a faint disc per place, its radius by
// the logarithm of the count.
func (v *View) drawMarks() {
	if !v.History {
		return
	}
	for _, m := range v.st.Marks {
		x, y := v.world.Pixel(m.Lat, m.Lon)
		if v.size.Grow(20).Contains(x, y) {
			v.canvas.Disc(x, y, 6+1.8*math.Log1p(float64(m.Count)), v.theme.mark)
		}
	}
}

// drawHome draws the ring that marks where this machine is.
func (v *View) drawHome() {
	if x, y, ok := v.home(); ok {
		v.canvas.Disc(x, y, 6.5, v.theme.palette.Sea)
		v.canvas.Ring(x, y, 4.5, 2, v.theme.Text)
	}
}

func (v *View) home() (x, y float64, ok bool) {
	if v.st.Home.Precision == 0 {
		return 0, 0, false
	}
	x, y = v.world.Pixel(v.st.Home.Lat, v.st.Home.Lon)
	return x, y, true
}
