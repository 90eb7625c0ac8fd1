package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/asn/embedded"
)

const small = `#
# Location Database Export
#
# Generated: Sat, 29 Oct 2022 05:59:54 GMT
# Vendor:    IPFire Project
# License:   CC BY-SA 4.0
#

aut-num:                 AS64496
name:                    Example: a carrier

aut-num:                 AS64497
name:                    Customer

net:                     192.0.2.0/24
country:                 DE
aut-num:                 64496
is-anycast:              yes

net:                     192.0.2.64/26
aut-num:                 64497

net:                     198.51.100.0/24
country:                 DE

net:                     2001:db8::/32
aut-num:                 64498
`

func TestParse(t *testing.T) {
	d, err := parse(strings.NewReader(small))
	require.NoError(t, err)
	assert.Equal(t, &dump{
		vendor:  "IPFire Project",
		license: "CC BY-SA 4.0",
		date:    time.Date(2022, 10, 29, 5, 59, 54, 0, time.UTC),
		names:   map[uint32]string{64496: "Example: a carrier", 64497: "Customer"},
		networks: []network{
			{netip.MustParsePrefix("192.0.2.0/24"), 64496},
			{netip.MustParsePrefix("192.0.2.64/26"), 64497},
			{netip.MustParsePrefix("2001:db8::/32"), 64498},
		},
	}, d)

	db, err := d.table()
	require.NoError(t, err)
	assert.Equal(t, "IPFire Project location database (CC BY-SA 4.0)", db.Info().Name)
	for addr, want := range map[string]string{"192.0.2.1": "Example: a carrier", "192.0.2.65": "Customer", "198.51.100.1": "", "2001:db8::1": ""} {
		as, _ := db.Lookup(netip.MustParseAddr(addr))
		assert.Equal(t, want, as.Org, addr)
	}

	for _, tt := range []struct{ name, text, want string }{
		{"date", "# Generated: today\n", "line 1: "},
		{"no value", "\nnet:\n", `line 2: expected an attribute and its value, found "net:"`},
		{"no attribute", "hello\n", `line 1: expected an attribute and its value, found "hello"`},
		{"network", "net: 192.0.2.0\n", "line 1: "},
		{"number", "net: 192.0.2.0/24\naut-num: 4294967296\n", "line 2: "},
		{"AS", "aut-num: ASx\n", "line 1: "},
		{"name", "net: 192.0.2.0/24\nname: x\n", "line 2: a name, but of no AS"},
		{"long line", strings.Repeat("x", 99999), "line 1: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(strings.NewReader(tt.text))
			assert.ErrorContains(t, err, tt.want)
		})
	}
}

func TestRunRefuses(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "date of the database"},
		{"license", strings.Replace(small, "CC BY-SA 4.0", "secret", 1), `under "secret"`},
		{"vendor", strings.Replace(small, "IPFire", "Example", 1), `database of "Example Project"`},
		{"small", small, "2 names: expected at least 80000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			from, out := filepath.Join(dir, "dump"), filepath.Join(dir, "table")
			require.NoError(t, os.WriteFile(from, []byte(tt.text), 0o600))
			err := run([]string{"-dump", from, "-o", out}, io.Discard)
			assert.ErrorContains(t, err, tt.want)
			assert.NoFileExists(t, out)
		})
	}
	assert.ErrorIs(t, run([]string{"-dump", filepath.Join(t.TempDir(), "none")}, io.Discard), os.ErrNotExist)
	assert.ErrorContains(t, run([]string{"x"}, io.Discard), `"x" is not understood`)
}

// TestCommitted makes the table of package embedded again and compares its
// answers with a search of the dump for the longest network.
func TestCommitted(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	if _, err := exec.LookPath("location"); err != nil {
		t.Skip("location is not installed")
	}
	text, err := exec.Command("location", "dump").Output()
	if err != nil {
		t.Skip("location has no database: ", err)
	}
	d, err := parse(bytes.NewReader(text))
	require.NoError(t, err)
	db := embedded.DB()
	if !d.date.Equal(db.Info().Date) {
		t.Skipf("installed database is of %v, the table's of %v", d.date, db.Info().Date)
	}

	again, err := d.table()
	require.NoError(t, err)
	var want, got bytes.Buffer
	_, err = again.WriteTo(&want)
	require.NoError(t, err)
	_, err = db.WriteTo(&got)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(want.Bytes(), got.Bytes()), "asn.table differs from what go generate makes")

	names := make(map[string]string)
	numbers := make(map[netip.Prefix]string) // also of networks that have none
	var networks []netip.Prefix
	for block := range strings.SplitSeq(string(text), "\n\n") {
		fields := make(map[string]string)
		for line := range strings.Lines(block) {
			key, value, _ := strings.Cut(line, ":")
			fields[key] = strings.TrimSpace(value)
		}
		if net, ok := fields["net"]; ok {
			p := netip.MustParsePrefix(net)
			networks = append(networks, p)
			numbers[p] = fields["aut-num"]
		} else if name, ok := fields["name"]; ok {
			names[strings.TrimPrefix(fields["aut-num"], "AS")] = name
		}
	}
	require.Greater(t, len(networks), 1_000_000)

	r := rand.New(rand.NewPCG(3, 4))
	found := 0
	for range 20_000 {
		p := networks[r.IntN(len(networks))]
		addr := p.Addr()
		switch r.IntN(4) {
		case 0:
			addr = addr.Prev()
		case 1: // somewhere inside, or in what follows
			b := addr.AsSlice()
			b[p.Bits()/8%len(b)] |= byte(r.Uint32())
			b[len(b)-1] = byte(r.Uint32())
			addr, _ = netip.AddrFromSlice(b)
		}
		number := ""
		for bits := addr.BitLen(); bits >= 0; bits-- {
			longest, err := addr.Prefix(bits)
			require.NoError(t, err)
			if n, ok := numbers[longest]; ok {
				number = n
				break
			}
		}
		as, ok := db.Lookup(addr)
		require.Equal(t, number != "", ok, addr)
		if ok {
			found++
			require.Equal(t, number+" "+names[number], strconv.Itoa(int(as.Number))+" "+as.Org, addr)
		}
	}
	assert.Greater(t, found, 10_000)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte("net: 192.0.2.0/24\naut-num: AS1\nname: x\n\naut-num: 0\nname: y"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := parse(bytes.NewReader(text))
		if err != nil {
			return
		}
		for _, n := range d.networks {
			require.True(t, n.prefix.IsValid())
		}
		require.Error(t, d.check(), "the fuzzer makes no whole database")
		_, err = d.table()
		require.NoError(t, err)
	})
}
