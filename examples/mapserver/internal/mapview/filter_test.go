package mapview

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/history"
)

func TestFilter(t *testing.T) {
	a, b := conn(1, paris, 0), conn(2, rio, 1)
	b.Agent, b.Org, b.ASN, b.Proto, b.Direction = "web1", "Hetzner Online", 64501, conntrack.UDP, conntrack.In
	b.Process.Exe, b.Process.Container = "/usr/bin/nginx", "c0ffee"
	a.Name, b.Name = "www.example.com", "example.com"
	for text, want := range map[string]string{
		"": "12", "port:443": "12", "port:40000": "12", "port:44": "", "ip:203.0.113.2": "2", "ip:203": "12",
		"agent:NAS": "1", "agent:web": "2", "host:web": "2", "app:nginx": "2", "app:prog1": "1", "org:hetzner": "2", "as:64501": "2", "as:AS64501": "2", "as:64": "",
		"country:FR": "1", "country:fr": "1", "country:brazil": "2", "country:b": "", "city:par": "1", "rule:mail": "2", "proto:udp": "2", "dir:in": "2", "container:c0": "2",
		"hetzner": "2", "paris": "1", "203.0.113": "12", "web": "12", "nothing": "",
		"port:443 country:BR": "2", "-host:nas": "2", "-hetzner port:443": "1", "country:BR host:nas": "",
		"name:example": "12", "name:www": "1", "name:*.example.com": "1", "name:*.com": "12", "name:*": "", "-name:www": "2", "www.exam": "1",
		"port:": "12", "-": "12", "wrong:443": "", ":443": "12",
	} {
		var v View
		v.Update(noon, frame("/"+text), state(a, b))
		got := ""
		for _, c := range []*live.Conn{a, b} {
			if v.fits(c) {
				got += string(rune('0' + c.ID))
			}
		}
		assert.Equal(t, want, got, text)
		assert.Equal(t, len(want), v.stacks.shown, text)
	}
}

func TestTypingAFilter(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0), conn(2, rio, 1))
	v.Update(noon, frame("/"), st)
	assert.Contains(t, texts(&v), "/\nname:*.example.com port:443")
	assert.Empty(t, v.Update(noon, frame("crq?0"), st), "keys are letters now")
	assert.Contains(t, texts(&v), "/\ncrq?0\n")
	assert.Contains(t, texts(&v), "0 live · 2 filtered out")
	in := frame("")
	for range 20 {
		in.Keys = append(in.Keys, ui.KeyBackspace)
	}
	v.Update(noon, in, st)
	assert.Contains(t, texts(&v), "2 live")
	in = frame("country:br -zzz")
	in.Keys = append(in.Keys, ui.KeyEnter)
	v.Update(noon, in, st)
	shown := texts(&v)
	assert.Contains(t, shown, "1 live · 1 filtered out")
	assert.Contains(t, shown, "country:br\n-zzz\n", "chips")
	assert.NotContains(t, shown, "/\n")
	assert.Contains(t, shown, "Mail\n1\n", "the legend too")
	v.Update(noon, frame("t"), st)
	assert.Contains(t, texts(&v), "connection labels on", "keys are keys again")
	esc := frame("")
	esc.Keys = []ui.Key{ui.KeyEscape}
	assert.Equal(t, []Effect{CancelQuery{Ask: 1}}, v.Update(noon, esc, st))
	assert.Contains(t, texts(&v), "2 live")
	assert.Equal(t, []Effect{Quit{}}, v.Update(noon, esc, st))
	// Esc while typing takes it all back.
	v.Update(noon, frame("/x"), st)
	assert.Empty(t, v.Update(noon, esc, st))
	assert.Contains(t, texts(&v), "2 live")
	// It has an end.
	v.Update(noon, frame("/"+strings.Repeat("Ω", 1000)), st)
	assert.LessOrEqual(t, len(v.filter.text), maxFilter)
}

