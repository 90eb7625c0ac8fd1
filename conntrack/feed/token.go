package feed

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
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
	secret [secretLen]byte
	pin    [pinLen]byte
}

// String returns the token as text of 52 characters without blanks.
func (t Token) String() string {
	b := append(t.secret[:], t.pin[:]...)
	return tokenHead + base64.RawURLEncoding.EncodeToString(append(b, checksum(b)...))
}

// ParseToken reads a token as String writes it.
func ParseToken(s string) (Token, error) {
	s = strings.TrimSpace(s)
	rest, ok := strings.CutPrefix(s, tokenHead)
	if !ok {
		return Token{}, errors.New("feed: this is no token: one begins with cm1_; the map server prints it when it starts")
	}
	if len(s) != tokenLen {
		return Token{}, fmt.Errorf("feed: the token is damaged: it has %d characters instead of %d; copy it again", len(s), tokenLen)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil || !bytes.Equal(checksum(b[:secretLen+pinLen]), b[secretLen+pinLen:]) {
		return Token{}, errors.New("feed: the token is damaged: its checksum is wrong; copy it again")
	}
	var t Token
	copy(t.secret[:], b)
	copy(t.pin[:], b[secretLen:])
	return t, nil
}

func checksum(b []byte) []byte {
	sum := sha256.Sum256(append([]byte(tokenHead), b...))
	return sum[:sumLen]
}
