package mapview

import (
	"fmt"
	"image/color"
	"math"
	"strings"
	"time"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/internal/numbers"
)

// hovered returns the stack under the mouse, or nil.
func (v *View) hovered() *stack {
	if !v.onMap() || v.window.moves && v.in.Held {
		return nil
	}
	return v.stacks.over(v.cursor())
}

// over returns the stack that a point means, also that of unknown places, or nil.
func (s *stacks) over(x, y float64) *stack {
	for i := range s.list {
		if k := &s.list[i]; k.unknown && math.Hypot(k.x-x, k.y-y) < 20 {
			return k
		}
	}
	return s.at(x, y)
}

// A hover is what is under the mouse.
type hover struct {
	stack *stack // nil: nothing
	card  card
}

// A card names what is under the mouse. Without lines it is not shown.
type card struct {
	box   ui.Box
	lines []cardLine
}

// A cardLine is a line of a card.
type cardLine struct {
	font        typeface.Font
	size        float64
	left, right string
	color       color.NRGBA // of left
	rightColor  color.NRGBA
	bar         color.NRGBA // at the left edge; transparent: none
}

const cardRows = 8 // connections of a stack that are named

const (
	cardAir = 12
	cardRow = 18
)

// layoutCard places the card of the stack under the mouse.
func (v *View) layoutCard() {
	v.hover.card = card{}
	k := v.hover.stack
	if k == nil {
		return
	}
	lines := v.cardOfOne(k.conns[0])
	if len(k.conns) > 1 {
		lines = v.cardOfMany(k)
	}
	c := &v.canvas
	w := 200.0
	for _, l := range lines {
		need := c.Width(l.font, l.size, l.left)
		if l.right != "" {
			need += 24 + c.Width(typeface.Regular, 12.5, l.right)
		}
		w = max(w, need+2*cardAir)
	}
	w = min(w, min(380, v.size.W-16))
	h := float64(len(lines))*cardRow + 2*cardAir - 6
	b := ui.At(k.x+18, k.y-h-14, w, h)
	if b.Y < 4 {
		b.Y = k.y + 18
	}
	if b.X+b.W > v.size.W-4 {
		b.X = k.x - 18 - w
	}
	b = b.Clamp(v.size.Grow(-4))
	v.hover.card = card{v.placeTip(b, ui.At(k.x, k.y, 0, 0).Grow(k.radius()+6)), lines}
}

func (v *View) drawCard() {
	b := v.hover.card.box
	if v.hover.card.lines == nil {
		return
	}
	c := &v.canvas
	c.Panel(b)
	y := b.Y + cardAir + 10
	for _, l := range v.hover.card.lines {
		room := b.W - 2*cardAir
		if l.right != "" {
			r := c.Elide(typeface.Regular, 12.5, l.right, room*0.6)
			c.TextRight(b.X+b.W-cardAir, y, typeface.Regular, 12.5, l.rightColor, r)
			room -= c.Width(typeface.Regular, 12.5, r) + 12
		}
		if l.bar.A > 0 {
			c.Rect(ui.At(b.X+5, y-11, 3, 14), 1.5, l.bar)
		}
		c.Text(b.X+cardAir, y, l.font, l.size, l.color, c.Elide(l.font, l.size, l.left, room))
		y += cardRow
	}
}

func (v *View) ruleOf(c *live.Conn) (string, color.NRGBA) {
	if int(c.Rule) >= len(v.st.Rules) {
		return "", v.theme.Text
	}
	r := v.st.Rules[c.Rule]
	return r.Label, ui.Opaque(r.Color)
}

// colorOf returns the colour of the rules of a label, transparent if there is none.
func (v *View) colorOf(label string) color.NRGBA {
	for _, r := range v.st.Rules {
		if r.Label == label {
			return r.Color
		}
	}
	return color.NRGBA{}
}

func (v *View) cardOfOne(c *live.Conn) []cardLine {
	t := v.theme
	label, col := v.ruleOf(c)
	first := cardLine{font: typeface.Mono, size: 13, left: peer(c), color: t.Text, right: label, rightColor: v.legible(col)}
	var lines []cardLine
	if c.Name != "" {
		first.font, first.left = typeface.Medium, shortName(c)
		lines = append(lines, first, cardLine{font: typeface.Mono, size: 12, left: peer(c), color: t.Dim})
	} else {
		lines = append(lines, first)
	}
	lines = append(lines, cardLine{font: typeface.Regular, size: 12.5, left: strings.Join(v.about(c), " · "), color: t.Text})
	if s := holder(c); s != "" {
		lines = append(lines, cardLine{font: typeface.Regular, size: 12.5, left: s, color: t.Dim})
	}
	return append(lines,
		cardLine{font: typeface.Regular, size: 12.5, left: placeText(c), color: t.Dim},
		cardLine{font: typeface.Regular, size: 11.5, left: v.certainty(c), color: t.Dim})
}

