package mapview

import (
	"math"
	"slices"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/internal/numbers"
)

// searchDelay is how long nobody must have typed in the filter before the history is
// searched.
const searchDelay = 400 * time.Millisecond

// A search is what the history has for the filter.
type search struct {
	question
	terms []history.Term
	found Found // the answer

	shown []live.Past // those of found that are shown
	made  struct {
		shownKey
		first *live.Past
	}

	chip ui.Box
	text string // in it
}

// update asks the history for what the filter fits, once nobody types in it any more.
func (s *search) update(v *View) {
	if !slices.Equal(s.terms, v.filter.terms) {
		*s = search{terms: v.filter.terms}
		if len(s.terms) > 0 {
			s.pose(s, FindFiltered{Filter: Filter{filter{terms: s.terms}}}, v.now.Add(searchDelay))
		}
	}
	if !v.filter.editing {
		s.due = time.Time{}
	}
}

func (s *search) answered(_ *View, a Answer) {
	s.found = a.(Found)
	s.made.st = nil
}

// found returns the stored connections that the filter fits.
func (v *View) found() []live.Past {
	s := &v.search
	made := s.made
	made.shownKey, made.first = v.shownKey(), nil
	if len(s.found.Past) > 0 {
		made.first = &s.found.Past[0]
	}
	if made != s.made {
		s.made, s.shown = made, v.onlyPast(s.found.Past)
	}
	return s.shown
}

// searchText says what came of the search; empty: there is none.
func (v *View) searchText() string {
	s := &v.search
	switch n := len(v.found()); {
	case s.effect == nil || s.delayed(v):
		return ""
	case s.waiting:
		return markPast + " " + v.pendingText()
	case s.found.Problem != "":
		return markPast + " " + s.found.Problem
	default:
		text := markPast + " " + v.pastText(n, "past", s.found.Since, s.found.Full) + ": list"
		if s.found.Full || !s.found.Since.IsZero() {
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
	s := numbers.Thousands(int64(n)) + " " + what
	if full {
		s = "the newest " + s
	}
	if !since.IsZero() {
		s += " since " + v.timeText(since)
	}
	return s
}

// drawFound draws rings at the places of stored connections that the filter fits. Discs are
// live ones.
func (v *View) drawFound() {
	type spot [2]int
	taken := map[spot]bool{}
	for _, p := range v.found() {
		if p.Place.Precision == 0 {
			continue
		}
		x, y := v.world.Pixel(p.Place.Lat, p.Place.Lon)
		at := spot{int(math.Round(x)), int(math.Round(y))}
		if taken[at] || !v.size.Grow(8).Contains(x, y) {
			continue
		}
		taken[at] = true
		col := v.colorOf(p.Label)
		if col.A == 0 {
			col = v.theme.Text
		}
		v.canvas.Ring(x, y, 7.5, 1.4, ui.Opaque(col))
	}
}
