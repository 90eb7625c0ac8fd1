package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/connmapgo/connmap/internal/program/programtest"
)

// TestAskSecret: a terminal shows a question and not what is typed, and is as before then,
// also if nobody answers.
func TestAskSecret(t *testing.T) {
	echoes := func(f *os.File) bool {
		mode, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		require.NoError(t, err)
		return mode.Lflag&unix.ECHO != 0
	}
	user, program := programtest.Terminal(t)
	require.True(t, echoes(program))
	var said bytes.Buffer
	done := make(chan error, 1)
	var got string
	go func() {
		var err error
		got, err = askSecret(t.Context(), program, &said)
		done <- err
	}()
	require.Eventually(t, func() bool { return !echoes(program) }, time.Minute, time.Millisecond)
	_, err := io.WriteString(user, "open sesame\n")
	require.NoError(t, err)
	require.NoError(t, <-done)
	assert.Equal(t, "open sesame", got)
	assert.Equal(t, "Token or password (not shown): \n", said.String())
	assert.True(t, echoes(program))
	require.NoError(t, program.Close())
	shown, _ := io.ReadAll(user)
	assert.NotContains(t, string(shown), "sesame")

	_, program = programtest.Terminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := askSecret(ctx, program, io.Discard)
		done <- err
	}()
	require.Eventually(t, func() bool { return !echoes(program) }, time.Minute, time.Millisecond)
	cancel()
	assert.ErrorIs(t, <-done, context.Canceled)
	assert.True(t, echoes(program))
}

// TestTokenFromInput: the first line of what is no terminal.
func TestTokenFromInput(t *testing.T) {
	for _, tt := range []struct{ name, in, want, err string }{
		{"a line", "open sesame\nmore\n", "open sesame", ""},
		{"without its end", "open sesame", "open sesame", ""},
		{"of Windows", "open sesame\r\n", "open sesame", ""},
		{"nothing", "", "", "standard input has no token"},
		{"an empty line", "\nopen sesame\n", "", "standard input has no token"},
		{"no end", strings.Repeat("x", 1<<20), strings.Repeat("x", maxSecret), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "input")
			require.NoError(t, os.WriteFile(name, []byte(tt.in), 0o600))
			f, err := os.Open(name)
			require.NoError(t, err)
			defer f.Close()
			got, err := askSecret(t.Context(), f, io.Discard)
			assert.Equal(t, tt.want, got)
			if tt.err == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, tt.err)
			}
		})
	}
}

// buildLinux returns the program as it is released, which all tests share.
func buildLinux(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the program")
	}
	program, err := built()
	require.NoError(t, err)
	return program
}

// builtIn is the folder of the program that built has made.
var builtIn string

var built = sync.OnceValues(func() (program string, err error) {
	if builtIn, err = os.MkdirTemp("", "connmap-agent-"); err != nil {
		return "", err
	}
	program = filepath.Join(builtIn, "connmap-agent")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return program, nil
})

