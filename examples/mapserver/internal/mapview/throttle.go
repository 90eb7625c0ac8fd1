package mapview

import "time"

const (
	freshConns  = 20_000                 // with so many, every new state is shown at once
	minInterval = 300 * time.Millisecond // between two states, if there are more
)

// A throttle limits how often something is made anew of very many connections, since that
// takes long enough to be felt. The zero throttle has not run.
type throttle struct{ next time.Time }

// interval is the time between two runs.
func (*throttle) interval(v *View) time.Duration {
	n := len(v.st.Conns)
	if n <= freshConns {
		return 0
	}
	return max(time.Duration(n)*10*time.Microsecond, minInterval)
}

// early reports whether it is too early for a new state, and asks for an Update when it is
// not.
func (t *throttle) early(v *View) bool {
	if !v.before(t.next, t.interval(v)) {
		return false
	}
	v.wake(t.next)
	return true
}

// ran notes a run.
func (t *throttle) ran(v *View) { t.next = v.now.Add(t.interval(v)) }

// postpone puts the next run off, since somebody scrolls.
func (t *throttle) postpone(v *View) {
	if at := v.now.Add(min(minInterval, t.interval(v))); t.next.Before(at) {
		t.next = at
	}
}
