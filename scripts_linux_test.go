package connmap_test

import (
	"bytes"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// inGroup reports whether a process of a group lives. One that is dead and was not waited for
// does not.
func inGroup(pgid int) bool {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		stat, _ := os.ReadFile(name)
		// The name of the program, in parentheses, may hold anything.
		if f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])); len(f) > 2 && f[2] == strconv.Itoa(pgid) && f[0] != "Z" {
			return true
		}
	}
	return false
}

// TestBusyEnds: the busy loops end with the command, and at Ctrl-C.
func TestBusyEnds(t *testing.T) {
	for _, tt := range []struct {
		name, command string
		signal        syscall.Signal
		status        int
	}{
		{"good", "true", 0, 0},
		{"failing", "exit 3", 0, 3},
		{"Ctrl-C", "echo begun; exec sleep 60", syscall.SIGINT, 130},
		{`Ctrl-\`, "echo begun; exec sleep 60", syscall.SIGQUIT, 130},
		{"terminated", "echo begun; exec sleep 60", syscall.SIGTERM, 130},
		{"terminal closed", "echo begun; exec sleep 60", syscall.SIGHUP, 130},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.signal != 0 && signal.Ignored(tt.signal) {
				t.Skipf("%v is ignored here, as by nohup", tt.signal)
			}
			cmd := exec.Command("scripts/busy", "sh", "-c", tt.command)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			pgid := cmd.Process.Pid
			defer syscall.Kill(-pgid, syscall.SIGKILL)
			if tt.signal != 0 {
				_, err := out.Read(make([]byte, 6))
				require.NoError(t, err)
				require.NoError(t, syscall.Kill(-pgid, tt.signal))
			}
			cmd.Wait()
			assert.Equal(t, tt.status, cmd.ProcessState.ExitCode())
			assert.Eventually(t, func() bool { return !inGroup(pgid) }, 10*time.Second, 10*time.Millisecond, "a loop goes on")
		})
	}
}

// TestCheckTells: make test says what failed, whatever it is, and never that all has passed
// when that is not so.
func TestCheckTells(t *testing.T) {
	run := func(program string, env ...string) (string, int) {
		bin := t.TempDir()
		for _, name := range []string{"go", "gofmt"} {
			require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+program), 0o700))
		}
		cmd := exec.Command("scripts/check")
		cmd.Env = append(os.Environ(), append([]string{"PATH=" + bin + ":" + os.Getenv("PATH"), "DISPLAY=:0"}, env...)...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.Run()
		return out.String(), cmd.ProcessState.ExitCode()
	}
	const fetches = `[ "$1" != install ]` // nothing
	out, status := run(fetches, "CONNMAP_SEED=7")
	assert.Equal(t, 0, status)
	assert.Contains(t, out, "CONNMAP_SEED=7\n== all passed\n")

	out, status = run(`case "$1 $*" in
"test "*-race*) echo "ok  	example.com/raced	1.500s" ;;
"test "*-timeout*)
	echo "--- FAIL: TestOne (0.10s)"
	echo "    --- FAIL: TestOne/two (0.10s)"
	echo "FAIL	example.com/failing	12.300s"
	echo "panic: test timed out after 1s"
	echo "	running tests:"
	printf '\t\tTestHung (1s)\n\n\tTestNot\n'
	echo "FAIL	example.com/hung	1.000s"
	exit 1 ;;
"vet "*) echo "example.go:7: unused"; exit 1 ;;
esac
` + fetches)
	assert.Equal(t, 1, status)
	_, told, found := strings.Cut(out, "== seconds of each step")
	require.True(t, found)
	for _, want := range []string{
		"12.3 FAIL example.com/failing (tests)\n", "1.5 ok example.com/raced (race, map server)\n",
		"== FAILED: vet, tests, builds\n", "  example.go:7: unused\n", "--- FAIL: TestOne (0.10s)\n", "--- FAIL: TestOne/two (0.10s)\n",
		"FAIL	example.com/failing	12.300s\n", "timed out: TestHung (1s)\n",
	} {
		assert.Contains(t, told, want)
	}
	assert.NotContains(t, told, "TestNot")
	assert.NotContains(t, out, "all passed")

	// A step that prints nothing when it passes prints what failed.
	out, status = run(`case "$1 $*" in
"test "*-bench*) echo "--- FAIL: BenchmarkOne"; exit 1 ;;
"test "*-list*) echo FuzzOne; echo "ok  	example.com/fuzzed	0.1s" ;;
"test "*-fuzz*) echo "--- FAIL: FuzzOne (0.10s)"; exit 1 ;;
"list "*) echo example.com/fuzzed; echo example.com/other ;;
esac
` + fetches)
	assert.Equal(t, 1, status)
	_, told, _ = strings.Cut(out, "== seconds of each step")
	assert.Contains(t, told, "  --- FAIL: BenchmarkOne\n")
	assert.Contains(t, told, "  --- FAIL: FuzzOne (0.10s)\n")
	assert.Contains(t, out, "fuzz example.com/other FuzzOne", "it goes on")

	out, status = run(fetches, "TMPDIR=/nonexistent")
	assert.NotEqual(t, 0, status)
	assert.NotContains(t, out, "all passed")

	// A disk without room for what is to be looked through later.
	if os.Geteuid() != 0 {
		return
	}
	full := t.TempDir()
	if err := syscall.Mount("tmpfs", full, "tmpfs", 0, "size=8k,nr_inodes=100"); err != nil {
		t.Skip("needs to mount a file system: ", err)
	}
	defer syscall.Unmount(full, syscall.MNT_DETACH)
	out, status = run(`case "$1" in
env) ;;
vet) head -c 20000 /dev/zero >"$TMPDIR/filled"; echo wrong; exit 1 ;;
esac
`+fetches, "TMPDIR="+full)
	assert.Equal(t, 1, status, out)
	assert.Contains(t, out, "== FAILED: vet")
}
