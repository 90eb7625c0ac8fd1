package gui

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// TestThrottle: without input a program that draws takes a twentieth of a core, but for
// frames so dear that they would come less than once a second; with input nothing waits.
func TestThrottle(t *testing.T) {
	for _, tt := range []struct {
		name             string
		draws, otherwise time.Duration // processor time of a frame, and of all else in a second
		frames           int           // within a minute
	}{
		{"cheap frames", time.Millisecond, 0, 60 * 50},
		{"software GL", 20 * time.Millisecond, 0, 60 * 5 / 2},
		{"and something else", 20 * time.Millisecond, 25 * time.Millisecond, 60 * 5 / 4},
		{"dear frames", time.Second, 0, 66},
		{"a busy program", time.Millisecond, time.Second, 66},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			now, used := start.Add(time.Hour), time.Duration(0)
			th := throttle{used: func() time.Duration { return used }}
			frames := 0
			th.frame(now)
			for end := now.Add(time.Minute); now.Before(end); now = now.Add(time.Millisecond) {
				used += tt.otherwise / 1000
				if th.wait(now) <= 0 {
					used += tt.draws
					th.frame(now)
					frames++
				}
			}
			assert.InEpsilon(t, tt.frames, frames, 0.1)
			th.input(now)
			assert.Zero(t, th.wait(now))
			now = now.Add(activeTime - 1)
			used += tt.draws
			th.frame(now)
			assert.Zero(t, th.wait(now))
			assert.Positive(t, th.wait(now.Add(1)))
		})
	}
	assert.Zero(t, new(throttle).wait(time.Now()), "the zero throttle limits nothing")
}