// TestTokenStaysOutOfSight: whichever way it comes to an agent, other users do not see it in
// the list of processes, nor anybody in what the agent says.
func TestTokenStaysOutOfSight(t *testing.T) {
	program := buildLinux(t)
	id, dir, addr, d := open(t)
	token := id.Token().String()
	require.NoError(t, id.SetPassword("open sesame"))
	file := filepath.Join(dir, "token")
	require.NoError(t, os.WriteFile(file, []byte(token), 0o600))
	for _, tt := range []struct {
		name, input, env string
		args             []string
		notice           string // a part of what is said
	}{
		{"standard input", token + "\n", "", []string{addr, "-"}, ""},
		{"a file", "", "", []string{"-token-file", file, addr}, ""},
		{"the environment", "", "CONNMAP_TOKEN=" + token, []string{addr}, ""},
		{"the command line", "", "", []string{addr, token}, "other users can see a secret in the command line"},
		{"a password in the command line", "", "", []string{addr, "open sesame"}, "other users can see a secret in the command line"},
		{"a password from standard input", "open sesame\n", "", []string{addr, "-"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			agent := exec.Command(program, append([]string{"-v", "-backend", "proc"}, tt.args...)...)
			agent.Env = append(os.Environ(), "STATE_DIRECTORY="+t.TempDir(), tt.env)
			agent.Dir = dir // where the certificate is
			agent.Stdin = strings.NewReader(tt.input)
			var said bytes.Buffer
			agent.Stderr = &said
			before := len(d.came())
			require.NoError(t, agent.Start())
			require.Eventually(t, func() bool { return len(d.came()) > before }, time.Minute, 10*time.Millisecond)
			line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", agent.Process.Pid))
			assert.NoError(t, err)
			assert.Contains(t, string(line), addr, "the rest is there")
			assert.NotContains(t, string(line), token)
			assert.NotContains(t, string(line), "sesame")
			require.NoError(t, agent.Process.Signal(os.Interrupt))
			require.NoError(t, agent.Wait())
			assert.NotContains(t, said.String(), token)
			assert.NotContains(t, said.String(), "sesame")
			if tt.notice == "" {
				assert.NotContains(t, said.String(), "secret")
			} else {
				assert.Contains(t, said.String(), tt.notice)
			}
		})
	}
}

// TestHideArgument: what is no word of the command line is not touched.
func TestHideArgument(t *testing.T) {
	word := string([]byte("open sesame"))
	for _, w := range []string{word, "", "a constant"} {
		hideArgument(w)
	}
	assert.Equal(t, "open sesame", word)
	for _, stat := range []string{"", "1 (x", "1 (x) S 1", "1 (a) b) S " + strings.Repeat("1 ", 44) + "12 x", "no brackets"} {
		begin, end := argumentsAt([]byte(stat))
		assert.Zero(t, begin, stat)
		assert.Zero(t, end, stat)
	}
	begin, end := argumentsAt([]byte("1 (a) b) S " + strings.Repeat("1 ", 44) + "12 34 5"))
	assert.EqualValues(t, 12, begin)
	assert.EqualValues(t, 34, end)
}

func FuzzArgumentsAt(f *testing.F) {
	f.Add([]byte("1 (a) b) S " + strings.Repeat("1 ", 44) + "12 34 5"))
	f.Fuzz(func(t *testing.T, stat []byte) {
		argumentsAt(stat)
	})
}

// TestExposedToken: what others may read is closed to them and said; the agent works.
func TestExposedToken(t *testing.T) {
	id, _, addr, d := open(t)
	state := t.TempDir()
	t.Setenv("STATE_DIRECTORY", state)
	t.Setenv("CONNMAP_TOKEN", "")
	token, key := filepath.Join(state, secretFile), filepath.Join(state, "agent-key.pem")
	require.NoError(t, os.WriteFile(token, []byte(id.Token().String()), 0o644))
	var said bytes.Buffer
	comes(t, d, &said, addr)
	assert.Contains(t, said.String(), "others could use "+token+" (mode 0644)")
	require.NoError(t, os.Chmod(key, 0o640))
	said.Reset()
	comes(t, d, &said, addr)
	assert.Contains(t, said.String(), "others could use "+key+" (mode 0640)")
	assert.NotContains(t, said.String(), token)
	for _, name := range []string{token, key} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		assert.Zero(t, info.Mode().Perm()&0o007, name)
	}
	said.Reset()
	comes(t, d, &said, addr)
	assert.NotContains(t, said.String(), "others could use")
}

// TestChildrenHaveNoSecrets: what install runs does not inherit them.
func TestChildrenHaveNoSecrets(t *testing.T) {
	t.Setenv("CONNMAP_TOKEN", "open sesame")
	var out bytes.Buffer
	in := installer{stdout: &out, stderr: io.Discard}
	require.NoError(t, in.run(t.Context(), "env"))
	assert.Contains(t, out.String(), "PATH=")
	assert.NotContains(t, out.String(), "sesame")
	assert.False(t, errors.Is(in.run(t.Context(), "false"), nil))
}
