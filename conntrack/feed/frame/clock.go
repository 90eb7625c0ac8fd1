package frame

import "time"

// skewBelieved is by how much two clocks may differ without being corrected.
const skewBelieved = 5 * time.Second

// A clock corrects the times of an agent. The zero clock leaves them as they are.
type clock struct {
	now  time.Time     // of the server, without monotonic reading
	skew time.Duration // to add to the agent's
}

// time returns the server's time for one of the agent. A time in the future, or more than 20
// years ago, becomes one of the last 10 s. Two such times that are less than 10 s apart stay
// different, because the history distinguishes connections with the same addresses by their
// times.
func (c clock) time(micro int64) time.Time {
	t := time.UnixMicro(micro).Add(c.skew)
	if c.now.IsZero() {
		return t
	}
	if t.After(c.now.Add(2*skewBelieved)) || t.Before(c.now.AddDate(-20, 0, 0)) {
		const within = int64(2 * skewBelieved / time.Microsecond)
		now := c.now.UnixMicro()
		ago := (now%within - micro%within + 2*within) % within
		return time.UnixMicro(now - ago)
	}
	return t
}
