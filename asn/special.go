package asn

import "net/netip"

// Special returns the use of an address that no network can have: private, reserved, for
// documentation and so on, with the RFC that says so. It is empty for all others. IPv4-mapped
// IPv6 addresses count as IPv4.
//
// The ranges are those of the registries of special-purpose addresses of IANA,
// https://www.iana.org/assignments/iana-ipv4-special-registry and
// https://www.iana.org/assignments/iana-ipv6-special-registry, and multicast.
func Special(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	for _, s := range special {
		if s.prefix.Contains(addr) {
			return s.use
		}
	}
	if addr.Is6() && !globalUnicast.Contains(addr) {
		return "reserved by the IETF (RFC 4291)"
	}
	return ""
}

// Global reports whether an address can be reached over the Internet: it is neither private nor
// reserved, nor for documentation. Only such an address has a place and an AS that announces it.
func Global(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, p := range reachable {
		if p.Contains(addr) {
			return true
		}
	}
	return addr.IsValid() && Special(addr) == ""
}

// reachable are the special ranges that IANA's registries call globally reachable.
var reachable = []netip.Prefix{
	netip.MustParsePrefix("192.0.0.9/32"), netip.MustParsePrefix("192.0.0.10/32"), netip.MustParsePrefix("192.31.196.0/24"),
	netip.MustParsePrefix("192.52.193.0/24"), netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("192.175.48.0/24"),
	netip.MustParsePrefix("2001:1::1/128"), netip.MustParsePrefix("2001:1::2/128"), netip.MustParsePrefix("2001:1::3/128"),
	netip.MustParsePrefix("2001:3::/32"), netip.MustParsePrefix("2001:4:112::/48"), netip.MustParsePrefix("2001:20::/28"),
	netip.MustParsePrefix("2001:30::/28"), netip.MustParsePrefix("2620:4f:8000::/48"),
}

// SpecialAS returns the same for AS numbers, from
// https://www.iana.org/assignments/iana-as-numbers-special-registry.
func SpecialAS(number uint32) string {
	for _, s := range specialASes {
		if s.First <= number && number <= s.Last {
			return s.use
		}
	}
	return ""
}

var globalUnicast = netip.MustParsePrefix("2000::/3")

