package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// example returns the indented block of the project's README that begins with a text.
func example(t *testing.T, begin string) string {
	t.Helper()
	b, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(b), "\n    "+begin)
	require.True(t, ok, begin)
	block, _, _ := strings.Cut(begin+rest, "\n\n")
	return strings.ReplaceAll(block, "\n    ", "\n") + "\n"
}

// TestReadmeServices: what README says to write where there is no systemd starts an agent
// that joins, in the environment that it is started in there.
func TestReadmeServices(t *testing.T) {
	for _, name := range []string{"go", "sh", "flock"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip(err)
		}
	}
	program := buildLinux(t)

	openRC := example(t, "#!/sbin/openrc-run\n")
	script := filepath.Join(t.TempDir(), "init")
	require.NoError(t, os.WriteFile(script, []byte(openRC), 0o755))
	b, err := exec.Command("sh", "-n", script).CombinedOutput()
	require.NoError(t, err, string(b))
	b, err = exec.Command("sh", "-c", `. "$1" && echo "$command $command_args"`, "sh", script).CombinedOutput()
	require.NoError(t, err, string(b))
	service := strings.TrimSpace(string(b))

	cron := example(t, "*/5 * * * * root ")
	require.Equal(t, 1, strings.Count(cron, "\n"))
	assert.NotContains(t, cron, "%", "which ends a command of cron")
	fields := strings.SplitN(cron, " ", 7)
	require.Equal(t, []string{"*/5", "*", "*", "*", "*", "root"}, fields[:6])

	for name, c := range map[string]struct {
		command string
		env     []string
	}{
		"OpenRC": {"exec " + service, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}},
		"cron":   {strings.TrimSpace(fields[6]), []string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "SHELL=/bin/sh"}},
	} {
		t.Run(name, func(t *testing.T) {
			id, _, addr, d := open(t)
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "agent.token"), []byte(id.Token().String()+"\n"), 0o600))
			command := c.command
			for from, to := range map[string]string{programFile: program, "/etc/connmap/": dir + "/", "/run/": dir + "/", "192.0.2.7": addr} {
				if from != "/run/" || name == "cron" {
					require.Contains(t, command, from)
				}
				command = strings.ReplaceAll(command, from, to)
			}
			start := func() *exec.Cmd {
				cmd := exec.Command("/bin/sh", "-c", command)
				cmd.Env = c.env
				cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
				require.NoError(t, cmd.Start())
				return cmd
			}
			running := start()
			defer func() {
				syscall.Kill(-running.Process.Pid, syscall.SIGTERM)
				running.Wait()
			}()
			require.Eventually(t, func() bool { return len(d.came()) == 1 }, time.Minute, 10*time.Millisecond, command)
			if name == "cron" {
				assert.Error(t, start().Wait(), "a second one ends at once")
				assert.Len(t, d.came(), 1)
			} else {
				assert.FileExists(t, filepath.Join(dir, "agent-key.pem"))
			}
		})
	}
}
