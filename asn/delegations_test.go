package asn

import (
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/internal/unpack"
)

// Unsorted, with headers at the end, counts that are no power of two, and lines
// of seven, eight and more columns.
const delegated = `# comment
afrinic|ZA|ipv4|198.51.100.128|96|19930312|allocated|F1
ripencc|UA|ipv4|192.0.2.64|6|20110208|assigned
afrinic|ZA|ipv4|192.0.2.0|60|19930312|allocated|F1

arin||ipv4|203.0.113.0|48||reserved|
apnic|JP|asn|64496|4|20020801|allocated|A1|e-stats
apnic|JP|asn|64500|1|20020801|assigned|A1
apnic|JP|asn|64509|1|20020801|assigned|A1
apnic|ZZ|asn|64510|1||available|A1
lacnic|BR|ipv6|2001:db8::|33|00000000|allocated|L1
ripencc|de|asn|64505|1|19990101|allocated
apnic|zz|asn|64511|1||available
afrinic|*|ipv4|*|2|summary
2|afrinic|20260505|2|00000000|20260505|00000
apnic|*|asn|*|4|summary
2.3|apnic|20130123|4|19830613|20130122|+1000
`

func delegations(t testing.TB, files ...string) (*Delegations, error) {
	t.Helper()
	dr := newDelegationReader()
	for i, f := range files {
		if err := dr.read(strings.NewReader(f), "file"+strconv.Itoa(i), Info{Name: "file" + strconv.Itoa(i)}); err != nil {
			return nil, err
		}
	}
	return dr.delegations(), nil
}

// brief is what of a delegation the tests compare.
func brief(d Delegation, ok bool) string {
	if !ok {
		return "none"
	}
	block := d.ASNs.String()
	if d.Block.First.IsValid() {
		block = d.Block.First.String() + "-" + d.Block.Last.String()
	}
	day := "?"
	if !d.Date.IsZero() {
		day = d.Date.Format("20060102")
	}
	return strings.Join([]string{d.Registry, d.Country, block, day, d.Status, d.OpaqueID}, "|")
}

func TestDelegations(t *testing.T) {
	d, err := delegations(t, delegated)
	require.NoError(t, err)
	assert.Empty(t, d.Warnings())
	for addr, want := range map[string]string{
		"192.0.1.255":        "none",
		"192.0.2.0":          "afrinic|ZA|192.0.2.0-192.0.2.59|19930312|allocated|F1",
		"192.0.2.59":         "afrinic|ZA|192.0.2.0-192.0.2.59|19930312|allocated|F1",
		"192.0.2.60":         "none",
		"::ffff:192.0.2.69":  "ripencc|UA|192.0.2.64-192.0.2.69|20110208|assigned|",
		"192.0.2.70":         "none",
		"198.51.100.223":     "afrinic|ZA|198.51.100.128-198.51.100.223|19930312|allocated|F1",
		"203.0.113.47":       "arin||203.0.113.0-203.0.113.47|?|reserved|",
		"2001:db8::1%eth0":   "lacnic|BR|2001:db8::-2001:db8:7fff:ffff:ffff:ffff:ffff:ffff|?|allocated|L1",
		"2001:db8:8000::":    "none",
		"255.255.255.255":    "none",
		"ffff:ffff:ffff::ff": "none",
	} {
		assert.Equal(t, want, brief(d.Lookup(netip.MustParseAddr(addr))), addr)
	}
	for number, want := range map[uint32]string{
		64495:     "none",
		64499:     "apnic|JP|AS64496-AS64499|20020801|allocated|A1",
		64500:     "apnic|JP|AS64500|20020801|assigned|A1",
		64505:     "ripencc|DE|AS64505|19990101|allocated|",
		64510:     "apnic||AS64510|?|available|A1",
		64511:     "apnic||AS64511|?|available|",
		1<<32 - 1: "none",
	} {
		assert.Equal(t, want, brief(d.LookupAS(number)), number)
	}
	got, _ := d.Lookup(netip.MustParseAddr("192.0.2.0"))
	assert.Equal(t, "file0 2026-05-05", got.Source.Name+" "+got.Source.Date.Format("2006-01-02"))
	assert.True(t, got.Held())
	got, _ = d.LookupAS(64510)
	assert.False(t, got.Held())

	// What is available nobody holds, and no id is no holder.
	assert.Equal(t, []ASRange{{64496, 64500}, {64509, 64509}}, d.Holdings("apnic", "A1"))
	assert.Empty(t, d.Holdings("ripencc", ""))
	assert.Empty(t, d.Holdings("arin", "A1"))

	var zero Delegations
	assert.Equal(t, "none", brief(zero.Lookup(netip.MustParseAddr("192.0.2.0"))))
	assert.Equal(t, "none", brief(zero.LookupAS(1)))
	assert.Empty(t, zero.Holdings("apnic", "A1"))
	assert.Equal(t, "none", brief(d.Lookup(netip.Addr{})))
}

