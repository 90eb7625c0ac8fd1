package mapview

import "github.com/connmapgo/connmap/examples/mapserver/internal/live"

// states are what the state that is shown was made of.
type states struct {
	base      *live.State // in the colours of the rules
	recolored recolored
	paused    pause
}

// A pause holds the connections of one moment. The zero pause is none.
type pause struct {
	at    *live.State // nil: nothing is held
	from  *live.State // what shown was made of
	shown *live.State
}

func (v *View) togglePause() {
	if v.states.paused.at != nil {
		from := v.states.paused.from
		v.states.paused = pause{}
		v.show(from)
	} else {
		v.states.paused = pause{at: v.states.base}
		v.show(v.states.paused.of(v.states.base))
	}
}

// of returns what is shown of a state: while connections are held, all else goes on.
func (p *pause) of(st *live.State) *live.State {
	if p.at == nil {
		return st
	}
	if p.from != st {
		s := *st
		s.Conns, s.Rules, s.Agents, s.Time = p.at.Conns, p.at.Rules, p.at.Agents, p.at.Time
		p.from, p.shown = st, &s
	}
	return p.shown
}
