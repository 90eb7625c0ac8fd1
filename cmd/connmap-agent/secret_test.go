package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed"
)

// A door is a Handler that knows who came.
type door struct {
	mu    sync.Mutex
	names []string
}

func (d *door) Join(a feed.Agent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names = append(d.names, a.Name)
}
func (*door) Full(feed.Agent, []conntrack.Conn)   {}
func (*door) Delta(feed.Agent, []conntrack.Event) {}
func (*door) Leave(feed.Agent)                    {}

func (d *door) came() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.names...)
}

// open serves a new identity in a folder.
func open(t *testing.T) (id *feed.Identity, dir, addr string, d *door) {
	t.Helper()
	dir, d = t.TempDir(), &door{}
	id, err := feed.LoadIdentity(dir)
	require.NoError(t, err)
	r, err := feed.OpenRegistry(filepath.Join(dir, "agents.json"))
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- (&feed.Server{Identity: id, Registry: r, Handler: d}).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	return id, dir, l.Addr().String(), d
}

// comes runs an agent until the server knows it.
func comes(t *testing.T, d *door, stderr io.Writer, args ...string) {
	t.Helper()
	needsLinux(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before := len(d.came())
	done := make(chan error, 1)
	go func() { done <- run(ctx, append([]string{"-backend", "proc"}, args...), io.Discard, stderr) }()
	require.Eventually(t, func() bool { return len(d.came()) > before }, time.Minute, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
}

// TestOwnKey: an agent makes a key and needs the token only once.
func TestOwnKey(t *testing.T) {
	id, _, addr, d := open(t)
	state := t.TempDir()
	t.Setenv("STATE_DIRECTORY", state)
	token := id.Token().String()
	comes(t, d, io.Discard, "-name", "nas", addr, token)
	info, err := os.Stat(filepath.Join(state, "agent-key.pem"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	_, err = id.NewToken(0, true)
	require.NoError(t, err)
	comes(t, d, io.Discard, "-name", "other", addr, token)
	assert.Equal(t, []string{"nas", "nas"}, d.came())
	err = run(t.Context(), []string{"-key", filepath.Join(t.TempDir(), "key"), addr, token}, io.Discard, io.Discard)
	assert.ErrorIs(t, err, feed.ErrToken)

	// A key that cannot be kept is said, and done without.
	var stderr bytes.Buffer
	comes(t, d, &stderr, "-key", "/dev/null/key", "-name", "odd", addr, id.Token().String())
	assert.Contains(t, stderr.String(), "needs the token at each start")
}

// TestOtherFilesAreLeftAlone: what is no token, no password and no key keeps its mode: a file
// of the system that is named by mistake is not closed to all other users.
func TestOtherFilesAreLeftAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no modes here")
	}
	name := filepath.Join(t.TempDir(), "hosts")
	require.NoError(t, os.WriteFile(name, []byte("127.0.0.1 localhost\n::1 localhost\n"), 0o644))
	require.NoError(t, os.Chmod(name, 0o644))
	var said bytes.Buffer
	_, err := (&options{tokenFile: name}).readSecret(t.Context(), &said)
	assert.ErrorContains(t, err, name+" is not a file with a token or a password")
	_, notice, err := (&options{key: name}).readKey()
	assert.ErrorContains(t, err, "damaged")
	assert.Empty(t, said.String()+notice)
	info, err := os.Stat(name)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o644), info.Mode().Perm())
}

// TestShortPassword: connmapperl's command line works with any password that it took.
func TestShortPassword(t *testing.T) {
	id, dir, addr, d := open(t)
	t.Setenv("STATE_DIRECTORY", t.TempDir())
	t.Chdir(dir) // where server-cert.pem is
	for _, password := range []string{"x", "1234", "héé"} {
		require.NoError(t, id.SetPassword(password))
		comes(t, d, io.Discard, "-key", filepath.Join(t.TempDir(), "key"), addr, password)
	}
}

// TestPassword: connmapperl's way to join.
func TestPassword(t *testing.T) {
	id, dir, addr, d := open(t)
	t.Setenv("STATE_DIRECTORY", t.TempDir())
	require.NoError(t, id.SetPassword("open sesame"))
	cert := filepath.Join(dir, "server-cert.pem")
	comes(t, d, io.Discard, "-cert", cert, "-name", "flag", addr, "open sesame")
	b, err := os.ReadFile(cert)
	require.NoError(t, err)
	here := t.TempDir()
	t.Chdir(here)
	t.Setenv("CONNMAP_TOKEN", "open sesame")
	err = run(t.Context(), []string{addr}, io.Discard, io.Discard)
	assert.ErrorContains(t, err, "server-cert.pem into this folder", "a password goes to nobody who is not known")
	t.Setenv("CONNMAP_CERT_B64", base64.StdEncoding.EncodeToString(b))
	comes(t, d, io.Discard, "-name", "env", addr)
	t.Setenv("CONNMAP_CERT_B64", "")
	require.NoError(t, os.WriteFile("server-cert.pem", b, 0o644))
	comes(t, d, io.Discard, "-name", "file", addr)
	require.NoError(t, os.Remove("server-cert.pem"))
	var stderr bytes.Buffer
	comes(t, d, &stderr, "-tofu", "-name", "tofu", addr)
	assert.Contains(t, stderr.String(), feed.Fingerprint(id.Certificate()))
	comes(t, d, io.Discard, "-name", "kept", addr)

	// The host alone: all else is in the agent's folder.
	require.NoError(t, os.Remove("server-cert.pem"))
	require.NoError(t, os.WriteFile(filepath.Join(os.Getenv("STATE_DIRECTORY"), "server-cert.pem"), b, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(os.Getenv("STATE_DIRECTORY"), "agent.token"), []byte("open sesame\n"), 0o600))
	t.Setenv("CONNMAP_TOKEN", "")
	comes(t, d, io.Discard, addr)
	t.Setenv("CONNMAP_TOKEN", "open sesame")

	// A wrong password is called one, not a token.
	err = run(t.Context(), []string{"-key", filepath.Join(t.TempDir(), "key"), addr, "close sesame"}, io.Discard, io.Discard)
	assert.ErrorIs(t, err, feed.ErrToken)
	assert.ErrorContains(t, err, "wrong password")
	assert.NotContains(t, err.Error(), "token")
	// Who has joined is known by its key.
	comes(t, d, io.Discard, "-cert", cert, "-name", "known", addr, "close sesame")

	// Another server in its place is not believed.
	other, _, elsewhere, _ := open(t)
	require.NoError(t, other.SetPassword("open sesame"))
	err = run(t.Context(), []string{"-tofu", elsewhere}, io.Discard, io.Discard)
	assert.ErrorIs(t, err, feed.ErrToken)
	for name, text := range map[string]string{"CONNMAP_CERT_B64": "nonsense", "CONNMAP_TOKEN": "cm1_damaged"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, text)
			assert.Error(t, run(t.Context(), []string{addr}, io.Discard, io.Discard))
		})
	}
	assert.ErrorContains(t, run(t.Context(), []string{"-cert", "/nonexistent", addr}, io.Discard, io.Discard), "/nonexistent")
}
