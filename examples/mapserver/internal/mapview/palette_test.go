package mapview

import (
	"fmt"
	"image/color"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/rules"
)

// eyes are how colours look: linear RGB to linear RGB, after Machado, Oliveira and
// Fernandes (2009), for whom a kind of cones is missing.
var eyes = map[string][9]float64{
	"all cones":    {1, 0, 0, 0, 1, 0, 0, 0, 1},
	"protanopia":   {0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998},
	"deuteranopia": {0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.011820, 0.042940, 0.968881},
	"tritanopia":   {1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.303900},
}

// lab is a colour as eyes see it, in CIE L*a*b* under D65.
func lab(c color.NRGBA, m [9]float64) [3]float64 {
	lin := func(v uint8) float64 {
		x := float64(v) / 255
		if x <= 0.04045 {
			return x / 12.92
		}
		return math.Pow((x+0.055)/1.055, 2.4)
	}
	r, g, b := lin(c.R), lin(c.G), lin(c.B)
	row := func(i int) float64 { return min(max(m[i]*r+m[i+1]*g+m[i+2]*b, 0), 1) }
	r, g, b = row(0), row(3), row(6)
	f := func(t float64) float64 {
		if t > 216.0/24389 {
			return math.Cbrt(t)
		}
		return (24389.0/27*t + 16) / 116
	}
	x, y, z := f((0.4124*r+0.3576*g+0.1805*b)/0.95047), f(0.2126*r+0.7152*g+0.0722*b), f((0.0193*r+0.1192*g+0.9505*b)/1.08883)
	return [3]float64{116*y - 16, 500 * (x - y), 200 * (y - z)}
}

// ciede2000 is the distance of two colours by ISO/CIE 11664-6.
func ciede2000(p, q [3]float64) float64 {
	const deg = math.Pi / 180
	pow7 := func(x float64) float64 { return math.Pow(x, 7) / (math.Pow(x, 7) + math.Pow(25, 7)) }
	g := 0.5 * (1 - math.Sqrt(pow7((math.Hypot(p[1], p[2])+math.Hypot(q[1], q[2]))/2)))
	polar := func(c [3]float64) (chroma, hue float64) {
		a := c[1] * (1 + g)
		return math.Hypot(a, c[2]), math.Mod(math.Atan2(c[2], a)/deg+360, 360)
	}
	c1, h1 := polar(p)
	c2, h2 := polar(q)
	dh, sum := h2-h1, h1+h2
	if c1*c2 == 0 {
		dh = 0
	} else {
		if math.Abs(dh) > 180 {
			dh -= math.Copysign(360, dh)
			sum += math.Copysign(360, 360-sum)
		}
		sum /= 2
	}
	l, c := (p[0]+q[0])/2, (c1+c2)/2
	t := 1 - 0.17*math.Cos((sum-30)*deg) + 0.24*math.Cos(2*sum*deg) + 0.32*math.Cos((3*sum+6)*deg) - 0.2*math.Cos((4*sum-63)*deg)
	dl := (q[0] - p[0]) / (1 + 0.015*(l-50)*(l-50)/math.Sqrt(20+(l-50)*(l-50)))
	dc := (c2 - c1) / (1 + 0.045*c)
	dH := 2 * math.Sqrt(c1*c2) * math.Sin(dh/2*deg) / (1 + 0.015*c*t)
	turn := -math.Sin(60*math.Exp(-math.Pow((sum-275)/25, 2))*deg) * 2 * math.Sqrt(pow7(c))
	return math.Sqrt(dl*dl + dc*dc + dH*dH + turn*dc*dH)
}

func TestCIEDE2000(t *testing.T) {
	// Pairs that Sharma, Wu and Dalal (2005) give with their distances.
	for _, tt := range []struct {
		p, q [3]float64
		want float64
	}{
		{[3]float64{50, 2.6772, -79.7751}, [3]float64{50, 0, -82.7485}, 2.0425},
		{[3]float64{50, -1, 2}, [3]float64{50, 0, 0}, 2.3669},
		{[3]float64{50, 2.49, -0.001}, [3]float64{50, -2.49, 0.0009}, 7.1792},
		{[3]float64{50, 2.5, 0}, [3]float64{73, 25, -18}, 27.1492},
		{[3]float64{22.7233, 20.0904, -46.694}, [3]float64{23.0331, 14.973, -42.5619}, 2.0373},
		{[3]float64{2.0776, 0.0795, -1.135}, [3]float64{0.9033, -0.0636, -0.5514}, 0.9082},
	} {
		assert.InDelta(t, tt.want, ciede2000(tt.p, tt.q), 1e-4)
	}
}

// cie76 is the older distance of two colours, that in CIE L*a*b*.
func cie76(p, q [3]float64) float64 {
	return math.Sqrt((p[0]-q[0])*(p[0]-q[0]) + (p[1]-q[1])*(p[1]-q[1]) + (p[2]-q[2])*(p[2]-q[2]))
}

// staysApart checks colours in the order of the legend: any two, and more so those that
// are next to each other or have one between them.
func staysApart(t *testing.T, names []string, colors []color.NRGBA) {
	t.Helper()
	for eye, m := range eyes {
		for i, c := range colors {
			for j, d := range colors[:i] {
				least, least76 := float64(minDistance), float64(minDistance76)
				if i-j <= 2 {
					least, least76 = minNear, minNear76
				}
				assert.GreaterOrEqual(t, ciede2000(lab(c, m), lab(d, m)), least, "%s: %s %s", eye, names[j], names[i])
				assert.GreaterOrEqual(t, cie76(lab(c, m), lab(d, m)), least76, "%s: %s %s", eye, names[j], names[i])
			}
		}
	}
}

