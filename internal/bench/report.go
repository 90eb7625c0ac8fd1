package main

import (
	"bytes"
	"fmt"
	"html"
	"slices"
	"strings"
)

// A report has all results of a machine.
type report struct {
	machine  string
	sections []section
	notes    []note
}

type section struct {
	comparison
	results []*result
}

type note struct{ title, text string }

// groups returns the results by group, in the order of the benchmark.
func (s section) groups() (names []string, of map[string][]*result) {
	of = make(map[string][]*result)
	for _, r := range s.results {
		if !slices.Contains(names, r.group) {
			names = append(names, r.group)
		}
		of[r.group] = append(of[r.group], r)
	}
	return names, of
}

// ratio returns the ratio to the base of the same group, empty if there is none.
func (s section) ratio(r *result) string {
	for _, b := range s.results {
		if b.group == r.group && b.name == s.base && b.median() != 0 {
			return fmt.Sprintf("%.2f", r.median()/b.median())
		}
	}
	return ""
}

func (s section) better() string {
	if s.more {
		return "more is better"
	}
	return "less is better"
}

// number formats a number with three significant digits.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func (r *report) text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "connmap beside other programs: medians of several runs on one machine\n%s\nMade by make bench.\n", r.machine)
	for _, s := range r.sections {
		fmt.Fprintf(&b, "\n%s\n%s\n%s\nin %s, %s; go test %s, in %s\n\n", s.title, strings.Repeat("-", len(s.title)), s.about, s.unit, s.better(), strings.Join(s.args, " "), s.dir)
		names, of := s.groups()
		for _, group := range names {
			if group != "" {
				fmt.Fprintf(&b, "%s\n", group)
			}
			for _, x := range of[group] {
				fmt.Fprintf(&b, "  %-26s %10s   %s to %s", x.name, number(x.median()), number(slices.Min(x.values)), number(slices.Max(x.values)))
				if q := s.ratio(x); q != "" {
					fmt.Fprintf(&b, "   %s of %s", q, s.base)
				}
				b.WriteByte('\n')
			}
		}
	}
	for _, n := range r.notes {
		fmt.Fprintf(&b, "\n%s\n%s\n%s\n", n.title, strings.Repeat("-", len(n.title)), strings.TrimSpace(n.text))
	}
	return b.Bytes()
}

const style = `body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;background:#111418;color:#d7dce2}
h1{font-size:1.5em}h2{font-size:1.15em;margin:2em 0 .2em}p{margin:.3em 0;color:#9aa4af}svg{display:block;margin:.5em 0}
text{fill:#d7dce2;font:13px system-ui,sans-serif}.ours{fill:#2f81f7}.other{fill:#5a6470}.group{font-weight:600}pre{color:#d7dce2;overflow:auto}
@media (prefers-color-scheme:light){body{background:#fff;color:#1e2329}p{color:#5a6470}text{fill:#1e2329}pre{color:#1e2329}.other{fill:#b4bcc6}}`

// ours are the names of connmap's results.
var ours = []string{"DB", "geoip", "ebpf", "diag", "proc", "history", "elapsed", "cpu", "none", "1,000", "10,000", "500, once a second"}

func (r *report) page() []byte {
	var b bytes.Buffer
	e := html.EscapeString
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>connmap beside other programs</title>\n<style>%s</style>\n", style)
	fmt.Fprintf(&b, "<h1>connmap beside other programs</h1>\n<p>Medians of several runs on one machine, made by <code>make bench</code>. %s</p>\n", e(strings.ReplaceAll(r.machine, "\n", ": ")))
	for _, s := range r.sections {
		fmt.Fprintf(&b, "<h2>%s</h2>\n<p>%s In %s, %s.</p>\n", e(s.title), e(s.about), e(s.unit), s.better())
		names, of := s.groups()
		for _, group := range names {
			plot(&b, s, group, of[group])
		}
	}
	for _, n := range r.notes {
		fmt.Fprintf(&b, "<h2>%s</h2>\n<pre>%s</pre>\n", e(n.title), e(strings.TrimSpace(n.text)))
	}
	return b.Bytes()
}

// plot draws a group as bars that begin at zero, so that lengths can be compared.
func plot(b *bytes.Buffer, s section, group string, list []*result) {
	const row, left, width = 22, 190, 420
	top := 0
	if group != "" {
		top = row
	}
	most := 0.0
	for _, x := range list {
		most = max(most, x.median())
	}
	e := html.EscapeString
	fmt.Fprintf(b, `<svg width="800" height="%d" role="img" aria-label="%s">`+"\n", top+row*len(list), e(s.title+" "+group))
	if group != "" {
		fmt.Fprintf(b, `<text class="group" x="0" y="15">%s</text>`+"\n", e(group))
	}
	for i, x := range list {
		class := "other"
		if slices.Contains(ours, x.name) {
			class = "ours"
		}
		label := number(x.median()) + " " + s.unit
		if q := s.ratio(x); q != "" && x.name != s.base {
			label += ", " + q + " of " + s.base
		}
		y, length := top+i*row, max(1, width*x.median()/max(most, 1e-9))
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, left-8, y+15, e(x.name))
		fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2" />`, class, left, y+3, length, row-6)
		fmt.Fprintf(b, `<text x="%.1f" y="%d">%s</text>`+"\n", left+8+length, y+15, e(label))
	}
	b.WriteString("</svg>\n")
}
