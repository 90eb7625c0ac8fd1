package geoip

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/internal/unpack"
)

// overlaps are tables whose rows lie in each other: row i of n.
var overlaps = map[string]func(i, n uint64) (first, last uint64){
	"each in the one before": func(i, n uint64) (uint64, uint64) { return i, 1<<32 - 1 - i },
	"all the same":           func(i, n uint64) (uint64, uint64) { return 1, 1<<32 - 2 },
	"a stair":                func(i, n uint64) (uint64, uint64) { return i, i + n },
	"each in its own /16":    func(i, n uint64) (uint64, uint64) { return i << 16 & 0xffffffff, i<<16&0xffffffff + 1 },
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestOverlaps: rows that lie in each other cost what rows side by side cost.
func TestOverlaps(t *testing.T) {
	const n = 64_000
	for name, shape := range overlaps {
		for _, six := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/IPv6=%v", name, six), func(t *testing.T) {
				var b bytes.Buffer
				for i := range uint64(n) {
					first, last := shape(i, n)
					a, z := ranges.V4(first).Addr(), ranges.V4(last).Addr()
					if six {
						a, z = ranges.V6{Hi: first << 32}.Addr(), ranges.V6{Hi: last<<32 | 0xffffffff, Lo: ^uint64(0)}.Addr()
					}
					fmt.Fprintf(&b, "%v,%v,%s\n", a, z, [...]string{"DE", "FR", "NL"}[i%3])
				}
				size := b.Len()
				file := writeFile(t, "table.csv", b.Bytes())
				var db *DB
				got := allocated(func() {
					var err error
					db, err = Open(file)
					require.NoError(t, err)
				})
				require.NoError(t, db.Verify())
				t.Logf("%d bytes of text, %d ranges, %d bytes allocated", size, db.Info().Ranges, got)
				// A node of 1 kB for each /16 of IPv6 is the most.
				assert.Less(t, got, uint64(600<<20))
			})
		}
	}
}

// TestBomb: a file of kilobytes does not become one of gigabytes.
func TestBomb(t *testing.T) {
	for name, line := range map[string]string{
		"rows":       "1.0.0.0,1.0.0.255,AU\n",
		"comments":   "# nothing\n",
		"bare lines": "\n",
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := gzip.NewWriter(&b)
			_, err := w.Write([]byte("1.0.0.0,1.0.0.255,AU\n"))
			require.NoError(t, err)
			chunk := []byte(strings.Repeat(line, 1<<20/len(line)))
			for range 100 {
				w.Write(chunk)
			}
			require.NoError(t, w.Close())
			_, err = Open(writeFile(t, "bomb.csv.gz", b.Bytes()))
			assert.ErrorIs(t, err, unpack.ErrTooLarge)
			assert.ErrorContains(t, err, "bomb.csv.gz")
		})
	}
}

// TestFull: a table has as many names as New says.
func TestFull(t *testing.T) {
	b := newBuilder()
	b.names = maxNames - 3
	_, err := b.place(Place{City: "abc", Precision: City})
	require.NoError(t, err)
	_, err = b.place(Place{City: "abcd", Precision: City})
	assert.ErrorContains(t, err, "names of cities of more than 268435456 bytes")
}

// TestLongNames: a name keeps no long line in memory.
func TestLongNames(t *testing.T) {
	long := strings.Repeat("x", 1<<16)
	b := newBuilder()
	for i := range 100 {
		_, err := b.place(Place{City: fmt.Sprint(i) + long, Precision: City})
		require.NoError(t, err)
	}
	for _, p := range b.places[1:] {
		assert.Len(t, p.City, maxCity)
	}
	assert.Equal(t, 100*maxCity, b.names)
	assert.Equal(t, "\uFFFD", cityName(strings.Repeat("\xff\x80", 300)))
	assert.Equal(t, strings.Repeat("é", 127), cityName(strings.Repeat("é", 128)))
}
