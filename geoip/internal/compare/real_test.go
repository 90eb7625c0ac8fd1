package compare

import (
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/oschwald/maxminddb-golang/v2"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/internal/random"
)

// TestRealMMDB compares published MaxMind DB files with maxminddb.
func TestRealMMDB(t *testing.T) {
	for _, tt := range []struct {
		name string
		ases bool
	}{
		{"asn/GeoLite2-ASN-20190514.mmdb.gz", true},
		{"geo/GeoLite2-Country-20191217.mmdb.gz", false},
		{"geo/GeoLite2-ASN-Test.mmdb", true},
		{"geo/GeoLite2-Country-Test.mmdb", false},
		{"geo/GeoLite2-City-Test.mmdb", false},
		{"geo/GeoIP2-City-Test.mmdb", false},
		{"mmdb/GeoIP2-ISP-Test.mmdb", true},
		{"mmdb/GeoIP2-Enterprise-Test.mmdb", false},
	} {
		t.Run(filepath.Base(tt.name), func(t *testing.T) {
			t.Parallel()
			name := data(t, tt.name)
			db, err := maxminddb.Open(name)
			require.NoError(t, err)
			defer db.Close()
			var rows []row[int]
			for network := range db.Networks() {
				require.NoError(t, network.Err())
				p := network.Prefix()
				if b := p.Addr().As16(); p.Addr().Is6() && low.Contains(p.Addr()) && p.Bits() >= 96 {
					p = netip.PrefixFrom(netip.AddrFrom4([4]byte(b[12:])), p.Bits()-96)
				}
				rows = append(rows, row[int]{p.Addr(), last(p), 0})
			}
			compareMMDBFile(t, name, tt.ases, probes(random.For(t), rows, lookups))
		})
	}
}

// TestRealTexts compares published tables of lines with their lines. TestAccuracy of geoip looks at
// those of countries.
func TestRealTexts(t *testing.T) {
	for file, layout := range map[string]string{
		"asn/GeoLite2-ASN-Blocks-IPv4.csv.gz":             "GeoLite2 AS",
		"asn/GeoLite2-ASN-Blocks-IPv6.csv.gz":             "GeoLite2 AS",
		"asn/ip2asn-v4-excerpt-2020.tsv":                  "iptoasn",
		"synth/GeoLite2-City-Blocks-IPv4_head100k.csv.xz": "GeoLite2 city",
	} {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			name := data(t, file)
			for _, x := range texts {
				if x.name == layout {
					f, err := os.Open(name)
					require.NoError(t, err)
					defer f.Close()
					x.compare(t, name, x.parsed(t, f), nil)
				}
			}
		})
	}
}

// TestRealDelegations compares registries' files with their lines.
func TestRealDelegations(t *testing.T) {
	for _, registry := range []string{"afrinic", "apnic", "arin", "ripencc"} {
		t.Run(registry, func(t *testing.T) {
			t.Parallel()
			name := data(t, "rir/delegated-"+registry+"-extended.gz")
			text, err := os.ReadFile(name)
			require.NoError(t, err)
			var rows []row[asn.Delegation]
			for line := range strings.Lines(string(text)) {
				f := strings.Split(strings.TrimSpace(line), "|")
				if len(f) < 7 || !strings.HasPrefix(f[2], "ipv") || f[3] == "*" {
					continue
				}
				if !strings.HasSuffix(line, "\n") {
					continue // cut off
				}
				first, err := netip.ParseAddr(f[3])
				require.NoError(t, err)
				says := asn.Delegation{Registry: f[0], Country: code(f[1]), Status: f[6]}
				if len(f) > 7 {
					says.OpaqueID = f[7]
				}
				n, err := strconv.Atoi(f[4]) // of addresses, or of bits
				require.NoError(t, err)
				var to netip.Addr
				if first.Is4() {
					to = keyOf(first).plus(key{0, uint64(n - 1)}).addr(true)
				} else {
					to = last(netip.PrefixFrom(first, n))
				}
				says.Block = asn.Range{First: first, Last: to}
				rows = append(rows, row[asn.Delegation]{first, to, says})
			}
			db, err := asn.OpenDelegations(name)
			require.NoError(t, err)
			var addrs []netip.Addr
			for _, a := range probes(random.For(t), rows, lookups) {
				if inner(a) == a.Unmap() { // addresses inside others are not looked for
					addrs = append(addrs, a)
				}
			}
			agree(t, addrs, func(a netip.Addr) asn.Delegation {
				d, _ := db.Lookup(a)
				return asn.Delegation{Registry: d.Registry, Country: d.Country, Block: d.Block, Status: d.Status, OpaqueID: d.OpaqueID}
			}, twinOf(rows).find, func(got, want asn.Delegation) bool { return got == want })
		})
	}
}
