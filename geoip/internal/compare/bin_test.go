package compare

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	ip2location "github.com/ip2location/ip2location-go/v9"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/internal/random"
)

// binColumns is how many columns a type of IP2Location's BIN has, with the address.
var binColumns = map[int]int{1: 2, 3: 4, 5: 6, 11: 8}

// A binText is where texts of a BIN file stand.
type binText struct {
	from int // of the file
	b    []byte
	at   map[string]uint32
}

// add adds texts that stand one behind the other, and returns where the first one does.
func (x *binText) add(texts ...string) uint32 {
	key := fmt.Sprintf("%q", texts)
	at, ok := x.at[key]
	if !ok {
		at = uint32(x.from + len(x.b))
		x.at[key] = at
		for _, s := range texts {
			x.b = append(append(x.b, byte(len(s))), s...)
		}
	}
	return at
}

// columns returns random columns behind the address.
func (x *binText) columns(r *rand.Rand, kind int) (b []byte) {
	le := binary.LittleEndian
	code, country, region, city, zip, zone := pick(r, codes...), "Some country", pick(r, names...), pick(r, names...), "53111", "+01:00"
	lat, lon := degrees(r, 90), degrees(r, 180)
	switch r.IntN(6) {
	case 0:
		code, country, region, city, zip, zone, lat, lon = "-", "-", "-", "-", "-", "-", 0, 0
	case 1:
		region, city, zip = "-", "-", "-"
	case 2:
		city = "-"
	}
	b = le.AppendUint32(b, x.add(code+"  "[len(code):], country)) // a code has two bytes
	if code == "-" {
		b = le.AppendUint32(b[:0], x.add("-", "-"))
	}
	if kind >= 3 {
		b = le.AppendUint32(le.AppendUint32(b, x.add(region)), x.add(city))
	}
	if kind >= 5 {
		b = le.AppendUint32(le.AppendUint32(b, math.Float32bits(float32(lat))), math.Float32bits(float32(lon)))
	}
	if kind >= 11 {
		b = le.AppendUint32(le.AppendUint32(b, x.add(zip)), x.add(zone))
	}
	return b
}

// binFile returns a file in BIN, and its rows. A row reaches up to the next one, and the last
// one only ends the one before. An index says for the first 16 bits of an address among which
// rows it lies.
func binFile(r *rand.Rand, kind int, six, index bool) (b []byte, rows []row[int]) {
	le := binary.LittleEndian
	starts := [2][]key{{{}, {0, math.MaxUint32}}, {{}, {math.MaxUint64, math.MaxUint64}}}
	for range 10_000 {
		starts[0] = append(starts[0], key{0, uint64(r.Uint32())})
		k := key{r.Uint64(), 0}
		if r.IntN(2) == 0 {
			k.lo = r.Uint64()
		}
		starts[1] = append(starts[1], k)
		if r.IntN(4) == 0 { // of a single address
			starts[0] = append(starts[0], key{0, uint64(uint32(starts[0][len(starts[0])-1].lo + 1))})
			starts[1] = append(starts[1], k.plus(key{0, 1}))
		}
	}
	families := 1
	if six {
		families = 2
	}
	b = make([]byte, 64)
	copy(b, []byte{byte(kind), byte(binColumns[kind]), 26, 11, 30})
	b[29], b[30] = 1, 1 // IP2Location, and what it costs
	width := [2]int{4, 16}
	size := 64
	for f := range families {
		slices.SortFunc(starts[f], key.compare)
		starts[f] = slices.Compact(starts[f])
		le.PutUint32(b[5+8*f:], uint32(len(starts[f])))
		if index {
			le.PutUint32(b[21+4*f:], uint32(size+1))
			size += 8 << 16
		}
	}
	for f := range families {
		le.PutUint32(b[9+8*f:], uint32(size+1))
		size += len(starts[f]) * (width[f] + 4*(binColumns[kind]-1))
	}
	for f := 0; f < families && index; f++ {
		shift := [2]int{16, 48}[f]
		at := func(k key) uint32 {
			i, ok := slices.BinarySearchFunc(starts[f], k, key.compare)
			if !ok {
				i--
			}
			return uint32(i)
		}
		for i := range uint64(1 << 16) {
			from, to := key{0, i << shift}, key{0, (i+1)<<shift - 1}
			if f == 1 {
				from, to = key{i << shift, 0}, key{(i+1)<<shift - 1, math.MaxUint64}
			}
			b = le.AppendUint32(le.AppendUint32(b, at(from)), at(to))
		}
	}
	texts := &binText{from: size, at: map[string]uint32{}}
	var some [][]byte
	for range 1000 {
		some = append(some, texts.columns(r, kind))
	}
	for f := range families {
		for i, k := range starts[f] {
			if f == 0 {
				b = le.AppendUint32(b, uint32(k.lo))
			} else {
				b = le.AppendUint64(le.AppendUint64(b, k.lo), k.hi)
			}
			b = append(b, pick(r, some...)...)
			if i+1 < len(starts[f]) {
				rows = append(rows, row[int]{k.addr(f == 0), starts[f][i+1].minus(key{0, 1}).addr(f == 0), 0})
			}
		}
	}
	b = append(b, texts.b...)
	le.PutUint32(b[31:], uint32(len(b)))
	return b, rows
}

// A noFile is a file in memory, as ip2location wants it.
type noFile struct{ *bytes.Reader }

func (noFile) Close() error { return nil }

// TestIP2LocationBIN compares IP2Location's BIN with their own reader.
func TestIP2LocationBIN(t *testing.T) {
	for _, kind := range []int{1, 3, 5, 11} {
		for _, six := range []bool{false, true} {
			t.Run(fmt.Sprintf("DB%d/IPv6=%v", kind, six), func(t *testing.T) {
				t.Parallel()
				r := random.For(t)
				data, rows := binFile(r, kind, six, r.IntN(2) == 0)
				theirs, err := ip2location.OpenDBWithReader(noFile{bytes.NewReader(data)})
				require.NoError(t, err)
				db, err := geoip.Open(written(t, "table.bin", data))
				require.NoError(t, err)
				ask := func(a netip.Addr) geoip.Place {
					a = inner(a)
					if a.Is6() && !six {
						return geoip.Place{}
					}
					x, err := theirs.Get_all(a.String())
					if err != nil {
						t.Fatal(err)
					}
					f := claim{country: code(x.Country_short)}
					if kind >= 3 {
						f.city, f.region = known(x.City), known(x.Region) != ""
					}
					if kind >= 5 {
						f.lat, f.lon = float64(x.Latitude), float64(x.Longitude)
						f.point = f.lat != 0 || f.lon != 0
					}
					return f.place()
				}
				agree(t, probes(r, rows, lookups/2), placesOf(db), ask, func(got, want geoip.Place) bool {
					// Degrees have 32 bits, which are read as five decimals.
					if math.Abs(got.Lat-want.Lat) <= 0.51e-5 && math.Abs(got.Lon-want.Lon) <= 0.51e-5 {
						got.Lat, got.Lon = want.Lat, want.Lon
					}
					return samePlace(got, want)
				})
			})
		}
	}
}
