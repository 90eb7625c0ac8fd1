package feed

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
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
	"time"

	"github.com/connmapgo/connmap/internal/private"
)

// A Key is the public Ed25519 key by which a server knows an agent. The zero Key is none.
type Key [ed25519.PublicKeySize]byte

// String returns the key in hexadecimal.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// MarshalText implements encoding.TextMarshaler.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Key) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(k) {
		return errors.New("feed: a key is 64 hexadecimal digits")
	}
	*k = Key(b)
	return nil
}

// LoadKey reads the key of an agent from a file. If there is no file it makes one, and the folder
// too. Only its owner may read the file: it takes the right from others, and fails if it cannot.
func LoadKey(name string) (ed25519.PrivateKey, error) {
	b, err := private.Read(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return nil, fmt.Errorf("feed: %w", err)
		}
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("feed: %w", err)
		}
		if err := writeKey(name, key); err != nil {
			return nil, err
		}
		b, err = private.Read(name) // another agent may have been first
		if err != nil {
			return nil, fmt.Errorf("feed: %w", err)
		}
	} else if err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	if block, _ := pem.Decode(b); block != nil {
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if key, ok := key.(ed25519.PrivateKey); ok {
				// A copy or an archive may have opened it to others.
				if _, err := private.Restrict(name, private.Own); err != nil {
					return nil, fmt.Errorf("feed: %w", err)
				}
				return key, nil
			}
		}
	}
	return nil, fmt.Errorf("feed: %s: not the key of an agent, or damaged: name another file, or restore it from a copy; without it this machine joins as a new one", name)
}

// readOwn reads a file with a secret that this package has made, after it has closed it to
// others: a copy or an archive may have opened it.
func readOwn(name string) ([]byte, error) {
	if _, err := private.Restrict(name, private.Own); err != nil {
		return nil, err
	}
	return private.Read(name)
}

// certOf makes the certificate in which a client shows its key. Nothing else in it counts.
func certOf(key ed25519.PrivateKey) (tls.Certificate, error) {
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "connmap agent"},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("feed: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// keyOf returns the key that a client has proven to have; zero: none.
func keyOf(cs *tls.ConnectionState) Key {
	if len(cs.PeerCertificates) == 0 {
		return Key{}
	}
	public, ok := cs.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok || bytes.Equal(public, make([]byte, ed25519.PublicKeySize)) {
		return Key{}
	}
	return Key(public)
}