// TestDelegationsOverlap: within a file the smallest block wins; what only an older file of the same
// registry has is no more.
func TestDelegationsOverlap(t *testing.T) {
	old := "2|arin|1|1|1|20200101|0\narin|US|ipv4|192.0.2.0|256|20000101|allocated|OLD\narin|US|ipv4|192.0.2.16|16|20000101|assigned|IN\n"
	newer := strings.NewReplacer("20200101", "20240101", "OLD", "NEW", "|16|2", "|17|2", "|IN", "|WIDE").Replace(old)
	for _, files := range [][]string{{old, newer}, {newer, old}} {
		d, err := delegations(t, files...)
		require.NoError(t, err)
		for addr, want := range map[string]string{
			"192.0.2.0": "NEW", "192.0.2.16": "WIDE", "192.0.2.31": "WIDE", "192.0.2.32": "WIDE", "192.0.2.33": "NEW", "192.0.2.255": "NEW",
		} {
			got, _ := d.Lookup(netip.MustParseAddr(addr))
			assert.Equal(t, want, got.OpaqueID, addr)
		}
	}
}

func TestDelegationsTrouble(t *testing.T) {
	const row = "arin|US|asn|64496|1|20000101|assigned|A\n"
	tests := []struct{ name, text, warning string }{
		{"fewer than the summary says", "arin|*|asn|*|3|summary\n" + row, "file0: file is cut off or incomplete: 1 of 3 asn records of arin"},
		{"cut in a line", "arin|*|asn|*|3|summary\n" + row + "arin|US|asn|64497|1|20000101|assi", "file0: file is cut off: line 3 is not whole"},
		{"columns", row + "arin|US|asn|1\n", "file0: 1 lines ignored, the first being line 2: expected 7 or more columns separated by |, found 4"},
		{"long line", row + "arin|US|asn|1|1||assigned|" + strings.Repeat("B", 3<<20) + "\n", "file0: 1 lines ignored, the first being line 2: the line has more than 1048576 bytes"},
		{"type", row + "arin|US|dns|1|1||assigned|A\n", `line 2: expected asn, ipv4 or ipv6, found "dns"`},
		{"count", row + "arin|US|asn|1|0||assigned|A\n", `line 2: expected a count or prefix length, found "0"`},
		{"beyond IPv4", row + "arin|US|ipv4|255.255.255.0|257||assigned|A\n", "line 2: 257 from 255.255.255.0 on are more than there are"},
		{"beyond ASNs", row + "arin|US|asn|4294967295|2||assigned|A\n", "line 2: 2 from 4294967295 on are more than there are"},
		{"prefix", row + "arin|US|ipv6|2001:db8::|65||assigned|A\n", "line 2: expected a prefix length from 1 to 64, found 65"},
		{"family", row + "arin|US|ipv4|2001:db8::|32||assigned|A\n", `line 2: expected an address of ipv4, found "2001:db8::"`},
		{"status", row + "arin|US|asn|1|1|||A\n", "line 2: expected a registry and a status"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := delegations(t, tt.text)
			require.NoError(t, err)
			assert.Contains(t, strings.Join(d.Warnings(), "\n"), tt.warning)
			_, ok := d.LookupAS(64496)
			assert.True(t, ok, "what is there is used")
		})
	}
	_, err := delegations(t, "2|arin|1|0|1|20200101|0\n")
	assert.EqualError(t, err, "has no delegations: the file is empty, cut off or of another kind")
	_, err = delegations(t, "hello\n")
	assert.EqualError(t, err, "has no delegations: line 1: expected 7 or more columns separated by |, found 1")

	d, err := delegations(t, "arin|US|ipv4|0.0.0.0|4294967296||assigned|A\narin|US|asn|1|4294967295||assigned|A\narin|US|ipv6|8000::|1||assigned|A\n")
	require.NoError(t, err)
	assert.Empty(t, d.Warnings())
	assert.Equal(t, "arin|US|0.0.0.0-255.255.255.255|?|assigned|A", brief(d.Lookup(netip.MustParseAddr("255.255.255.255"))))
	assert.Equal(t, "arin|US|8000::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff|?|assigned|A", brief(d.Lookup(netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))))
	assert.Equal(t, []ASRange{{1, 1<<32 - 1}}, d.Holdings("arin", "A"))

	name := filepath.Join(t.TempDir(), "none")
	_, err = OpenDelegations(name)
	assert.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(name, []byte("x\n"), 0o600))
	_, err = OpenDelegations(name)
	assert.ErrorContains(t, err, "asn: "+name+": has no delegations")
}

