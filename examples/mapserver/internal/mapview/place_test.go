package mapview

import (
	"image/color"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/examples/mapserver/internal/worldmap"
	"github.com/connmapgo/connmap/geoip"
)

// stored makes a connection one of the history.
func stored(c *live.Conn, label string, seen time.Time) live.Past {
	p := live.Past{Conn: *c, Label: label, Count: 1, Seen: seen}
	p.ID = 0
	return p
}

// TestClickOnAPlaceListsIt: by program, the newest first, live ones before those of the
// history, each marked; what lives is not listed once more as past.
func TestClickOnAPlaceListsIt(t *testing.T) {
	var v View
	named := func(id uint64, name string, minute int) *live.Conn {
		c := conn(id, paris, 0)
		c.Process.Comm, c.Opened = name, live.StampOf(noon.Add(time.Duration(minute)*time.Minute))
		c.Local = live.EndpointOf(netip.AddrPortFrom(c.Local.Addr(), 40000+uint16(id)))
		return c
	}
	a, b, c, d := named(1, "firefox", 1), named(2, "sshd", 2), named(3, "apt", 3), named(4, "firefox", 4)
	st := state(a, b, c, d, conn(9, rio, 1))
	v.Update(noon, frame(""), st)
	x, y := v.Scene().View.Pixel(paris.Lat, paris.Lon)
	e := v.Update(noon, click(x, y), st)
	require.Len(t, e, 1)
	f := e[0].(FindNearby)
	assert.Equal(t, [2]float64{paris.Lat, paris.Lon}, [2]float64{f.Lat, f.Lon})
	assert.Less(t, f.Km, worldmap.Km(f.Lat, 1), "this place, not those near")
	assert.Contains(t, texts(&v), "Paris, France · 4 live · looking into the history\n")
	old, older := named(5, "wget", -60), named(6, "curl", -90)
	hand(&v, Found{Ask: f.Ask, Past: []live.Past{stored(a, "Web", noon), stored(older, "Web", noon.Add(-90*time.Minute)), stored(old, "Web", noon.Add(-time.Hour))}})
	l := v.panels.Find("place list").Body.(*connList)
	var got []string
	for row := range l.rows.Len() {
		got = append(got, strings.Join([]string{l.rows.Cell(row, colMark), l.rows.Cell(row, colProgram), l.rows.Cell(row, colLocalPort), l.rows.Cell(row, colOpened), l.rows.Cell(row, colSeen)}, " "))
	}
	assert.Equal(t, []string{"● firefox 40004 12:04:00 live", "● firefox 40001 12:01:00 live", "● apt 40003 12:03:00 live", "● sshd 40002 12:02:00 live",
		"○ wget 40005 11:00:00 11:00:00", "○ curl 40006 10:30:00 10:30:00"}, got)
	assert.Contains(t, texts(&v), "opened, UTC\n")
	colors := map[string]color.NRGBA{}
	for _, i := range v.Scene().Items {
		if i.Shape == ui.Text {
			colors[i.Text] = i.Color
		}
	}
	assert.Equal(t, dark.Text, colors["sshd"])
	assert.Equal(t, dark.Dim, colors["wget"])
	// Details go through the list as it is sorted.
	v.Update(noon, press(ui.KeyDown, ui.KeyDown, ui.KeyDown), st)
	bx, by := at(t, &v, "Details")
	v.Update(noon, click(bx, by), st)
	assert.Contains(t, texts(&v), "203.0.113.3:443 · 3 of 6\n")
	// A connection that opens there later is listed too.
	v.Update(noon, frame(""), state(a, b, c, d, named(7, "new", 9)))
	assert.Len(t, l.live, 5)
}

func TestClickOnASingleOneOpensItsDetails(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0), conn(2, rio, 0))
	v.Update(noon, frame(""), st)
	x, y := v.Scene().View.Pixel(rio.Lat, rio.Lon)
	v.Update(noon, click(x, y), st)
	require.NotNil(t, v.panels.Find("details"))
	assert.Contains(t, texts(&v), "203.0.113.2:443\n")
	assert.Nil(t, v.panels.Find("place list"))
}

// TestClickOnUnknownPlaces lists them: they are no place that the history knows.
func TestClickOnUnknownPlaces(t *testing.T) {
	var v View
	st := state(conn(1, geoip.Place{}, 0), conn(2, geoip.Place{}, 0), conn(3, paris, 0))
	v.Update(noon, frame(""), st)
	x, y := v.unknownSpot()
	assert.Empty(t, v.Update(noon, click(x, y), st))
	assert.Contains(t, texts(&v), "Place unknown · 2 live\n")
}

// TestStackOfSeveralPlacesListsAll that are under the disc.
func TestStackOfSeveralPlacesListsAll(t *testing.T) {
	var v View
	near := paris
	near.Lon, near.City = near.Lon+1, "Suburb"
	st := state(conn(1, paris, 0), conn(2, paris, 0), conn(3, near, 1))
	v.Update(noon, frame(""), st)
	require.Len(t, v.stacks.list, 1)
	x, y := v.Scene().View.Pixel(paris.Lat, paris.Lon)
	v.Update(noon, click(x, y), st)
	assert.Contains(t, texts(&v), "Several places · 3 live")
}

// TestBlockCountsLiveAndStoredAlike: what a right click on the curve lists is of one block,
// live and stored, and hides and filters both by the same rule.
func TestBlockCountsLiveAndStoredAlike(t *testing.T) {
	var v View
	to := func(id uint64, addr string) *live.Conn {
		c := conn(id, paris, 0)
		c.Peer = endpoint(addr)
		return c
	}
	// On the curve 9.255.255.255 is far from 9.0.0.1, and 8.255.255.255 next to it.
	st := state(to(1, "9.0.0.1:443"), to(2, "9.255.255.255:443"), to(3, "8.255.255.255:443"))
	v.Update(noon, frame("z"), st)
	p := v.panels.Find("hilbert").Body.(*curvePanel)
	p.openNearby(&v, curve.Point(9<<24|1), p.scale(400))
	e := v.Update(noon, frame(""), st)
	f := e[len(e)-1].(FindWithin)
	require.Equal(t, "9.0.0.0/8", f.Prefix.String())
	hand(&v, Found{Ask: f.Ask, Past: []live.Past{stored(to(0, "9.0.0.2:443"), "Web", noon), stored(to(0, "9.0.0.3:80"), "Web", noon)}})
	assert.Contains(t, texts(&v), "Block 9.0.0.0/8 · 2 live · 2 of the history\n")
	v.filter.text, v.filter.terms = "port:443", parseFilter("port:443")
	v.Update(noon, frame(""), st)
	assert.Contains(t, texts(&v), "Block 9.0.0.0/8 · 2 live · 1 of the history\n")
	// Peers in the local network are hidden in both until m.
	st.Conns[0].Scope = live.LAN
	again := *st
	lan := stored(to(0, "9.0.0.2:443"), "Web", noon)
	lan.Scope = live.LAN
	l := v.panels.Find("nearby list").Body.(*connList)
	l.found.Past = []live.Past{lan}
	v.panels.Focus = nil
	v.Update(noon, frame(""), &again)
	assert.Contains(t, texts(&v), "Block 9.0.0.0/8 · 1 live · 0 of the history\n")
	v.Update(noon, frame("m"), &again)
	assert.Contains(t, texts(&v), "Block 9.0.0.0/8 · 2 live · 1 of the history\n")
}
