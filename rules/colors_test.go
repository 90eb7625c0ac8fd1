package rules

import (
	"image/color"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestColors: what a component means is seen by its line or, where that may be
// either, by the whole file.
func TestColors(t *testing.T) {
	const one = "0,1,0,1"
	tests := []struct {
		name  string
		lines []string
		want  []color.NRGBA
	}{
		{"from 0 to 255", []string{"0,128,255,254"}, []color.NRGBA{{0, 128, 255, 254}}},
		{"from 0 to 1", []string{"0.2,0.5,1,0.8"}, []color.NRGBA{{51, 128, 255, 204}}},
		{"point first and last", []string{".2,1.,0.0,1.0"}, []color.NRGBA{{51, 255, 0, 255}}},
		{"rounded", []string{"0.1,0.68,0.85,0.3"}, []color.NRGBA{{26, 173, 217, 77}}},
		{"long", []string{"0.50000000000000000000000000000000,1,1,1"}, []color.NRGBA{{128, 255, 255, 255}}},
		{"none above 1", []string{one, "1,1,1,1"}, []color.NRGBA{{0, 255, 0, 255}, {255, 255, 255, 255}}},
		{"another line from 0 to 1", []string{one, "0.5,1,1,1"}, []color.NRGBA{{0, 255, 0, 255}, {128, 255, 255, 255}}},
		{"another line from 0 to 255", []string{one, "2,1,1,1"}, []color.NRGBA{{0, 1, 0, 1}, {2, 1, 1, 1}}},
		{"lines of both", []string{one, "2,1,1,1", "0.5,1,1,1"}, []color.NRGBA{{0, 255, 0, 255}, {2, 1, 1, 1}, {128, 255, 255, 255}}},
		{"signs and exponents", []string{"1e-1,+.5,5E-1,-0", "1e0,0,0,1"}, []color.NRGBA{{26, 128, 128, 0}, {255, 0, 0, 255}}},
		{"large exponent", []string{"1e2,+20,0,2.55e2"}, []color.NRGBA{{100, 20, 0, 255}}},
		{"whole with a point", []string{"255.0,1.0,0.0,2."}, []color.NRGBA{{255, 1, 0, 2}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := ""
			for _, c := range tt.lines {
				text += "a,local,1," + c + ",0,0\n"
			}
			var got []color.NRGBA
			for _, r := range parse(t, text).Rules()[:len(tt.lines)] {
				got = append(got, r.Color)
			}
			assert.Equal(t, tt.want, got)
		})
	}
	// Bad lines have no say.
	s, err := Parse(strings.NewReader("a,local,1," + one + ",0,0\na,local,0,2,2,2,2,0,0\n"))
	assert.Error(t, err)
	assert.Equal(t, color.NRGBA{0, 255, 0, 255}, s.Rules()[0].Color)
	s, err = Parse(strings.NewReader("a,local,1," + one + ",0,0\na,local,2,2,2,2,2,0,0\na,local,0,0.5,1,1,1,0,0\n"))
	assert.Error(t, err)
	assert.Equal(t, color.NRGBA{0, 1, 0, 1}, s.Rules()[0].Color)
}

// TestDefaultColors proves that labels can be told apart, from Other too, and seen on the
// map's dark and light grounds.
func TestDefaultColors(t *testing.T) {
	colors := map[string]color.NRGBA{}
	for _, r := range Default().Rules() {
		if c, ok := colors[r.Label]; ok {
			assert.Equal(t, c, r.Color, "%s has two colours", r.Label)
		}
		colors[r.Label] = r.Color
	}
	grounds := []color.NRGBA{{0x0d, 0x10, 0x15, 255}, {0x1c, 0x22, 0x2a, 255}, {0xdf, 0xe6, 0xee, 255}, {0xf7, 0xf8, 0xfa, 255}}
	for label, c := range colors {
		for _, g := range grounds {
			assert.Greater(t, distance(c, g), 25.0, "%s on %v", label, g)
		}
		for other, d := range colors {
			if label != other {
				assert.Greater(t, distance(c, d), 25.0, "%s and %s", label, other)
			}
		}
	}
}

// distance is the CIE 1976 colour difference, of which 2.3 is just noticeable.
func distance(a, b color.NRGBA) float64 {
	la, lb := lab(a), lab(b)
	return math.Hypot(math.Hypot(la[0]-lb[0], la[1]-lb[1]), la[2]-lb[2])
}

func lab(c color.NRGBA) [3]float64 {
	linear := func(v uint8) float64 { return math.Pow(float64(v)/255, 2.2) }
	r, g, b := linear(c.R), linear(c.G), linear(c.B)
	f := func(t float64) float64 {
		if t > 0.008856 {
			return math.Cbrt(t)
		}
		return 7.787*t + 16.0/116
	}
	x := f((0.4124*r + 0.3576*g + 0.1805*b) / 0.9505)
	y := f(0.2126*r + 0.7152*g + 0.0722*b)
	z := f((0.0193*r + 0.1192*g + 0.9505*b) / 1.089)
	return [3]float64{116*y - 16, 500 * (x - y), 200 * (y - z)}
}
