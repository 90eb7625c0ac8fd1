package gui

import (
	"sync"
	"time"
)

const (
	restingShare = 20                     // without input the program takes at most 1/20 of a core
	longestWait  = 900 * time.Millisecond // for a frame all the same
)

// attention is how long after an input frames come at once. It changes in tests only.
var attention = 10 * time.Second

// A throttle limits how often frames are made while nobody uses the window: each waits
// in proportion to the processor time that the program took since the one before, of which
// drawing without a graphics processor is nearly all. The zero throttle limits nothing. It is
// safe for concurrent use.
type throttle struct {
	used func() time.Duration // processor time of the program

	mu      sync.Mutex
	inputAt time.Time
	frameAt time.Time
	usedAt  time.Duration // at frameAt
	cost    time.Duration // processor time between the last two frames
}

// input notes that somebody uses the window.
func (t *throttle) input(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inputAt = now
}

// frame notes that a frame is drawn.
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
	if now.Sub(t.inputAt) < attention {
		return 0
	}
	// The last frame may not be complete yet: other threads draw it.
	cost := max(t.cost, used-t.usedAt)
	return t.frameAt.Add(min(restingShare*cost, longestWait)).Sub(now)
}
