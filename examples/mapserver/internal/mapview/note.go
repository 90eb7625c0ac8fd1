package mapview

import (
	"fmt"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

const (
	noteWidth = 460 // at most
	minNote   = 200 // beside the legend; with less room it stands at the upper edge
	noteRow   = 16
)

// A note is a box with a sentence over the map.
type note struct {
	box   ui.Box
	lines []string
	// limit is the sentence, if it is about a limitation of capture: then it can be
	// dismissed. A note without is about this moment.
	limit string
}

// limitation says in plain words what agents do not see; empty: they see all.
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
		return fmt.Sprintf("%d of %d agents do not see all connections or programs. Press i for the reason.", n, len(agents))
	}
	return v.canvas.Elide(typeface.Regular, 12, one.Name, 150) + " does not see all connections or programs. Press i for the reason."
}

// noteText is what to know besides the status, and whether it is a limitation.
func (v *View) noteText() (s string, limit bool) {
	s = v.limitation()
	switch {
	case len(v.st.Agents) == 0 && v.st.Seq > 0:
		return "no agent reports yet", false
	case s != "" && s != v.Dismissed:
		return s, true
	case len(v.st.Agents) > 0 && v.stacks.shown+v.stacks.filtered+v.stacks.ofHidden == 0:
		return "no connections to the Internet at the moment", false
	}
	return "", false
}

// layoutNote places the note where it covers neither the legend nor what is at the upper
// edge.
func (v *View) layoutNote() {
	v.note = note{}
	s, limit := v.noteText()
	if s == "" {
		return
	}
	c := &v.canvas
	room := v.size.W - legendWidth - 32
	above := room < minNote
	if above {
		room = v.size.W - 16
	}
	air := 16.0
	if limit {
		air += 22 // of the cross
	}
	var n note
	if limit {
		n.limit = s
	}
	n.lines = c.Wrap(typeface.Regular, 12, s, min(noteWidth, room)-air, 5)
	w := 0.0
	for _, l := range n.lines {
		w = max(w, c.Width(typeface.Regular, 12, l))
	}
	status := v.status.box
	h := float64(len(n.lines))*noteRow + 6
	n.box = ui.At(v.size.W-w-air-8, status.Y-h-4, w+air, h)
	if above {
		n.box.X, n.box.Y = 8, v.room.edge+6
		if n.box.Y+n.box.H+legendRow+18 > status.Y {
			return // i says it too
		}
		v.room.edge += h + 6
	}
	if !above && n.box.Y < v.room.edge+4 {
		return
	}
	v.room.taken = append(v.room.taken, n.box)
	v.note = n
}

// cross is where the note is dismissed; empty: it cannot be.
func (n *note) cross() ui.Box {
	if n.limit == "" {
		return ui.Box{}
	}
	return ui.At(n.box.X+n.box.W-22, n.box.Y+2, 20, 20)
}

func (v *View) pressNote(m ui.Mouse) {
	if m.Over(v.note.cross()) {
		v.Dismissed = v.note.limit
	}
}

func (v *View) drawNote() {
	n := &v.note
	if n.lines == nil {
		return
	}
	c, t := &v.canvas, v.theme
	c.Rect(n.box, 5, ui.Fade(t.Panel, 0.93))
	col := t.Dim
	if x := n.cross(); x.W > 0 {
		col = t.Text
		c.Frame(n.box, 5, 1, t.Edge)
		c.Highlight(x)
		c.Cross(x.X+10, x.Y+9, 3.5, 1.3, t.Dim)
	}
	for i, l := range n.lines {
		c.Text(n.box.X+8, n.box.Y+14+float64(i)*noteRow, typeface.Regular, 12, col, l)
	}
}
