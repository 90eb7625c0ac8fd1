package mapview

import (
	"fmt"
	"image"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/geoip"
)

// TestUnknownPlaceAtAKnownOne: a place of the map may lie where unknown ones are shown.
func TestUnknownPlaceAtAKnownOne(t *testing.T) {
	for _, first := range []bool{true, false} {
		var v View
		v.Update(noon, frame(""), state())
		x, y := v.nowhere()
		lat, lon := v.world.Place(x, y)
		known := conn(1, geoip.Place{Lat: lat, Lon: lon, Precision: geoip.City}, 0)
		conns := []*live.Conn{known, conn(2, geoip.Place{}, 1)}
		if !first {
			conns[0], conns[1] = conns[1], conns[0]
		}
		v.Update(noon, frame(""), state(conns...))
		assert.Contains(t, texts(&v), "1 unknown place\n")
		assert.Len(t, v.stacks.list, 2)
	}
}

// TestAnswerByKeys: the table of the SQL panel has the keys after it was clicked.
func TestAnswerByKeys(t *testing.T) {
	v, q := asked(t)
	a := answered(q.Ask)
	for i := range 30 {
		a.Table.Columns = append(a.Table.Columns, live.Column{Name: fmt.Sprintf("column%d", i)})
		for r := range a.Table.Rows {
			a.Table.Rows[r] = append(a.Table.Rows[r], fmt.Sprintf("value %d %d", r, i))
		}
	}
	hand(v, a)
	assert.NotContains(t, texts(v), "column29\n")
	x, y := at(t, v, "b")
	v.Update(noon, click(x, y), v.st)
	assert.Equal(t, []Effect{Copy{"b"}}, v.Update(noon, press(Ctrl|'c'), v.st))
	before := v.sql().editor.text
	for range 40 {
		v.Update(noon, press(KeyRight), v.st)
	}
	assert.Contains(t, texts(v), "column29\n", "columns beyond the edge")
	v.Update(noon, press(KeyDown), v.st)
	e := v.Update(noon, press(KeyEnter), v.st)
	require.Len(t, e, 1)
	assert.Equal(t, "192.0.2.1", e[0].(Whois).Addr.String())
	assert.Equal(t, before, v.sql().editor.text)
	v.closePanel(v.desk.find("whois"))
	v.Update(noon, press('x'), v.st)
	assert.Equal(t, before+"x", v.sql().editor.text, "what is typed is typed")
}

// TestStoredRowsAreFiltered: and carry the rule that they were recorded with.
func TestStoredRowsAreFiltered(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0))
	v.Update(noon, frame(""), st)
	x, y := v.Scene().View.Pixel(rio.Lat, rio.Lon)
	in := mouse(x, y)
	in.Right = true
	ask := v.Update(noon, in, st)[0].(FindNearby).Ask
	a, b := live.Past{Conn: *conn(2, rio, 0), Label: "Mail"}, live.Past{Conn: *conn(3, rio, 0), Label: "Web"}
	b.Agent = "other"
	in = frame("")
	in.Answers = []Answer{Found{Ask: ask, Past: []live.Past{a, b}}}
	v.Update(noon, in, st)
	l := v.desk.find("nearby list").body.(*connList)
	assert.Equal(t, "Mail", l.rows.cell(0, colRule))
	assert.Equal(t, green.Color, l.rows.color(0))
	v.Update(noon, click(990, 480), st)
	v.Update(noon, frame("/host:other"), st)
	require.Equal(t, 1, l.rows.len())
	assert.Equal(t, "other", l.rows.cell(0, colHost))
}

// TestPanelStaysWhereItIsResized: also if the mouse goes far out.
func TestPanelStaysWhereItIsResized(t *testing.T) {
	var v View
	v.Update(noon, frame("i"), hosts(3))
	p := v.desk.find("hosts")
	left, top := p.box.x, p.box.y
	for range 3 {
		drag(&v, corner(p), image.Pt(1200, 900))
	}
	assert.Equal(t, left, p.box.x)
	assert.Equal(t, top, p.box.y)
}

// TestTypingGoesWhereOnePointed: a click into a panel ends the typing of the filter.
func TestTypingGoesWhereOnePointed(t *testing.T) {
	var v View
	v.Update(noon, frame("q"), state())
	x, y := at(t, &v, "SELECT")
	v.Update(noon, click(5, 250), v.st)
	v.Update(noon, frame("/a"), v.st)
	assert.Equal(t, []Effect{Paste{}}, v.Update(noon, press(Ctrl|'v'), v.st))
	v.Update(noon, click(x, y), v.st)
	v.Update(noon, frame("b"), v.st)
	assert.Equal(t, "a", v.filter.text)
	assert.Contains(t, v.sql().editor.text, "b")
	v.sql().editor.set("AB")
	v.Update(noon, press(Shift|KeyBackspace), v.st)
	assert.Equal(t, "A", v.sql().editor.text, "Shift is held for capitals")
}

// TestFilteredIsNotGone: what is hidden still counts for the extents of the legend.
func TestFilteredIsNotGone(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0), conn(2, paris, 0))
	v.Update(noon, frame(""), st)
	v.Update(noon, frame("/nothing"), st)
	assert.NotContains(t, texts(&v), "no connections to the Internet")
	again := *st
	v.Update(noon.Add(time.Second), frame(""), &again)
	assert.Equal(t, [2]int{2, 2}, v.legend.extents["Web"])
}
