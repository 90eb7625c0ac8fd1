package mapview

import (
	"fmt"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/internal/numbers"
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
	chosen  *history.Retention // what the user has chosen; nil: nothing new
	lines   [][3]string
	box     ui.Box
	buttons ui.Buttons
}

const retentionRow = 26

func (*retentionPanel) Name() string            { return "retention" }
func (*retentionPanel) Title(*View) string      { return "How much history is kept" }
func (*retentionPanel) needs(_ *View, n *needs) { n.kept = true }

func (p *retentionPanel) Size(v *View) (w, h float64) {
	return 500, float64(len(p.texts(v)))*retentionRow + footHeight
}

// retention is what is chosen, or else what is in force.
func (p *retentionPanel) retention(v *View) history.Retention {
	if p.chosen != nil {
		return *p.chosen
	}
	return v.st.HistoryStats.Retention
}

func (p *retentionPanel) Key(v *View, k ui.Key) bool {
	if v.st.HistoryStats == nil {
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
		r.Names = after(ageChoices, r.Names)
	case '5':
		r.Disabled = !r.Disabled
	case ui.KeyEscape:
		if p.chosen == nil {
			return false
		}
		r = v.st.HistoryStats.Retention
	case ui.KeyEnter:
		if p.chosen == nil {
			return false
		}
		v.ask(SetRetention{r})
		p.chosen = nil
		return true
	default:
		return false
	}
	if p.chosen = &r; r == v.st.HistoryStats.Retention {
		p.chosen = nil
	}
	return true
}

// texts are what the panel says: a key, what it changes and how that stands.
func (p *retentionPanel) texts(v *View) [][3]string {
	k := v.st.HistoryStats
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
		{"", "There are", fmt.Sprintf("%s connections, %s%s", numbers.Thousands(k.Rows), numbers.Bytes(k.Bytes), since)},
		{"1", "Age at most", limit(r.Age > 0, ageText(r.Age))},
		{"2", "Connections at most", limit(r.Rows > 0, numbers.Thousands(r.Rows))},
		{"3", "File size at most", limit(r.Bytes > 0, numbers.Bytes(r.Bytes))},
		{"4", "Age of names at most", limit(r.Names > 0, ageText(r.Names))},
		{"5", "Limits are", on},
	}
}

func ageText(d time.Duration) string {
	switch {
	case d%(365*day) == 0:
		return numbers.Count(int(d/(365*day)), "year", "years")
	case d%day == 0:
		return numbers.Count(int(d/day), "day", "days")
	}
	return d.String()
}

func (p *retentionPanel) Layout(v *View, b ui.Box) {
	p.box, p.lines = b, p.texts(v)
	var labels []string
	if v.st.HistoryStats != nil && p.chosen != nil {
		labels = []string{applyLabel, cancelLabel}
	}
	p.buttons.Layout(&v.canvas, foot(b), labels...)
}

const applyLabel, cancelLabel = "Apply (Enter): delete what exceeds it", "Cancel (Esc)"

// row is where a line is.
func (p *retentionPanel) row(i int) ui.Box {
	return ui.At(p.box.X-4, p.box.Y+float64(i)*retentionRow, p.box.W+8, retentionRow)
}

func (p *retentionPanel) Mouse(v *View, m ui.Mouse) {
	switch p.buttons.Mouse(m) {
	case applyLabel:
		p.Key(v, ui.KeyEnter)
		return
	case cancelLabel:
		p.Key(v, ui.KeyEscape)
		return
	}
	for i, l := range p.lines {
		if row := p.row(i); l[0] != "" && row.Y+row.H <= p.box.Y+p.box.H+1 && m.Clicked(row) {
			p.Key(v, ui.Key(l[0][0]))
		}
	}
}

func (p *retentionPanel) Draw(v *View, c *ui.Canvas, b ui.Box) {
	t := v.theme
	for i, l := range p.lines {
		row := p.row(i)
		if row.Y+row.H > b.Y+b.H+1 {
			break
		}
		if l[0] != "" {
			c.Highlight(row)
		}
		c.Text(b.X+4, row.Y+17, typeface.Medium, 12.5, t.Accent, l[0])
		x, room := b.X+28, b.W-32
		if l[0] == "" && l[2] == "" {
			x, room = b.X+4, b.W-8
		}
		c.Text(x, row.Y+17, typeface.Regular, 12.5, t.Text, c.Elide(typeface.Regular, 12.5, l[1], room))
		c.Text(b.X+168, row.Y+17, typeface.Regular, 12.5, t.Text, c.Elide(typeface.Regular, 12.5, l[2], b.W-172))
	}
	if v.st.HistoryStats != nil && p.chosen == nil {
		const hint = "Click, or press 1 to 5. What is over a limit is deleted."
		c.Text(b.X+4, foot(b).Y+17, typeface.Regular, 12.5, t.Dim, c.Elide(typeface.Regular, 12.5, hint, b.W-8))
	}
	p.buttons.Draw(c)
}

// confirmReset asks before it deletes the history: r must be pressed again.
func (v *View) confirmReset() {
	// A key that repeats does not count: the question must have been seen.
	if v.before(v.resetUntil, toastTime-50*time.Millisecond) {
		v.resetUntil = time.Time{}
		v.legend.extents = nil
		v.ask(ResetHistory{})
		return
	}
	v.resetUntil = v.now.Add(toastTime)
	v.say("r once more deletes all stored connections and counts; Esc does not")
}
