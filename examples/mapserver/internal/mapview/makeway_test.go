package mapview

import (
	"fmt"
	"image"
	"image/color"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/history"
)

// plotted has places plotted by the button of an open SQL panel.
func plotted(t *testing.T, size image.Point, places ...geoip.Place) (v *View, in Input, st *live.State) {
	t.Helper()
	v, st = &View{FirstQuery: firstQuery}, state()
	in = press('q', ui.Ctrl|ui.KeyEnter)
	in.Size = size
	e := v.Update(noon, in, st)
	q := e[len(e)-1].(RunQuery)
	a := Answered{Ask: q.Ask, Table: history.Table{Columns: []history.Column{{Name: "ip"}}}}
	for _, p := range places {
		a.Table.Rows, a.Labels = append(a.Table.Rows, []any{"192.0.2.1"}), append(a.Labels, "Web")
		a.Places = append(a.Places, [2]float64{p.Lat, p.Lon})
	}
	in.Keys, in.Answers = nil, []Answer{a}
	v.Update(noon, in, st)
	in.Answers = nil
	push := func(label string) {
		x, y := at(t, v, label)
		p := in
		p.Cursor, p.Inside, p.Press, p.Held = image.Pt(int(x), int(y)), true, true, true
		v.Update(noon, p, st)
	}
	if !strings.Contains(texts(v), "Plot on map\n") {
		push(ui.MoreButtons)
	}
	push("Plot on map")
	return v, in, st
}

// TestPlotsShowBesideSQL: the panel covers none of them, and comes back.
func TestPlotsShowBesideSQL(t *testing.T) {
	world := []geoip.Place{paris, rio, {Lat: 37, Lon: -97}, {Lat: -33, Lon: 151}, {Lat: 35, Lon: 139}, {Lat: 1, Lon: 103}, {Lat: 64, Lon: 26}, {Lat: -1, Lon: 36}}
	for _, tt := range []struct {
		size   image.Point
		places []geoip.Place
		small  bool
	}{
		{image.Pt(1000, 500), world, true},
		{image.Pt(640, 360), world, true},
		{image.Pt(400, 240), []geoip.Place{paris}, true},
		{image.Pt(1920, 1080), []geoip.Place{paris}, false},
		{image.Pt(1920, 1080), world, true},
	} {
		t.Run(fmt.Sprint(tt.size, len(tt.places)), func(t *testing.T) {
			v, in, st := plotted(t, tt.size, tt.places...)
			p := v.panels.Find("sql")
			require.NotNil(t, p.Aside)
			before := p.Aside.Box
			assert.Equal(t, tt.small, p.Aside.Strip)
			n := 0
			for _, i := range v.Scene().Items {
				if i.Shape == ui.Triangle && i.W == 0 {
					n++
					assert.False(t, p.Box.Contains(float64(i.X), float64(i.Y)))
				}
			}
			assert.Equal(t, len(tt.places), n)
			assert.False(t, p.Box.Overlaps(v.bar.box), "%v %v", p.Box, v.bar.box)
			// It comes back by itself when they go.
			v.Update(noon.Add(plotTime), in, st)
			assert.Nil(t, p.Aside)
			assert.Equal(t, before, p.Box)
			at(t, v, "Plot on map")
		})
	}
	// Or when one asks for it, while they stay.
	v, in, st := plotted(t, image.Pt(1000, 500), world...)
	in.Keys = []ui.Key{'h', 'x', ui.KeyEscape}
	assert.Equal(t, []Effect{ShowHistory{On: true}}, v.Update(noon, in, st), "keys are the map's")
	at(t, v, "Clear")
	assert.NotEmpty(t, v.plots.list)
	assert.Nil(t, v.panels.Find("sql").Aside)
	v, in, st = plotted(t, image.Pt(1000, 500), world...)
	x, y := at(t, v, "Back to the answer")
	v.Update(noon, click(x, y), st)
	v.Update(noon, in, st)
	assert.Nil(t, v.panels.Find("sql").Aside)
	at(t, v, "Plot on map")
	// A panel that fills the window does so again.
	p := v.panels.Find("sql")
	p.Fill()
	in.Keys = nil
	v.Update(noon, in, st)
	x, y = at(t, v, "Plot on map")
	v.Update(noon, click(x, y), st)
	assert.False(t, p.Full)
	in.Keys = []ui.Key{ui.KeyEnter}
	v.Update(noon, in, st)
	assert.True(t, p.Full)
	// One that covers nothing stays.
	v, _, _ = plotted(t, image.Pt(1920, 1080), geoip.Place{Lat: -30, Lon: -120})
	assert.Nil(t, v.panels.Find("sql").Aside)
}

// TestLargeStacksCycle: ten and more go through their colours as well, with the count in them.
func TestLargeStacksCycle(t *testing.T) {
	var v View
	var conns []*live.Conn
	for i := range 12 {
		conns = append(conns, conn(uint64(i+1), paris, i%2))
	}
	st := state(conns...)
	v.Update(noon, frame(""), st)
	assert.True(t, v.Next().IsZero())
	for _, in := range []Input{frame("f"), frame("")} {
		seen := map[color.NRGBA]bool{}
		if in.Keys == nil { // f is off again, the mouse is near
			v.Update(noon, frame("f"), st)
			x, y := v.Scene().View.Pixel(paris.Lat, paris.Lon)
			in = mouse(x+20, y)
		}
		for n := range 4 {
			v.Update(noon.Add(time.Duration(n)*cycleTime), in, st)
			in.Keys = nil
			d, ok := discAt(&v, paris)
			require.True(t, ok)
			seen[d.Color] = true
			assert.Contains(t, texts(&v), "12\n")
			assert.False(t, v.Next().IsZero())
		}
		assert.Equal(t, map[color.NRGBA]bool{blue.Color: true, green.Color: true}, seen)
	}
}
