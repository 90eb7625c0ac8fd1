package ranges

import (
	"fmt"
	"net/netip"
)

// Inner returns the IPv4 address that an address stands for: one that is mapped (RFC 4291), of
// 6to4 (RFC 3056), of a client of Teredo (RFC 4380), or translated by NAT64 with the well-known
// prefix 64:ff9b::/96 (RFC 6052). Other addresses it returns as they are, without their zone.
func Inner(a netip.Addr) netip.Addr {
	if a = a.Unmap(); a.Is4() || !a.IsValid() {
		return a
	}
	switch k := Key6(a); {
	case k.Hi>>48 == 0x2002:
		return V4(k.Hi >> 16).Addr()
	case k.Hi>>32 == 0x20010000:
		return V4(^uint32(k.Lo)).Addr()
	case k.Hi == 0x0064ff9b<<32 && k.Lo>>32 == 0:
		return V4(k.Lo).Addr()
	}
	return a.WithZone("")
}

// A NAT64 is the prefixes by which the translators of a network stand for IPv4 addresses. Its
// zero value has none but the well-known ones that Inner knows.
type NAT64 []netip.Prefix

// ParseNAT64 returns a prefix as RFC 6052 allows them: of 32, 40, 48, 56, 64 or 96 bits.
func ParseNAT64(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is6() || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("want a prefix of IPv6 such as 2001:db8:64::/96, found %q", s)
	}
	switch p.Bits() {
	case 32, 40, 48, 56, 64, 96:
		return p.Masked(), nil
	}
	return netip.Prefix{}, fmt.Errorf("want a prefix of 32, 40, 48, 56, 64 or 96 bits, found %q", s)
}

// Inner is the function Inner with these prefixes.
func (n NAT64) Inner(a netip.Addr) netip.Addr {
	for _, p := range n {
		if !p.Contains(a.WithZone("")) {
			continue
		}
		b := a.As16()
		var v4 [4]byte
		for i, at := 0, p.Bits()/8; i < 4; at++ {
			if at == 8 { // the byte that RFC 6052 leaves zero
				continue
			}
			v4[i] = b[at]
			i++
		}
		return netip.AddrFrom4(v4)
	}
	return Inner(a)
}
