package main

import (
	"encoding/xml"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReport(t *testing.T) {
	r := report{machine: "2026-01-01\na machine", notes: []note{{"Note", "<figures>"}}}
	r.sections = []section{{
		comparison{title: "Speed & more", unit: "ns", base: "them", args: []string{"-bench", "X"}, dir: "."},
		[]*result{{"a", "geoip", []float64{3, 1, 2}}, {"a", "them", []float64{4}}, {"b", "them", []float64{0}}},
	}}
	text := string(r.text())
	assert.Regexp(t, `geoip +2\.00   1\.00 to 3\.00   0\.50 of them\n`, text)
	assert.Contains(t, text, "<figures>")
	page := string(r.page())
	assert.Contains(t, page, "Speed &amp; more")
	assert.Contains(t, page, "&lt;figures&gt;")
	assert.Contains(t, page, "0.50 of them")
	for _, svg := range regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(page, -1) {
		d := xml.NewDecoder(strings.NewReader(svg))
		d.Strict = false
		for {
			_, err := d.Token()
			if err == io.EOF {
				break
			}
			require.NoError(t, err, svg)
		}
	}
}

// TestPatterns: each comparison finds what its benchmark writes.
func TestPatterns(t *testing.T) {
	lines := map[string]string{
		"BenchmarkLookup4/zipf/connmap's_C-2 median-ns": "connmap's_C",
		"BenchmarkLookup/IPv4/covered/bart-2 median-ns": "bart",
		"BenchmarkList/sockets=1000-2 ss-ms":            "ss",
		"BenchmarkShort-2 ebpf-seen-%":                  "ebpf",
		"BenchmarkStorm-2 cpu-with/without":             "cpu",
		"BenchmarkRecord/new/batch=1000-2 rows/cpu-s":   "Record/new/batch=1000",
		"BenchmarkFrame/-500-2 cpu-ms/frame":            "-500",
	}
	for line, want := range lines {
		found := 0
		for _, c := range comparisons {
			p := regexp.MustCompile(c.pattern)
			if m := p.FindStringSubmatch(line); m != nil {
				found++
				assert.Equal(t, want, m[p.SubexpIndex("name")], line)
			}
		}
		assert.Equal(t, 1, found, line)
	}
	assert.Len(t, comparisons, len(lines))
}
