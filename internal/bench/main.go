// Command bench measures connmap beside other programs. It writes the results as text and as a
// page with plots, docs/bench.txt and docs/bench.html. It runs the benchmarks of the packages
// several times, and takes medians; it has none itself.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A comparison is a benchmark whose results are shown beside each other.
type comparison struct {
	title, about string
	unit         string
	more         bool   // more is better
	base         string // the result by which the others are divided
	dir          string // of the module, from the root
	args         []string
	// What to take of the lines "NAME UNIT" of the results, with groups named group and name.
	pattern string
}

var comparisons = []comparison{
	{
		title: "Look-up of a place: IPv4, 3.8 million ranges", unit: "ns", base: "DB", dir: ".",
		about:   "DB is geoip's. zipf: few hosts of many; uniform, covered: anywhere, and anywhere that has a place. The C is connmap's algorithm of before, written in Go step by step.",
		args:    []string{"-bench", "Lookup4", "-benchtime", "100ms", "./geoip"},
		pattern: `^BenchmarkLookup4/(?P<group>[^/]+)/(?P<name>\S+?)(-\d+)? median-ns$`,
	},
	{
		title: "The same beside other libraries", unit: "ns", base: "geoip", dir: "geoip/internal/compare",
		about:   "bart holds the same places; iploc has a table of its own, of countries; maxminddb reads a file of cities and decodes coordinates.",
		args:    []string{"-bench", "Lookup", "-benchtime", "100ms", "."},
		pattern: `^BenchmarkLookup/(?P<group>[^/]+/[^/]+)/(?P<name>\S+?)(-\d+)? median-ns$`,
	},
	{
		title: "Snapshot of TCP sockets, processor time", unit: "ms", base: "ss", dir: "conntrack/internal/compare",
		about:   "ebpf and diag are conntrack's, with owners and bytes; ss -tunp and gopsutil with owners; netlink (vishvananda) and procfs (prometheus) without.",
		args:    []string{"-bench", "List/sockets=(100|1000|10000)$", "-benchtime", "3x", "."},
		pattern: `^BenchmarkList/(?P<group>sockets=\d+?)(-\d+)? (?P<name>\w+)-ms$`,
	},
	{
		title: "Connections of some milliseconds that are seen", unit: "%", more: true, dir: "conntrack/internal/compare",
		about:   "Of 2,000, by programs in the kernel and by looking once a second.",
		args:    []string{"-bench", "Short", "-benchtime", "1x", "."},
		pattern: `^BenchmarkShort(-\d+)? (?P<name>\w+)-seen-%$`,
	},
	{
		title: "What following a storm of short connections adds", unit: "times", dir: ".",
		about:   "The time that 20,000 connections take with an agent's collector, divided by that without.",
		args:    []string{"-bench", "Storm", "-benchtime", "1x", "./conntrack"},
		pattern: `^BenchmarkStorm(-\d+)? (?P<name>\S+)-with/without$`,
	},
	{
		title: "Recording new connections, for each second of processor time", unit: "rows", more: true, base: "sqlite3 tool", dir: ".",
		about:   "history in transactions of 1,000, with places and counts; the tool imports the same rows, ready in a file, in one transaction.",
		args:    []string{"-bench", "Record/new/batch=1000|Tool", "-benchtime", "5x", "./history"},
		pattern: `^Benchmark(?P<name>Record/new/batch=1000|Tool)(-\d+)? rows/cpu-s$`,
	},
	{
		title: "A frame of the window, processor time", unit: "ms", base: "none", dir: ".",
		about:   "By the number of connections that are elsewhere than in the frame before, drawn in software.",
		args:    []string{"-bench", "Frame", "-benchtime", "1x", "./examples/mapserver/internal/gui"},
		pattern: `^BenchmarkFrame/(?P<name>\S+?)(-\d+)? cpu-ms/frame$`,
	},
}

// names are better names for benchmarks.
var names = map[string]string{"Record/new/batch=1000": "history", "Tool": "sqlite3 tool", "connmap's_C": "connmap's C",
	"0": "none", "1000": "1,000", "10000": "10,000", "-500": "500, once a second"}

// A result is the measurements for one bar.
type result struct {
	group, name string
	values      []float64
}

