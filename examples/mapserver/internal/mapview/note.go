package mapview

import (
	"fmt"
	"strings"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
)

const (
	noteWidth = 460 // at most
	noteLeast = 200 // beside the legend; with less room it stands at the upper edge
	noteRow   = 16
)

// A note is a box with a sentence over the map.
type note struct {
	box   box
	lines []string
	// limit is the sentence, if it is about a limitation of capture: then it can be
	// dismissed. A note without is about this moment.
	limit string
}

// limitation says in plain words what hosts do not see; empty: they see all.
func (v *View) limitation() string {
	agents := v.st.Agents
	var one *live.Agent
	n := 0
	for i := range agents {
		if agents[i].Limited != "" {
			one = &agents[i]
			n++
		}
	}
	switch {
	case n == 0:
		return ""
	case n > 1:
		return fmt.Sprintf("%d of %d hosts do not see all connections or programs. i says why.", n, len(agents))
	}
	var misses []string
	switch one.Backend {
	case "diag", "proc":
		misses = append(misses, "connections shorter than a second")
	}
	if strings.Contains(one.Limited, "names of other users") {
		misses = append(misses, "the names of other users' programs")
	}
	if misses == nil {
		misses = []string{"all connections"}
	}
	return v.canvas.elide(typeface.Regular, 12, one.Name, 150) + " does not see " + strings.Join(misses, " and ") + ". i says why."
}

// noteText is what to know besides the status, and whether it is a limitation.
func (v *View) noteText() (s string, limit bool) {
	s = v.limitation()
	switch {
	case len(v.st.Agents) == 0 && v.st.Seq > 0:
		return "no agent reports yet", false
	case s != "" && s != v.Dismissed:
		return s, true
	case len(v.st.Agents) > 0 && v.stacks.shown+v.stacks.filtered+v.stacks.hosts == 0:
		return "no connections to the Internet at the moment", false
	}
	return "", false
}

// layoutNote places the note where it covers neither the legend nor what is at the upper
// edge.
func (v *View) layoutNote(status box) note {
	s, limit := v.noteText()
	if s == "" {
		return note{}
	}
	c := &v.canvas
	room := v.size.w - legendWidth - 32
	above := room < noteLeast
	if above {
		room = v.size.w - 16
	}
	air := 16.0
	if limit {
		air += 22 // of the cross
	}
	var n note
	if limit {
		n.limit = s
	}
	n.lines = c.wrap(typeface.Regular, 12, s, min(noteWidth, room)-air, 5)
	w := 0.0
	for _, l := range n.lines {
		w = max(w, c.width(typeface.Regular, 12, l))
	}
	h := float64(len(n.lines))*noteRow + 6
	n.box = box{v.size.w - w - air - 8, status.y - h - 4, w + air, h}
	if above {
		n.box.x, n.box.y = 8, v.edge+6
		if n.box.y+n.box.h+legendRow+18 > status.y {
			return note{} // i says it too
		}
		v.edge += h + 6
	}
	if !above && n.box.y < v.edge+4 {
		return note{}
	}
	v.taken = append(v.taken, n.box)
	return n
}

func (v *View) drawNote(n note) {
	if n.lines == nil {
		return
	}
	c, t := &v.canvas, v.theme
	c.rect(n.box, 5, fade(t.panel, 0.93))
	col := t.dim
	if n.limit != "" {
		col = t.text
		c.frame(n.box, 5, 1, t.edge)
		x := box{n.box.x + n.box.w - 22, n.box.y + 2, 20, 20}
		if v.hot(x) {
			c.rect(x, 4, t.edge)
			if v.in.Press {
				v.Dismissed = n.limit
				v.again = true
			}
		}
		c.cross(x.x+10, x.y+9, 3.5, 1.3, t.dim)
	}
	for i, l := range n.lines {
		c.text(n.box.x+8, n.box.y+14+float64(i)*noteRow, typeface.Regular, 12, col, l)
	}
}
