package rules

import (
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A SyntaxError is a line of a rules file that is not a rule.
type SyntaxError struct {
	Line int    // from 1
	Msg  string // what was expected and what was found
}

// Error returns the message after the number of its line.
func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Msg) }

// SyntaxErrors are the bad lines of a rules file.
type SyntaxErrors struct {
	First []*SyntaxError // the first 1,000, in the order of the file
	More  int            // how many other lines are bad
}

// Error returns the first three errors and the number of other bad lines, each on a line of its
// own.
func (e *SyntaxErrors) Error() string {
	var b strings.Builder
	const shown = 3
	for i, err := range e.First[:min(len(e.First), shown)] {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(err.Error())
	}
	switch more := len(e.First) + e.More - shown; {
	case more == 1:
		b.WriteString("\nand 1 more bad line")
	case more > 1:
		fmt.Fprintf(&b, "\nand %d more bad lines", more)
	}
	return b.String()
}

// Unwrap returns First.
func (e *SyntaxErrors) Unwrap() []error {
	list := make([]error, len(e.First))
	for i, err := range e.First {
		list[i] = err
	}
	return list
}

// ErrSettings means that a file holds settings of the C program connmap, which are in a file
// named connmaprc too, and no rules.
var ErrSettings = errors.New("these are settings of the C program connmap, not rules")

const (
	maxSize   = 1 << 20 // bytes of a file
	maxErrors = 1000    // bad lines that are reported
)

// Parse reads a rules file. A bad line does not affect the others: Parse returns the Set of
// the good lines together with *SyntaxErrors. They have a *SyntaxError for each of the first
// 1,000 bad lines and the number of the others.
//
// If all lines are bad, the Set is nil. The error says so if the file is in UTF-16, binary, or
// of the C program connmap (ErrSettings). The Set is also nil if r fails or has more than 1
// MiB. Errors name neither the package nor the file: the caller knows both.
//
// A byte order mark of UTF-8, and lines that end in CR LF, are allowed.
func Parse(r io.Reader) (*Set, error) {
	all, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err != nil {
		return nil, err
	}
	if len(all) > maxSize {
		return nil, errors.New("the file has more than 1 MiB: it is not a rules file")
	}
	var (
		rules           []Rule
		ports           [][2]uint16
		comps           []components
		fraction, above bool // a good line has a fraction, or a component above 1
		settings        bool
		bad             SyntaxErrors
	)
	line := 0
	for text := range strings.Lines(strings.TrimPrefix(string(all), "\ufeff")) {
		line++
		text = strings.TrimSpace(text)
		if text == "" || text[0] == '#' {
			continue
		}
		rule, span, c, err := parseRule(text)
		if err != nil {
			settings = settings || isSetting(text)
			if len(bad.First) < maxErrors {
				bad.First = append(bad.First, &SyntaxError{line, err.Error()})
			} else {
				bad.More++
			}
			continue
		}
		rule.Line = line
		rules, ports, comps = append(rules, rule), append(ports, span), append(comps, c)
		fraction = fraction || c.scale == fractions
		above = above || c.scale == bytes
	}
	if rules == nil && bad.First != nil {
		switch {
		case settings:
			return nil, ErrSettings
		case isUTF16(all):
			return nil, errors.New("the file is in UTF-16: save it as UTF-8")
		case strings.Contains(string(all), "\x00"):
			return nil, errors.New("the file is binary: rules are text")
		}
		return nil, &bad
	}
	for i, c := range comps {
		rules[i].Color = c.color(above && !fraction)
	}
	set := newSet(rules, ports)
	if bad.First != nil {
		return set, &bad
	}
	return set, nil
}

// isUTF16 reports whether a text is in UTF-16: it has a byte order mark, or one of its first two
// bytes is zero, as if it begins in ASCII.
func isUTF16(b []byte) bool {
	return len(b) >= 2 && (b[0] == 0xff && b[1] == 0xfe || b[0] == 0xfe && b[1] == 0xff || (b[0] == 0) != (b[1] == 0))
}

// isSetting reports whether a line is a setting of the C program connmap.
func isSetting(text string) bool {
	f := strings.Fields(text)
	if len(f) != 2 {
		return false
	}
	switch f[0] {
	case "location_x", "location_y", "map_width", "black", "update_interval":
		return true
	}
	return false
}

const columns = `"Label",type,target,R,G,B,A,ShowText,Beep`

