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
	"github.com/connmapgo/connmap/history"
)

// A filter says which connections are shown: those that all its terms fit.
type filter struct {
	text    string
	editing bool
	terms   []history.Term // the words, in lower case
	states  bool           // a term asks for states, so that what is being closed is on the map too
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
	"name": func(c *live.Conn, _, value string) bool {
		if domain, ok := strings.CutPrefix(value, "*"); ok && strings.HasPrefix(domain, ".") {
			return strings.HasSuffix(c.Name, domain)
		}
		return c.Name != "" && strings.Contains(c.Name, value)
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

// parseFilter reads the words of a filter. With a key, as in port:443, one is about one
// thing, else about any. A minus before it turns it round.
func parseFilter(text string) (terms []history.Term) {
	for _, word := range strings.Fields(strings.ToLower(text)) {
		var t history.Term
		word, t.Not = strings.CutPrefix(word, "-")
		t.Value = word
		if key, value, ok := strings.Cut(word, ":"); ok && filterKeys[key] != nil {
			t.Key, t.Value = key, value
		}
		// A word without a value is still being typed.
		if t.Value != "" {
			terms = append(terms, t)
		}
	}
	return terms
}

// fits reports whether a connection of the rule with a label fits all terms.
func (f *filter) fits(c *live.Conn, label string) bool {
	for _, t := range f.terms {
		if termFits(t, c, label) == t.Not {
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

// Selection is the filter for a store, which does not know the names of countries.
func (f Filter) Selection() history.Selection {
	terms := slices.Clone(f.filter.terms)
	for i := range terms {
		terms[i].Countries = countries(terms[i])
	}
	return history.Selection{Terms: terms}
}

// countries are the codes of the countries that a term may mean, with spaces between.
func countries(t history.Term) string {
	if t.Key != "" && t.Key != "country" {
		return ""
	}
	var codes []string
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			c := live.Conn{Place: geoip.Place{Country: string([]rune{a, b})}}
			if t.Key == "" && has(geoip.CountryName(c.Place.Country), t.Value) || t.Key != "" && filterKeys[t.Key](&c, "", t.Value) {
				codes = append(codes, c.Place.Country)
			}
		}
	}
	return strings.Join(codes, " ")
}

func termFits(t history.Term, c *live.Conn, label string) bool {
	if t.Key != "" {
		return filterKeys[t.Key](c, label, t.Value)
	}
	for _, s := range [...]string{c.Peer.String(), c.Process.Comm, c.Agent, c.Org, c.Place.City, geoip.CountryName(c.Place.Country), label, c.Process.Exe, c.Process.Container, c.Name} {
		if has(s, t.Value) {
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
	f.states = slices.ContainsFunc(f.terms, func(t history.Term) bool { return t.Key == "state" && !t.Not })
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
func (v *View) chip(t history.Term) string {
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
	const hint = "name:*.example.com port:443 org:hetzner app:ssh -text"
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
