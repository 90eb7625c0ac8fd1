package mapview

import "github.com/connmapgo/connmap/examples/mapserver/internal/live"

// states are those that the state that is shown is made from.
type states struct {
	base      *live.State // with the colours of the rules
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

// of returns a state with the connections that are held. All else is that of now.
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
