package mapview

import (
	"fmt"
	"image/color"
	"slices"
	"strconv"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/rules"
)

// maxLabels bounds the work of placing labels; a picture holds fewer.
const maxLabels = 400

// A label stands beside a stack.
type label struct {
	box   ui.Box
	text  string
	color color.NRGBA
}

// layoutLabels places beside the stacks what the user asked for, or what a rule
// asks for. A label that finds no free place is left out rather than drawn
// over another.
func (v *View) layoutLabels() {
	c := &v.canvas
	v.labels = v.labels[:0]
	taken := append([]ui.Box(nil), v.room.taken...)
	for i := range v.stacks.list {
		if k := &v.stacks.list[i]; !k.unknown && len(v.stacks.list) < 2000 {
			taken = append(taken, ui.At(k.x, k.y, 0, 0).Grow(k.radius()))
		}
	}
	taken = append(taken, v.unknownBox())
	if x, y, ok := v.home(); ok {
		taken = append(taken, ui.At(x, y, 0, 0).Grow(7))
	}
	tried := 0
	for i := range v.stacks.list {
		k := &v.stacks.list[i]
		if k.unknown || k == v.hover.stack {
			continue
		}
		s, col := v.label(k)
		if s == "" {
			continue
		}
		if tried++; tried > maxLabels {
			return
		}
		s = c.Elide(typeface.Regular, 11, s, 180)
		w := c.Width(typeface.Regular, 11, s)
		r := k.radius() + 3
		for _, b := range [...]ui.Box{
			ui.At(k.x+r, k.y-7, w, 14), ui.At(k.x-r-w, k.y-7, w, 14),
			ui.At(k.x-w/2, k.y-r-14, w, 14), ui.At(k.x-w/2, k.y+r, w, 14),
		} {
			if v.free(b, taken) {
				taken = append(taken, b)
				v.labels = append(v.labels, label{b, s, col})
				break
			}
		}
	}
}

func (v *View) drawLabels() {
	c := &v.canvas
	for _, l := range v.labels {
		c.Rect(l.box.Grow(1.5), 3, ui.Fade(v.theme.palette.Sea, 0.7))
		c.Text(l.box.X, l.box.Y+11, typeface.Regular, 11, l.color, l.text)
	}
}

func (v *View) free(b ui.Box, taken []ui.Box) bool {
	if b.X < 2 || b.Y < 2 || b.X+b.W > v.size.W-2 || b.Y+b.H > v.size.H-2 {
		return false
	}
	for _, t := range taken {
		if b.Overlaps(t) {
			return false
		}
	}
	return true
}

// label returns what stands beside a stack, and its colour; empty: nothing.
func (v *View) label(k *stack) (string, color.NRGBA) {
	first := k.conns[0]
	rule := ""
	for _, s := range k.shares {
		if g := v.stacks.groups[s.group]; v.written(g.label) {
			rule = g.label
			break
		}
	}
	if i := slices.IndexFunc(k.conns, func(c *live.Conn) bool { return int(c.Rule) < len(v.st.Rules) && v.st.Rules[c.Rule].Label == rule }); i > 0 {
		first = k.conns[i]
	}
	text := ""
	if v.Labels {
		text = program(first) + " " + peerText(first)
		if n := len(k.conns); n > 1 {
			text += fmt.Sprintf(" +%d", n-1)
		}
		if rule != "" {
			text = rule + ": " + text
		}
	} else if rule != "" {
		text = rule
		if n := len(k.shares); n > 1 && v.RuleLabels {
			text += fmt.Sprintf(" +%d", n-1)
		}
	}
	return text, v.theme.Text
}

// written reports whether a rule's label stands beside its places: as the user has switched
// it last, alone or with all others, else as the rules file has it.
func (v *View) written(label string) bool {
	if on, said := v.Labelled[label]; said {
		return on
	}
	return v.RuleLabels || slices.ContainsFunc(v.st.Rules, func(r rules.Rule) bool { return r.Label == label && r.ShowText })
}

// writeAll switches the labels of all rules.
func (v *View) writeAll(on bool) {
	v.RuleLabels, v.Labelled = on, nil
	if !on {
		var labels []string
		for _, r := range v.st.Rules {
			labels = append(labels, r.Label)
		}
		v.write(false, labels...)
	}
}

// write switches labels. It forgets those that no rule has any more.
func (v *View) write(on bool, labels ...string) {
	said := make(map[string]bool)
	for _, r := range v.st.Rules {
		if before, ok := v.Labelled[r.Label]; ok {
			said[r.Label] = before
		}
	}
	for _, label := range labels {
		said[label] = on
	}
	v.Labelled = said
}

// program names the program of a connection as well as it is known.
func program(c *live.Conn) string {
	if c.Process.Comm != "" {
		return c.Process.Comm
	}
	if c.Process.PID != 0 {
		return fmt.Sprintf("pid %d", c.Process.PID)
	}
	return "?"
}

// peerText is peerName with the protocol, if that is not TCP.
func peerText(c *live.Conn) string {
	s := peerName(c)
	if c.Proto != conntrack.TCP {
		s += "/" + c.Proto.String()
	}
	return s
}

// maxPeerName is the longest part of a name that is drawn, in bytes. More would be cut on the right
// by cards, where the domain is.
const maxPeerName = 28

// shortName returns the name of a peer, or the end of a long one, which says whose it is.
func shortName(c *live.Conn) string {
	if len(c.Name) > maxPeerName {
		return "…" + c.Name[len(c.Name)-maxPeerName+1:]
	}
	return c.Name
}

// peerName is peer by name, if that is known.
func peerName(c *live.Conn) string {
	switch {
	case c.Name == "":
		return peer(c)
	case c.Peer.Port() == 0:
		return shortName(c)
	}
	return shortName(c) + ":" + strconv.Itoa(int(c.Peer.Port()))
}

// peer is the other end of a connection. Not all protocols have ports.
func peer(c *live.Conn) string {
	if c.Peer.Port() == 0 {
		return c.Peer.Addr().String()
	}
	return c.Peer.String()
}