// parseRule parses a line that is neither empty nor a comment. ports is set if the rule has the
// type Local or Peer.
func parseRule(text string) (rule Rule, ports [2]uint16, c components, err error) {
	fail := func(format string, args ...any) (Rule, [2]uint16, components, error) {
		return Rule{}, [2]uint16{}, components{}, fmt.Errorf(format, args...)
	}
	if !utf8.ValidString(text) {
		return fail("expected text in UTF-8, found %.40q: save the file as UTF-8", text)
	}
	// Labels and targets are printed to terminals.
	if i := strings.IndexFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }); i >= 0 {
		return fail("expected text, found the control character %q", text[i:i+1])
	}
	f, err := split(text)
	if err != nil {
		return fail("%w", err)
	}
	// connmapperl reads a line with Perl's split, which drops empty fields at the end.
	for len(f) > 9 && f[len(f)-1] == "" {
		f = f[:len(f)-1]
	}
	if len(f) != 9 {
		return fail("expected the 9 fields %s, found %d in %.60q", columns, len(f), text)
	}
	if rule.Label = f[0]; rule.Label == "" {
		return fail("expected a label, found an empty field")
	}
	rule.Target = f[2]
	switch strings.ToLower(f[1]) {
	case "local":
		rule.Type = Local
	case "peer":
		rule.Type = Peer
	case "app":
		rule.Type = App
	case "name":
		rule.Type = Name
	default:
		return fail("expected the type local, peer, app or name, found %.40q", f[1])
	}
	switch rule.Type {
	case App:
		if rule.Target == "" {
			return fail("expected the name or path of a program, found an empty field")
		}
	case Name:
		if !isName(rule.Target) {
			return fail("expected a name such as www.example.com or *.example.com, in Punycode if it is not in ASCII, found %.60q", rule.Target)
		}
	default:
		if ports, err = parsePorts(rule.Target); err != nil {
			return fail("%w", err)
		}
	}
	if c, err = parseComponents([4]string(f[3:7])); err != nil {
		return fail("%w", err)
	}
	if rule.ShowText, err = parseBool(f[7]); err != nil {
		return fail("expected ShowText %w", err)
	}
	if rule.Beep, err = parseBool(f[8]); err != nil {
		return fail("expected Beep %w", err)
	}
	return rule, ports, c, nil
}

// split splits a line at its commas. Unlike encoding/csv it allows blanks around a quoted field.
func split(text string) ([]string, error) {
	var fields []string
	for {
		text = strings.TrimLeft(text, " \t")
		var field string
		if strings.HasPrefix(text, `"`) {
			var b strings.Builder
			rest := text[1:]
			for {
				part, after, ok := strings.Cut(rest, `"`)
				if !ok {
					return nil, fmt.Errorf(`expected a " that ends the field, found none after %.40q`, text)
				}
				b.WriteString(part)
				if !strings.HasPrefix(after, `"`) {
					rest = strings.TrimLeft(after, " \t")
					break
				}
				b.WriteByte('"')
				rest = after[1:]
			}
			if rest != "" && rest[0] != ',' {
				return nil, fmt.Errorf(`expected a comma after the " that ends the field, found %.40q: write "" for a quote inside`, rest)
			}
			field, text = b.String(), rest
		} else {
			n := strings.IndexByte(text, ',')
			if n < 0 {
				n = len(text)
			}
			field, text = strings.TrimRight(text[:n], " \t"), text[n:]
		}
		fields = append(fields, field)
		if text == "" {
			return fields, nil
		}
		text = text[1:]
	}
}

// isName reports whether s is the target of a rule of type Name: a name of a host (RFC 1035, section
// 2.3.1, and underscores), or one behind "*.".
func isName(s string) bool {
	s = strings.TrimPrefix(s, "*.")
	if len(s) > 253 || s == "" {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		bad := func(c rune) bool {
			return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_')
		}
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, bad) {
			return false
		}
	}
	return true
}

// parsePorts parses a port or a range of ports.
func parsePorts(s string) ([2]uint16, error) {
	low, high, isRange := strings.Cut(s, "-")
	if !isRange {
		high = low
	}
	l, lok := parsePort(low)
	h, hok := parsePort(high)
	if !lok || !hok {
		return [2]uint16{}, fmt.Errorf("expected a port from 1 to 65535 or a range such as 6660-6697, found %.40q", s)
	}
	if l > h {
		return [2]uint16{}, fmt.Errorf("expected a range from its lower to its higher port, found %.40q", s)
	}
	return [2]uint16{l, h}, nil
}

func parsePort(s string) (uint16, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 16)
	return uint16(n), err == nil && n > 0
}

func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "1", "true", "yes":
		return true, nil
	case "0", "false", "no":
		return false, nil
	}
	return false, fmt.Errorf("0 or 1, found %.40q", s)
}

// A scale is the range of the components of a colour.
type scale uint8

const (
	either    scale = iota // all are 0 or 1: of either range
	fractions              // from 0 to 1, and one has a decimal point or an exponent
	bytes                  // from 0 to 255, and one is above 1
)

// components are red, green, blue and opacity as they are in the file.
type components struct {
	value [4]float64
	scale scale
}

// color returns the colour. asBytes decides the range if the scale is either.
func (c components) color(asBytes bool) color.NRGBA {
	factor := 255.0
	if c.scale == bytes || c.scale == either && asBytes {
		factor = 1
	}
	byteOf := func(v float64) uint8 { return uint8(math.Round(v * factor)) }
	return color.NRGBA{R: byteOf(c.value[0]), G: byteOf(c.value[1]), B: byteOf(c.value[2]), A: byteOf(c.value[3])}
}

func parseComponents(f [4]string) (c components, err error) {
	whole := true
	for i, s := range f {
		v, err := strconv.ParseFloat(s, 64)
		// ParseFloat also accepts hexadecimal numbers, infinity and underscores, which
		// Perl reads otherwise.
		if err != nil || strings.Trim(s, "0123456789.eE+-") != "" || v < 0 || v > 255 {
			return c, fmt.Errorf("expected %c from 0 to 1 or from 0 to 255, found %.40q", "RGBA"[i], s)
		}
		c.value[i] = v
		whole = whole && v == math.Trunc(v)
		switch {
		case v > 1:
			c.scale = bytes
		case c.scale == either && strings.ContainsAny(s, ".eE"):
			c.scale = fractions
		}
	}
	if c.scale == bytes && !whole {
		return c, fmt.Errorf("expected R, G, B and A all from 0 to 1, or all whole and from 0 to 255, found %.40q", strings.Join(f[:], ","))
	}
	return c, nil
}
