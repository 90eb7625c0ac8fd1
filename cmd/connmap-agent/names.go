package main

import (
	"errors"

	"golang.org/x/net/publicsuffix"
)

// A nameMode says which names of peers are printed.
type nameMode uint8

const (
	namesOff nameMode = iota
	namesDomain
	namesFull
)

var nameModes = [...]string{"off", "domain", "full"}

func (m nameMode) MarshalText() ([]byte, error) { return []byte(nameModes[m]), nil }

func (m *nameMode) UnmarshalText(text []byte) error {
	for mode, s := range nameModes {
		if s == string(text) {
			*m = nameMode(mode)
			return nil
		}
	}
	return errors.New("use off, domain or full")
}

// domainOf returns the domain of a name that somebody can register, by the Public Suffix List.
// It is the name itself if that has none, as of a machine in the own network.
func domainOf(name string) string {
	if domain, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil {
		return domain
	}
	return name
}
