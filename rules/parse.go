package rules

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A SyntaxError is a line of a rules file that is not a rule.
type SyntaxError struct {
	Line int    // from 1
	Msg  string // what was expected and what was found
}

// Error returns the message behind the number of its line.
func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Msg) }

// maxErrors is how many wrong lines are told; more of them are a file of
// another kind.
const maxErrors = 10

// Parse reads a rules file. If lines are wrong there is no Set, and the error
// joins a *SyntaxError for each of the first ten; errors.As finds the first.
// Errors do not name the package or the file: the caller knows both.
//
// A byte order mark and lines that end in CR LF are accepted.
func Parse(r io.Reader) (*Set, error) {
	all, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	var rules []Rule
	var ports [][2]uint16
	var wrong []error
	line := 0
	for text := range strings.Lines(strings.TrimPrefix(string(all), "\ufeff")) {
		line++
		text = strings.TrimSpace(text)
		if text == "" || text[0] == '#' {
			continue
		}
		rule, span, err := parseRule(text)
		if err != nil {
			wrong = append(wrong, &SyntaxError{line, err.Error()})
			if len(wrong) == maxErrors {
				break
			}
			continue
		}
		rule.Line = line
		rules = append(rules, rule)
		ports = append(ports, span)
	}
	if wrong != nil {
		return nil, errors.Join(wrong...)
	}
	return newSet(rules, ports), nil
}

const columns = `"Label",type,target,R,G,B,A,ShowText,Beep`

// parseRule parses a line that is neither empty nor a comment. The ports are
// those of a rule that is not of type App.
func parseRule(text string) (Rule, [2]uint16, error) {
	var rule Rule
	var ports [2]uint16
	fail := func(format string, args ...any) (Rule, [2]uint16, error) {
		return Rule{}, [2]uint16{}, fmt.Errorf(format, args...)
	}
	if !utf8.ValidString(text) {
		return fail("want text in UTF-8, found %.40q: save the file as UTF-8", text)
	}
	f, err := split(text)
	if err != nil {
		return fail("%w", err)
	}
	if len(f) != 9 {
		return fail("want the 9 fields %s, found %d in %.60q", columns, len(f), text)
	}
	if rule.Label = f[0]; rule.Label == "" {
		return fail("want a label, found an empty field")
	}
	rule.Target = f[2]
	switch strings.ToLower(f[1]) {
	case "local":
		rule.Type = Local
	case "peer":
		rule.Type = Peer
	case "app":
		rule.Type = App
	default:
		return fail("want the type local, peer or app, found %.40q", f[1])
	}
	if rule.Type == App {
		if rule.Target == "" {
			return fail("want the name or path of a program, found an empty field")
		}
	} else if ports, err = parsePorts(rule.Target); err != nil {
		return fail("%w", err)
	}
	for i, p := range []*uint8{&rule.Color.R, &rule.Color.G, &rule.Color.B, &rule.Color.A} {
		n, err := strconv.ParseUint(f[3+i], 10, 8)
		if err != nil {
			return fail("want %c from 0 to 255, found %.40q", "RGBA"[i], f[3+i])
		}
		*p = uint8(n)
	}
	if rule.ShowText, err = parseBool(f[7]); err != nil {
		return fail("want ShowText %w", err)
	}
	if rule.Beep, err = parseBool(f[8]); err != nil {
		return fail("want Beep %w", err)
	}
	return rule, ports, nil
}

// split cuts a line at its commas. Unlike encoding/csv it allows blanks around
// a quoted field.
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
					return nil, fmt.Errorf(`want a " that ends the field, found none after %.40q`, text)
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
				return nil, fmt.Errorf(`want a comma after the " that ends the field, found %.40q: write "" for a quote inside`, rest)
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

// parsePorts parses a port or a range of ports.
func parsePorts(s string) ([2]uint16, error) {
	low, high, isRange := strings.Cut(s, "-")
	if !isRange {
		high = low
	}
	l, lok := parsePort(low)
	h, hok := parsePort(high)
	if !lok || !hok {
		return [2]uint16{}, fmt.Errorf("want a port from 1 to 65535 or a range such as 6660-6697, found %.40q", s)
	}
	if l > h {
		return [2]uint16{}, fmt.Errorf("want a range from its lower to its higher port, found %.40q", s)
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
