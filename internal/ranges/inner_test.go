package ranges

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestInner(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.33":                           "192.0.2.33",
		"::ffff:192.0.2.33":                    "192.0.2.33",
		"2002:c000:221::1":                     "192.0.2.33",
		"2002:c000:221:7::8":                   "192.0.2.33",
		"64:ff9b::192.0.2.33":                  "192.0.2.33",
		"64:ff9b::1:c000:221":                  "64:ff9b::1:c000:221", // not of the /96
		"64:ff9b:1::192.0.2.33":                "64:ff9b:1::c000:221",
		"2001:0:4136:e378:8000:63bf:3fff:fdd2": "192.0.2.45", // the example of RFC 4380
		"2001:1::1":                            "2001:1::1",
		"2003::1":                              "2003::1",
		"fe80::1%eth0":                         "fe80::1",
	} {
		assert.Equal(t, want, Inner(netip.MustParseAddr(in)).String(), in)
	}
	assert.False(t, Inner(netip.Addr{}).IsValid())
}

// TestNAT64 has the examples of RFC 6052, section 2.4.
func TestNAT64(t *testing.T) {
	for prefix, addr := range map[string]string{
		"2001:db8::/32":         "2001:db8:c000:221::",
		"2001:db8:100::/40":     "2001:db8:1c0:2:21::",
		"2001:db8:122::/48":     "2001:db8:122:c000:2:2100::",
		"2001:db8:122:300::/56": "2001:db8:122:3c0:0:221::",
		"2001:db8:122:344::/64": "2001:db8:122:344:c0:2:2100::",
		"2001:db8:122:344::/96": "2001:db8:122:344::192.0.2.33",
	} {
		p, err := ParseNAT64(prefix)
		require.NoError(t, err)
		assert.Equal(t, "192.0.2.33", NAT64{p}.Inner(netip.MustParseAddr(addr)).String(), prefix)
		assert.Equal(t, "192.0.2.33", NAT64{p}.Inner(netip.MustParseAddr("2002:c000:221::1")).String(), "of others too")
		assert.Equal(t, "2a00::1", NAT64{p}.Inner(netip.MustParseAddr("2a00::1")).String())
	}
	for _, s := range []string{"", "192.0.2.0/24", "2001:db8::/33", "2001:db8::", "::ffff:192.0.2.0/120"} {
		_, err := ParseNAT64(s)
		assert.Error(t, err, s)
	}
}
