package mapview

import "time"

const (
	calm  = 20_000                 // connections that are shown anew with every state
	quiet = 300 * time.Millisecond // at least between two times if there are more
)

// A pace keeps what is made of very many connections for a while, though there are new
// states: that takes its time, and must not be felt. The zero pace keeps nothing.
type pace struct{ next time.Time }

// least is the time between two times that something is made of all connections.
func (*pace) least(v *View) time.Duration {
	n := len(v.st.Conns)
	if n <= calm {
		return 0
	}
	return max(time.Duration(n)*10*time.Microsecond, quiet)
}

// early reports whether it is too early for a new state, and has it looked at in time.
func (p *pace) early(v *View) bool {
	if !v.before(p.next, p.least(v)) {
		return false
	}
	v.wake(p.next)
	return true
}

// made notes that something was made of all connections.
func (p *pace) made(v *View) { p.next = v.now.Add(p.least(v)) }

// rest puts it off, since somebody scrolls.
func (p *pace) rest(v *View) {
	if at := v.now.Add(min(quiet, p.least(v))); p.next.Before(at) {
		p.next = at
	}
}
