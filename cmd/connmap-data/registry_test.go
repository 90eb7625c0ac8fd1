package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/asn/whois"
)

// TestSetsAreRead: what update fetches is recognised in the data folder and read, by the same
// names everywhere.
func TestSetsAreRead(t *testing.T) {
	content := func(s set) string {
		switch {
		case s.name == "dbip-city":
			return dbip(20)
		case s.name == "iptoasn":
			return ip2asn(20)
		case s.name == "dbip-asn":
			return "198.51.100.0,198.51.100.255,64496,\"Example, Inc.\"\n2001:db8::,2001:db8::ffff,64497,Six\n"
		case s.name == "ipinfo-lite":
			return "network,country,country_code,continent,continent_code,asn,as_name,as_domain\n198.51.100.0/24,Germany,DE,Europe,EU,AS64496,Example,example.org\n"
		case s.name == "caida-orgs":
			return "# format:org_id|changed|org_name|country|source\nA|20260101|Example|DE|RIPE\n# format:aut|changed|aut_name|org_id|opaque_id|source\n64496|20260101|EX|A||RIPE\n"
		case strings.HasPrefix(s.name, "rir-"):
			return strings.Replace(delegated(strings.TrimPrefix(s.name, "rir-"), 20, 20), "asn|*|1|", "asn|*|0|", 1)
		case strings.HasPrefix(s.name, "autnum-"):
			return "aut-num: AS64496\nas-name: EX\n"
		}
		return "" // those of MaxMind, which TestMaxMind downloads
	}
	for _, s := range sets() {
		text := content(s)
		if text == "" {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			dir := t.TempDir()
			name := filepath.Join(dir, s.file)
			data := []byte(text)
			if strings.HasSuffix(name, ".gz") {
				data = pack(t, text)
			}
			require.NoError(t, os.WriteFile(name, data, 0o600))
			c, err := inspect(name, unpackedLimit, today)
			require.NoError(t, err)
			assert.True(t, s.matches(c.kind), "%q is not among %q", c.kind, s.kinds)
			require.NoError(t, open(name, c))
			k, err := whois.Recognise(name)
			require.NoError(t, err)
			assert.NotEqual(t, whois.Kind{}, k)
			assert.Equal(t, c.places, k.Places)
			assert.Equal(t, c.networks, k.Networks)
			files := whois.Files{Data: dir, Cache: t.TempDir()}
			sources, err := files.Open(func(warning string) { t.Error(warning) })
			require.NoError(t, err)
			defer sources.Close()
			tables := len(sources.Places) + len(sources.Networks)
			if sources.Delegations != nil || sources.Orgs != nil || sources.AutNums != nil {
				tables++
			}
			assert.NotZero(t, tables)
			if c.networks {
				as, ok := sources.Networks[0].LookupAS(64496)
				assert.True(t, ok)
				assert.NotEqual(t, asn.AS{}, as)
			}
		})
	}
}
