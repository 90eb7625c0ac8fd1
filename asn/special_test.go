package asn

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSpecial(t *testing.T) {
	for addr, want := range map[string]string{
		"10.1.2.3":         "RFC 1918",
		"172.31.255.255":   "RFC 1918",
		"172.32.0.0":       "",
		"192.168.1.1":      "RFC 1918",
		"::ffff:127.0.0.1": "RFC 1122",
		"100.64.0.1":       "RFC 6598",
		"169.254.1.1":      "RFC 3927",
		"192.0.2.1":        "RFC 5737",
		"192.0.0.9":        "RFC 7723",
		"224.0.0.1":        "RFC 5771",
		"255.255.255.255":  "RFC 919",
		"250.0.0.1":        "RFC 1112",
		"8.8.8.8":          "",
		"::1":              "loopback (RFC 4291)",
		"fe80::1%eth0":     "RFC 4291",
		"fd00::1":          "RFC 4193",
		"2001:db8::1":      "RFC 3849",
		"3fff::1":          "RFC 9637",
		"2002::1":          "RFC 3056",
		"4000::1":          "reserved by the IETF (RFC 4291)",
		"2606:4700::1111":  "",
	} {
		got := Special(netip.MustParseAddr(addr))
		if want == "" {
			assert.Empty(t, got, addr)
		} else {
			assert.Contains(t, got, want, addr)
		}
	}
	assert.Empty(t, Special(netip.Addr{}))
	for number, want := range map[uint32]string{0: "RFC 7607", 23456: "RFC 6793", 64496: "RFC 5398", 65000: "RFC 6996", 1<<32 - 1: "RFC 7300", 4200000000: "RFC 6996", 13335: ""} {
		got := SpecialAS(number)
		assert.Equal(t, want == "", got == "", number)
		assert.Contains(t, got, want)
	}
	// The first prefix that holds an address is the longest.
	for i, a := range special {
		for _, b := range special[:i] {
			assert.False(t, b.prefix.Contains(a.prefix.Addr()) && b.prefix.Bits() <= a.prefix.Bits(), "%s hides %s", b.prefix, a.prefix)
		}
	}
}