func FuzzFilter(f *testing.F) {
	f.Add("port:443 -org:x\x00\xff :: -:")
	f.Fuzz(func(t *testing.T, text string) {
		var v View
		in := frame("/")
		for _, r := range text {
			in.Keys = append(in.Keys, ui.Key(r))
		}
		st := state(conn(1, paris, 0), conn(2, rio, 1))
		v.Update(noon, in, st)
		in = frame("")
		in.Keys = []ui.Key{ui.KeyEnter}
		v.Update(noon, in, st)
		require.LessOrEqual(t, len(v.filter.text), maxFilter)
		require.Equal(t, 2, v.stacks.shown+v.stacks.filtered)
		for _, i := range v.Scene().Items {
			require.False(t, strings.ContainsAny(i.Text, "\x00\n\x1b"))
		}
	})
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

// TestSelection: a store is told the words, and the countries that they may mean.
func TestSelection(t *testing.T) {
	f := Filter{filter{terms: parseFilter("-city:paris port:443 country:de united -country:xx")}}
	assert.Equal(t, history.Selection{Terms: []history.Term{
		{Key: "city", Value: "paris", Not: true}, {Key: "port", Value: "443"}, {Key: "country", Value: "de", Countries: "DE"},
		{Value: "united", Countries: "AE GB UK UM US VI"}, {Key: "country", Value: "xx", Not: true, Countries: "XX"},
	}}, f.Selection())
	assert.Equal(t, history.Selection{}, Filter{}.Selection())
	assert.Empty(t, f.filter.terms[2].Countries, "the filter itself needs none")
}

// TestFilterSearchesTheHistory: what is past is found by the same words, marked as past
// on the map and in the list, and counted apart.
func TestFilterSearchesTheHistory(t *testing.T) {
	var v View
	a, b := conn(1, paris, 0), conn(2, rio, 1)
	st := state(a, b)
	old, other := conn(3, rio, 1), conn(4, geoip.Place{Lat: 1, Lon: 100, Precision: geoip.City}, 0)
	old.Process.Comm, other.Process.Comm = "oldprog", "oldtoo"
	// Not while one types, but when it rests.
	assert.Empty(t, v.Update(noon, frame("/pro"), st))
	assert.Equal(t, noon.Add(searchDelay), v.Next())
	assert.Empty(t, v.Update(noon.Add(searchDelay/2), frame("g"), st))
	later := noon.Add(searchDelay * 2)
	e := v.Update(later, frame(""), st)
	require.Len(t, e, 1)
	f := e[0].(FindFiltered)
	assert.Empty(t, v.Update(later, frame(""), st), "once")
	assert.Contains(t, texts(&v), "○ looking into the history\n")
	p := stored(old, "Mail", noon.Add(-time.Hour))
	live1 := stored(a, "Web", noon)
	fits := f.Filter.Fits
	assert.True(t, fits(&p))
	q := stored(other, "Web", noon)
	assert.False(t, fits(&q))
	v.Update(later, press(ui.KeyEnter), st)
	hand(&v, Found{Ask: f.Ask, Past: []live.Past{live1, p}, Since: noon.Add(-48 * time.Hour)})
	assert.Contains(t, texts(&v), "○ 1 past since 2026-02-27 12:00: list; older ones by its Query\n", "what lives is not past")
	assert.Contains(t, texts(&v), "2 live")
	// A ring on the map is past, a disc is live.
	rings := func() (n int) {
		x, y := v.Scene().View.Pixel(rio.Lat, rio.Lon)
		for _, i := range v.Scene().Items {
			if i.Shape == ui.Ring && abs(float64(i.X)-x) < 1 && abs(float64(i.Y)-y) < 1 && i.Color == green.Color {
				n++
			}
		}
		return n
	}
	assert.Equal(t, 1, rings())
	// The chip and Enter open the list.
	x, y := at(t, &v, "○ 1 past since 2026-02-27 12:00: list; older ones by its Query")
	v.Update(noon, click(x, y), st)
	assert.Contains(t, texts(&v), "Search prog · 2 live · 1 of the history since 2026-02-27 12:00; older ones by Query\n")
	assert.Contains(t, texts(&v), "○\noldprog\n")
	// Query asks the same in SQL, without an end.
	x, y = at(t, &v, "Query")
	assert.Equal(t, []Effect{WriteSQL{history.Selection{Terms: []history.Term{{Value: "prog"}}}}}, v.Update(noon, click(x, y), st))
	hand(&v, Written{SQL: "SELECT 'prog'"})
	assert.Equal(t, "SELECT 'prog'", v.console.editor.Text())
	v.Update(noon, press(ui.KeyEscape), st)
	// That there are no more than so many is said.
	full := v.panels.Find("connection list").Body.(*connList)
	full.found.Full, v.search.found.Full = true, true
	v.Update(noon, frame(""), st)
	assert.Contains(t, texts(&v), "○ the newest 1 past since 2026-02-27 12:00: list; older ones by its Query\n")
	assert.Contains(t, texts(&v), "Search prog · 2 live · the newest 1 of the history since 2026-02-27 12:00; older ones by Query\n")
	// Another filter is another question, also for the open list; the first is dropped.
	v.Update(noon, press('/', ui.KeyBackspace, ui.KeyEnter), st)
	again := v.search.number
	assert.NotEqual(t, f.Ask, again)
	hand(&v, Found{Ask: f.Ask, Past: []live.Past{p, p}}, Found{Ask: again, Problem: "nothing is recorded"})
	assert.Contains(t, texts(&v), "○ nothing is recorded\n")
	assert.Contains(t, texts(&v), "Search pro · 2 live · nothing is recorded\n")
	assert.Zero(t, rings())
	e = v.Update(noon, press('/', ui.KeyEscape), st)
	assert.Empty(t, e)
	assert.NotContains(t, texts(&v), "past since")
}
