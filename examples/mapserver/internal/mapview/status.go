package mapview

import (
	"fmt"
	"slices"
	"strings"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

// statusText says what is shown and how far it can be trusted.
func (v *View) statusText() string {
	st := v.st
	var parts []string
	live := v.stacks.shown
	if v.filter.states {
		live -= v.stacks.closing // which are on the map too
	}
	parts = append(parts, plural(len(st.Agents), "host"), fmt.Sprintf("%d live", live))
	if v.stacks.hidden > 0 {
		parts = append(parts, fmt.Sprintf("%d local hidden", v.stacks.hidden))
	}
	if v.stacks.hosts > 0 {
		parts = append(parts, fmt.Sprintf("%d of hidden hosts", v.stacks.hosts))
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
	if st.Geo.Name != "" {
		geo := "geo"
		if !st.Geo.Date.IsZero() {
			geo += " " + st.Geo.Date.UTC().Format("2006-01")
		}
		if st.Geo.CountryLevel {
			geo += ", country level: connmap-data update"
		}
		parts = append(parts, geo)
	}
	if v.paused.at != nil {
		parts = append([]string{"paused at " + v.st.Time.In(v.now.Location()).Format("15:04:05 MST")}, parts...)
	}
	if v.camera.zoomed {
		parts = append(parts, fmt.Sprintf("%.3gx, 0 shows all", v.camera.zoom))
	}
	return strings.Join(append(parts, "? keys"), " · ")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (v *View) layoutStatus() ui.Box {
	c := &v.canvas
	s := v.statusText()
	w := min(c.Width(typeface.Regular, 12, s)+16, v.size.W-16)
	b := ui.At(v.size.W-w-8, v.size.H-28, w, 20)
	v.taken = append(v.taken, b)
	return b
}

func (v *View) drawStatus(b ui.Box) {
	c, t := &v.canvas, v.theme
	if b.W < 40 {
		return
	}
	c.Rect(b, 5, ui.Fade(t.Panel, 0.93))
	c.Text(b.X+8, b.Y+14, typeface.Regular, 12, t.Dim, c.Elide(typeface.Regular, 12, v.statusText(), b.W-16))
}

// layoutProblems places what is wrong, the newest at the bottom.
func (v *View) layoutProblems() (lines []string) {
	v.problems = ui.Box{}
	list := v.st.Problems
	const most = 3
	if len(list) > most {
		list = list[len(list)-most:]
	}
	if len(list) == 0 {
		return nil
	}
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
	if most := max(int(min(room, v.size.H/2-14)/16), 1); len(lines) > most {
		lines = lines[len(lines)-most:]
	}
	v.problems = ui.At(top.X, top.Y, width, float64(len(lines))*16+14)
	v.taken = append(v.taken, v.problems)
	v.edge = v.problems.Y + v.problems.H
	return lines
}

// drawProblems lists what is wrong. A click shows all of it.
func (v *View) drawProblems(lines []string) {
	if len(lines) == 0 {
		return
	}
	c, t, b := &v.canvas, v.theme, v.problems
	c.Panel(b)
	if v.hot(b) {
		c.Frame(b, 6, 1.2, t.Dim)
		if v.in.Press {
			v.open(&problemsPanel{})
		}
	}
	c.Rect(ui.At(b.X+8, b.Y+9, 3, b.H-18), 1.5, t.warning)
	for i, s := range lines {
		c.Text(b.X+20, b.Y+19.5+float64(i)*16, typeface.Regular, 12, t.Text, s)
	}
}

// problemsPanel shows all that is wrong, in full.
type problemsPanel struct{ scroller }

const problemRow = 17

func (*problemsPanel) name() string       { return "problems" }
func (*problemsPanel) title(*View) string { return "Problems" }

func (p *problemsPanel) lines(v *View, w float64) (lines []string) {
	for i, problem := range v.st.Problems {
		if i > 0 {
			lines = append(lines, "")
		}
		for _, s := range strings.Split(problem, "\n") {
			lines = append(lines, v.canvas.Wrap(typeface.Regular, 12.5, s, w-barWidth-4, 20)...)
		}
	}
	if lines == nil {
		lines = []string{"All is well again."}
	}
	return lines
}

func (p *problemsPanel) size(v *View) (w, h float64) {
	return 560, float64(min(len(p.lines(v, 560)), 20))*problemRow + footHeight
}

func (p *problemsPanel) show(v *View, b ui.Box) {
	lines := p.lines(v, b.W)
	text := ui.At(b.X, b.Y, b.W, b.H-footHeight)
	if text.H >= problemRow {
		n := p.scroller.show(v, text, len(lines), problemRow)
		for i, s := range lines[p.top : p.top+n] {
			v.canvas.Text(b.X+2, b.Y+13+float64(i)*problemRow, typeface.Regular, 12.5, v.theme.Text, s)
		}
	}
	if pressed, _ := v.buttons(ui.At(b.X, b.Y+b.H-24, b.W, 26), "Copy"); pressed == 0 {
		v.ask(Copy{Text: strings.Join(v.st.Problems, "\n") + "\n"})
	}
}

func (p *problemsPanel) key(_ *View, k ui.Key) bool {
	return (k == ui.KeyUp || k == ui.KeyDown || k == ui.KeyPageUp || k == ui.KeyPageDown || k == ui.KeyHome || k == ui.KeyEnd) && p.keys(k, 10)
}
