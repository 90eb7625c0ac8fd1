// Package names reads the names of peers in what programs send and receive: DNS messages, the
// ClientHellos of TLS and QUIC, and requests of HTTP. It knows no sockets.
package names

import (
	"net/netip"
	"strings"
)

// maxName is the longest name of a host, in bytes (RFC 1035, section 2.3.4).
const maxName = 253

// Clean returns the name of a host in lower case without a dot at its end. It reports whether
// it is one: ASCII letters, digits, hyphens and underscores in labels of at most 63 bytes. An
// address is none. Names in other scripts are on the wire in Punycode, and stay so.
func Clean(s string) (string, bool) {
	s = strings.TrimSuffix(s, ".")
	if len(s) == 0 || len(s) > maxName {
		return "", false
	}
	label, numeric := 0, true
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.':
			if label == 0 {
				return "", false
			}
			label = 0
			continue
		case c >= '0' && c <= '9':
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '_':
			numeric = false
		default:
			return "", false
		}
		if label++; label > 63 {
			return "", false
		}
	}
	if label == 0 || numeric {
		return "", false
	}
	return strings.ToLower(s), true
}

// cleanHost is Clean of a host that may have a port. A host in brackets is an address.
func cleanHost(s string) (string, bool) {
	host, port, ok := strings.Cut(s, ":")
	if ok && strings.Trim(port, "0123456789") != "" {
		return "", false
	}
	return Clean(host)
}

// isPeer reports whether an address can have been meant by an answer: neither unspecified, as
// filters answer, nor multicast.
func isPeer(a netip.Addr) bool { return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() }
