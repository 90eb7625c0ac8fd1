package mapview

import (
	"fmt"
	"image/color"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/history"
)

const day = 24 * time.Hour

// What the panel offers; zero is no limit.
var (
	ageChoices  = []time.Duration{0, 7 * day, 30 * day, 90 * day, 365 * day, 3 * 365 * day}
	rowChoices  = []int64{0, 100_000, 1_000_000, 10_000_000, 100_000_000}
	sizeChoices = []int64{0, 100e6, 1e9, 4e9, 10e9, 100e9}
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

// retentionPanel shows and changes how much history is kept. What is chosen holds when
// it is confirmed: by it much may be deleted.
type retentionPanel struct {
	chosen *history.Retention // nil: as it is
}

const retentionRow = 26

func (*retentionPanel) name() string       { return "retention" }
func (*retentionPanel) title(*View) string { return "How much history is kept" }
func (*retentionPanel) close(v *View)      { v.ask(ShowKept{}) }

func (p *retentionPanel) size(v *View) (w, h float64) {
	return 500, float64(len(p.lines(v)))*retentionRow + footHeight
}

// retention is what is chosen, or how it is.
func (p *retentionPanel) retention(v *View) history.Retention {
	if p.chosen != nil {
		return *p.chosen
	}
	return v.st.Kept.Retention
}

func (p *retentionPanel) key(v *View, k Key) bool {
	if v.st.Kept == nil {
		return false
	}
	r := p.retention(v)
	switch k {
	case '1':
		r.Age = after(ageChoices, r.Age)
	case '2':
		r.Rows = after(rowChoices, r.Rows)
	case '3':
		r.Bytes = after(sizeChoices, r.Bytes)
	case '4':
		r.Disabled = !r.Disabled
	case KeyEscape:
		if p.chosen == nil {
			return false
		}
		r = v.st.Kept.Retention
	case KeyEnter:
		if p.chosen == nil {
			return false
		}
		v.ask(SetRetention{r})
		p.chosen = nil
		return true
	default:
		return false
	}
	if p.chosen = &r; r == v.st.Kept.Retention {
		p.chosen = nil
	}
	v.again = true
	return true
}

// lines are what the panel says: a key, what it changes and how that stands.
func (p *retentionPanel) lines(v *View) [][3]string {
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
	r := p.retention(v)
	on := "on"
	if r.Disabled {
		on = "off, nothing goes"
	}
	since := ""
	if !k.Oldest.IsZero() {
		since = ", since " + k.Oldest.UTC().Format("2006-01-02 MST")
	}
	return [][3]string{
		{"", "There are", fmt.Sprintf("%s connections, %s%s", thousands(k.Rows), bytesText(uint64(k.Bytes)), since)},
		{"1", "Age at most", limit(r.Age > 0, ageText(r.Age))},
		{"2", "Connections at most", limit(r.Rows > 0, thousands(r.Rows))},
		{"3", "File size at most", limit(r.Bytes > 0, bytesText(uint64(r.Bytes)))},
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

func (p *retentionPanel) show(v *View, b box) {
	c, t := &v.canvas, v.theme
	y := b.y
	line := func(l [3]string, col color.NRGBA) {
		row := box{b.x - 4, y, b.w + 8, retentionRow}
		if y += retentionRow; y > b.y+b.h+1 {
			return
		}
		if l[0] != "" && v.hot(row) {
			c.rect(row, 4, t.edge)
			if v.in.Press {
				p.key(v, Key(l[0][0]))
			}
		}
		c.text(b.x+4, row.y+17, typeface.Medium, 12.5, t.accent, l[0])
		x, room := b.x+28, b.w-32
		if l[0] == "" && l[2] == "" {
			x, room = b.x+4, b.w-8
		}
		c.text(x, row.y+17, typeface.Regular, 12.5, col, c.elide(typeface.Regular, 12.5, l[1], room))
		c.text(b.x+168, row.y+17, typeface.Regular, 12.5, col, c.elide(typeface.Regular, 12.5, l[2], b.w-172))
	}
	for _, l := range p.lines(v) {
		line(l, t.text)
	}
	if v.st.Kept == nil {
		return
	}
	hint, foot := "A click or 1 to 4 chooses; what is over a limit goes, oldest first.", box{b.x, b.y + b.h - 24, b.w, 26}
	if p.chosen == nil {
		c.text(b.x+4, foot.y+17, typeface.Regular, 12.5, t.dim, c.elide(typeface.Regular, 12.5, hint, b.w-8))
		return
	}
	switch pressed, _ := v.buttons(foot, "Apply (Enter): what is over goes", "Leave it (Esc)"); pressed {
	case 0:
		p.key(v, KeyEnter)
		v.again = true
	case 1:
		p.key(v, KeyEscape)
	}
}

// confirmReset asks before it deletes the history: r must be pressed again.
func (v *View) confirmReset() {
	// Not in the same moment: the question must have been seen.
	if v.before(v.asked, toastTime-50*time.Millisecond) {
		v.asked = time.Time{}
		v.legend.extents = nil
		v.ask(ResetHistory{})
		return
	}
	v.asked = v.now.Add(toastTime)
	v.say("r once more deletes all stored connections and counts; Esc does not")
}
