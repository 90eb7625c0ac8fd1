package mapview

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/geoip"
)

// A filter says which connections are shown: those that all its terms fit.
type filter struct {
	text    string
	editing bool
	terms   []term
	states  bool // a term asks for states, so that what is being closed is on the map too
}

// A term is a word of a filter. With a key, as in port:443, it is about one thing,
// else about any. A minus before it turns it round.
type term struct {
	key, value string // in lower case
	not        bool
}

// maxFilter is how long a filter may be, in bytes.
const maxFilter = 200

// The keys of terms, each with what it is about.
var filterKeys = map[string]func(c *live.Conn, label, value string) bool{
	"port": func(c *live.Conn, _, value string) bool {
		return strconv.Itoa(int(c.Peer.Port())) == value || strconv.Itoa(int(c.Local.Port())) == value
	},
	"ip": func(c *live.Conn, _, value string) bool {
		return strings.HasPrefix(c.Peer.Addr().String(), value)
	},
	"agent": fitsAgent,
	"host":  fitsAgent,
	"app": func(c *live.Conn, _, value string) bool {
		return has(c.Process.Comm, value) || has(c.Process.Exe, value)
	},
	"org": func(c *live.Conn, _, value string) bool { return has(c.Org, value) },
	"as": func(c *live.Conn, _, value string) bool {
		return strconv.FormatUint(uint64(c.ASN), 10) == strings.TrimPrefix(value, "as")
	},
	"country": func(c *live.Conn, _, value string) bool {
		return strings.EqualFold(c.Place.Country, value) || len(value) > 2 && has(geoip.CountryName(c.Place.Country), value)
	},
	"city":      func(c *live.Conn, _, value string) bool { return has(c.Place.City, value) },
	"rule":      func(_ *live.Conn, label, value string) bool { return has(label, value) },
	"proto":     func(c *live.Conn, _, value string) bool { return c.Proto.String() == value },
	"container": func(c *live.Conn, _, value string) bool { return has(c.Process.Container, value) },
	// closing is what is being closed, in whatever way.
	"state": func(c *live.Conn, _, value string) bool {
		return value == "closing" && c.State.BeingClosed() || c.State != 0 && strings.HasPrefix(c.State.String(), value)
	},
	"dir": func(c *live.Conn, _, value string) bool { return c.Direction.String() == value },
}

func fitsAgent(c *live.Conn, _, value string) bool { return has(c.Agent, value) }

// has reports whether s contains a text that is in lower case.
func has(s, lower string) bool { return strings.Contains(strings.ToLower(s), lower) }

func parseFilter(text string) (terms []term) {
	for _, word := range strings.Fields(strings.ToLower(text)) {
		var t term
		word, t.not = strings.CutPrefix(word, "-")
		t.value = word
		if key, value, ok := strings.Cut(word, ":"); ok && filterKeys[key] != nil {
			t.key, t.value = key, value
		}
		// A word without a value is still being typed.
		if t.value != "" {
			terms = append(terms, t)
		}
	}
	return terms
}

// fits reports whether a connection of the rule with a label fits all terms.
func (f *filter) fits(c *live.Conn, label string) bool {
	for _, t := range f.terms {
		if t.fits(c, label) == t.not {
			return false
		}
	}
	return true
}

// fits reports whether a live connection fits the filter.
func (v *View) fits(c *live.Conn) bool {
	if len(v.filter.terms) == 0 {
		return true
	}
	label, _ := v.ruleOf(c)
	return v.filter.fits(c, label)
}

// A Filter is what the user has typed, for the history.
type Filter struct{ filter filter }

// Fits reports whether a stored connection fits. It may be called from any goroutine.
func (f Filter) Fits(p *live.Past) bool { return f.filter.fits(&p.Conn, p.Label) }

func (t term) fits(c *live.Conn, label string) bool {
	if t.key != "" {
		return filterKeys[t.key](c, label, t.value)
	}
	for _, s := range [...]string{c.Peer.String(), c.Process.Comm, c.Agent, c.Org, c.Place.City, geoip.CountryName(c.Place.Country), label, c.Process.Exe, c.Process.Container} {
		if has(s, t.value) {
			return true
		}
	}
	return false
}

