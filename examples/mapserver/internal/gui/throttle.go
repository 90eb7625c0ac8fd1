package gui

import (
	"sync"
	"time"
)

const (
	idleShare = 20 // without input the program takes 1/20 of a core, if frames need not wait longer than maxWait
	// maxWait is the maximum delay of a frame, so that what is new shows within a second. Frames of
	// large windows cost more than 1/20 of that: a window of 2560 by 1440 takes 10 % of a core.
	maxWait = 900 * time.Millisecond
)

// activeTime is how long after an input frames are not delayed. Only tests change it.
var activeTime = 10 * time.Second

// A throttle limits the rate of frames while nobody uses the window. Each frame is delayed in
// proportion to the processor time that the program used since the last one; without a graphics
// processor nearly all of it is drawing. The zero throttle limits nothing. It is safe for
// concurrent use.
type throttle struct {
	used func() time.Duration // processor time of the program

	mu      sync.Mutex
	inputAt time.Time
	frameAt time.Time
	usedAt  time.Duration // at frameAt
	cost    time.Duration // processor time between the last two frames
}

// input records that somebody uses the window.
func (t *throttle) input(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inputAt = now
}

// frame records that a frame is drawn.
func (t *throttle) frame(now time.Time) {
	if t.used == nil {
		return
	}
	used := t.used()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cost, t.usedAt, t.frameAt = used-t.usedAt, used, now
}

// wait returns how long the next frame has to wait.
func (t *throttle) wait(now time.Time) time.Duration {
	if t.used == nil {
		return 0
	}
	used := t.used()
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.inputAt) < activeTime {
		return 0
	}
	// The last frame may not be complete yet: other threads draw it.
	cost := max(t.cost, used-t.usedAt)
	return t.frameAt.Add(min(idleShare*cost, maxWait)).Sub(now)
}
