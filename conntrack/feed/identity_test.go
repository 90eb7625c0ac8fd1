package feed

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
)

func TestTokenErrors(t *testing.T) {
	s := identity(t).Token().String()
	for in, want := range map[string]string{
		"": "empty", "cm": "cut off", s[:40]: "cut off after 40 of 52", s + "AA": "54 characters", "cm2_" + s[4:]: "another version",
		"cm12_abc": "another version", "secret": "no token", "CM1_" + s[4:]: "no token", s[:51] + "!": "damaged",
	} {
		_, err := ParseToken(in)
		assert.ErrorContains(t, err, want, in)
		if len(in) > 20 {
			assert.NotContains(t, err.Error(), in[5:15], "it may be a secret")
		}
	}
}

func writePEM(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// TestForeignIdentity: certificates made elsewhere work, halves and mixtures
// do not.
func TestForeignIdentity(t *testing.T) {
	dir := t.TempDir()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(-time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	writePEM(t, filepath.Join(dir, "server-cert.pem"), "CERTIFICATE", der)
	writePEM(t, filepath.Join(dir, "server-key.pem"), "RSA "+"PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
	id, err := LoadIdentity(dir)
	require.NoError(t, err)
	h, src := newHub(), make(script, 1)
	addr, _ := serve(t, id, h, "127.0.0.1:0")
	src <- conntrack.Event{Kind: conntrack.Open, Conn: testConn(1, 1)}
	report(t, &Client{Addr: addr, Token: id.Token(), Source: src})
	eventually(t, "joined", func() bool { n, _ := h.total(); return n == 1 })

	other := t.TempDir()
	_, err = LoadIdentity(other)
	require.NoError(t, err)
	b, err := os.ReadFile(filepath.Join(other, "server-key.pem"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "server-key.pem"), b, 0o600))
	_, err = LoadIdentity(dir)
	assert.ErrorContains(t, err, "server-key.pem: damaged, or not the key of server-cert.pem")
}

// TestIdentityAfterPowerFailure: a key without a certificate is completed and
// the token stays.
func TestIdentityAfterPowerFailure(t *testing.T) {
	dir := t.TempDir()
	id, err := LoadIdentity(dir)
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, "server-cert.pem")))
	again, err := LoadIdentity(dir)
	require.NoError(t, err)
	assert.Equal(t, id.Token(), again.Token())

	fresh := filepath.Join(t.TempDir(), "deep", "folder")
	var work sync.WaitGroup
	tokens := make([]Token, 8)
	for i := range tokens {
		work.Go(func() {
			id, err := LoadIdentity(fresh)
			if assert.NoError(t, err) {
				tokens[i] = id.Token()
			}
		})
	}
	work.Wait()
	for _, token := range tokens {
		assert.Equal(t, tokens[0], token, "servers that start at the same time agree")
	}
}

// TestSecretsAreClosed: a key or a secret that others may read is closed to them, or refused.
func TestSecretsAreClosed(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no modes here")
	}
	dir := t.TempDir()
	_, err := LoadIdentity(dir)
	require.NoError(t, err)
	key := filepath.Join(dir, "agent-key.pem")
	want, err := LoadKey(key)
	require.NoError(t, err)
	for _, name := range []string{key, filepath.Join(dir, "server-key.pem"), filepath.Join(dir, "server-secret")} {
		require.NoError(t, os.Chmod(name, 0o664))
		_, err := LoadIdentity(dir)
		require.NoError(t, err)
		got, err := LoadKey(key)
		require.NoError(t, err)
		assert.Equal(t, want, got)
		info, err := os.Stat(name)
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
	}

	const others = "/proc/self/status" // for all to read, and nobody may change that
	if _, err := os.Stat(others); err != nil {
		t.Skip(err)
	}
	link := t.TempDir()
	require.NoError(t, os.Symlink(others, filepath.Join(link, "server-secret")))
	_, err = LoadIdentity(link)
	assert.ErrorContains(t, err, "may be used by others")
}

// TestNoKeyIsLeftAlone: a file that holds no key keeps its mode, even if it is given as one.
func TestNoKeyIsLeftAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no modes here")
	}
	name := filepath.Join(t.TempDir(), "hosts")
	id, err := LoadIdentity(filepath.Dir(name))
	require.NoError(t, err)
	require.NotNil(t, id)
	another, err := os.ReadFile(filepath.Join(filepath.Dir(name), "server-key.pem"))
	require.NoError(t, err)
	for _, text := range []string{"127.0.0.1 localhost\n", string(another), ""} {
		require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
		require.NoError(t, os.Chmod(name, 0o644))
		_, err := LoadKey(name)
		assert.ErrorContains(t, err, "damaged")
		info, err := os.Stat(name)
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o644), info.Mode().Perm(), text)
	}
}

// TestLinkIsNotWrittenThrough: a symbolic link in the place of a key has nothing made where
// it leads.
func TestLinkIsNotWrittenThrough(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	for _, name := range []string{"agent-key.pem", "server-key.pem", "server-secret"} {
		dir := t.TempDir()
		if err := os.Symlink(elsewhere, filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
		_, noKey := LoadKey(filepath.Join(dir, "agent-key.pem"))
		_, noIdentity := LoadIdentity(dir)
		assert.Error(t, errors.Join(noKey, noIdentity), name)
		assert.NoFileExists(t, elsewhere, name)
	}
}

// TestTokenIsNotLogged: neither as a value nor in what holds it.
func TestTokenIsNotLogged(t *testing.T) {
	token := identity(t).Token()
	var out bytes.Buffer
	for _, log := range []*slog.Logger{slog.New(slog.NewTextHandler(&out, nil)), slog.New(slog.NewJSONHandler(&out, nil))} {
		log.Info("token", "token", token)
	}
	assert.Contains(t, out.String(), "cm1_...")
	assert.NotContains(t, out.String(), token.String()[:10])
}
