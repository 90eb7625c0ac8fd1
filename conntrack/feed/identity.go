package feed

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/connmapgo/connmap/internal/lock"
	"github.com/connmapgo/connmap/internal/private"
)

// An Identity is what makes a map server the one that its agents know. It is safe for
// concurrent use, and several processes may share its folder.
type Identity struct {
	cert    tls.Certificate
	dir     string
	secrets secrets
}

// LoadIdentity reads server-cert.pem, server-key.pem and server-secret in a
// folder. What is missing it makes: the folder, an ECDSA P-256 key, a
// certificate for the key, a random secret. It never overwrites a file: if
// one is damaged, cannot be read or does not fit to the others, it fails and
// names the file. From the key and the secret it takes the rights that others
// have to them, and fails if it cannot.
func LoadIdentity(dir string) (*Identity, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	keyFile, certFile := filepath.Join(dir, "server-key.pem"), filepath.Join(dir, "server-cert.pem")
	if _, err := os.Stat(certFile); errors.Is(err, fs.ErrNotExist) {
		if err := makeCert(certFile, keyFile); err != nil {
			return nil, err
		}
	}
	id := &Identity{dir: dir, secrets: secrets{name: filepath.Join(dir, "server-secret")}}
	var err error
	if id.cert, err = loadCert(certFile, keyFile); err != nil {
		return nil, err
	}
	id.secrets.pin = pinOf(id.cert.Leaf)
	return id, id.secrets.init()
}

// Token returns what agents need to join: the token that works longest. It is the zero
// Token if there is none that works now.
func (id *Identity) Token() Token { return id.secrets.lasting(time.Now()) }

// NewToken makes another token. It works for a lifetime from now on, or for ever if
// that is zero. If only is true, all tokens of before stop working. Servers that run
// with the same folder learn of it by themselves. Agents that they know by their keys
// need no token.
func (id *Identity) NewToken(lifetime time.Duration, only bool) (Token, error) {
	locked, err := lock.Folder(id.dir)
	if err != nil {
		return Token{}, fmt.Errorf("feed: %w", err)
	}
	defer locked.Close()
	return id.secrets.add(time.Now(), lifetime, only)
}

// SetPassword lets agents join also by a password and the server's certificate, until
// the process ends. See [PasswordToken] about short ones; an empty one is an error.
func (id *Identity) SetPassword(password string) error {
	t, err := PasswordToken(password, id.cert.Leaf)
	if err == nil {
		id.secrets.setPassword(t.secret)
	}
	return err
}

// Certificate returns the certificate that agents which join by password need.
func (id *Identity) Certificate() *x509.Certificate { return id.cert.Leaf }

const putRight = "restore it from a copy, or move server-cert.pem and server-key.pem away: then new ones are made and all agents need the new token"

func loadCert(certFile, keyFile string) (cert tls.Certificate, err error) {
	certPEM, err := private.Read(certFile)
	if err != nil {
		return cert, fmt.Errorf("feed: %w; %s", err, putRight)
	}
	keyPEM, err := readOwn(keyFile)
	if err != nil {
		return cert, fmt.Errorf("feed: %w; %s", err, putRight)
	}
	block, _ := pem.Decode(certPEM)
	if block == nil || block.Type != "CERTIFICATE" {
		return cert, fmt.Errorf("feed: %s: damaged: it is no certificate in PEM; %s", certFile, putRight)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return cert, fmt.Errorf("feed: %s: damaged: %w; %s", certFile, err, putRight)
	}
	if cert, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		return cert, fmt.Errorf("feed: %s: damaged, or not the key of %s: %w; %s", keyFile, filepath.Base(certFile), err, putRight)
	}
	cert.Leaf = leaf
	return cert, nil
}

// makeCert makes a certificate and, if there is none, its key. A key without a
// certificate is what remains if the power fails in between; the pin in
// tokens is that of the key.
func makeCert(certFile, keyFile string) error {
	key, err := loadKey(keyFile)
	if err != nil {
		return err
	}
	// Agents trust the key, not the dates.
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "connmap"},
		NotBefore:    time.Now().Add(-24 * time.Hour),
		NotAfter:     time.Now().AddDate(30, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"connmap"},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return fmt.Errorf("feed: %s: %w", certFile, err)
	}
	return writeNew(certFile, 0o644, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// loadKey reads a key in PKCS #8, or makes one.
func loadKey(name string) (crypto.Signer, error) {
	b, err := readOwn(name)
	if errors.Is(err, fs.ErrNotExist) {
		var key *ecdsa.PrivateKey
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, fmt.Errorf("feed: %w", err)
		}
		if err := writeKey(name, key); err != nil {
			return nil, err
		}
		b, err = readOwn(name) // another server may have been first
	}
	if err != nil {
		return nil, fmt.Errorf("feed: %w; %s", err, putRight)
	}
	if block, _ := pem.Decode(b); block != nil {
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if signer, ok := key.(crypto.Signer); ok {
				return signer, nil
			}
		}
	}
	return nil, fmt.Errorf("feed: %s: damaged, and server-cert.pem is missing; %s", name, putRight)
}

// writeKey writes a key in PKCS #8, for its owner alone.
func writeKey(name string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	return writeNew(name, 0o600, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE" + " KEY", Bytes: der}))
}

// writeNew writes a file whole or not at all, and leaves it alone if there is
// one already.
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
		if _, none := os.Lstat(name); err != nil && errors.Is(none, fs.ErrNotExist) {
			err = os.Rename(f.Name(), name) // not all file systems have links
		}
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("feed: %w", err)
	}
	return nil
}

func pinOf(cert *x509.Certificate) (pin [pinLen]byte) {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	copy(pin[:], sum[:])
	return pin
}
