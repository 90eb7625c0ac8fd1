package geoip

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// Random addresses of random ranges: the worst for caches.
func BenchmarkLookup(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	rows6 := func(n int) (rows []testRow) {
		hi := uint64(0x2001_0db8) << 32
		for i := range n {
			hi += 1 + r.Uint64N(1<<20)
			rows = append(rows, testRow{Range{addr6(v6{hi, 0}), addr6(v6{hi, 1 << 63})}, places[1+i%4]})
		}
		return rows
	}
	for _, bb := range []struct {
		name string
		db   func(b *testing.B) *DB
	}{
		{"ipv4.csv/rows=200000", func(b *testing.B) *DB {
			db, err := Open(writeFile(b, "ipv4.csv", unxz(b, "synth/connmap_ipv4_head200k.csv.xz")))
			require.NoError(b, err)
			return db
		}},
		{"ipv6 split/rows=300000", func(b *testing.B) *DB { return compileRows(b, rows6(300_000)) }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			db := bb.db(b)
			rows := all(db)
			addrs := make([]netip.Addr, 1<<16)
			for i := range addrs {
				addrs[i] = rows[r.IntN(len(rows))].Last
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				db.Lookup(addrs[i&(1<<16-1)])
				i++
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, bb := range []struct {
		name string
		file func(b *testing.B) string
	}{
		{"ipv4.csv/rows=200000", func(b *testing.B) string {
			return writeFile(b, "file", unxz(b, "synth/connmap_ipv4_head200k.csv.xz"))
		}},
		{"country.mmdb.gz/networks=448308", func(b *testing.B) string {
			return testData(b, "geo/GeoLite2-Country-20191217.mmdb.gz")
		}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			name := bb.file(b)
			b.ReportAllocs()
			for b.Loop() {
				_, err := Open(name)
				require.NoError(b, err)
			}
		})
	}
}
