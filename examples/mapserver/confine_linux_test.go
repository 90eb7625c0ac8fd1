package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/history/sqlite"
)

// mapProgram returns the program, for a test that waits for it beside others.
func mapProgram(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the program")
	}
	t.Parallel()
	return built(t, "examples/mapserver")
}

// statusOf returns what /proc says of a process under some keys.
func statusOf(t *testing.T, pid int, keys ...string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	got := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		for _, k := range keys {
			if k == key {
				got[k] = strings.Join(strings.Fields(value), " ")
			}
		}
	}
	return got
}

// childrenOf returns the processes that a process has started.
func childrenOf(t *testing.T, pid int) (pids []int) {
	t.Helper()
	all, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	require.NoError(t, err)
	for _, name := range all {
		b, _ := os.ReadFile(name)
		for _, f := range strings.Fields(string(b)) {
			var child int
			fmt.Sscan(f, &child)
			pids = append(pids, child)
		}
	}
	return pids
}

const servingCaps = "0000000000000402"

// TestRootsMap: a map server that root has started has root's rights no more, what collects
// for it has its own, and works: connections of others are seen, recorded and asked for.
func TestRootsMap(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose rights are dropped")
	}
	program := mapProgram(t)
	dir := t.TempDir()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	history := filepath.Join(dir, "elsewhere", "h.sqlite")
	server := exec.Command(program, "-headless", "-listen", "127.0.0.1:0", "-loopback", "-history", history)
	server.Env = append(os.Environ(), "XDG_CONFIG_HOME="+dir, "XDG_CACHE_HOME="+dir, "XDG_DATA_HOME="+dir, "HOME="+dir)
	var said printed
	server.Stdout, server.Stderr = &said, &said
	require.NoError(t, server.Start())
	var ended sync.Once
	end := func() {
		ended.Do(func() {
			server.Process.Signal(os.Interrupt)
			awaitEnd(t, server, &said)
		})
	}
	defer end()
	defer func() {
		if t.Failed() {
			t.Log(said.String())
		}
	}()
	has := func(pattern string) {
		t.Helper()
		re := regexp.MustCompile(pattern)
		require.Eventually(t, func() bool { return re.MatchString(said.String()) }, time.Minute, 20*time.Millisecond, pattern)
	}
	has("Recording to " + regexp.QuoteMeta(history))
	has("1 agent,")
	require.NotContains(t, said.String(), "more rights than it needs")
	assert.Equal(t, map[string]string{"Uid": "0 0 0 0", "CapEff": servingCaps, "CapPrm": servingCaps, "CapBnd": servingCaps, "NoNewPrivs": "1", "Seccomp": "2"},
		statusOf(t, server.Process.Pid, "Uid", "CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp"))

	children := childrenOf(t, server.Process.Pid)
	require.Len(t, children, 1)
	child := statusOf(t, children[0], "Uid", "CapEff", "NoNewPrivs", "Seccomp")
	assert.Equal(t, map[string]string{"Uid": "2100006789 2100006789 2100006789 2100006789", "CapEff": "000000c000281004", "NoNewPrivs": "1", "Seccomp": "2"}, child)

	// A connection of another user's program is recorded, and asked for meanwhile.
	holder := exec.Command("/proc/self/exe", listener.Addr().Network(), listener.Addr().String())
	holder.Env = append(os.Environ(), "CONNMAP_TRAFFIC=dial")
	holder.Dir = "/"
	holder.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	in, err := holder.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, holder.Start())
	defer func() { in.Close(); holder.Wait() }()
	self, err := os.Executable()
	require.NoError(t, err)
	sql := fmt.Sprintf("SELECT exe FROM detailed_history WHERE port = %d", listener.Addr().(*net.TCPAddr).Port)
	require.Eventually(t, func() bool {
		out, err := exec.Command(program, "-history", history, "-query", sql, "-format", "csv").CombinedOutput()
		return assert.NoError(t, err, string(out)) && strings.Contains(string(out), self)
	}, time.Minute, 200*time.Millisecond)

	end()
	require.Eventually(t, func() bool { return syscall.Kill(children[0], 0) != nil }, time.Minute, 10*time.Millisecond, "the collector ends with it")
	assert.NotContains(t, said.String(), "no longer shown")
}

