package feed

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
)

const (
	alpn       = "connmap/1"
	serverName = "connmap" // no name of a host: the key is what counts
)

const (
	roleAgent  = "connmap agent"
	roleServer = "connmap server"
)

// proof shows on one TLS channel that its sender knows the secret.
func proof(cs *tls.ConnectionState, t Token, role string) ([]byte, error) {
	channel, err := cs.ExportKeyingMaterial("EXPERIMENTAL connmap", nil, 32)
	if err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	return proofOn(channel, t, role)
}

// proofOn is proof on what TLS exports.
func proofOn(channel []byte, t Token, role string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, t.secret[:], t.pin[:], role, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(channel)
	return mac.Sum(nil), nil
}
