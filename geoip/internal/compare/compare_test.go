package compare

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/gaissmai/bart"
	"github.com/oschwald/maxminddb-golang/v2"
	"github.com/phuslu/iploc"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/internal/unpack"
)

// data returns a file of test data kept outside the repository, unpacked.
func data(b testing.TB, name string) string {
	name = filepath.Join("..", "..", "..", "..", "shared", "data", filepath.FromSlash(name))
	f, err := os.Open(name)
	if err != nil {
		b.Skip("test data absent: ", err)
	}
	defer f.Close()
	r, err := unpack.Reader(f, 1<<32)
	require.NoError(b, err)
	out, err := os.Create(filepath.Join(b.TempDir(), "data"))
	require.NoError(b, err)
	_, err = r.WriteTo(out)
	require.NoError(b, err)
	require.NoError(b, out.Close())
	return out.Name()
}

// traffic makes addresses to look up, of one family: one of a random range, and
// those of 20,000 hosts of which few get the most (Zipf, s = 1.1).
func traffic(ranges []geoip.Range) map[string][]netip.Addr {
	const n = 1 << 18
	r := rand.New(rand.NewPCG(1, 2))
	in := func() netip.Addr {
		x := ranges[r.IntN(len(ranges))]
		if r.IntN(2) == 0 {
			return x.First
		}
		return x.Last
	}
	hosts := make([]netip.Addr, 20_000)
	for i := range hosts {
		hosts[i] = in()
	}
	zipf := rand.NewZipf(r, 1.1, 1, uint64(len(hosts)-1))
	all := map[string][]netip.Addr{"zipf": make([]netip.Addr, n), "covered": make([]netip.Addr, n)}
	for i := range n {
		all["zipf"][i], all["covered"][i] = hosts[zipf.Uint64()], in()
	}
	return all
}

// each measures f in batches; see the benchmarks of geoip.
func each(b *testing.B, a []netip.Addr, f func(netip.Addr)) {
	const batch = 4096
	runtime.GC()
	var took []time.Duration
	i := 0
	for b.Loop() {
		start := time.Now()
		for range batch {
			f(a[i&(len(a)-1)])
			i++
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(took[len(took)/10])/batch, "p10-ns")
	b.ReportMetric(float64(took[len(took)/2])/batch, "median-ns")
}

// heap returns what the heap holds, in MB.
func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / 1e6
}

func tableOf(db *geoip.DB, four bool) (t *bart.Table[geoip.Place], ranges []geoip.Range) {
	t = new(bart.Table[geoip.Place])
	for r, p := range db.All() {
		if r.First.Is4() != four {
			continue
		}
		ranges = append(ranges, r)
		for first := r.First; ; {
			bits := first.BitLen()
			for bits > 0 {
				wider := netip.PrefixFrom(first, bits-1).Masked()
				if wider.Addr() != first || r.Last.Less(last(wider)) {
					break
				}
				bits--
			}
			prefix := netip.PrefixFrom(first, bits)
			t.Insert(prefix, p)
			if last(prefix) == r.Last {
				break
			}
			first = last(prefix).Next()
		}
	}
	return t, ranges
}

func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// BenchmarkLookup compares what look-ups of the same addresses take, in one run.
// The tables have the same content, but for iploc, whose own is of countries.
func BenchmarkLookup(b *testing.B) {
	for _, family := range []struct {
		name, source string
		four         bool
	}{
		{"IPv4", "synth/city4.csv.xz", true},
		{"IPv6", "geo/tor-geoip6-20260625.txt.gz", false},
	} {
		b.Run(family.name, func(b *testing.B) {
			db, err := geoip.OpenCached(b.TempDir(), nil, data(b, family.source))
			require.NoError(b, err)
			before := heap()
			table, ranges := tableOf(db, family.four)
			b.Logf("bart: %.1f MB", heap()-before)
			var mmdb *maxminddb.Reader
			if family.four {
				if mmdb, err = maxminddb.Open(data(b, "synth/GeoLite2-City-SYNTHETIC.mmdb.xz")); err != nil {
					b.Fatal(err)
				}
				defer mmdb.Close()
			}
			iploc.IPCountry(ranges[0].First) // unpacks its table
			for kind, addrs := range traffic(ranges) {
				for _, d := range []struct {
					name string
					find func(netip.Addr)
				}{
					{"geoip", func(a netip.Addr) { db.Lookup(a) }},
					{"bart", func(a netip.Addr) { table.Lookup(a) }},
					{"iploc", func(a netip.Addr) { iploc.IPCountry(a) }},
					{"maxminddb", func(a netip.Addr) {
						var place struct {
							Location struct {
								Latitude  float64 `maxminddb:"latitude"`
								Longitude float64 `maxminddb:"longitude"`
							} `maxminddb:"location"`
						}
						if err := mmdb.Lookup(a).Decode(&place); err != nil {
							b.Fatal(err)
						}
					}},
				} {
					if d.name == "maxminddb" && mmdb == nil {
						continue
					}
					b.Run(fmt.Sprint(kind, "/", d.name), func(b *testing.B) { each(b, addrs, d.find) })
				}
			}
		})
	}
}