func (r *result) median() float64 {
	v := slices.Sorted(slices.Values(r.values))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func main() {
	out := flag.String("o", "docs", "`folder` of the report")
	count := flag.Int("count", 3, "how often each is measured")
	only := flag.String("only", "", "`pattern` of titles (default all)")
	flag.Parse()
	if err := run(*out, *count, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(out string, count int, only string) error {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	r := report{machine: machine()}
	for _, c := range comparisons {
		if !wanted.MatchString(c.title) {
			continue
		}
		fmt.Fprintln(os.Stderr, c.title)
		results, err := measure(c, count)
		if err != nil {
			return err
		}
		if len(results) == 0 {
			fmt.Fprintln(os.Stderr, "  left out: nothing was measured; as root, with a display and sqlite3, all is")
			continue
		}
		r.sections = append(r.sections, section{c, results})
	}
	if figures, err := exec.Command("scripts/figures").Output(); err == nil {
		r.notes = append(r.notes, note{"The window when nothing happens", string(figures)})
	}
	// That takes half an hour, and is measured by make soak.
	if soak, err := os.ReadFile(filepath.Join(out, "soak.txt")); err == nil {
		r.notes = append(r.notes, note{"A day of traffic", string(soak)})
	}
	for name, b := range map[string][]byte{"bench.txt": r.text(), "bench.html": r.page()} {
		if err := os.WriteFile(filepath.Join(out, name), b, 0o644); err != nil {
			return err
		}
	}
	_, err = os.Stdout.Write(r.text())
	return err
}

// measure runs a benchmark several times, each in a process of its own.
func measure(c comparison, count int) ([]*result, error) {
	pattern := regexp.MustCompile(c.pattern)
	var results []*result
	for range count {
		cmd := exec.Command("go", append([]string{"test", "-run", "^$"}, c.args...)...)
		cmd.Dir = c.dir
		b, err := cmd.CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("go test %s in %s: %w\n%s", strings.Join(c.args, " "), c.dir, err, b)
		}
		for _, line := range strings.Split(string(b), "\n") {
			f := strings.Fields(line)
			if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
				continue
			}
			for i := 2; i+1 < len(f); i += 2 {
				m := pattern.FindStringSubmatch(f[0] + " " + f[i+1])
				v, err := strconv.ParseFloat(f[i], 64)
				if m == nil || err != nil {
					continue
				}
				group, name := "", m[pattern.SubexpIndex("name")]
				if i := pattern.SubexpIndex("group"); i > 0 {
					group = m[i]
				}
				if n, ok := names[name]; ok {
					name = n
				}
				at := slices.IndexFunc(results, func(r *result) bool { return r.group == group && r.name == name })
				if at < 0 {
					at = len(results)
					results = append(results, &result{group: group, name: name})
				}
				results[at].values = append(results[at].values, v)
			}
		}
	}
	return results, nil
}

// machine describes where this runs.
func machine() string {
	model, memory := "processor unknown", ""
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := regexp.MustCompile(`(?m)^model name\s*: (.*?)\s*$`).FindSubmatch(b); m != nil {
			model = string(m[1])
		}
		model += fmt.Sprintf(", %d processors", bytes.Count(b, []byte("\nprocessor"))+1)
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		if m := regexp.MustCompile(`MemTotal:\s*(\d+)`).FindSubmatch(b); m != nil {
			kb, _ := strconv.Atoi(string(m[1]))
			memory = fmt.Sprintf(", %d GB", (kb+500_000)/1_000_000)
		}
	}
	system := ""
	if b, err := os.ReadFile("/etc/os-release"); err == nil {
		if m := regexp.MustCompile(`(?m)^PRETTY_NAME="(.*)"`).FindSubmatch(b); m != nil {
			system = ", " + string(m[1])
		}
	}
	line := func(name string, args ...string) string {
		b, _ := exec.Command(name, args...).Output()
		return strings.TrimSpace(string(b))
	}
	return fmt.Sprintf("%s\n%s%s%s, Linux %s, %s", time.Now().Format(time.DateOnly), model, memory, system, line("uname", "-r"), line("go", "env", "GOVERSION"))
}