// special is sorted so that the first prefix that holds an address is the longest.
var special = []struct {
	prefix netip.Prefix
	use    string
}{
	{netip.MustParsePrefix("0.0.0.0/32"), "this host on this network (RFC 1122)"},
	{netip.MustParsePrefix("0.0.0.0/8"), "this network (RFC 791)"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private use (RFC 1918)"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared address space of carrier-grade NAT (RFC 6598)"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback (RFC 1122)"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link local (RFC 3927)"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private use (RFC 1918)"},
	{netip.MustParsePrefix("192.0.0.8/32"), "IPv4 dummy address (RFC 7600)"},
	{netip.MustParsePrefix("192.0.0.9/32"), "Port Control Protocol anycast (RFC 7723)"},
	{netip.MustParsePrefix("192.0.0.10/32"), "TURN anycast (RFC 8155)"},
	{netip.MustParsePrefix("192.0.0.170/31"), "NAT64/DNS64 discovery (RFC 8880, RFC 7050)"},
	{netip.MustParsePrefix("192.0.0.0/29"), "IPv4 service continuity (RFC 7335)"},
	{netip.MustParsePrefix("192.0.0.0/24"), "IETF protocol assignments (RFC 6890)"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation, TEST-NET-1 (RFC 5737)"},
	{netip.MustParsePrefix("192.31.196.0/24"), "AS112-v4 (RFC 7535)"},
	{netip.MustParsePrefix("192.52.193.0/24"), "automatic multicast tunnelling (RFC 7450)"},
	{netip.MustParsePrefix("192.88.99.0/24"), "6to4 relay anycast, deprecated (RFC 7526)"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private use (RFC 1918)"},
	{netip.MustParsePrefix("192.175.48.0/24"), "direct delegation AS112 service (RFC 7534)"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarking (RFC 2544)"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation, TEST-NET-2 (RFC 5737)"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation, TEST-NET-3 (RFC 5737)"},
	{netip.MustParsePrefix("233.252.0.0/24"), "documentation, MCAST-TEST-NET (RFC 6676)"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast (RFC 5771)"},
	{netip.MustParsePrefix("255.255.255.255/32"), "limited broadcast (RFC 919)"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved (RFC 1112)"},

	{netip.MustParsePrefix("::/128"), "unspecified address (RFC 4291)"},
	{netip.MustParsePrefix("::1/128"), "loopback (RFC 4291)"},
	{netip.MustParsePrefix("64:ff9b::/96"), "IPv4 translated to IPv6 (RFC 6052)"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "IPv4 translated to IPv6, local use (RFC 8215)"},
	{netip.MustParsePrefix("100::/64"), "discard only (RFC 6666)"},
	{netip.MustParsePrefix("100:0:0:1::/64"), "dummy prefix (RFC 9780)"},
	{netip.MustParsePrefix("2001:1::1/128"), "Port Control Protocol anycast (RFC 7723)"},
	{netip.MustParsePrefix("2001:1::2/128"), "TURN anycast (RFC 8155)"},
	{netip.MustParsePrefix("2001:1::3/128"), "DNS-SD service registration anycast (RFC 9665)"},
	{netip.MustParsePrefix("2001:2::/48"), "benchmarking (RFC 5180)"},
	{netip.MustParsePrefix("2001:4:112::/48"), "AS112-v6 (RFC 7535)"},
	{netip.MustParsePrefix("2001::/32"), "Teredo (RFC 4380)"},
	{netip.MustParsePrefix("2001:3::/32"), "automatic multicast tunnelling (RFC 7450)"},
	{netip.MustParsePrefix("2001:10::/28"), "ORCHID, deprecated (RFC 4843)"},
	{netip.MustParsePrefix("2001:20::/28"), "ORCHIDv2 (RFC 7343)"},
	{netip.MustParsePrefix("2001:30::/28"), "drone remote ID (RFC 9374)"},
	{netip.MustParsePrefix("2001::/23"), "IETF protocol assignments (RFC 2928)"},
	{netip.MustParsePrefix("2001:db8::/32"), "documentation (RFC 3849)"},
	{netip.MustParsePrefix("2002::/16"), "6to4 (RFC 3056)"},
	{netip.MustParsePrefix("2620:4f:8000::/48"), "direct delegation AS112 service (RFC 7534)"},
	{netip.MustParsePrefix("3fff::/20"), "documentation (RFC 9637)"},
	{netip.MustParsePrefix("5f00::/16"), "segment routing SIDs (RFC 9602)"},
	{netip.MustParsePrefix("fc00::/7"), "unique local, private use (RFC 4193)"},
	{netip.MustParsePrefix("fe80::/10"), "link local (RFC 4291)"},
	{netip.MustParsePrefix("fec0::/10"), "site local, deprecated (RFC 3879)"},
	{netip.MustParsePrefix("ff00::/8"), "multicast (RFC 4291)"},
}

var specialASes = []struct {
	ASRange
	use string
}{
	{ASRange{0, 0}, "reserved, of no network (RFC 7607)"},
	{ASRange{112, 112}, "AS112 project (RFC 7534)"},
	{ASRange{23456, 23456}, "AS_TRANS, stands for numbers above 65535 (RFC 6793)"},
	{ASRange{64496, 64511}, "documentation (RFC 5398)"},
	{ASRange{64512, 65534}, "private use (RFC 6996)"},
	{ASRange{65535, 65535}, "reserved (RFC 7300)"},
	{ASRange{65536, 65551}, "documentation (RFC 5398)"},
	{ASRange{65552, 131071}, "reserved by IANA"},
	{ASRange{4200000000, 4294967294}, "private use (RFC 6996)"},
	{ASRange{4294967295, 4294967295}, "reserved (RFC 7300)"},
}