// TestHasWindow: only a map server with a window may ask services of this machine.
func TestHasWindow(t *testing.T) {
	for _, tt := range []struct {
		display, args string
		want          bool
	}{
		{":0", "", true}, {"", "", false}, {":0", "-headless", false}, {":0", "-screenshot x.png", false}, {":0", "-query list", false}, {":0", "-demo 3", true},
	} {
		t.Setenv("DISPLAY", tt.display)
		cfg, err := parse(strings.Fields(tt.args), io.Discard)
		require.NoError(t, err)
		assert.Equal(t, tt.want, cfg.hasWindow(), "%q %s", tt.display, tt.args)
	}
}

// TestRootsMapOfAnothersHistory: who asks or records the history of another user as root
// leaves nothing beside it that keeps that user from it.
func TestRootsMapOfAnothersHistory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose rights are dropped")
	}
	const other = 65534
	program := mapProgram(t)
	dir := t.TempDir()
	history := filepath.Join(dir, "h.sqlite")
	env := append(os.Environ(), "XDG_CONFIG_HOME="+dir, "XDG_CACHE_HOME="+dir, "XDG_DATA_HOME="+dir, "HOME="+dir)
	record := func(meanwhile func(pid int)) {
		server := exec.Command(program, "-headless", "-listen", "none", "-no-local", "-history", history)
		server.Env = env
		var said printed
		server.Stdout, server.Stderr = &said, &said
		require.NoError(t, server.Start())
		defer func() {
			server.Process.Signal(os.Interrupt)
			assert.NoError(t, server.Wait(), said.String())
		}()
		require.Eventually(t, func() bool { return strings.Contains(said.String(), "0 agents,") }, time.Minute, 20*time.Millisecond, said.String())
		meanwhile(server.Process.Pid)
	}
	files := func(least int) {
		all, err := filepath.Glob(history + "*")
		require.NoError(t, err)
		assert.GreaterOrEqual(t, len(all), least)
		for _, name := range all {
			info, err := os.Stat(name)
			require.NoError(t, err)
			assert.EqualValues(t, other, info.Sys().(*syscall.Stat_t).Uid, name)
		}
	}
	record(func(int) {})
	for _, name := range []string{".lock", ".reserve"} {
		require.NoError(t, os.Remove(history+name))
	}
	require.NoError(t, os.Chown(history, other, other))
	ask := exec.Command(program, "-history", history, "-query", "SELECT 1")
	ask.Env = env
	out, err := ask.CombinedOutput()
	require.NoError(t, err, string(out))
	files(1)
	record(func(pid int) {
		files(5) // the log, its index, the lock and the reserve too
		assert.Equal(t, map[string]string{"CapEff": "0000000000000403"}, statusOf(t, pid, "CapEff"))
	})
	files(3)
}

// TestRootsMapOfHardLink: a history that was recorded last in a folder that nobody named cannot be
// opened; the message has the name to give.
func TestRootsMapOfHardLink(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose rights are dropped")
	}
	program := mapProgram(t)
	dir := t.TempDir()
	for _, name := range []string{"first", "second", "tmp"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
	}
	first, second := filepath.Join(dir, "first", "h.sqlite"), filepath.Join(dir, "second", "h.sqlite")
	db, err := sqlite.Open(t.Context(), first, sqlite.Options{})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	require.NoError(t, os.Link(first, second))
	server := exec.Command(program, "-headless", "-listen", "none", "-no-local", "-history", second)
	server.Env = append(os.Environ(), "XDG_CONFIG_HOME="+dir+"/own", "XDG_CACHE_HOME="+dir+"/own", "XDG_DATA_HOME="+dir+"/own", "HOME="+dir+"/own", "TMPDIR="+dir+"/tmp")
	var said printed
	server.Stdout, server.Stderr = &said, &said
	require.NoError(t, server.Start())
	assert.Eventually(t, func() bool {
		return strings.Contains(said.String(), second+" was recorded last by another name: ") && strings.Contains(said.String(), first) &&
			strings.Contains(said.String(), ": open it by that name")
	}, time.Minute, 20*time.Millisecond)
	server.Process.Signal(os.Interrupt)
	server.Wait()
	assert.NotContains(t, said.String(), "has several names")
	if t.Failed() {
		t.Log(said.String())
	}
}

