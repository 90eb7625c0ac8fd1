package main

import (
	"bufio"
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
	"github.com/connmapgo/connmap/internal/private"
)

// certFile is where connmapperl's agents look for the certificate of the server.
const certFile = "server-cert.pem"

// secretFile is where a token or a password is looked for that is named nowhere, beside
// the key of this machine: then the host alone is enough.
const secretFile = "agent.token"

const largestSecret = 4 << 10 // bytes

// fromInput stands for a token, or a password, that is read from standard input.
const fromInput = "-"

const (
	tooManyWords = "want no more than HOST and -, or HOST and TOKEN; flags stand before them"
	wrongOrder   = "the host comes first, then the token"
)

// isToken reports whether a word is a token, perhaps a damaged one.
func isToken(word string) bool { return strings.HasPrefix(word, "cm1_") }

// takeToken takes the token, or the password, from the command line, and hides it there.
func (o *options) takeToken(word string) {
	o.token = strings.Clone(word)
	if o.token != fromInput {
		hideArgument(word)
	}
}

// readSecret returns the token, or the password, as it was given.
func (o *options) readSecret(ctx context.Context, stderr io.Writer) (string, error) {
	if o.token == fromInput {
		return askSecret(ctx, os.Stdin, stderr)
	}
	if s := strings.TrimSpace(o.token); s != "" {
		fmt.Fprintln(stderr, "connmap-agent: the secret was in the command line, which other users could see and shells keep: next time, - in its place reads it from standard input")
		return s, nil
	}
	name := o.tokenFile
	if name == "" {
		if s := strings.TrimSpace(os.Getenv("CONNMAP_TOKEN")); s != "" {
			return s, nil
		}
		if dir, err := o.folder(); err == nil {
			name = filepath.Join(dir, secretFile)
		}
	}
	s, err := private.ReadLine(name)
	if o.tokenFile == "" && errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("no token: connmap-agent HOST - reads it from standard input; CONNMAP_TOKEN, -token-file or %s may hold it too. mapserver token prints it", name)
	}
	if err != nil {
		return "", err
	}
	if s == "" {
		return "", fmt.Errorf("%s is empty: it is to hold the token that mapserver token prints, or the password", name)
	}
	notice, err := private.Close(name, private.Given)
	if err != nil {
		notice = err.Error() // it may be as its owner wants it
	}
	if notice != "" {
		fmt.Fprintln(stderr, "connmap-agent:", notice)
	}
	return s, nil
}

// askSecret reads the first line of an input. A terminal does not show it.
func askSecret(ctx context.Context, in *os.File, stderr io.Writer) (string, error) {
	if show, terminal := hideTyping(in); terminal {
		fmt.Fprint(stderr, "The token, or the password (it is not shown): ")
		defer func() {
			show()
			fmt.Fprintln(stderr)
		}()
	}
	type line struct {
		text string
		err  error
	}
	// If ctx ends first this reads on: nothing interrupts it, and the program ends.
	read := make(chan line, 1)
	go func() {
		text, err := bufio.NewReader(io.LimitReader(in, largestSecret)).ReadString('\n')
		if errors.Is(err, io.EOF) {
			err = nil
		}
		read <- line{strings.TrimSpace(text), err}
	}()
	select {
	case <-ctx.Done():
		return "", fmt.Errorf("no token was given: %w", ctx.Err())
	case l := <-read:
		switch {
		case l.err != nil:
			return "", fmt.Errorf("standard input: %w", l.err)
		case l.text == "":
			return "", errors.New("standard input has no token: its first line is to be what mapserver token prints, or the password")
		}
		return l.text, nil
	}
}

// readToken returns the token, or that which a password and a certificate make. It
// leaves what it has found in o.token and o.server.
func (o *options) readToken(ctx context.Context, stderr io.Writer) (token feed.Token, err error) {
	if o.token, err = o.readSecret(ctx, stderr); err != nil {
		return token, err
	}
	if isToken(o.token) {
		return feed.ParseToken(o.token)
	}
	if o.server, err = o.readCert(ctx, stderr); err != nil {
		return token, err
	}
	if o.server == nil {
		// A damaged token is more likely than a password without certificate.
		_, err := feed.ParseToken(o.token)
		return token, fmt.Errorf("%w. If it is a password, put the map server's %s into this folder, name it with -cert, or give it in base64 in CONNMAP_CERT_B64; -tofu asks the server for it", err, certFile)
	}
	return feed.PasswordToken(o.token, o.server)
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
		if dir, err := o.folder(); err == nil {
			if kept := filepath.Join(dir, certFile); !exists(name) && exists(kept) {
				name = kept
			}
		}
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

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
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

// folder returns where the agent keeps what is its own.
func (*options) folder() (string, error) {
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		return dir, nil
	}
	config, err := os.UserConfigDir()
	return filepath.Join(config, "connmap"), err
}

// readKey returns the key of this machine. A notice says what was wrong with its file.
func (o *options) readKey() (key ed25519.PrivateKey, notice string, err error) {
	name := o.key
	if name == "" {
		dir, err := o.folder()
		if err != nil {
			return nil, "", err
		}
		name = filepath.Join(dir, "agent-key.pem")
	}
	notice = private.Look(name, private.Own)
	if key, err = feed.LoadKey(name); err != nil {
		return nil, "", err
	}
	return key, notice, nil
}
