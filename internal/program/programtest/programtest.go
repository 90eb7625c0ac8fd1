// Package programtest tests that programs end at a signal, whatever they are doing.
package programtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Build compiles the package of a program and returns the path of the program.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), filepath.Base(pkg)+".exe")
	cmd := exec.Command("go", "build", "-o", name, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return name
}

// patience is how long a program may take to end. The promise is a second; a machine that is busy
// with other tests gets more, and the work in the tests takes much longer.
const patience = 4 * time.Second

// Ends starts a program and waits until begun reports that its process is at work. It sends a
// signal and requires that the program ends soon. It returns standard output, unless that goes
// elsewhere, and standard error.
func Ends(t testing.TB, cmd *exec.Cmd, signal os.Signal, begun func(pid int) bool) string {
	t.Helper()
	var out bytes.Buffer
	if cmd.Stderr = &out; cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer cmd.Process.Kill()
	for limit := time.After(time.Minute); !begun(cmd.Process.Pid); {
		select {
		case err := <-ended:
			require.FailNow(t, "it ended before it was in the midst of its work", "%v: %s", err, out.String())
		case <-limit:
			require.FailNow(t, "it never came to its work")
		case <-time.After(time.Millisecond):
		}
	}
	at := time.Now()
	require.NoError(t, cmd.Process.Signal(signal))
	select {
	case <-ended:
		t.Logf("%v after %v", cmd.ProcessState, time.Since(at).Round(time.Millisecond))
	case <-time.After(patience):
		cmd.Process.Kill()
		<-ended
		assert.Fail(t, "it does not end", "%v after %v", signal, patience)
	}
	return out.String()
}

// Reads reports whether a process has a file open. It skips the test if that cannot be known.
func Reads(t testing.TB, file string) func(pid int) bool {
	if runtime.GOOS != "linux" {
		t.Skip("open files of others are seen on Linux only")
	}
	return func(pid int) bool {
		open, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range open {
			if name, err := os.Readlink(fd); err == nil && name == file {
				return true
			}
		}
		return false
	}
}

// Writes reports whether a process is blocked in a write to a pipe. It is false if that cannot be
// known.
func Writes(pid int) bool {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", pid))
	for _, task := range tasks {
		if b, _ := os.ReadFile(task); bytes.Contains(b, []byte("pipe_write")) {
			return true
		}
	}
	return false
}

// Lines makes a file that takes long to read: a head, and then one line many times.
func Lines(t testing.TB, name, head, line string, size int) string {
	t.Helper()
	f, err := os.Create(name)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteString(head)
	require.NoError(t, err)
	chunk := bytes.Repeat([]byte(line), 1<<20/len(line))
	for n := 0; n < size; n += len(chunk) {
		_, err := f.Write(chunk)
		require.NoError(t, err)
	}
	return name
}
