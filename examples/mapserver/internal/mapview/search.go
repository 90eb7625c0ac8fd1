package mapview

import (
	"math"
	"slices"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/history"
)

// searchRest is how long a filter must be left alone before the history is searched: one
// may still be typing.
const searchRest = 400 * time.Millisecond

// A search is what the history has for the filter.
type search struct {
	terms   []history.Term
	due     time.Time // when to ask; zero: it was asked
	ask     int       // number of the question; zero: none yet
	waiting bool
	past    []live.Past
	since   time.Time // nothing older was looked at; zero: all was
	full    bool      // there may be older ones than past
	problem string

	shown []live.Past // those of past that are shown
	of    struct {
		st    *live.State
		first *live.Past
		local bool
		hosts int
	}

	chip box
	text string // in it
}

// searchHistory asks the history for what the filter fits, when it is time.
func (v *View) searchHistory() {
	s := &v.search
	if !slices.Equal(s.terms, v.filter.terms) {
		if s.waiting {
			v.ask(CancelQuery{Ask: s.ask})
		}
		*s = search{terms: v.filter.terms, due: v.now.Add(searchRest)}
	}
	if len(s.terms) == 0 || s.due.IsZero() {
		return
	}
	if v.filter.editing && v.before(s.due, searchRest) {
		v.wake(s.due)
		return
	}
	v.asks++
	s.due, s.ask, s.waiting = time.Time{}, v.asks, true
	for _, p := range v.desk.panels {
		if l, ok := p.body.(*connList); ok && l.searches {
			l.heading, l.ask, l.waiting, l.query = "Search "+v.filter.text, s.ask, true, Filter{v.filter}.Selection()
		}
	}
	v.ask(FindFiltered{Ask: s.ask, Filter: Filter{filter{terms: s.terms}}})
}

// take takes in the answer.
func (s *search) take(a Found) {
	if s.waiting && a.Ask == s.ask {
		s.waiting, s.past, s.since, s.full, s.problem = false, a.Past, a.Since, a.Full, a.Problem
		s.of.st = nil
	}
}

// found returns the stored connections that the filter fits.
func (v *View) found() []live.Past {
	s := &v.search
	of := s.of
	of.st, of.local, of.hosts, of.first = v.st, v.Local, v.agents.changed, nil
	if len(s.past) > 0 {
		of.first = &s.past[0]
	}
	if of != s.of {
		s.of, s.shown = of, v.onlyPast(s.past)
	}
	return s.shown
}

// searchText says what came of the search; empty: there is none.
func (v *View) searchText() string {
	s := &v.search
	switch n := len(v.found()); {
	case s.ask == 0:
		return ""
	case s.waiting:
		return markPast + " " + v.looking()
	case s.problem != "":
		return markPast + " " + s.problem
	default:
		text := markPast + " " + v.pastText(n, "past", s.since, s.full) + ": list"
		if s.full || !s.since.IsZero() {
			text += "; older ones by its Query"
		}
		return text
	}
}

// pastText counts stored connections, and says how far back was looked if not through
// all of the history.
func (v *View) pastText(n int, what string, since time.Time, full bool) string {
	if v.filter.states {
		return "the history has no states"
	}
	s := thousands(int64(n)) + " " + what
	if full {
		s = "the newest " + s
	}
	if !since.IsZero() {
		s += " since " + v.timeText(since)
	}
	return s
}

// drawFound marks the places of the past that the filter fits: with rings, for discs are
// live.
func (v *View) drawFound() {
	type spot [2]int
	taken := map[spot]bool{}
	for _, p := range v.found() {
		if p.Place.Precision == 0 {
			continue
		}
		x, y := v.world.Pixel(p.Place.Lat, p.Place.Lon)
		at := spot{int(math.Round(x)), int(math.Round(y))}
		if taken[at] || !v.size.grow(8).contains(x, y) {
			continue
		}
		taken[at] = true
		col := v.colorOf(p.Label)
		if col.A == 0 {
			col = v.theme.text
		}
		v.canvas.ring(x, y, 7.5, 1.4, opaque(col))
	}
}
