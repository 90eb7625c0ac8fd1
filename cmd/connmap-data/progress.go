package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/connmapgo/connmap/internal/numbers"
)

// A bar shows progress. On a terminal it is a line that is drawn at most 10 times a second,
// elsewhere one line at the start.
type bar struct {
	w      io.Writer
	screen io.Writer // the terminal; nil: there is none
	name   string
	from   string        // source of the data; empty: there is no line at the start
	delay  time.Duration // before it appears on a terminal

	begin, drawn time.Time
	began        int64 // bytes that were done at the start
	total        int64 // -1: unknown
	shown        bool
}

// start restarts the bar, with have of total bytes done.
func (b *bar) start(have, total int64) {
	b.begin, b.began, b.total = time.Now(), have, total
	if b.screen != nil || b.from == "" {
		return
	}
	line := b.name + ": downloading " + b.from
	if total >= 0 {
		line += ", " + numbers.Bytes(total)
	}
	if have > 0 {
		line += ", continuing at " + numbers.Bytes(have)
	}
	fmt.Fprintln(b.w, line)
}

// set sets how many bytes are done.
func (b *bar) set(done int64) {
	now := time.Now()
	if b.screen == nil || now.Sub(b.drawn) < 100*time.Millisecond || now.Sub(b.begin) < b.delay {
		return
	}
	b.drawn, b.shown = now, true
	fmt.Fprintf(b.screen, "\r\x1b[K%s", b.line(done, now.Sub(b.begin)))
}

// line returns the bar after a time, in at most 79 columns.
func (b *bar) line(done int64, after time.Duration) string {
	speed := 0.0
	if s := after.Seconds(); s > 0 {
		speed = float64(done-b.began) / s
	}
	if b.total <= 0 {
		return fmt.Sprintf("%-15s %s  %s/s", b.name, numbers.Bytes(done), numbers.Bytes(int64(speed)))
	}
	const width = 20
	share := min(1, float64(done)/float64(b.total))
	full := int(share * width)
	line := fmt.Sprintf("%-15s [%s%s] %3.0f %% of %8s %9s/s", b.name,
		strings.Repeat("#", full), strings.Repeat(".", width-full), 100*share, numbers.Bytes(b.total), numbers.Bytes(int64(speed)))
	if speed > 0 {
		left := time.Duration(float64(b.total-done) / speed * float64(time.Second)).Round(time.Second)
		if left < 100*time.Hour {
			line += fmt.Sprintf(" %d:%02d left", int(left.Minutes()), int(left.Seconds())%60)
		}
	}
	return line
}

// note prints a message between bars.
func (b *bar) note(format string, args ...any) {
	b.clear()
	fmt.Fprintf(b.w, b.name+": "+format+"\n", args...)
}

// busy shows work whose progress is unknown.
func (b *bar) busy(what string) {
	if b.screen != nil {
		b.shown = true
		fmt.Fprintf(b.screen, "\r\x1b[K%-15s %s", b.name, what)
	}
}

// clear removes the bar from the terminal.
func (b *bar) clear() {
	if b.shown {
		fmt.Fprint(b.screen, "\r\x1b[K")
		b.shown = false
	}
}
