package mapview

import (
	"fmt"
	"image"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/geoip"
)

// TestOverlaysKeepOff the legend, the bar and open panels, whatever is said, wherever the
// mouse is and whatever is open.
func TestOverlaysKeepOff(t *testing.T) {
	var conns []*live.Conn
	for i := range 40 {
		p := geoip.Place{Lat: float64(i%8)*20 - 70, Lon: float64(i/8)*70 - 150, Precision: geoip.City}
		conns = append(conns, conn(uint64(2*i), p, i%3), conn(uint64(2*i+1), p, (i+1)%3))
	}
	st := state(conns...)
	st.Agents[0].Limited = reasons
	shown := 0
	for _, size := range []image.Point{{320, 160}, {400, 240}, {640, 400}, {800, 450}, {1000, 500}, {1920, 1080}} {
		for _, keys := range [][]ui.Key{nil, {'?'}, {'q'}, {'p', 'i'}, {'z'}, {ui.KeyEnter}, {'g'}, {'/', 'p', ui.KeyEnter}} {
			for _, said := range []string{"", "copied", strings.Repeat("a file with a long name ", 12)} {
				t.Run(fmt.Sprint(size, keys, len(said)), func(t *testing.T) {
					var v View
					in := press(keys...)
					in.Size = size
					v.Update(noon, in, st)
					points := []image.Point{{size.X / 3, size.Y / 3}, {20, size.Y - 40}, {60, size.Y - 40}, {size.X - 60, 20}}
					for _, c := range conns {
						x, y := v.Scene().View.Pixel(c.Place.Lat, c.Place.Lon)
						points = append(points, image.Pt(int(x), int(y)))
					}
					for _, p := range points {
						in := frame("")
						in.Size, in.Inside, in.Cursor = size, true, p
						if v.say(said); said == "" {
							v.toast.text = ""
						}
						v.Update(noon, in, st)
						for _, p := range v.panels.List {
							require.False(t, v.toast.box.Overlaps(p.Box), "a message over a panel")
						}
						for i, b := range v.room.overlays {
							shown++
							assert.Equal(t, b, b.Clamp(v.size), "in the window")
							for _, o := range append([]ui.Box{v.bar.box, v.legend.box}, v.room.overlays[:i]...) {
								require.False(t, b.Overlaps(o), "%v over %v, mouse at %v", b, o, p)
							}
						}
					}
				})
			}
		}
	}
	assert.Greater(t, shown, 5000)
}

// TestMessagesAreSeen: whole if there is room, and with a panel as large as the window in
// place of its title, between its buttons.
func TestMessagesAreSeen(t *testing.T) {
	const long = "the history has been written to /home/somebody/.local/share/connmap/exports/connmap-20260301-120000.csv, 12,345 rows"
	for _, size := range []image.Point{{640, 400}, {800, 450}, {1000, 500}} {
		var v View
		st := state(conn(1, paris, 0))
		in := frame("")
		in.Size = size
		v.Update(noon, in, st)
		v.say(long)
		v.Update(noon, in, st)
		assert.Contains(t, strings.ReplaceAll(texts(&v), "\n", " "), long, "%v", size)
		v.open(&helpPanel{})
		v.panels.Find(helpName).Fill()
		v.say("copied")
		v.Update(noon, in, st)
		x, y := at(t, &v, "copied")
		assert.Less(t, y, float64(ui.TitleHeight))
		assert.Less(t, x, v.panels.List[0].CloseBox().X)
		v.Update(noon.Add(toastTime), in, st)
		assert.NotContains(t, texts(&v), "copied")
	}
}

// TestHelpIsWhole at any size: what does not fit is reached by the wheel, or by the bar
// at its side.
func TestHelpIsWhole(t *testing.T) {
	for _, size := range []image.Point{{640, 400}, {800, 450}, {1000, 500}, {1920, 1080}} {
		for _, how := range []string{"wheel", "bar", "page"} {
			var v View
			st := state(conn(1, paris, 0))
			in := frame("?")
			in.Size = size
			v.Update(noon, in, st)
			in.Keys = nil
			shown := texts(&v)
			p := v.panels.Find(helpName)
			assert.Equal(t, p.Box, p.Box.Clamp(v.size))
			in.Inside, in.Cursor = true, image.Pt(int(p.Box.X+p.Box.W-ui.PanelAir-3), int(p.Box.Y+ui.TitleHeight+3))
			if how == "bar" {
				in.Press, in.Held = true, true
			}
			for range 40 {
				switch how {
				case "wheel":
					in.Wheel = -1
				case "bar":
					in.Cursor.Y += int(p.Box.H / 30)
				case "page":
					in.Keys = []ui.Key{ui.KeyPageDown}
				}
				v.Update(noon, in, st)
				in.Press = false
				shown += texts(&v)
			}
			shown = strings.ReplaceAll(shown, "\n", " ")
			for _, b := range Bindings {
				for _, word := range strings.Fields(b.What) {
					assert.Contains(t, shown, word, "%v %s", size, b.What)
				}
			}
			assert.NotContains(t, texts(&v), "…", "%v", size)
			if size.X >= 1000 {
				assert.Zero(t, p.Body.(*helpPanel).scroller.Top, "it fits")
			}
		}
	}
}