// TestRootsMapWithoutCollector: what collects may be killed; the map says so and goes on.
func TestRootsMapWithoutCollector(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose rights are dropped")
	}
	program := mapProgram(t)
	dir := t.TempDir()
	server := exec.Command(program, "-headless", "-listen", "127.0.0.1:0", "-history", "none")
	server.Env = append(os.Environ(), "XDG_CONFIG_HOME="+dir, "XDG_CACHE_HOME="+dir, "XDG_DATA_HOME="+dir, "HOME="+dir)
	var said printed
	server.Stdout, server.Stderr = &said, &said
	require.NoError(t, server.Start())
	defer func() {
		server.Process.Signal(os.Interrupt)
		awaitEnd(t, server, &said)
	}()
	require.Eventually(t, func() bool { return strings.Contains(said.String(), "1 agent,") }, time.Minute, 20*time.Millisecond)
	children := childrenOf(t, server.Process.Pid)
	require.Len(t, children, 1)
	require.NoError(t, syscall.Kill(children[0], syscall.SIGKILL))
	require.Eventually(t, func() bool {
		return strings.Contains(said.String(), "no longer shown: the collector's process has ended (signal: killed)")
	}, time.Minute, 20*time.Millisecond)
	assert.Empty(t, childrenOf(t, server.Process.Pid), "it was waited for")
}

// TestRootsWindow: the window opens for root, too.
func TestRootsWindow(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose rights are dropped")
	}
	for _, name := range []string{"Xvfb", "xdotool"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip(err)
		}
	}
	program := mapProgram(t)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	screen := exec.Command("Xvfb", "-displayfd", "3", "-screen", "0", "1280x800x24", "-nolisten", "tcp", "-noreset")
	screen.ExtraFiles = []*os.File{w}
	require.NoError(t, screen.Start())
	defer func() { screen.Process.Kill(); screen.Wait() }()
	w.Close()
	line, err := bufio.NewReader(r).ReadString('\n')
	require.NoError(t, err)
	r.Close()
	display := "DISPLAY=:" + strings.TrimSpace(line)

	dir := t.TempDir()
	server := exec.Command(program, "-listen", "none", "-loopback", "-history", filepath.Join(dir, "h.sqlite"))
	server.Env = append(os.Environ(), display, "LIBGL_ALWAYS_SOFTWARE=1", "XDG_CONFIG_HOME="+dir, "XDG_CACHE_HOME="+dir, "XDG_DATA_HOME="+dir, "HOME="+dir)
	var said printed
	server.Stdout, server.Stderr = &said, &said
	require.NoError(t, server.Start())
	defer func() {
		server.Process.Signal(os.Interrupt)
		server.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	}()
	do := func(args ...string) (string, error) {
		c := exec.Command("xdotool", args...)
		c.Env = append(os.Environ(), display)
		out, err := c.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	var window string
	require.Eventually(t, func() bool {
		window, err = do("search", "--onlyvisible", "--name", "^connmap$")
		return err == nil && window != ""
	}, 3*time.Minute, 100*time.Millisecond, "no window")
	assert.NotContains(t, said.String(), "headless")
	assert.Equal(t, map[string]string{"CapEff": servingCaps, "NoNewPrivs": "1", "Seccomp": "2"}, statusOf(t, server.Process.Pid, "CapEff", "NoNewPrivs", "Seccomp"))
	// s saves the places of now beside the history.
	do("windowfocus", "--sync", window)
	require.Eventually(t, func() bool {
		do("key", "--window", window, "s")
		_, err := os.Stat(filepath.Join(dir, "places.txt"))
		return err == nil
	}, time.Minute, 200*time.Millisecond)
}
