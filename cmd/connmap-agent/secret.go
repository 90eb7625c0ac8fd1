package main

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/connmapgo/connmap/conntrack/feed"
)

// certFile is where connmapperl's agents look for the certificate of the server.
const certFile = "server-cert.pem"

// readToken returns the token, or that which a password and a certificate make.
func (o *options) readToken(ctx context.Context, stderr io.Writer) (feed.Token, error) {
	s := o.token
	if s == "" && o.tokenFile != "" {
		b, err := os.ReadFile(o.tokenFile)
		if err != nil {
			return feed.Token{}, err
		}
		s = string(b)
	}
	if s == "" {
		s = os.Getenv("CONNMAP_TOKEN")
	}
	s = strings.TrimSpace(s)
	if s == "" {
		return feed.Token{}, errors.New("no token: give it after the host, in CONNMAP_TOKEN or with -token-file; the map server prints it")
	}
	if strings.HasPrefix(s, "cm1_") {
		return feed.ParseToken(s)
	}
	cert, err := o.readCert(ctx, stderr)
	if err != nil {
		return feed.Token{}, err
	}
	if cert == nil {
		// A damaged token is more likely than a password without certificate.
		_, err := feed.ParseToken(s)
		return feed.Token{}, fmt.Errorf("%w. If it is a password, put the map server's %s into this folder, name it with -cert, or give it in base64 in CONNMAP_CERT_B64; -tofu asks the server for it", err, certFile)
	}
	return feed.PasswordToken(s, cert)
}

// readCert returns the certificate of the server, nil if there is none.
func (o *options) readCert(ctx context.Context, stderr io.Writer) (*x509.Certificate, error) {
	name := o.cert
	if b64 := os.Getenv("CONNMAP_CERT_B64"); name == "" && b64 != "" {
		cert, err := feed.ParseCertificate([]byte(b64))
		if err != nil {
			return nil, fmt.Errorf("CONNMAP_CERT_B64: %w", err)
		}
		return cert, nil
	}
	if name == "" {
		name = certFile
	}
	b, err := os.ReadFile(name)
	switch {
	case err == nil:
		cert, err := feed.ParseCertificate(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return cert, nil
	case errors.Is(err, fs.ErrNotExist) && o.tofu:
		return o.trust(ctx, name, stderr)
	case errors.Is(err, fs.ErrNotExist) && o.cert == "":
		return nil, nil
	}
	return nil, err
}

// trust asks the server for its certificate and keeps it, so that from then on no other
// server is believed.
func (o *options) trust(ctx context.Context, name string, stderr io.Writer) (*x509.Certificate, error) {
	cert, err := feed.FetchCertificate(ctx, o.host)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(stderr, "connmap-agent: trusting the server at %s from now on, whose certificate has the fingerprint\n  %s\nCompare it with what mapserver token prints there. It is kept in %s.\n",
		o.host, feed.Fingerprint(cert), name)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return cert, errors.Join(pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), f.Close())
}

// readKey returns the key of this machine.
func (o *options) readKey() (ed25519.PrivateKey, error) {
	name := o.key
	if name == "" {
		dir := os.Getenv("STATE_DIRECTORY")
		if dir == "" {
			config, err := os.UserConfigDir()
			if err != nil {
				return nil, err
			}
			dir = filepath.Join(config, "connmap")
		}
		name = filepath.Join(dir, "agent-key.pem")
	}
	return feed.LoadKey(name)
}
