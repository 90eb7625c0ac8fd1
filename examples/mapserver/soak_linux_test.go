package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A sample is what a map server takes at one time.
type sample struct {
	Resident   float64 // MB
	Heap       float64 // MB, alive
	Goroutines int
	Files      int           // open
	Used       time.Duration // of processors, since the start
}

// soaked is a map server that tells on standard error how it is, whenever it is asked to by
// a line of standard input.
func soaked(args []string) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			var u syscall.Rusage
			syscall.Getrusage(syscall.RUSAGE_SELF, &u)
			files, _ := os.ReadDir("/proc/self/fd")
			status, _ := os.ReadFile("/proc/self/status")
			_, rss, _ := strings.Cut(string(status), "VmRSS:")
			kb, _ := strconv.ParseFloat(strings.Fields(rss)[0], 64)
			line, err := json.Marshal(sample{kb * 1024 / 1e6, float64(m.HeapAlloc) / 1e6, runtime.NumGoroutine(), len(files), time.Duration(u.Utime.Nano() + u.Stime.Nano())})
			must(err)
			fmt.Fprintf(os.Stderr, "%s\n", line)
		}
	}()
	must(run(ctx, args, os.Stdout, io.Discard))
}

// TestSoak: a day of traffic of 50 agents, as fast as CONNMAP_SOAK=MINUTES says, goes
// through agents, TLS, monitor, history and window, and nothing that the server takes
// grows. Without it a few seconds show that this works. CONNMAP_SOAK_REPORT=FILE
// gets the figures.
func TestSoak(t *testing.T) {
	if os.Getenv("DISPLAY") == "" {
		t.Skip("needs a display")
	}
	display, err := xgb.NewConn()
	if err != nil {
		t.Skip("needs a display: ", err)
	}
	defer display.Close()
	length := 12 * time.Second
	if s := os.Getenv("CONNMAP_SOAK"); s != "" {
		minutes, err := strconv.ParseFloat(s, 64)
		require.NoError(t, err)
		length = time.Duration(minutes * float64(time.Minute))
	}
	const agents, conns, samples = 50, 40, 36
	speed := (24 * time.Hour).Hours() / max(length, 30*time.Minute).Hours()
	dir := t.TempDir()
	exe, err := os.Executable()
	require.NoError(t, err)
	server := exec.Command(exe, "-listen", "127.0.0.1:0", "-no-local", "-history", filepath.Join(dir, "h.sqlite"), "-keep", "100000", "-sound", "none", "-size", "1000x500")
	server.Env = append(os.Environ(), "CONNMAP_TRAFFIC=soak", "GOGC=40", "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CACHE_HOME="+dir)
	ask, err := server.StdinPipe()
	require.NoError(t, err)
	greeting, err := server.StdoutPipe()
	require.NoError(t, err)
	told, err := server.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	defer func() {
		ask.Close()
		assert.NoError(t, server.Wait())
	}()
	lines := bufio.NewScanner(greeting)
	var join []string
	for join == nil && lines.Scan() {
		join = regexp.MustCompile(`connmap-agent (\S+) -$`).FindStringSubmatch(lines.Text())
	}
	require.NotNil(t, join)
	go io.Copy(io.Discard, greeting)

	load := exec.Command(exe, join[1], tokenOf(t, dir).String(), t.TempDir(), fmt.Sprint(agents), fmt.Sprint(conns), fmt.Sprint(speed))
	load.Env = append(os.Environ(), "CONNMAP_TRAFFIC=load")
	load.Stderr = os.Stderr
	end, err := load.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, load.Start())
	defer func() {
		end.Close()
		assert.NoError(t, load.Wait())
	}()

	root := xproto.Setup(display).DefaultScreen(display).Root
	answers := bufio.NewScanner(told)
	var all []sample
	began := time.Now()
	for len(all) < samples {
		// Somebody looks here and there.
		xproto.WarpPointer(display, xproto.WindowNone, root, 0, 0, 0, 0, int16(rand.IntN(1000)), int16(rand.IntN(500)))
		display.Sync()
		time.Sleep(min(length/samples, time.Second))
		if time.Since(began) < length*time.Duration(len(all)+1)/samples {
			continue
		}
		_, err := io.WriteString(ask, "\n")
		require.NoError(t, err)
		require.True(t, answers.Scan())
		var s sample
		require.NoError(t, json.Unmarshal(answers.Bytes(), &s), answers.Text())
		all = append(all, s)
	}
	// In each sixth of the time what is least: what is under way comes and goes.
	var report strings.Builder
	fmt.Fprintf(&report, "%.0f hours of traffic of %d agents with %d connections each in %v, 100,000 rows kept; %s, %d processors, %s\n\n",
		length.Hours()*speed, agents, conns, length, time.Now().Format(time.DateOnly), runtime.NumCPU(), runtime.Version())
	fmt.Fprintf(&report, "part   resident MB   heap MB   goroutines   open files   processors\n")
	const parts = 6
	var least [parts]sample
	for i := range least {
		part := all[i*samples/parts : (i+1)*samples/parts]
		of := func(f func(s sample) float64) float64 {
			var list []float64
			for _, s := range part {
				list = append(list, f(s))
			}
			return slices.Min(list)
		}
		first := time.Duration(0)
		if i > 0 {
			first = all[i*samples/parts-1].Used
		}
		least[i] = sample{
			of(func(s sample) float64 { return s.Resident }), of(func(s sample) float64 { return s.Heap }),
			int(of(func(s sample) float64 { return float64(s.Goroutines) })), int(of(func(s sample) float64 { return float64(s.Files) })),
			(part[len(part)-1].Used - first) * parts,
		}
		l := least[i]
		fmt.Fprintf(&report, "%d/%d    %11.0f   %7.1f   %10d   %10d   %10.2f\n", i+1, parts, l.Resident, l.Heap, l.Goroutines, l.Files, l.Used.Seconds()/length.Seconds())
	}
	t.Log(report.String())
	if name := os.Getenv("CONNMAP_SOAK_REPORT"); name != "" {
		require.NoError(t, os.WriteFile(name, []byte(report.String()), 0o644))
	}
	if length < 5*time.Minute {
		return
	}
	// The second part is the first in which all is there and full.
	warm, last := least[1], least[parts-1]
	assert.Less(t, last.Resident, warm.Resident*1.1+10)
	assert.Less(t, last.Heap, warm.Heap*1.1+2)
	assert.LessOrEqual(t, last.Goroutines, warm.Goroutines+5)
	assert.LessOrEqual(t, last.Files, warm.Files+5)
	assert.Less(t, last.Used, warm.Used*5/4, "of the same work")
}
