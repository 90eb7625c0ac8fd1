package sqlite

import (
	"errors"
	"time"
)

const (
	settleTime = 24 * time.Hour      // see trusted
	longOff    = 90 * 24 * time.Hour // how long a computer may have been off
)

// errClock says that nothing is pruned by age, since the clock may be wrong.
var errClock = errors.New("history: the clock is far ahead of what was recorded last: nothing is pruned by age for a day; set the clock if it is wrong")

// A clock tells whether the wall clock can be trusted.
type clock struct {
	now    func() time.Time
	ran    func() time.Duration // since opened, also while the computer was suspended
	opened time.Time            // by the wall clock
	newest time.Time            // of the row seen last when the file was opened; zero: none

	ahead    time.Duration // of the wall clock, when it jumped last
	jumped   bool
	jumpedAt time.Duration // by ran
}

// trusted reports whether rows of this age may be deleted: a clock that jumps to another year
// would delete the whole history. A clock is trusted after settleTime without jumps.
func (c *clock) trusted(age time.Duration) bool {
	now, ran := c.now(), c.ran()
	slack := min(max(age/4, time.Hour), 7*24*time.Hour)
	if ahead := now.Sub(c.opened) - ran; max(ahead-c.ahead, c.ahead-ahead) > slack {
		c.ahead, c.jumped, c.jumpedAt = ahead, true, ran
	}
	if ran-c.jumpedAt > settleTime {
		return true
	}
	return !c.jumped && (c.newest.IsZero() || now.Sub(c.newest)-ran <= longOff)
}
