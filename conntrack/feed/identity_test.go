package feed

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
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
