package main

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/program/programtest"
)

// TestGreetingShowsNoToken: what is written into a file or a log for others holds no token. A
// terminal shows it, and the command that is for it.
func TestGreetingShowsNoToken(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	a, err := start(t.Context(), config{configDir: dir, dataDir: dir, listen: "127.0.0.1:0", noLocal: true, rules: filepath.Join(dir, "connmaprc")}, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	require.NoError(t, err)
	defer a.stop()
	token := a.identity.Token().String()

	file, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	defer file.Close()
	a.greet(file)
	b, err := os.ReadFile(file.Name())
	require.NoError(t, err)
	assert.NotContains(t, string(b), token)
	assert.Contains(t, string(b), "connmap-agent "+a.listener.Addr().String()+" -\n")
	assert.Contains(t, string(b), "mapserver token prints")
	var pipe bytes.Buffer
	a.greet(&pipe)
	assert.Equal(t, string(b), pipe.String())
	assert.NotContains(t, log.String(), token)

	user, program := programtest.Terminal(t)
	a.greet(program)
	require.NoError(t, program.Close())
	shown, _ := io.ReadAll(user) // ends with an error, as the other end is closed
	assert.Contains(t, string(shown), token)
	assert.NotContains(t, strings.ReplaceAll(string(shown), "\r", ""), "connmap-agent "+a.listener.Addr().String()+" "+token, "it is no word of a command line")
}

// TestExposedFiles: the server's secrets are closed to others, the window says so, and a
// password for all to read is told of.
func TestExposedFiles(t *testing.T) {
	dir := t.TempDir()
	cfg := config{configDir: dir, dataDir: dir, listen: "127.0.0.1:0", noLocal: true, rules: filepath.Join(dir, "connmaprc")}
	open := func() (problems string) {
		a, err := start(t.Context(), cfg, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		defer a.stop()
		a.monitor.Publish()
		return strings.Join(a.monitor.State().Problems, "\n")
	}
	assert.NotContains(t, open(), "others could use")
	require.NoError(t, os.WriteFile(registryFile(dir), []byte("[]"), 0o600))
	for _, name := range []string{"server-key.pem", "server-secret", "agents.json"} {
		name = filepath.Join(dir, name)
		require.NoError(t, os.Chmod(name, 0o644))
		assert.Contains(t, open(), "others could use "+name+" (mode 0644)")
		info, err := os.Stat(name)
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		assert.NotContains(t, open(), "others could use")
		if os.Geteuid() != 0 {
			continue
		}
		require.NoError(t, os.Chown(name, 65534, -1))
		assert.Contains(t, open(), name+" belonged to user 65534: it belongs to user 0 now")
		assert.NotContains(t, open(), "belonged to")
	}

	password := filepath.Join(dir, "password")
	require.NoError(t, os.WriteFile(password, []byte("open sesame\n"), 0o644))
	var said bytes.Buffer
	got, err := parse([]string{"-password-file", password}, io.Discard)
	require.NoError(t, err)
	require.NoError(t, got.readPassword(&said))
	assert.Equal(t, "open sesame", got.password)
	assert.Contains(t, said.String(), "mapserver: others could use "+password)
	assert.NotContains(t, said.String(), "sesame")
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(password, 65534, -1))
		require.NoError(t, got.readPassword(&said))
		assert.Contains(t, said.String(), "mapserver: "+password+" belongs to user 65534, who may read and change it")
	}

	// What is no password keeps its mode.
	require.NoError(t, os.WriteFile(password, []byte("127.0.0.1 localhost\n::1 localhost\n"), 0o644))
	require.NoError(t, os.Chmod(password, 0o644))
	assert.ErrorContains(t, got.readPassword(&said), "-password-file: "+password+" is not a file with a token or a password")
	info, err := os.Stat(password)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o644), info.Mode().Perm())
}

// TestPasswordIsNotPassedOn: the command of -sound is not told the password.
func TestPasswordIsNotPassedOn(t *testing.T) {
	t.Setenv("CONNMAP_PASSWORD", "open sesame")
	cfg, err := parse(nil, io.Discard)
	require.NoError(t, err)
	require.NoError(t, cfg.readPassword(io.Discard))
	assert.Equal(t, "open sesame", cfg.password)
	env, err := exec.Command("env").Output()
	require.NoError(t, err)
	assert.NotContains(t, string(env), "sesame")
}
