package mapview

import (
	"fmt"
	"image/color"
	"slices"
	"strings"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/internal/numbers"
)

// A status is the line at the lower right.
type status struct {
	box  ui.Box
	text string
}

// maxTableAge is how old tables may be before the status line says so. Most are published anew each
// month.
const maxTableAge = 100 * 24 * time.Hour

// statusText says what is shown and how far it can be trusted.
func (v *View) statusText() string {
	st := v.st
	var parts []string
	live := v.stacks.shown
	if v.filter.states {
		live -= v.stacks.closing // which are on the map too
	}
	parts = append(parts, numbers.Count(len(st.Agents), "agent", "agents"), fmt.Sprintf("%d live", live))
	if v.stacks.local > 0 {
		parts = append(parts, fmt.Sprintf("%d local hidden", v.stacks.local))
	}
	if v.stacks.ofHidden > 0 {
		parts = append(parts, fmt.Sprintf("%d of hidden agents", v.stacks.ofHidden))
	}
	if v.stacks.closing > 0 {
		parts = append(parts, fmt.Sprintf("%d closing", v.stacks.closing))
	}
	if v.stacks.filtered > 0 {
		parts = append(parts, fmt.Sprintf("%d filtered out", v.stacks.filtered))
	}
	var backends []string
	var lost uint64
	for _, a := range st.Agents {
		lost += a.Lost
		if a.Backend != "" && !slices.Contains(backends, a.Backend) {
			backends = append(backends, a.Backend)
		}
	}
	if len(backends) > 0 {
		slices.Sort(backends)
		parts = append(parts, strings.Join(backends, "+"))
	}
	parts = append(parts, fmt.Sprintf("%d lost", lost))
	const update = ": connmap-data update"
	advised := false
	if st.Geo.Name != "" {
		geo := "geo"
		if !st.Geo.Date.IsZero() {
			geo += " " + st.Geo.Date.UTC().Format("2006-01")
		}
		advised = true
		switch {
		case st.Geo.CountryLevel:
			geo += ", country level" + update
		case v.isOld(st.Geo.Date):
			geo += ", old" + update
		default:
			advised = false
		}
		parts = append(parts, geo)
	}
	if !advised && v.isOld(st.NetworksDate) {
		parts = append(parts, "networks "+st.NetworksDate.UTC().Format("2006-01")+", old"+update)
	}
	if v.states.paused.at != nil {
		parts = append([]string{"paused at " + v.st.Time.In(v.now.Location()).Format("15:04:05 MST")}, parts...)
	}
	if v.camera.zoomed {
		parts = append(parts, fmt.Sprintf("%.3gx, 0 shows all", v.camera.zoom))
	}
	return strings.Join(append(parts, "? keys"), " · ")
}

// isOld returns whether tables of a date are too old.
func (v *View) isOld(date time.Time) bool { return !date.IsZero() && v.st.Time.Sub(date) > maxTableAge }

func (v *View) layoutStatus() {
	s := v.statusText()
	w := min(v.canvas.Width(typeface.Regular, 12, s)+16, v.size.W-16)
	v.status = status{ui.At(v.size.W-w-8, v.size.H-28, w, 20), s}
	v.room.taken = append(v.room.taken, v.status.box)
	// Where the status line reaches below the legend, that stands above it.
	v.room.bottom = 22
	if v.status.box.X < 2*legendWidth {
		v.room.bottom = 34
	}
}

func (v *View) drawStatus() {
	c, t, b := &v.canvas, v.theme, v.status.box
	if b.W < 40 {
		return
	}
	c.Rect(b, 5, ui.Fade(t.Panel, 0.93))
	c.Text(b.X+8, b.Y+14, typeface.Regular, 12, t.Dim, c.Elide(typeface.Regular, 12, v.status.text, b.W-16))
}

// problems are what is wrong, over the map.
type problems struct {
	box   ui.Box
	lines []string
}

// maxProblems is how many problems are shown over the map.
const maxProblems = 3

// layoutProblems places what is wrong, the newest at the bottom.
func (v *View) layoutProblems() {
	v.problems = problems{}
	list := v.st.Problems
	list = list[max(len(list)-maxProblems, 0):]
	if len(list) == 0 {
		return
	}
	var lines []string
	top := v.top()
	width := min(top.W, 560)
	for _, p := range list {
		head, rest, _ := strings.Cut(p, "\n")
		lines = append(lines, v.canvas.Wrap(typeface.Regular, 12, head, width-34, 3)...)
		// Each of several bad lines of a file.
		for part := range strings.Lines(rest) {
			lines = append(lines, v.canvas.Wrap(typeface.Regular, 12, part, width-34, 1)...)
		}
	}
	room := v.size.H - top.Y - 80 // of the legend, the status and the filter
	if v.filter.editing || len(v.filter.terms) > 0 {
		room -= 34
	}
	lines = lines[max(len(lines)-max(int(min(room, v.size.H/2-14)/16), 1), 0):]
	b := ui.At(top.X, top.Y, width, float64(len(lines))*16+14)
	v.problems = problems{b, lines}
	v.room.taken = append(v.room.taken, b)
	v.room.edge = b.Y + b.H
}

// pressProblems shows all that is wrong.
func (v *View) pressProblems(m ui.Mouse) {
	if m.Over(v.problems.box) {
		v.open(&problemsPanel{})
	}
}

// drawProblems lists what is wrong.
func (v *View) drawProblems() {
	if v.problems.lines == nil {
		return
	}
	c, t, b := &v.canvas, v.theme, v.problems.box
	c.Panel(b)
	if c.Hot(b) {
		c.Frame(b, 6, 1.2, t.Dim)
	}
	c.Rect(ui.At(b.X+8, b.Y+9, 3, b.H-18), 1.5, t.warning)
	for i, s := range v.problems.lines {
		c.Text(b.X+20, b.Y+19.5+float64(i)*16, typeface.Regular, 12, t.Text, s)
	}
}

// problemsPanel shows all that is wrong, in full.
type problemsPanel struct{ textPanel }

const problemRow = 17

func (*problemsPanel) Name() string       { return "problems" }
func (*problemsPanel) Title(*View) string { return "Problems" }

func (*problemsPanel) lines(v *View, w float64) (lines []string) {
	for i, problem := range v.st.Problems {
		if i > 0 {
			lines = append(lines, "")
		}
		for _, s := range strings.Split(problem, "\n") {
			lines = append(lines, v.canvas.Wrap(typeface.Regular, 12.5, s, w-ui.BarWidth-4, 20)...)
		}
	}
	if lines == nil {
		lines = []string{"All is well again."}
	}
	return lines
}

func (p *problemsPanel) Size(v *View) (w, h float64) {
	return 560, float64(min(len(p.lines(v, 560)), 20))*problemRow + footHeight
}

func (p *problemsPanel) Layout(v *View, b ui.Box) {
	p.text.Font, p.text.Size, p.text.Row = typeface.Regular, 12.5, problemRow
	p.layout(v, b, p.lines(v, b.W), strings.Join(v.st.Problems, "\n")+"\n")
}

func (p *problemsPanel) Draw(v *View, c *ui.Canvas, _ ui.Box) {
	p.text.Draw(c, func(string) color.NRGBA { return v.theme.Text })
	p.buttons.Draw(c)
}

func (p *problemsPanel) Key(v *View, k ui.Key) bool { return k != ' ' && p.textPanel.Key(v, k) }
