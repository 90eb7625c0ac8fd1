package feed

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// An Identity is what makes a map server the one that its agents know.
type Identity struct {
	cert  tls.Certificate
	token Token
}

// Token returns what agents need to join.
func (id *Identity) Token() Token { return id.token }

// LoadIdentity reads server-cert.pem, server-key.pem and server-secret in a
// folder. What is missing it makes: a certificate with an ECDSA P-256 key, a
// random secret. It never overwrites a file; if one is damaged, it fails.
func LoadIdentity(dir string) (*Identity, error) {
	certFile, keyFile, secretFile := filepath.Join(dir, "server-cert.pem"), filepath.Join(dir, "server-key.pem"), filepath.Join(dir, "server-secret")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	cert, err := loadCert(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	id := &Identity{cert: cert}
	id.token.pin = pinOf(cert.Leaf)
	if id.token.secret, err = loadSecret(secretFile); err != nil {
		return nil, err
	}
	return id, nil
}

func loadCert(certFile, keyFile string) (tls.Certificate, error) {
	_, err1 := os.Stat(certFile)
	_, err2 := os.Stat(keyFile)
	if errors.Is(err1, fs.ErrNotExist) && errors.Is(err2, fs.ErrNotExist) {
		if err := makeCert(certFile, keyFile); err != nil {
			return tls.Certificate{}, err
		}
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return cert, fmt.Errorf("feed: %s and %s: %w; mend them or move both away, then a new pair is made and agents need the new token", certFile, keyFile, err)
	}
	if cert.Leaf == nil {
		cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0])
	}
	return cert, err
}

func makeCert(certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	// Agents trust the key, not the dates.
	cert := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "connmap"},
		NotBefore:    time.Now().Add(-24 * time.Hour),
		NotAfter:     time.Now().AddDate(30, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"connmap"},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	if err := writeNew(keyFile, 0o600, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE" + " KEY", Bytes: keyDER})); err != nil {
		return err
	}
	return writeNew(certFile, 0o644, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func loadSecret(name string) (secret [secretLen]byte, err error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		rand.Read(secret[:])
		return secret, writeNew(name, 0o600, []byte(hex.EncodeToString(secret[:])+"\n"))
	}
	if err != nil {
		return secret, fmt.Errorf("feed: %w", err)
	}
	b, err = hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(b) != secretLen {
		return secret, fmt.Errorf("feed: %s: damaged: expected %d hexadecimal digits; mend it or move it away, then a new one is made and agents need the new token", name, 2*secretLen)
	}
	copy(secret[:], b)
	return secret, nil
}

// writeNew writes a file whole or not at all, and only if there is none.
func writeNew(name string, mode fs.FileMode, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Link(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	return nil
}

func pinOf(cert *x509.Certificate) (pin [pinLen]byte) {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	copy(pin[:], sum[:])
	return pin
}
