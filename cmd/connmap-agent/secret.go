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

// certFile is the default file of the server's certificate, also for connmapperl's agents.
const certFile = "server-cert.pem"

// secretFile is the default file of the token or the password, beside this machine's key. With
// it, HOST is the only argument needed.
// the key of this machine: then the host alone is enough.
const secretFile = "agent.token"

const maxSecret = 4 << 10 // bytes

// fromInput in place of a token or a password means: read it from standard input.
const fromInput = "-"

const (
	tooManyWords = "too many arguments: expected HOST and -, or HOST and TOKEN; put flags before HOST"
	wrongOrder   = "the host comes first, then the token"
)

// isToken reports whether a word looks like a token, which may be damaged.
func isToken(word string) bool { return strings.HasPrefix(word, "cm1_") }

// takeToken takes the token or the password from the command line, and hides it there.
func (o *options) takeToken(word string) {
	o.token = strings.Clone(word)
	if o.token != fromInput {
		hideArgument(word)
	}
}

// readSecret returns the token or the password as it was given.
func (o *options) readSecret(ctx context.Context, stderr io.Writer) (string, error) {
	if o.token == fromInput {
		return askSecret(ctx, os.Stdin, stderr)
	}
	if s := strings.TrimSpace(o.token); s != "" {
		fmt.Fprintln(stderr, "connmap-agent: other users can see a secret in the command line, and shells keep it: use - instead, and enter it on standard input")
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
		return "", fmt.Errorf("no token: connmap-agent HOST - reads it from standard input; CONNMAP_TOKEN, -token-file or %s may also hold it. mapserver token prints it", name)
	}
	if err != nil {
		return "", err
	}
	if s == "" {
		return "", fmt.Errorf("%s is empty: it must hold the token that mapserver token prints, or the password", name)
	}
	notice, err := private.Restrict(name, private.Given)
	if err != nil {
		notice = err.Error() // not fatal: its owner may want it so
	}
	if notice != "" {
		fmt.Fprintln(stderr, "connmap-agent:", notice)
	}
	return s, nil
}

// askSecret reads the first line of an input. A terminal does not show what is typed.
func askSecret(ctx context.Context, in *os.File, stderr io.Writer) (string, error) {
	if show, terminal := hideTyping(in); terminal {
		fmt.Fprint(stderr, "Token or password (not shown): ")
		defer func() {
			show()
			fmt.Fprintln(stderr)
		}()
	}
	type line struct {
		text string
		err  error
	}
	// If ctx ends first, the goroutine stays in its read until the program ends.
	read := make(chan line, 1)
	go func() {
		text, err := bufio.NewReader(io.LimitReader(in, maxSecret)).ReadString('\n')
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
			return "", errors.New("standard input has no token: its first line must be the token that mapserver token prints, or the password")
		}
		return l.text, nil
	}
}

// readToken returns the token, or the one made of a password and a certificate. It sets o.token
// and o.server.
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
		return token, fmt.Errorf("%w. If it is a password, put the map server's %s into this folder, name it with -cert, or set CONNMAP_CERT_B64 to it in base64; -tofu gets it from the server", err, certFile)
	}
	return feed.PasswordToken(o.token, o.server)
}

// readCert returns the server's certificate; nil: there is none.
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
	b, err := private.ReadGiven(name)
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

// trust fetches the server's certificate and saves it. From then on the agent trusts no other
// server.
func (o *options) trust(ctx context.Context, name string, stderr io.Writer) (*x509.Certificate, error) {
	cert, err := feed.FetchCertificate(ctx, o.host)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(stderr, "connmap-agent: from now on it trusts the server at %s, whose certificate has the fingerprint\n  %s\nCompare it with the one that mapserver token prints there. The certificate is saved in %s.\n",
		o.host, feed.Fingerprint(cert), name)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return cert, errors.Join(pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), f.Close())
}

// folder returns the folder of the agent's own files.
func (*options) folder() (string, error) {
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		return dir, nil
	}
	config, err := os.UserConfigDir()
	return filepath.Join(config, "connmap"), err
}

// readKey returns the key of this machine. The notice says what is wrong with the file's mode.
func (o *options) readKey() (key ed25519.PrivateKey, notice string, err error) {
	name := o.key
	if name == "" {
		dir, err := o.folder()
		if err != nil {
			return nil, "", err
		}
		name = filepath.Join(dir, "agent-key.pem")
	}
	notice = private.Check(name, private.Own)
	if key, err = feed.LoadKey(name); err != nil {
		return nil, "", err
	}
	return key, notice, nil
}
