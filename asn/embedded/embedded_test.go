package embedded

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func Example() {
	as, ok := DB().Lookup(netip.MustParseAddr("1.1.1.1"))
	fmt.Println(as.Number, as.Org, ok)
	fmt.Println(DB().Info().Date.Format("2006-01-02"))
	// Output:
	// 13335 CLOUDFLARENET true
	// 2022-10-29
}

func TestLookup(t *testing.T) {
	for addr, want := range map[string]uint32{
		"1.1.1.1":              13335,
		"8.8.8.8":              15169,
		"::ffff:8.8.8.8":       15169,
		"2001:4860:4860::8888": 15169,
		"2606:4700::1111":      13335,
		"9.9.9.9":              19281,
		"10.0.0.1":             0,
		"192.0.2.1":            0,
		"2001:db8::1":          0,
		"fe80::1":              0,
	} {
		as, ok := DB().Lookup(netip.MustParseAddr(addr))
		assert.Equal(t, want, as.Number, addr)
		assert.Equal(t, want != 0, ok, addr)
	}
}

func TestTable(t *testing.T) {
	require.NoError(t, DB().Verify())
	v4, v6 := 0, 0
	for r := range DB().All() {
		if r.First.Is4() {
			v4++
		} else {
			v6++
		}
	}
	assert.Greater(t, v4, 200_000)
	assert.Greater(t, v6, 50_000)
	assert.Less(t, len(table), 12<<20)
}

func TestLookupAllocs(t *testing.T) {
	addr := netip.MustParseAddr("2001:4860:4860::8888")
	assert.Zero(t, testing.AllocsPerRun(100, func() { DB().Lookup(addr) }))
}

func BenchmarkLookup(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	var uniform, v4, v6 []netip.Addr
	for range 1 << 16 {
		x := r.Uint32()
		uniform = append(uniform, netip.AddrFrom4([4]byte{byte(x >> 24), byte(x >> 16), byte(x >> 8), byte(x)}))
	}
	for r := range DB().All() {
		if r.First.Is4() {
			v4 = append(v4, r.Last)
		} else {
			v6 = append(v6, r.Last)
		}
	}
	for _, addrs := range [][]netip.Addr{v4, v6} {
		r.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	}
	for _, bb := range []struct {
		name  string
		addrs []netip.Addr
	}{{"v4/uniform", uniform}, {"v4/hit", v4}, {"v4/hosts=1024", v4[:1024]}, {"v6/hit", v6}, {"v6/hosts=1024", v6[:1024]}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				DB().Lookup(bb.addrs[i])
				if i++; i == len(bb.addrs) {
					i = 0
				}
			}
		})
	}
}
