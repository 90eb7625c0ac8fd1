package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack/conntracktest"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
)

// loadAgents are many agents in one process: ADDR TOKEN FOLDER AGENTS CONNECTIONS SPEED.
// It ends with standard input.
func loadAgents(args []string) {
	token, err := feed.ParseToken(args[1])
	must(err)
	agents, err := strconv.Atoi(args[3])
	must(err)
	conns, err := strconv.Atoi(args[4])
	must(err)
	speed, err := strconv.ParseFloat(args[5], 64)
	must(err)
	debug.SetGCPercent(400) // what it costs is not of interest here
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	for i := range agents {
		key, err := feed.LoadKey(filepath.Join(args[2], fmt.Sprint(i)))
		must(err)
		c := &feed.Client{Addr: args[0], Token: token, Key: key, Name: fmt.Sprintf("host%04d", i), Source: conntracktest.Source{N: conns, Seed: uint64(i), Speed: speed}}
		work.Go(func() { must(c.Run(ctx)) })
	}
	io.Copy(io.Discard, os.Stdin)
	cancel()
	work.Wait()
}

// processor returns the time that this process has computed.
func processor(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident returns the memory of this process in MB.
func resident(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(t, err)
	return kb * 1024 / 1_000_000
}

// A stopwatch takes how long it is from a connection's opening on its host until it is in
// the published state.
type stopwatch struct {
	mu          sync.Mutex
	on          bool
	seen, older map[timed]bool // of the last thousands
	took        []time.Duration
}

type timed struct {
	agent string
	id    uint64
}

// look takes the connections that are new in a state.
func (s *stopwatch) look(st *live.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(st.Conns) - 1; i >= 0 && i > len(st.Conns)-5000; i-- {
		c := st.Conns[i]
		k := timed{c.Agent, c.ID}
		if s.seen[k] || s.older[k] {
			continue
		}
		if len(s.seen) > 10_000 || s.seen == nil {
			s.seen, s.older = make(map[timed]bool), s.seen
		}
		s.seen[k] = true
		if s.on {
			s.took = append(s.took, st.Time.Sub(c.Opened.Time()))
		}
	}
}

// TestLoad: many agents with many connections each, that come, change and go. With
// CONNMAP_LOAD=AGENTS,CONNECTIONS,SECONDS it is as many and as long, and tells what it
// costs.
func TestLoad(t *testing.T) {
	agents, conns, seconds := 40, 100, 3
	if s := os.Getenv("CONNMAP_LOAD"); s != "" {
		_, err := fmt.Sscanf(s, "%d,%d,%d", &agents, &conns, &seconds)
		require.NoError(t, err)
		defer debug.SetGCPercent(debug.SetGCPercent(40)) // as main does
	}
	dir, keys := t.TempDir(), t.TempDir()
	cfg := config{configDir: dir, dataDir: dir, listen: "127.0.0.1:0", noLocal: true, rules: filepath.Join(dir, "connmaprc"), agents: agents}
	if os.Getenv("CONNMAP_LOAD_HISTORY") != "none" {
		cfg.history = filepath.Join(dir, "history.sqlite")
	}
	app, err := start(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	stopped := false
	defer func() {
		if !stopped {
			app.stop()
		}
	}()
	watch := &stopwatch{}
	app.mu.Lock()
	app.wake = func() { watch.look(app.monitor.State()) }
	app.mu.Unlock()
	self, err := os.Executable()
	require.NoError(t, err)
	addr := app.listener.Addr().String()
	began := time.Now()
	cmd := exec.Command(self, addr, app.identity.Token().String(), keys, fmt.Sprint(agents), fmt.Sprint(conns), "1")
	cmd.Env = append(os.Environ(), "CONNMAP_TRAFFIC=load")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		assert.NoError(t, cmd.Wait())
	})
	all := func(what string, state func() *live.State) {
		t.Helper()
		require.Eventually(t, func() bool {
			st := state()
			return len(st.Agents) == agents && len(st.Conns) >= agents*conns*9/10
		}, 3*time.Minute, 50*time.Millisecond, what)
	}
	all("all agents join", app.monitor.State)
	t.Logf("%d agents with %d connections each joined within %v of the start of their process", agents, conns, time.Since(began).Round(100*time.Millisecond))

	time.Sleep(2 * time.Second)
	watch.mu.Lock()
	watch.on = true
	watch.mu.Unlock()
	before, since := processor(t), time.Now()
	time.Sleep(time.Duration(seconds) * time.Second)
	used, wall := processor(t)-before, time.Since(since)
	watch.mu.Lock()
	took := watch.took
	watch.on = false
	watch.mu.Unlock()
	require.NotEmpty(t, took)
	slices.Sort(took)
	st := app.monitor.State()
	t.Logf("%d connections, %.0f opened a second; from opening to state: median %v, p99 %v, most %v; server %.2f processors, %d MB; problems: %q",
		len(st.Conns), float64(len(took))/wall.Seconds(), took[len(took)/2].Round(time.Millisecond), took[len(took)*99/100].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond),
		used.Seconds()/wall.Seconds(), resident(t), st.Problems)
	t.Logf("%d MB alive", alive()/1_000_000)
	lost := uint64(0)
	for _, a := range st.Agents {
		lost += a.Lost
		assert.InDelta(t, conns, a.Conns, float64(conns)/2+10, a.Name)
	}
	assert.Zero(t, lost)

	// All come back to a server that starts anew.
	app.stop()
	stopped = true
	time.Sleep(500 * time.Millisecond)
	cfg.listen, cfg.history = addr, ""
	began = time.Now()
	again, err := start(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer again.stop()
	all("all agents are back", again.monitor.State)
	t.Logf("all are back within %v of the server's start", time.Since(began).Round(100*time.Millisecond))
}
