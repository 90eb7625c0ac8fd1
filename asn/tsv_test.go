package asn

import (
	"bufio"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The first range is no prefix.
const tsv = "192.0.2.0\t192.0.2.130\t64496\tUS\tEXAMPLE - A\tB\n" +
	"192.0.2.131\t192.0.2.255\t0\tNone\tNot routed\n" +
	"198.51.100.7\t198.51.100.7\t4294967295\tBR\tFUNDA\xc7\xc3O\n" +
	"2001:db8::\t2001:db8:0:ffff:ffff:ffff:ffff:ffff\t64497\tDE\tSix\n"

func TestTSV(t *testing.T) {
	db, err := read(bufio.NewReader(strings.NewReader(tsv)))
	require.NoError(t, err)
	for addr, want := range map[string]AS{
		"192.0.1.255":           {},
		"192.0.2.0":             {64496, "EXAMPLE - A\tB"},
		"192.0.2.130":           {64496, "EXAMPLE - A\tB"},
		"192.0.2.131":           {},
		"198.51.100.7":          {4294967295, "FUNDAÇÃO"},
		"198.51.100.8":          {},
		"2001:db8::1":           {64497, "Six"},
		"2001:db8:0:ffff::ffff": {64497, "Six"},
		"2001:db8:1::":          {},
	} {
		got, _ := db.Lookup(netip.MustParseAddr(addr))
		assert.Equal(t, want, got, addr)
	}
	// A row that cannot be read is left out and reported.
	for line, want := range map[string]string{
		"192.0.2.0\t192.0.2.1":                    "line 5: 2 columns, expected 5",
		"192.0.2.0\tx\t1\tUS\tA":                  `line 5: last address "x" is not an IP address`,
		"192.0.2.1\t192.0.2.0\t1\tUS\tA":          "line 5: last address 192.0.2.0 is before first 192.0.2.1",
		"192.0.2.1\t2001:db8::\t1\tUS\tA":         "are of two families",
		"192.0.2.1\t192.0.2.1\t4294967296\tUS\tA": `line 5: "4294967296" is not an AS number`,
		"fe80::1%eth0\tfe80::1%eth0\t1\tUS\tL":    `line 5: first address "fe80::1%eth0" is not an IP address`,
	} {
		db, err := read(bufio.NewReader(strings.NewReader(tsv + line)))
		require.NoError(t, err, line)
		require.Len(t, db.Remarks(), 2)
		assert.Equal(t, "it is truncated in its last line", db.Remarks()[0])
		assert.Contains(t, db.Remarks()[1], "1 row is left out: ")
		assert.Contains(t, db.Remarks()[1], want)
	}
}

func TestTSVReal(t *testing.T) {
	db, err := Open(data(t, "asn/ip2asn-v4-excerpt-2020.tsv"))
	require.NoError(t, err)
	n := 0
	for _, line := range realLines(t, "asn/ip2asn-v4-excerpt-2020.tsv") {
		f := strings.SplitN(line, "\t", 5)
		if len(f) < 5 {
			continue
		}
		for _, s := range f[:2] {
			got, _ := db.Lookup(netip.MustParseAddr(s))
			want, err := parseAS(f[2])
			require.NoError(t, err)
			require.Equal(t, want, got.Number, line)
		}
		n++
	}
	require.NotZero(t, n)
}
