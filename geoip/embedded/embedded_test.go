package embedded

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/geoip"
)

func Example() {
	p, ok := DB().Lookup(netip.MustParseAddr("193.0.0.1"))
	fmt.Println(ok, geoip.CountryName(p.Country), p.Precision)
	fmt.Println(DB().Info().CountryLevel)
	// Output:
	// true Netherlands country
	// true
}

func TestTable(t *testing.T) {
	db := DB()
	require.NoError(t, db.Verify())
	assert.Same(t, db, DB())
	assert.True(t, db.Info().CountryLevel)
	assert.False(t, db.Info().Date.Before(time.Date(2026, 6, 25, 0, 0, 0, 0, time.UTC)))
	n4, n6 := 0, 0
	codes := make(map[string]bool)
	for r, p := range db.All() {
		if r.First.Is4() {
			n4++
		} else {
			n6++
		}
		codes[p.Country] = true
		want, ok := geoip.CountryPlace(p.Country)
		require.True(t, ok, "%v", p)
		require.Equal(t, want, p, "table.bin and countries.go differ: run go generate")
	}
	assert.Greater(t, n4, 300_000)
	assert.Greater(t, n6, 200_000)
	assert.GreaterOrEqual(t, len(codes), 245)
	t.Logf("%d + %d ranges, %d countries, %d bytes", n4, n6, len(codes), len(table))
}

func TestLookupMisses(t *testing.T) {
	for _, s := range []string{"192.0.2.1", "198.51.100.1", "10.0.0.1", "127.0.0.1", "255.255.255.255", "0.0.0.0", "2001:db8::1", "::1", "fe80::1%eth0", "ff02::1"} {
		p, ok := DB().Lookup(netip.MustParseAddr(s))
		assert.False(t, ok, s)
		assert.Zero(t, p, s)
	}
}

// lists returns the files that the table is made of, and skips the test where
// they are absent or newer than the table.
func lists(tb testing.TB) []string {
	names := []string{"/usr/share/tor/geoip", "/usr/share/tor/geoip6"}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			tb.Skip("needs Debian's tor-geoipdb: ", err)
		}
		if date := DB().Info().Date.Format(time.RFC1123[:len(time.RFC1123)-4]); !bytes.Contains(data[:2000], []byte(date)) {
			tb.Skip(name, " is not what the table was made of")
		}
	}
	return names
}

func TestAccuracy(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, name := range lists(t) {
		f, err := os.Open(name)
		require.NoError(t, err)
		defer f.Close()
		s := bufio.NewScanner(f)
		rows, misses := 0, 0
		for s.Scan() {
			if strings.HasPrefix(s.Text(), "#") {
				continue
			}
			rows++
			x := strings.Split(s.Text(), ",")
			first, last := parse(t, x[0]), parse(t, x[1])
			want, known := geoip.CountryPlace(x[2])
			if !known {
				misses++
			}
			for _, a := range []netip.Addr{first, last, between(r, first, last)} {
				got, ok := DB().Lookup(a)
				if ok != known || got.Country != want.Country ||
					math.Abs(got.Lat-want.Lat) > 0.9 || math.Abs(math.Remainder(got.Lon-want.Lon, 360)) > 0.9 {
					t.Fatalf("%v of %q: got %+v, want %+v", a, s.Text(), got, want)
				}
			}
		}
		require.NoError(t, s.Err())
		assert.Greater(t, rows, 200_000)
		t.Logf("%s: %d rows, %d of them without a country", name, rows, misses)
	}
}

func parse(t *testing.T, s string) netip.Addr {
	if strings.Contains(s, ":") {
		return netip.MustParseAddr(s)
	}
	v, err := strconv.ParseUint(s, 10, 32)
	require.NoError(t, err)
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

// between returns a random address from first to last.
func between(r *rand.Rand, first, last netip.Addr) netip.Addr {
	if first.Is4() {
		a, b := first.As4(), last.As4()
		x, y := binary.BigEndian.Uint32(a[:]), binary.BigEndian.Uint32(b[:])
		binary.BigEndian.PutUint32(a[:], x+uint32(r.Uint64N(uint64(y-x)+1)))
		return netip.AddrFrom4(a)
	}
	a, b := first.As16(), last.As16()
	x, y := binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(b[:8])
	binary.BigEndian.PutUint64(a[:8], x+r.Uint64N(y-x+1))
	binary.BigEndian.PutUint64(a[8:], r.Uint64())
	if c := netip.AddrFrom16(a); !c.Less(first) && !last.Less(c) {
		return c
	}
	return first
}

func TestScatterAllocates(t *testing.T) {
	for _, s := range []string{"193.0.0.1", "2001:67c:2e8::1"} {
		a := netip.MustParseAddr(s)
		_, ok := DB().Lookup(a)
		require.True(t, ok)
		assert.Zero(t, testing.AllocsPerRun(100, func() { DB().Lookup(a) }))
	}
}

// The peers of a country lie around its point and not on it.
func TestSpread(t *testing.T) {
	us, _ := geoip.CountryPlace("US")
	seen := make(map[geoip.Place]int)
	near := 0
	for i := range 400 {
		p, ok := DB().Lookup(netip.AddrFrom4([4]byte{8, byte(i >> 4), byte(i << 4), 1}))
		if !ok || p.Country != "US" {
			continue
		}
		seen[p]++
		if math.Hypot(p.Lat-us.Lat, p.Lon-us.Lon) < 0.9*math.Sqrt(0.5) {
			near++
		}
	}
	require.Greater(t, len(seen), 300)
	// Half of the disc is within the square root of half of its radius.
	assert.InDelta(t, float64(len(seen))/2, float64(near), float64(len(seen))/8)
}

func BenchmarkLookup(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	ranges := map[string][]geoip.Range{}
	for x := range DB().All() {
		family := "ipv6"
		if x.First.Is4() {
			family = "ipv4"
		}
		ranges[family] = append(ranges[family], x)
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		addrs := make([]netip.Addr, 1<<16)
		for i := range addrs {
			x := ranges[family][r.IntN(len(ranges[family]))]
			addrs[i] = between(r, x.First, x.Last)
		}
		for _, use := range []struct {
			name string
			mask int
		}{{"covered", 1<<16 - 1}, {"hosts=1024", 1<<10 - 1}} {
			b.Run(fmt.Sprintf("%s/rows=%d/%s", family, len(ranges[family]), use.name), func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					DB().Lookup(addrs[i&use.mask])
					i++
				}
			})
		}
	}
}
