package feed

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"strings"
)

const (
	passwordRounds  = 600_000 // about 0.2 s of a processor: who hears a proof shall not guess quickly
	maxCert         = 64 << 10
	fingerprintHead = "SHA256:"
)

// PasswordToken returns the token of a server that lets agents join by a password, made
// of its certificate by PBKDF2-HMAC-SHA-256. It takes part of a second. An empty password
// is an error.
//
// A short password is accepted, for it can be guessed in two ways only. At the server, five
// times a minute from each address. Or offline, at some thousand guesses a second for each
// processor, by who has heard a proof; but agents send a proof only to the holder of the
// certificate's private key. So a short password is as good as that key is secret: one that
// is published, such as that in the archive of connmapperl, protects nothing, and an agent
// that trusts a certificate on first use ([FetchCertificate]) may prove itself to a stranger.
func PasswordToken(password string, cert *x509.Certificate) (Token, error) {
	if password == "" {
		return Token{}, errors.New("feed: the password is empty")
	}
	t := Token{pin: pinOf(cert), password: true}
	secret, err := pbkdf2.Key(sha256.New, password, t.pin[:], passwordRounds, secretLen)
	if err != nil {
		return Token{}, fmt.Errorf("feed: %w", err)
	}
	copy(t.secret[:], secret)
	return t, nil
}

// ParseCertificate reads the certificate of a server: PEM, or that in base64.
func ParseCertificate(text []byte) (*x509.Certificate, error) {
	bad := errors.New("feed: this is no certificate in PEM, nor one in base64")
	if len(text) > maxCert {
		return nil, bad
	}
	if block, _ := pem.Decode(text); block != nil {
		if block.Type != "CERTIFICATE" {
			return nil, bad
		}
		text = block.Bytes
	} else {
		b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(text)), ""))
		if err != nil {
			return nil, bad
		}
		if block, _ := pem.Decode(b); block != nil && block.Type == "CERTIFICATE" {
			b = block.Bytes
		}
		text = b
	}
	cert, err := x509.ParseCertificate(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", bad, err)
	}
	return cert, nil
}

// FetchCertificate asks a server for its certificate, without any means to know whether
// it is the right one: compare its [Fingerprint] with what the server's own machine
// says.
func FetchCertificate(ctx context.Context, addr string) (*x509.Certificate, error) {
	addrs, err := addresses(addr)
	if err != nil {
		return nil, err
	}
	cert, _, err := firstOf(ctx, addrs, fetchCertificate)
	if err != nil {
		return nil, explain(err)
	}
	return cert, nil
}

func fetchCertificate(ctx context.Context, addr string) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}, ServerName: serverName, InsecureSkipVerify: true,
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	if conn.ConnectionState().NegotiatedProtocol != alpn {
		return nil, errNoServer
	}
	return conn.ConnectionState().PeerCertificates[0], nil
}

// Fingerprint returns SHA256: and the SHA-256 of a certificate's public key in
// hexadecimal, by which people compare servers.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return fingerprintHead + hex.EncodeToString(sum[:])
}