// realLines returns the lines of a file of real data.
func realLines(t *testing.T, name string) []string {
	t.Helper()
	f, err := os.Open(data(t, name))
	require.NoError(t, err)
	defer f.Close()
	r, err := unpack.Reader(f, 1<<32)
	require.NoError(t, err)
	text, err := io.ReadAll(r)
	require.NoError(t, err)
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// TestDelegationsReal looks up the first, last and some other address of each
// row, read by another route.
func TestDelegationsReal(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	var names []string
	for _, registry := range []string{"afrinic", "apnic", "arin", "ripencc"} {
		name := "rir/delegated-" + registry + "-extended.gz"
		names = append(names, data(t, name))
		t.Run(registry, func(t *testing.T) {
			d, err := OpenDelegations(data(t, name))
			require.NoError(t, err)
			lines := realLines(t, name)
			if registry == "arin" {
				require.NotEmpty(t, d.Warnings())
				assert.Contains(t, d.Warnings()[0], "file is cut off: line 48965 is not whole")
				lines = lines[:len(lines)-1]
			} else {
				assert.Empty(t, d.Warnings())
			}
			t.Log(checkRows(t, d, lines), "rows")
		})
	}
	t.Run("all", func(t *testing.T) {
		d, err := OpenDelegations(names...)
		require.NoError(t, err)
		got, ok := d.Lookup(netip.MustParseAddr("164.146.0.0"))
		assert.Equal(t, "afrinic|ZA|164.146.0.0-164.151.255.255|19930312|allocated|F363E51A", brief(got, ok))
	})
}

func checkRows(t *testing.T, d *Delegations, lines []string) int {
	r := rand.New(rand.NewPCG(1, 2))
	rows := 0
	for _, line := range lines {
		f := strings.Split(line, "|")
		if len(f) < 7 || f[0] == "2" || f[0] == "2.3" || strings.HasPrefix(line, "#") || !slices.Contains([]string{"ipv4", "ipv6", "asn"}, f[2]) || f[3] == "*" {
			continue
		}
		rows++
		value, err := strconv.ParseUint(f[4], 10, 64)
		require.NoError(t, err, line)
		id := ""
		if len(f) > 7 {
			id = f[7]
		}
		test := func(got Delegation, ok bool) {
			day := "00000000"
			if !got.Date.IsZero() {
				day = got.Date.Format("20060102")
			}
			if f[5] == "" {
				f[5] = "00000000"
			}
			country := f[1]
			if country == "ZZ" {
				country = ""
			}
			if !ok || got.Registry != f[0] || got.Country != country || day != f[5] || got.Status != f[6] || got.OpaqueID != id {
				require.Fail(t, "wrong", "%s\n%+v", line, got)
			}
		}
		if f[2] == "asn" {
			first, err := strconv.ParseUint(f[3], 10, 32)
			require.NoError(t, err, line)
			last := first + value - 1
			for _, n := range []uint64{first, last, first + r.Uint64N(value)} {
				got, ok := d.LookupAS(uint32(n))
				test(got, ok)
				require.Equal(t, ASRange{uint32(first), uint32(last)}, got.ASNs)
			}
			continue
		}
		first := netip.MustParseAddr(f[3])
		var end, inside netip.Addr
		if f[2] == "ipv6" {
			p := netip.PrefixFrom(first, int(value))
			end = ranges.Last(p)
			b := first.As16()
			for i, e := range end.As16() {
				b[i] |= byte(r.Uint32()) & (e ^ b[i])
			}
			inside = netip.AddrFrom16(b)
		} else {
			end, inside = after(first, value-1), after(first, r.Uint64N(value))
		}
		for _, addr := range []netip.Addr{first, end, inside} {
			got, ok := d.Lookup(addr)
			test(got, ok)
			if got.Block != (Range{First: first, Last: end}) {
				require.Equal(t, Range{First: first, Last: end}, got.Block, line)
			}
		}
	}
	require.NotZero(t, rows)
	return rows
}

// after counts up byte by byte.
func after(a netip.Addr, n uint64) netip.Addr {
	b := a.As4()
	for i := 3; i >= 0; i-- {
		n += uint64(b[i])
		b[i] = byte(n)
		n >>= 8
	}
	return netip.AddrFrom4(b)
}

// FuzzSpans compares the search with one of all spans. Bytes come in threes: first,
// count and tag.
func FuzzSpans(f *testing.F) {
	f.Add([]byte("\x00\xff\x01\x10\x10\x00\x18\x10\x02\xff\x00\x00"))
	f.Add([]byte("\x00\x0a\x00\x05\x07\x00\x05\x07\x01\x05\x07\x00"))
	f.Fuzz(func(t *testing.T, rows []byte) {
		var all []span[ranges.V4]
		for row := range slices.Chunk(rows, 3) {
			if len(row) < 3 || len(all) == 60 {
				break
			}
			// At both ends of all keys.
			first := uint32(row[0])
			if row[2]&4 != 0 {
				first = ^first
			}
			count := min(uint64(row[1]), 1<<32-1-uint64(first))
			all = append(all, span[ranges.V4]{ranges.V4(first), ranges.V4(first + uint32(count)), about{tag: uint32(row[2] & 3), holder: uint32(len(all))}})
		}
		newer := func(a, b uint32) int { return int(a) - int(b) }
		s := newSpans(slices.Clone(all), newer)
		for i := range 1200 {
			key := ranges.V4(uint32(i - 600))
			var want span[ranges.V4]
			found := false
			for _, a := range all {
				if key < a.first || key > a.last {
					continue
				}
				// The smallest, of these the newest, of these what begins last, of these what was read last.
				if !found || cmp.Or(
					cmp.Compare(want.last-want.first, a.last-a.first), cmp.Compare(a.tag, want.tag),
					cmp.Compare(a.first, want.first), cmp.Compare(a.holder, want.holder)) > 0 {
					want, found = a, true
				}
			}
			got, ok := s.find(key)
			require.Equal(t, found, ok, "%d in %v", key, all)
			require.Equal(t, want, got, "%d in %v", key, all)
		}
	})
}

func FuzzDelegations(f *testing.F) {
	f.Add(delegated)
	f.Add(strings.ReplaceAll(delegated, "\n", "\r\n"))
	f.Add("arin|US|ipv4|0.0.0.0|4294967296||assigned|A\narin|US|asn|0|4294967296||assigned|A\narin|US|ipv6|8000::|1||assigned|A")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := delegations(t, text)
		if err != nil {
			return
		}
		for _, h := range d.holders {
			for _, r := range d.Holdings(h.registry, h.id) {
				require.LessOrEqual(t, r.First, r.Last)
				for _, n := range []uint32{r.First, r.Last} {
					got, ok := d.LookupAS(n)
					require.True(t, ok && got.Held() && got.Registry == h.registry && got.OpaqueID == h.id, fmt.Sprint(n, got))
				}
			}
		}
		for _, s := range d.v4.all {
			got, ok := d.Lookup(s.first.Addr())
			require.True(t, ok)
			require.False(t, got.Block.Last.Less(s.first.Addr()))
		}
		for _, s := range d.v6.all {
			_, ok := d.Lookup(ranges.V6{Hi: s.last.Hi}.Addr())
			// IPv4-mapped addresses are looked up as IPv4.
			require.True(t, ok || ranges.V6{Hi: s.last.Hi}.Addr().Is4In6())
		}
	})
}
