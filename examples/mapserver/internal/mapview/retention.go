package mapview

import (
	"fmt"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
)

const day = 24 * time.Hour

// What the panel offers; zero is no limit.
var (
	ages  = []time.Duration{0, 7 * day, 30 * day, 90 * day, 365 * day, 3 * 365 * day}
	rows  = []int64{0, 100_000, 1_000_000, 10_000_000, 100_000_000}
	sizes = []int64{0, 100e6, 1e9, 4e9, 10e9, 100e9}
)

// after returns the choice that follows a value, which may be none of them.
func after[T int64 | time.Duration](choices []T, v T) T {
	for _, c := range choices {
		if c > v {
			return c
		}
	}
	return choices[0]
}

// retentionKeys handles a key while the panel of the retention is open, and reports
// whether it was one of the panel's.
func (v *View) retentionKeys(k Key, effects []Effect) ([]Effect, bool) {
	if v.st.Kept == nil {
		return effects, false
	}
	r := v.st.Kept.Retention
	switch k {
	case '1':
		r.Age = after(ages, r.Age)
	case '2':
		r.Rows = after(rows, r.Rows)
	case '3':
		r.Bytes = after(sizes, r.Bytes)
	case '4':
		r.Disabled = !r.Disabled
	default:
		return effects, false
	}
	return append(effects, SetRetention{r}), true
}

// retentionLines are what the panel says: a key, what it changes and how that
// stands.
func (v *View) retentionLines() [][3]string {
	k := v.st.Kept
	if k == nil {
		return [][3]string{{"", "Nothing is recorded: start with -history FILE", ""}}
	}
	limit := func(set bool, s string) string {
		if !set {
			return "no limit"
		}
		return s
	}
	on := "on"
	if k.Retention.Disabled {
		on = "off, nothing goes"
	}
	since := ""
	if !k.Oldest.IsZero() {
		since = ", since " + k.Oldest.UTC().Format(time.DateOnly)
	}
	return [][3]string{
		{"", "There are", fmt.Sprintf("%s connections, %s%s", thousands(k.Rows), bytesText(uint64(k.Bytes)), since)},
		{"1", "Age at most", limit(k.Retention.Age > 0, ageText(k.Retention.Age))},
		{"2", "Connections at most", limit(k.Retention.Rows > 0, thousands(k.Retention.Rows))},
		{"3", "File size at most", limit(k.Retention.Bytes > 0, bytesText(uint64(k.Retention.Bytes)))},
		{"4", "Limits are", on},
	}
}

func ageText(d time.Duration) string {
	switch {
	case d%(365*day) == 0:
		return plural(int(d/(365*day)), "year")
	case d%day == 0:
		return plural(int(d/day), "day")
	}
	return d.String()
}

// thousands writes a number with commas.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func (v *View) drawRetention() {
	c, t := &v.canvas, v.theme
	lines := v.retentionLines()
	const row = 26
	w := min(520, v.size.w-16)
	b := box{(v.size.w - w) / 2, (v.size.h - float64(len(lines))*row - 74) / 2, w, float64(len(lines))*row + 74}.clamp(v.size.grow(-4))
	v.taken = append(v.taken, b)
	c.panel(b, t)
	c.text(b.x+16, b.y+27, typeface.Bold, 13, t.text, "How much history is kept")
	y := b.y + 56.0
	for _, l := range lines {
		if l[0] != "" {
			c.text(b.x+16, y, typeface.Medium, 12.5, t.accent, l[0])
		}
		c.text(b.x+40, y, typeface.Regular, 12.5, t.text, c.elide(typeface.Regular, 12.5, l[1], b.w-56))
		if l[2] != "" {
			c.text(b.x+180, y, typeface.Regular, 12.5, t.text, c.elide(typeface.Regular, 12.5, l[2], b.w-196))
		}
		y += row
	}
	c.text(b.x+16, y+2, typeface.Regular, 12, t.dim, c.elide(typeface.Regular, 12, "The keys 1 to 4 change it; what is over a limit goes, oldest first. p closes.", b.w-32))
}

// confirm handles the second press of a key that destroys something.
func (v *View) confirm(effects []Effect) []Effect {
	if v.asked && v.now.Before(v.askedUntil) {
		v.asked = false
		return append(effects, ResetHistory{})
	}
	v.asked, v.askedUntil = true, v.now.Add(toastTime)
	v.Say(v.now, "r once more deletes all stored connections and counts")
	return effects
}
