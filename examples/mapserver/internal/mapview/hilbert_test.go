package mapview

import (
	"fmt"
	"image"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

func TestHilbert(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0), conn(2, rio, 1))
	st.Conns[1].Peer = endpoint("8.8.8.8:53")
	v6 := conn(3, paris, 0)
	v6.Peer = endpoint("[2001:db8::1]:443")
	st.Conns = append(st.Conns, v6)
	assert.Empty(t, v.Update(noon, frame("z"), st))
	assert.Contains(t, texts(&v), "IPv4 on a Hilbert curve\n")
	assert.Contains(t, texts(&v), "255\n")
	p := v.panels.Find("hilbert")
	dots := func() (list []ui.Item) {
		for _, i := range v.Scene().Items {
			if i.Shape == ui.Disc && i.R == 3 && p.Box.Contains(float64(i.X), float64(i.Y)) {
				list = append(list, i)
			}
		}
		return list
	}
	require.Len(t, dots(), 2)
	// The mouse names the connection, a click pins it.
	d := dots()[1]
	v.Update(noon, mouse(float64(d.X), float64(d.Y)), st)
	assert.Contains(t, texts(&v), "8.8.8.8:53 · prog2 on nas · "+blocks[8]+"\nAS64500 Example Networks\n")
	e := v.Update(noon, click(float64(d.X), float64(d.Y)), st)
	require.NotEmpty(t, e)
	assert.NotNil(t, v.panels.Find("details"))
	v.panels.Close(v.panels.Find("details"))
	v.panels.Focus = p
	// Elsewhere it names the block, and asks for its network once.
	v.Update(noon, frame(""), st)
	x, y := at(t, &v, "255")
	e = v.Update(noon, mouse(x+4, y+6), st)
	require.Len(t, e, 1)
	asked := e[0].(LookUp)
	assert.Equal(t, byte(255), asked.Addr.As4()[0])
	assert.Empty(t, v.Update(noon, mouse(x+4, y+6), st))
	in := mouse(x+4, y+6)
	in.Answers = []Answer{Named{Ask: asked.Ask, Text: "AS1 Somebody"}, Named{Ask: asked.Ask + 1, Text: "wrong"}}
	v.Update(noon, in, st)
	assert.Contains(t, texts(&v), "Future use\nAS1 Somebody\n")
	// A right click lists what is near and asks for the block's history.
	in = mouse(float64(d.X)+5, float64(d.Y))
	in.Right = true
	e = v.Update(noon, in, st)
	var found bool
	for _, e := range e {
		if f, ok := e.(FindWithin); ok {
			found = true
			assert.Equal(t, "8.0.0.0/8", f.Prefix.String())
		}
	}
	assert.True(t, found)
	assert.Contains(t, texts(&v), "Block 8.0.0.0/8 · 1 live · looking")
	v.panels.Close(v.panels.Find("nearby list"))
	v.panels.Focus = p
	// The wheel zooms to a /24 and deeper, to the address under the mouse.
	aim := func() (x, y float64) {
		d := dots()[len(dots())-1]
		return float64(d.X), float64(d.Y)
	}
	for range 40 {
		x, y := aim()
		v.Update(noon, wheel(x, y, 1), st)
	}
	assert.EqualValues(t, maxCurveZoom, v.curve.zoom)
	require.Len(t, dots(), 1)
	x, y = aim()
	assert.InDelta(t, d.X, x, 6)
	assert.InDelta(t, d.Y, y, 6)
	assert.Contains(t, texts(&v), "8.8.8\n")
	in = mouse(x+2, y)
	in.Right = true
	for _, e := range v.Update(noon, in, st) {
		if f, ok := e.(FindWithin); ok {
			assert.Equal(t, "8.8.8.0/24", f.Prefix.String())
		}
	}
	v.panels.Close(v.panels.Find("nearby list"))
	v.panels.Focus = p
	// A drag and arrows move it, and not out of the square.
	before := v.curve.x
	drag(&v, image.Pt(int(x)+60, int(y)+60), image.Pt(int(x)+20, int(y)+60))
	assert.Greater(t, v.curve.x, before)
	require.Same(t, p, v.panels.Focus)
	for range 1000 {
		v.Update(noon, press(ui.KeyLeft, ui.KeyUp), st)
	}
	assert.Zero(t, v.curve.x)
	assert.Zero(t, v.curve.y)
	v.Update(noon, press('0'), st)
	assert.EqualValues(t, 1, v.curve.zoom)
	v.Update(noon, press('+'), st)
	assert.EqualValues(t, 2, v.curve.zoom)
	v.Update(noon, press('-'), st)
	assert.EqualValues(t, 1, v.curve.zoom)
}

func TestHilbertHistory(t *testing.T) {
	var v View
	st := state()
	v.Update(noon, frame("z"), st)
	ground := v.curve.img
	assert.Equal(t, []Effect{ShowHistory{On: true}, ShowAddrs{On: true}}, v.Update(noon, frame("h"), st))
	more := *st
	more.Addrs = []uint32{0x08080808, 0xffffffff}
	v.Update(noon, frame(""), &more)
	require.NotSame(t, ground, v.curve.img, "what is drawn is not changed")
	side := v.curve.img.Rect.Dx()
	corner := v.curve.img.RGBAAt(side-1, 0)
	assert.NotEqual(t, ground.RGBAAt(side-1, 0), corner, "255.255.255.255")
	again := v.curve.img
	v.Update(noon, frame(""), &more)
	assert.Same(t, again, v.curve.img, "painted once")
	assert.Equal(t, []Effect{ShowAddrs{}}, v.Update(noon, frame("z"), &more), "closed")
	assert.Nil(t, v.curve.img, "it holds no picture")
	assert.Equal(t, []Effect{ShowAddrs{On: true}}, v.Update(noon, frame("z"), &more))
	assert.Equal(t, []Effect{ShowHistory{}, ShowAddrs{}}, v.Update(noon, frame("h"), &more))
}

func TestBlocks(t *testing.T) {
	require.Len(t, blocks, 256)
	assert.Equal(t, []string{"Local Identification", "APNIC", "Private Use", "Loopback", "Multicast", "Future use"},
		[]string{blocks[0], blocks[1], blocks[10], blocks[127], blocks[224], blocks[255]})
	hues := octetColors(false)
	seen := map[string]bool{}
	for _, c := range hues {
		seen[fmt.Sprint(c)] = true
	}
	assert.Greater(t, len(seen), 200, "through the whole hue range")
}
