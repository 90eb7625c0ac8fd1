package feed

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/connmapgo/connmap/internal/temp"
)

// maxSecrets is how many secrets may work at the same time.
const maxSecrets = 16

// secrets are those of a server, as a file has them: a line for each, in hexadecimal,
// then a blank and the time until which it works unless that is for ever (RFC 3339).
type secrets struct {
	name string
	pin  [pinLen]byte

	mu       sync.Mutex
	list     []secret
	file     fs.FileInfo // when it was read last
	password *[secretLen]byte
}

type secret struct {
	value [secretLen]byte
	until time.Time // zero: for ever
}

func (s *secret) works(now time.Time) bool { return s.until.IsZero() || now.Before(s.until) }

const secretPutRight = "restore it from a copy, or move it away: then a new one is made and new agents need the new token"

// init reads the file, or makes it.
func (s *secrets) init() error {
	if _, err := os.Lstat(s.name); errors.Is(err, fs.ErrNotExist) {
		if err := writeNew(s.name, 0o600, formatSecrets([]secret{{value: newSecret()}})); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read()
}

func newSecret() (value [secretLen]byte) {
	rand.Read(value[:])
	return value
}

// read reads the file if it has changed.
func (s *secrets) read() error {
	info, err := os.Stat(s.name)
	if err != nil {
		return fmt.Errorf("feed: %w; %s", err, secretPutRight)
	}
	if s.file != nil && os.SameFile(info, s.file) && info.ModTime().Equal(s.file.ModTime()) && info.Size() == s.file.Size() {
		return nil
	}
	b, err := readOwn(s.name)
	if err != nil {
		return fmt.Errorf("feed: %w; %s", err, secretPutRight)
	}
	list, err := parseSecrets(b)
	if err != nil {
		return fmt.Errorf("feed: %s: damaged: %w; %s", s.name, err, secretPutRight)
	}
	s.list, s.file = list, info
	return nil
}

func parseSecrets(b []byte) (list []secret, err error) {
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			continue
		}
		var s secret
		value, err := hex.DecodeString(fields[0])
		if err != nil || len(value) != secretLen || len(fields) > 2 {
			return nil, fmt.Errorf("line %d: expected %d hexadecimal digits and the time until which they work", n, 2*secretLen)
		}
		copy(s.value[:], value)
		if len(fields) == 2 {
			if s.until, err = time.Parse(time.RFC3339, fields[1]); err != nil {
				return nil, fmt.Errorf("line %d: expected a time such as 2026-12-31T23:59:59Z", n)
			}
		}
		list = append(list, s)
	}
	switch {
	case lines.Err() != nil:
		return nil, lines.Err()
	case len(list) == 0:
		return nil, errors.New("it is empty")
	case len(list) > maxSecrets:
		return nil, fmt.Errorf("it has more than %d lines", maxSecrets)
	}
	return list, nil
}

func formatSecrets(list []secret) []byte {
	var b bytes.Buffer
	for _, s := range list {
		b.WriteString(hex.EncodeToString(s.value[:]))
		if !s.until.IsZero() {
			b.WriteString(" " + s.until.UTC().Format(time.RFC3339))
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// add makes a secret. The folder is locked.
func (s *secrets) add(now time.Time, lifetime time.Duration, only bool) (Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.read(); err != nil && !only {
		return Token{}, err
	}
	n := secret{value: newSecret()}
	if lifetime > 0 {
		n.until = now.Add(lifetime).Truncate(time.Second)
	}
	list := []secret{n}
	if !only {
		for _, old := range s.list {
			if old.works(now) {
				list = append(list, old)
			}
		}
	}
	if len(list) > maxSecrets {
		return Token{}, fmt.Errorf("feed: there are %d tokens already; wait until one expires, or make one that replaces all", len(list)-1)
	}
	if err := temp.Write(s.name, 0o600, formatSecrets(list)); err != nil {
		return Token{}, fmt.Errorf("feed: %w", err)
	}
	s.file = nil
	return Token{secret: n.value, pin: s.pin}, s.read()
}

// lasting returns the token that works longest.
func (s *secrets) lasting(now time.Time) Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read() != nil {
		return Token{}
	}
	var best *secret
	for i := range s.list {
		n := &s.list[i]
		if n.works(now) && (best == nil || !best.until.IsZero() && (n.until.IsZero() || n.until.After(best.until))) {
			best = n
		}
	}
	if best == nil {
		return Token{}
	}
	return Token{secret: best.value, pin: s.pin}
}

func (s *secrets) setPassword(value [secretLen]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.password = &value
}

// hasPassword reports whether agents may join by a password.
func (s *secrets) hasPassword() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.password != nil
}

// proven returns the token by which an agent has proven on a channel that it may join: one
// of those in the file, or that of the password. It is ErrToken if there is none, other
// errors are those of the file.
func (s *secrets) proven(cs *tls.ConnectionState, theirs []byte, password bool) (Token, error) {
	s.mu.Lock()
	wrong := error(ErrToken)
	if s.password != nil {
		wrong = tokenError("feed: wrong password or token")
	}
	var values [][secretLen]byte
	var err error
	if password && s.password != nil {
		values = append(values, *s.password)
	} else if err = s.read(); err == nil {
		now := time.Now()
		for _, n := range s.list {
			if n.works(now) {
				values = append(values, n.value)
			}
		}
	}
	s.mu.Unlock()
	for _, value := range values {
		t := Token{secret: value, pin: s.pin}
		want, err := proof(cs, t, roleAgent)
		if err != nil {
			return Token{}, err
		}
		if hmac.Equal(want, theirs) {
			return t, nil
		}
	}
	if err == nil {
		err = wrong
	}
	return Token{}, err
}