// legible returns the colour of a rule if text in it can be read, else that
// of text: rules may be dark.
func (v *View) legible(col color.NRGBA) color.NRGBA {
	if ui.Contrast(col, v.theme.Panel) < 4.5 {
		return v.theme.Text
	}
	return col
}

func (v *View) about(c *live.Conn) []string {
	parts := []string{program(c) + " on " + c.Agent, c.Proto.String()}
	if c.Direction != conntrack.Unknown {
		parts[1] += " " + c.Direction.String()
	}
	if c.Direction == conntrack.In {
		parts[1] += fmt.Sprintf(" to port %d", c.Local.Port())
	}
	if c.State.BeingClosed() {
		parts = append(parts, "closing")
	}
	if c.RTT > 0 {
		parts = append(parts, fmt.Sprintf("%.3g ms", float64(c.RTT)/1e6))
	}
	if c.Rx > 0 || c.Tx > 0 {
		parts = append(parts, "↓ "+numbers.Bytes(c.Rx)+" ↑ "+numbers.Bytes(c.Tx))
	}
	return parts
}

func holder(c *live.Conn) string {
	switch {
	case c.ASN == 0:
		return ""
	case c.Org == "":
		return fmt.Sprintf("AS%d", c.ASN)
	}
	return fmt.Sprintf("AS%d %s", c.ASN, c.Org)
}

func placeText(c *live.Conn) string {
	switch {
	case c.Scope == live.Loopback:
		return "this host"
	case c.Scope == live.LAN:
		return "local network"
	case c.Place.Precision == geoip.Unknown:
		return "place unknown"
	}
	name := geoip.CountryName(c.Place.Country)
	if name == "" {
		name = c.Place.Country
	}
	if c.Place.City != "" && name != "" {
		return c.Place.City + ", " + name
	}
	if name == "" && c.Place.City == "" {
		return fmt.Sprintf("%.2f, %.2f", c.Place.Lat, c.Place.Lon)
	}
	return c.Place.City + name
}

// certainty says how exact the place is, and since when the connection is open.
func (v *View) certainty(c *live.Conn) string {
	var parts []string
	switch {
	case c.Scope != live.Internet:
	case c.Place.Precision == geoip.Country:
		parts = append(parts, "country level")
	case c.Place.Precision == geoip.Unknown:
		parts = append(parts, "in none of the tables")
	}
	if c.Opened != 0 {
		parts = append(parts, "since "+sinceText(c.Opened.Time(), v.now))
	}
	return strings.Join(parts, " · ")
}

func (v *View) cardOfMany(k *stack) []cardLine {
	t := v.theme
	where := placeText(k.conns[0])
	for _, c := range k.conns {
		if placeText(c) != where {
			where = "several places"
			break
		}
	}
	if k.conns[0].Place.Precision == geoip.Country && k.conns[0].Scope == live.Internet {
		where += ", country level"
	}
	lines := []cardLine{{font: typeface.Medium, size: 13, left: fmt.Sprintf("%dx", len(k.conns)), color: t.Text, right: where, rightColor: t.Dim}}
	org := ""
	for i, c := range k.conns {
		if i == cardRows {
			lines = append(lines, cardLine{font: typeface.Regular, size: 11.5, left: fmt.Sprintf("and %d more", len(k.conns)-cardRows), color: t.Dim})
			break
		}
		_, col := v.ruleOf(c)
		lines = append(lines, cardLine{font: typeface.Mono, size: 12, left: peerName(c), color: t.Text,
			right: program(c) + " on " + c.Agent, rightColor: t.Dim, bar: col})
		if h := holder(c); h != "" && org == "" {
			org = h
		} else if h != org {
			org = "several networks"
		}
	}
	if org != "" {
		lines = append(lines, cardLine{font: typeface.Regular, size: 11.5, left: org, color: t.Dim})
	}
	return lines
}

// sinceText writes when something began: by the clock, or by its date if that is long ago.
func sinceText(t, now time.Time) string {
	layout := "15:04:05 MST"
	if now.Sub(t) > 20*time.Hour {
		layout = "2 Jan 15:04 MST"
	}
	return t.In(now.Location()).Format(layout)
}
