package layout

import (
	"math"
	"math/big"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/ranges"
)

func TestRepair(t *testing.T) {
	for _, tt := range []struct {
		name        string
		first, last ranges.V4
		want        [2]ranges.V4
	}{
		{"/24", 0xc0000201, 0xc00002fe, [2]ranges.V4{0xc0000200, 0xc00002ff}},
		{"/30", 0xc0000205, 0xc0000206, [2]ranges.V4{0xc0000204, 0xc0000207}},
		{"/31", 0xc0000204, 0xc0000205, [2]ranges.V4{0xc0000204, 0xc0000205}},
		{"/32", 0xc0000205, 0xc0000205, [2]ranges.V4{0xc0000205, 0xc0000205}},
		{"complete", 0xc0000200, 0xc00002ff, [2]ranges.V4{0xc0000200, 0xc00002ff}},
		{"all", 1, math.MaxUint32 - 1, [2]ranges.V4{0, math.MaxUint32}},
		{"first address", 0, 5, [2]ranges.V4{0, 5}},
		{"last network", math.MaxUint32 - 6, math.MaxUint32 - 1, [2]ranges.V4{math.MaxUint32 - 7, math.MaxUint32}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first, last := repair(tt.first, tt.last)
			assert.Equal(t, tt.want, [2]ranges.V4{first, last})
		})
	}
}

// FuzzDecimal compares addresses in decimal with big numbers.
func FuzzDecimal(f *testing.F) {
	for _, s := range []string{"0", "134744072", "4294967295", "4294967296", "281470681743360", "340282366920938463463374607431768211455", "340282366920938463463374607431768211456", "", "1x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !isDigits([]byte(s)) {
			return
		}
		got, ok := parseDecimal([]byte(s))
		n, _ := new(big.Int).SetString(s, 10)
		if n.BitLen() > 128 || len(s) > 39 {
			require.False(t, ok)
			return
		}
		require.True(t, ok)
		var b [16]byte
		n.FillBytes(b[:])
		want := netip.AddrFrom16(b)
		if n.BitLen() <= 32 {
			want = netip.AddrFrom4([4]byte(b[12:]))
		}
		require.Equal(t, addressOf(want), got, s)
		got, ok = parseAddr([]byte(s))
		require.True(t, ok)
		require.Equal(t, addressOf(want), got, s)
	})
}

func TestUTF8(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "",
		"Café":                           "Café",
		"Caf\xe9":                        "Café",
		"é\xe9":                          "éé",
		"descr: été\nowner: \xe9t\xe9\n": "descr: été\nowner: été\n",
		"\xe9\u4e2d\xe9\xe4\xb8":         "é中éä¸",
		"\uFFFD\xff":                     "\uFFFDÿ",
	} {
		assert.Equal(t, want, UTF8(text), "%q", text)
		assert.Equal(t, want, UTF8([]byte(text)), "%q", text)
	}
}