// typed takes in a key while the filter is typed.
func (f *filter) typed(k ui.Key) {
	k &^= ui.Shift // held for a capital
	switch {
	case k == ui.KeyEscape:
		*f = filter{}
		return
	case k == ui.KeyEnter:
		f.editing = false
		return
	case k == ui.KeyBackspace:
		_, n := utf8.DecodeLastRuneInString(f.text)
		f.text = f.text[:len(f.text)-n]
	case k.Rune() != 0 && len(f.text)+utf8.RuneLen(k.Rune()) <= maxFilter:
		f.text += string(k.Rune())
	default:
		return
	}
	f.terms = parseFilter(f.text)
	f.states = slices.ContainsFunc(f.terms, func(t term) bool { return t.key == "state" && !t.not })
}

// layoutFilter places what is typed, or a chip for each term.
func (v *View) layoutFilter() {
	f := &v.filter
	at := v.chips[:0]
	top := v.top()
	top.Y = v.room.edge + 6
	if f.editing {
		at = append(at, ui.At(top.X, top.Y, min(520, top.W), 28))
		top.Y += 34
	}
	b := ui.At(top.X, top.Y, 0, 22)
	if !f.editing {
		for _, term := range f.terms {
			b.W = v.canvas.Width(typeface.Mono, 12, v.chip(term)) + 16
			if b.X+b.W > top.X+top.W && b.X > top.X {
				b.X, b.Y = top.X, b.Y+26
			}
			if b.Y+b.H > v.size.H {
				break
			}
			at = append(at, b)
			b.X += b.W + 6
		}
	}
	v.search.chip = ui.Box{}
	if s := v.searchText(); s != "" {
		s = v.canvas.Elide(typeface.Regular, 12, s, top.W-16)
		b.W = v.canvas.Width(typeface.Regular, 12, s) + 16
		if b.X+b.W > top.X+top.W && b.X > top.X {
			b.X, b.Y = top.X, b.Y+26
		}
		if b.Y+b.H <= v.size.H {
			v.search.chip, v.search.text = b, s
			v.room.edge = b.Y + b.H
			v.room.taken = append(v.room.taken, b)
		}
	}
	for _, b := range at {
		v.room.edge = max(v.room.edge, b.Y+b.H)
	}
	v.room.taken = append(v.room.taken, at...)
	v.chips = at
}

// pressFilter opens the list of what the filter fits.
func (v *View) pressFilter(m ui.Mouse) {
	if m.Over(v.search.chip) {
		v.open(v.newShownList())
	}
}

// chip is a term as it stands in its chip.
func (v *View) chip(t term) string {
	return v.canvas.Elide(typeface.Mono, 12, t.String(), v.top().W-24)
}

// drawFilter draws the terms as chips, or what is typed.
func (v *View) drawFilter() {
	f := &v.filter
	c, t := &v.canvas, v.theme
	if b := v.search.chip; b.W > 0 {
		c.Panel(b)
		col := t.Dim
		if c.Hot(b) {
			col = t.Accent
		}
		c.Text(b.X+8, b.Y+15, typeface.Regular, 12, col, v.search.text)
	}
	if !f.editing {
		for i, b := range v.chips {
			c.Panel(b)
			c.Text(b.X+8, b.Y+15, typeface.Mono, 12, t.Accent, v.chip(f.terms[i]))
		}
		return
	}
	const hint = "port:443 org:hetzner agent:nas app:ssh country:DE -text"
	b := v.chips[0]
	c.Panel(b)
	c.Text(b.X+10, b.Y+18.5, typeface.Medium, 13, t.Accent, "/")
	text, col := f.text, t.Text
	if text == "" {
		text, col = hint, t.Dim
	}
	// The end is what is being typed.
	for c.Width(typeface.Mono, 12.5, text) > b.W-46 && text != "" {
		_, n := utf8.DecodeRuneInString(text)
		text = text[n:]
	}
	c.Text(b.X+22, b.Y+18.5, typeface.Mono, 12.5, col, text)
	if f.text != "" {
		c.Rect(ui.At(b.X+23+c.Width(typeface.Mono, 12.5, text), b.Y+7, 1.5, 14), 0, t.Accent)
	}
}
