// Package peernames says which names of peers a program keeps.
package peernames

import (
	"errors"

	"golang.org/x/net/publicsuffix"
)

// A Mode is the value of a flag. Full is its zero value.
type Mode uint8

// The modes.
const (
	Full   Mode = iota // names as they are
	Domain             // the domains only that somebody can register
	Off                // none
)

var modes = [...]string{"full", "domain", "off"}

// MarshalText returns what UnmarshalText reads.
func (m Mode) MarshalText() ([]byte, error) { return []byte(modes[m]), nil }

// UnmarshalText reads off, domain or full.
func (m *Mode) UnmarshalText(text []byte) error {
	for mode, s := range modes {
		if s == string(text) {
			*m = Mode(mode)
			return nil
		}
	}
	return errors.New("use full, domain or off")
}

// Of returns what is kept of a name. By the Public Suffix List the domain of www.example.co.uk is
// example.co.uk; a name without such a domain, as of a machine in the own network, stays as it is.
func (m Mode) Of(name string) string {
	switch m {
	case Off:
		return ""
	case Domain:
		if domain, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil {
			return domain
		}
	}
	return name
}
