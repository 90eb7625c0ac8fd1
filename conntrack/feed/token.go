package feed

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

const (
	secretLen = 16
	pinLen    = 16
	sumLen    = 4
	tokenHead = "cm1_"
	tokenLen  = len(tokenHead) + (secretLen+pinLen+sumLen)*4/3
)

// A Token is what an agent needs to join a map server. It is a secret: who
// has it can join. It is comparable; the zero Token joins nothing.
type Token struct {
	secret   [secretLen]byte
	pin      [pinLen]byte
	password bool // it is made of one: so errors call it
}

// A tokenError is ErrToken in the words of what is wrong.
type tokenError string

func (e tokenError) Error() string      { return string(e) }
func (tokenError) Is(target error) bool { return target == ErrToken }

// wrong is the error when a server does not accept the token.
func (t Token) wrong() error {
	if t.password {
		return tokenError("feed: wrong password: it is not the one that this map server lets in by")
	}
	return ErrToken
}

// misses is the error when the server at an address is not that of the token.
func (t Token) misses(addr string) error {
	if t.password {
		return tokenError("feed: wrong certificate: the map server at " + addr + " has another one; copy its server-cert.pem again")
	}
	return tokenError(ErrToken.Error() + " (another server answers at " + addr + ")")
}

// String returns the token as text of 52 characters without blanks: cm1_, then
// 16 bytes of secret, 16 of pin and 4 of checksum in base64url (RFC 4648).
func (t Token) String() string {
	b := append(t.secret[:], t.pin[:]...)
	return tokenHead + base64.RawURLEncoding.EncodeToString(append(b, checksum(b)...))
}

// LogValue implements [slog.LogValuer]: a log has no token.
func (Token) LogValue() slog.Value { return slog.StringValue(tokenHead + "...") }

// ParseToken reads a token as String writes it; blanks around it do not
// matter. Its errors never quote the text: it may be a secret.
func ParseToken(s string) (Token, error) {
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		return Token{}, errors.New("feed: the token is empty; mapserver token prints it")
	case strings.HasPrefix(tokenHead, s):
		return Token{}, fmt.Errorf("feed: the token is cut off after %d of %d characters; copy it again", len(s), tokenLen)
	case otherVersion(s):
		return Token{}, errors.New("feed: the token is of another version of connmap: it does not begin with cm1_; use an agent of the map server's version")
	case !strings.HasPrefix(s, tokenHead):
		return Token{}, errors.New("feed: this is no token: one begins with cm1_; mapserver token prints it")
	case len(s) < tokenLen:
		return Token{}, fmt.Errorf("feed: the token is cut off after %d of %d characters; copy it again", len(s), tokenLen)
	case len(s) > tokenLen:
		return Token{}, fmt.Errorf("feed: the token is damaged: it has %d characters instead of %d; copy it again", len(s), tokenLen)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s[len(tokenHead):])
	if err != nil || len(b) != secretLen+pinLen+sumLen || !bytes.Equal(checksum(b[:secretLen+pinLen]), b[secretLen+pinLen:]) {
		return Token{}, errors.New("feed: the token is damaged: its checksum is wrong; copy it again")
	}
	var t Token
	copy(t.secret[:], b)
	copy(t.pin[:], b[secretLen:])
	return t, nil
}

// otherVersion reports whether s begins as cm2_ or cm10_ would.
func otherVersion(s string) bool {
	digits, ok := strings.CutPrefix(s, "cm")
	rest := strings.TrimLeft(digits, "0123456789")
	return ok && len(rest) < len(digits) && strings.HasPrefix(rest, "_") && !strings.HasPrefix(s, tokenHead)
}

func checksum(b []byte) []byte {
	sum := sha256.Sum256(append([]byte(tokenHead), b...))
	return sum[:sumLen]
}
