//go:build !windows && !darwin

package main

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestInstall(t *testing.T) {
	root, token := t.TempDir(), newToken(t)
	var out bytes.Buffer
	args := []string{"install", "-root", root, "-name", "nas", "-names", "domain", "map.example:1234", token}
	dry := append([]string{"install", "-dry-run"}, args[1:]...)
	require.NoError(t, run(t.Context(), dry, &out, io.Discard))
	left, err := os.ReadDir(root)
	require.NoError(t, err)
	assert.Empty(t, left, "nothing is done")
	for _, want := range []string{"write " + root + programFile, "(mode 0600): the token", "ExecStart=/usr/local/bin/connmap-agent -token-file %d/token -name nas -names domain -- map.example:1234\n", "link " + root + wantsFile + " to " + unitFile + "\n",
		"The system in " + root + " starts the agent when it boots; the agent then creates its own key. Nothing is started now.\n"} {
		assert.Contains(t, out.String(), want)
	}
	assert.NotContains(t, out.String(), "systemctl", "that of this system has no part in it")
	assert.NotContains(t, out.String(), token, "it is a secret")

	for range 2 { // also over an older one
		require.NoError(t, run(t.Context(), args, io.Discard, io.Discard))
	}
	for name, mode := range map[string]os.FileMode{programFile: 0o755, tokenFile: 0o600, unitFile: 0o644} {
		info, err := os.Stat(filepath.Join(root, name))
		require.NoError(t, err)
		assert.Equal(t, mode, info.Mode().Perm(), name)
	}
	to, err := os.Readlink(filepath.Join(root, wantsFile))
	require.NoError(t, err)
	assert.Equal(t, unitFile, to)
	if _, err := exec.LookPath("systemctl"); err == nil {
		b, err := exec.Command("systemctl", "--root", root, "is-enabled", "connmap-agent").CombinedOutput()
		assert.NoError(t, err, string(b))
		assert.Equal(t, "enabled\n", string(b))
	}
	b, err := os.ReadFile(filepath.Join(root, tokenFile))
	require.NoError(t, err)
	assert.Equal(t, token+"\n", string(b))
	out.Reset()
	require.NoError(t, run(t.Context(), []string{"install", "-dry-run", "map.example", token}, &out, io.Discard))
	assert.Contains(t, out.String(), "run systemctl restart connmap-agent\n")
	assert.NotContains(t, out.String(), "when it boots")
	b, err = os.ReadFile(filepath.Join(root, unitFile))
	require.NoError(t, err)
	for _, line := range strings.Split(string(b), "\n") {
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "[") {
			continue
		}
		assert.Contains(t, line, "=")
	}
	assert.NotContains(t, string(b), "%!", "no mistake in the template")
	assert.Contains(t, string(b), "\nStateDirectory=connmap-agent\n", "for the key")
}

// TestInstallByPassword: what the service needs is copied where it alone is let read by
// systemd, and an agent with the unit's own flags joins.
func TestInstallByPassword(t *testing.T) {
	id, dir, addr, d := open(t)
	require.NoError(t, id.SetPassword("open sesame"))
	root, cert := t.TempDir(), filepath.Join(dir, "server-cert.pem")
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("open sesame\n"), 0o600))
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"install", "-root", root, "-password-file", file, "-cert", cert, addr}, &out, io.Discard))
	assert.NotContains(t, out.String(), "sesame")
	assert.Contains(t, out.String(), "(mode 0600): the password")
	credentials := t.TempDir()
	for name, from := range map[string]string{"token": tokenFile, "cert": serverFile} {
		info, err := os.Stat(filepath.Join(root, from))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), from)
		b, err := os.ReadFile(filepath.Join(root, from))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(credentials, name), b, 0o600)) // as systemd does
		unit, err := os.ReadFile(filepath.Join(root, unitFile))
		require.NoError(t, err)
		assert.Contains(t, string(unit), "\nLoadCredential="+name+":"+from+"\n")
	}
	unit, err := os.ReadFile(filepath.Join(root, unitFile))
	require.NoError(t, err)
	assert.NotContains(t, string(unit), "%!")
	_, line, found := strings.Cut(string(unit), "\nExecStart="+programFile+" ")
	require.True(t, found)
	line, _, _ = strings.Cut(line, "\n")
	t.Setenv("STATE_DIRECTORY", t.TempDir())
	comes(t, d, io.Discard, strings.Fields(strings.ReplaceAll(line, "%d", credentials))...)

	t.Chdir(dir) // the certificate is found there
	root = t.TempDir()
	require.NoError(t, run(t.Context(), []string{"install", "-root", root, addr, "open sesame"}, io.Discard, io.Discard))
	assert.FileExists(t, filepath.Join(root, serverFile))
}