// TestColoursStayApart for all kinds of eyes, and on both maps.
func TestColoursStayApart(t *testing.T) {
	var names []string
	for i, c := range distinctColors {
		names = append(names, fmt.Sprint(i))
		for eye, m := range eyes {
			assert.GreaterOrEqual(t, ciede2000(lab(c, m), lab(dark.palette.Land, m)), float64(minDistance), "%s on dark land: %v", eye, c)
		}
		assert.GreaterOrEqual(t, ui.Contrast(c, dark.palette.Land), 2.0)
	}
	staysApart(t, names, distinctColors[:])
	// On light land pale colours have an outline to be seen by.
	assert.GreaterOrEqual(t, ui.Contrast(light.Rim, light.palette.Land), 4.5)
	assert.GreaterOrEqual(t, ui.Contrast(light.Rim, light.palette.Sea), 4.5)
}

// homeRules have as many labels as connmapperl's, some of several rules.
const homeRules = `"Pages",peer,80,0.7,0.8,1,0.8,0,0
"Pages",peer,443,0.7,0.8,1,0.8,0,0
"My site",local,443,0.2,0.5,1,0.8,1,0
"Shell there",peer,22,0.6,0.2,0.8,0.8,0,0
"Shell here",local,22,0.7,0.2,0.6,0.8,0,0
"Chat",peer,6697,1,1,0.2,0.8,0,0
"Post",peer,993,0.1,0.9,0.2,0.8,0,0
"Post",local,25,0.3,0.6,0.3,0.8,0,0
"Names",peer,53,0.5,0.5,0.5,0.8,0,0
"Files",app,"/usr/bin/files",1,0.4,0.7,0.8,0,0
"Games",peer,27000-27100,0.5,0.5,0.1,0.8,0,0
"Backup",app,backup,0.9,0.5,0.2,0.8,0,0
"Music",peer,4070,0.2,0.9,0.9,0.8,0,0
`

// TestRulesStayApart: with the palette the rules of each label have one colour, and
// those of different labels colours that stay apart.
func TestRulesStayApart(t *testing.T) {
	files := map[string]string{"the default": rules.DefaultFile, "a home's": homeRules}
	if doc, err := os.ReadFile("../../../../../shared/seed/connmapperl.txt"); err != nil {
		t.Log("without the rules of connmapperl's documentation: ", err)
	} else {
		_, file, ok := strings.Cut(string(doc), "\nFormat\n\n")
		require.True(t, ok)
		file, _, ok = strings.Cut(file, "\nRule matching\n")
		require.True(t, ok)
		files["connmapperl's"] = file
	}
	for name, file := range files {
		t.Run(name, func(t *testing.T) {
			set, err := rules.Parse(strings.NewReader(file))
			require.NoError(t, err)
			st := state()
			st.Rules = set.Rules()
			v := View{Settings: Settings{Apart: true}}
			v.Update(noon, frame(""), st)
			var names []string
			var colors []color.NRGBA
			of := map[string]color.NRGBA{}
			for _, r := range v.st.Rules {
				if c, ok := of[r.Label]; ok {
					assert.Equal(t, c, r.Color, "one colour for %s", r.Label)
					continue
				}
				of[r.Label] = r.Color
				names, colors = append(names, r.Label), append(colors, r.Color)
			}
			assert.GreaterOrEqual(t, len(names), 12)
			assert.Equal(t, "Other", names[len(names)-1])
			staysApart(t, names, colors)
		})
	}
}

// TestPaletteIsASetting: v exchanges the colours of all labels, and is remembered.
func TestPaletteIsASetting(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0), conn(2, rio, 1))
	v.Update(noon, frame("v"), st)
	assert.True(t, v.Apart)
	d, ok := discAt(&v, paris)
	require.True(t, ok)
	assert.Equal(t, distinctColors[0], d.Color)
	d, _ = discAt(&v, rio)
	assert.Equal(t, distinctColors[1], d.Color)
	assert.Equal(t, distinctColors[1], v.colorOf("Mail"), "of what is stored too")
	assert.Equal(t, blue.Color, st.Rules[0].Color, "the state is not changed")
	rev := v.Scene().Rev
	v.Update(noon, frame(""), st)
	assert.Equal(t, rev, v.Scene().Rev, "and made once for each state")
	// Also while the map is paused, and back.
	v.Update(noon, frame(" "), st)
	v.Update(noon, frame("v"), st)
	d, _ = discAt(&v, paris)
	assert.Equal(t, blue.Color, d.Color)
	v.Update(noon, frame(" v"), st)
	d, _ = discAt(&v, paris)
	assert.Equal(t, distinctColors[0], d.Color)
	again := View{Settings: v.Settings}
	again.Update(noon, frame(""), st)
	d, _ = discAt(&again, paris)
	assert.Equal(t, distinctColors[0], d.Color)
}

// TestLightDiscsHaveAnOutline that can be seen whatever the rule's colour.
func TestLightDiscsHaveAnOutline(t *testing.T) {
	v := View{Settings: Settings{Light: true}}
	v.Update(noon, frame(""), state(conn(1, paris, 0)))
	x, y := v.Scene().View.Pixel(paris.Lat, paris.Lon)
	var discs []ui.Item
	for _, i := range v.Scene().Items {
		if i.Shape == ui.Disc && abs(float64(i.X)-x) < 1 && abs(float64(i.Y)-y) < 1 {
			discs = append(discs, i)
		}
	}
	require.Len(t, discs, 2)
	assert.Equal(t, light.Rim, discs[0].Color)
	assert.InDelta(t, 1, discs[0].R-discs[1].R, 1e-5)
}
