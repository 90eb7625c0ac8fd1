package mapview

import (
	"fmt"
	"slices"
	"strings"

	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
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

func (v *View) layoutStatus() box {
	c := &v.canvas
	s := v.statusText()
	w := min(c.width(typeface.Regular, 12, s)+16, v.size.w-16)
	b := box{v.size.w - w - 8, v.size.h - 28, w, 20}
	v.taken = append(v.taken, b)
	return b
}

func (v *View) drawStatus(b box) {
	c, t := &v.canvas, v.theme
	if b.w < 40 {
		return
	}
	c.rect(b, 5, fade(t.panel, 0.93))
	c.text(b.x+8, b.y+14, typeface.Regular, 12, t.dim, c.elide(typeface.Regular, 12, v.statusText(), b.w-16))
}

// layoutProblems places what is wrong, the newest at the bottom.
func (v *View) layoutProblems() (lines []string) {
	v.problems = box{}
	list := v.st.Problems
	const most = 3
	if len(list) > most {
		list = list[len(list)-most:]
	}
	if len(list) == 0 {
		return nil
	}
	top := v.top()
	width := min(top.w, 560)
	for _, p := range list {
		head, rest, _ := strings.Cut(p, "\n")
		lines = append(lines, v.canvas.wrap(typeface.Regular, 12, head, width-34, 3)...)
		// Each of several bad lines of a file.
		for part := range strings.Lines(rest) {
			lines = append(lines, v.canvas.wrap(typeface.Regular, 12, part, width-34, 1)...)
		}
	}
	room := v.size.h - top.y - 80 // of the legend, the status and the filter
	if v.filter.editing || len(v.filter.terms) > 0 {
		room -= 34
	}
	if most := max(int(min(room, v.size.h/2-14)/16), 1); len(lines) > most {
		lines = lines[len(lines)-most:]
	}
	v.problems = box{top.x, top.y, width, float64(len(lines))*16 + 14}
	v.taken = append(v.taken, v.problems)
	v.edge = v.problems.y + v.problems.h
	return lines
}

// drawProblems lists what is wrong. A click shows all of it.
func (v *View) drawProblems(lines []string) {
	if len(lines) == 0 {
		return
	}
	c, t, b := &v.canvas, v.theme, v.problems
	c.panel(b, t)
	if v.hot(b) {
		c.frame(b, 6, 1.2, t.dim)
		if v.in.Press {
			v.open(&problemsPanel{})
		}
	}
	c.rect(box{b.x + 8, b.y + 9, 3, b.h - 18}, 1.5, t.warning)
	for i, s := range lines {
		c.text(b.x+20, b.y+19.5+float64(i)*16, typeface.Regular, 12, t.text, s)
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
			lines = append(lines, v.canvas.wrap(typeface.Regular, 12.5, s, w-barWidth-4, 20)...)
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

func (p *problemsPanel) show(v *View, b box) {
	lines := p.lines(v, b.w)
	text := box{b.x, b.y, b.w, b.h - footHeight}
	if text.h >= problemRow {
		n := p.scroller.show(v, text, len(lines), problemRow)
		for i, s := range lines[p.top : p.top+n] {
			v.canvas.text(b.x+2, b.y+13+float64(i)*problemRow, typeface.Regular, 12.5, v.theme.text, s)
		}
	}
	if pressed, _ := v.buttons(box{b.x, b.y + b.h - 24, b.w, 26}, "Copy"); pressed == 0 {
		v.ask(Copy{Text: strings.Join(v.st.Problems, "\n") + "\n"})
	}
}

func (p *problemsPanel) key(_ *View, k Key) bool {
	return (k == KeyUp || k == KeyDown || k == KeyPageUp || k == KeyPageDown || k == KeyHome || k == KeyEnd) && p.keys(k, 10)
}

// wrap breaks a text at blanks into at most n lines of a width; the last is
// cut with an ellipsis.
func (c *canvas) wrap(f typeface.Font, size float64, s string, w float64, n int) []string {
	var lines []string
	line := ""
	words := strings.Fields(s)
	for i, word := range words {
		next := word
		if line != "" {
			next = line + " " + word
		}
		if line == "" || c.width(f, size, next) <= w {
			line = next
			continue
		}
		if len(lines) == n-1 {
			line = strings.Join(append([]string{line}, words[i:]...), " ")
			break
		}
		lines = append(lines, c.elide(f, size, line, w))
		line = word
	}
	return append(lines, c.elide(f, size, line, w))
}