// TestUninstall: it says what it would do, and does nothing where nothing is installed.
func TestUninstall(t *testing.T) {
	if exists(unitFile) || exists(programFile) {
		t.Skip("an agent is installed here")
	}
	for _, args := range [][]string{{"uninstall", "-dry-run"}, {"uninstall"}} {
		var out bytes.Buffer
		require.NoError(t, run(t.Context(), args, &out, io.Discard))
		assert.Equal(t, "The key of this machine, if it had one, stays in "+stateFolder+".\n", out.String())
	}
}

// TestInstallTakesTokens: a token comes into the service whichever way it comes to install,
// and is in no file but its own.
func TestInstallTakesTokens(t *testing.T) {
	token := newToken(t)
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(token+"\n"), 0o600))
	for _, tt := range []struct {
		name, env string
		args      []string
	}{
		{"the command line", "", []string{"map.example", token}},
		{"standard input", "", []string{"map.example", "-"}},
		{"a file", "", []string{"-token-file", file, "map.example"}},
		{"the environment", token, []string{"map.example"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("CONNMAP_TOKEN", tt.env)
			input, err := os.Open(file)
			require.NoError(t, err)
			defer input.Close()
			defer func(before *os.File) { os.Stdin = before }(os.Stdin)
			os.Stdin = input
			root := t.TempDir()
			var out bytes.Buffer
			require.NoError(t, run(t.Context(), append([]string{"install", "-root", root}, tt.args...), &out, &out))
			assert.NotContains(t, out.String(), token)
			seen := 0
			require.NoError(t, filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() {
					return err
				}
				b, err := os.ReadFile(name)
				if err == nil && bytes.Contains(b, []byte(token)) {
					seen++
					info, _ := d.Info()
					assert.Equal(t, filepath.Join(root, tokenFile), name)
					assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
				}
				return err
			}))
			assert.Equal(t, 1, seen)
		})
	}
}

// TestInstallStaysBelowRoot: links in another system's folders do not lead into this one.
func TestInstallStaysBelowRoot(t *testing.T) {
	token := newToken(t)
	for _, at := range []string{"etc", "usr", "etc/systemd", "usr/local/bin"} {
		t.Run(at, func(t *testing.T) {
			root, here := t.TempDir(), t.TempDir()
			require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, at)), 0o755))
			require.NoError(t, os.Symlink(here, filepath.Join(root, at)))
			assert.Error(t, run(t.Context(), []string{"install", "-root", root, "map.example", token}, io.Discard, io.Discard))
			left, err := os.ReadDir(here)
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
	// One that stays in it is followed, as in a system whose folders were merged.
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "var/local"), 0o755))
	require.NoError(t, os.Mkdir(filepath.Join(root, "usr"), 0o755))
	require.NoError(t, os.Symlink("../var/local", filepath.Join(root, "usr/local")))
	require.NoError(t, run(t.Context(), []string{"install", "-root", root, "map.example", token}, io.Discard, io.Discard))
	assert.FileExists(t, filepath.Join(root, "var/local/bin/connmap-agent"))
}
