package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestInputs asks files in the layouts that people have, which lie beside the repository.
func TestInputs(t *testing.T) {
	dir, err := filepath.Abs("../../../shared/inputs")
	require.NoError(t, err)
	if _, err := os.Stat(dir); err != nil {
		t.Skip("there is no ../shared/inputs beside the repository")
	}
	for _, tt := range []struct {
		args string // @ stands for the folder
		want string // all of these, in order
	}{
		{"-asn @/dbip-asn-lite.csv 8.8.8.8", "AS64497 Beispiel, Inc."},
		{"-geo @/ipinfo_lite.csv 8.8.8.8 1.1.1.1 2001:4860::1", "JP, country level|FR, country level|IT, country level"},
		{"-asn @/ipinfo_lite.csv 8.8.8.8 1.1.1.1 2001:4860::1", "AS64497 Beispiel|AS64498 One|AS64499 Six"},
		{"-asn @/ipinfo_lite.mmdb -geo @/ipinfo_lite.mmdb 8.8.8.8", "JP, country level|AS64497"},
		{"-asn @/dbip_isp.mmdb 8.8.8.8", "AS64497"},
		{"-asn @/isp.mmdb 8.8.8.8", "AS64497"},
		{"-asn @/country_asn.mmdb -geo @/country_asn.mmdb 8.8.8.8", "JP, country level|AS64497"},
		{"-rir @/rir-nro.txt 1.0.0.1", "apnic, AU|[rir-nro.txt, 2026-02-01]"},
		{"-rir @/rir-newer.txt -rir @/rir-nro.txt 1.0.0.1", "NZ, holder NEW  [rir-newer.txt, 2026-03-01]"},
		{"-rir @/rir-nro.txt -rir @/rir-newer.txt 1.0.0.1", "NZ, holder NEW  [rir-newer.txt, 2026-03-01]"},
		{"2002:808:808::1", "US, country level|AS15169"},
		{"64:ff9b::808:808", "US, country level|AS15169"},
		{"-nat64 2001:db8:64::/96 2001:db8:64::808:808", "US, country level|AS15169"},
		{"-geo @/ip2l-db5.csv 1.1.1.1", "Brisbane, AU, city level"},
		{"-data @/glc 8.8.8.8 2001:4860::1", "Osaka, JP, city level|Osaka, JP, city level"},
		{"-geo @/glc/GeoLite2-City-Blocks-IPv4.csv -geo @/glc/GeoLite2-City-Blocks-IPv6.csv 8.8.8.8 2001:4860::1", "Osaka, JP, city level|Osaka, JP, city level"},
		{"-asn @/glc/asnb.csv 8.8.8.8", "AS64497 Bé"},
		{"-geo @/dbip-latin1.csv 8.8.8.8", "Ôsaka, JP, city level"},
		{"-geo @/city_de.mmdb 8.8.8.8", "50.9400 6.9600, Köln, DE, city level"},
		{"-geo @/coords_int.mmdb 8.8.8.8", "50.0000 6.0000"},
		{"-asn @/iptoasn-u32.tsv 8.8.8.8", "AS64497 BEISPIEL"},
		{"-orgs @/caida-cut3.txt AS64497", "caida-cut3.txt: it is truncated in its last line"},
		{"10.1.2.3", "private use (RFC 1918)"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			stdout, stderr, err := ask(t, t.TempDir(), "", strings.Fields(strings.ReplaceAll(tt.args, "@", dir))...)
			require.NoError(t, err)
			rest := stderr + stdout
			for want := range strings.SplitSeq(tt.want, "|") {
				_, after, ok := strings.Cut(rest, want)
				require.True(t, ok, "%q in\n%s%s", want, stderr, stdout)
				rest = after
			}
			assert.NotContains(t, stderr, "incomplete")
		})
	}
	// What is named comes first, also if its countries are those of the networks' holders. In the data
	// folder such a table fills gaps.
	data := t.TempDir()
	name := filepath.Join(data, "mine.tsv")
	require.NoError(t, os.WriteFile(name, []byte("8.8.8.0\t8.8.8.255\t64500\tCH\tMine\n"), 0o600))
	for want, args := range map[string][]string{"CH, country level": {"-geo", name, "8.8.8.8"}, "US, country level": {"-data", data, "8.8.8.8"}} {
		stdout, _, err := ask(t, t.TempDir(), "", args...)
		require.NoError(t, err)
		assert.Contains(t, stdout, want)
	}

	stdout, _, err := ask(t, t.TempDir(), "", "-rir", filepath.Join(dir, "rir-arin-old.txt"), "12.1.1.1")
	require.NoError(t, err)
	assert.NotContains(t, stdout, "2001-03-01", "there is no 29 February 2001")
	stdout, _, err = ask(t, t.TempDir(), "", "10.1.2.3")
	require.NoError(t, err)
	assert.NotContains(t, stdout, "AS")
}
