package ranges

import (
	"math/bits"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// compared counts the comparisons of keys, which are the work of Resolve.
var compared int

// A countedKey is a key of which there are 2^32.
type countedKey uint32

func (a countedKey) Compare(b countedKey) int      { compared++; return V4(a).Compare(V4(b)) }
func (a countedKey) Next() (countedKey, bool)      { return a + 1, a+1 != 0 }
func (a countedKey) Minus(b countedKey) countedKey { return a - b }

// shapes are tables that make much work of little text, of n rows each.
var shapes = map[string]func(i, n uint32) (first, last uint32){
	"side by side":               func(i, n uint32) (uint32, uint32) { return 4 * i, 4*i + 3 },
	"backwards":                  func(i, n uint32) (uint32, uint32) { return 4 * (n - i), 4*(n-i) + 3 },
	"each in the one before":     func(i, n uint32) (uint32, uint32) { return i, 1<<31 - i },
	"each around the one before": func(i, n uint32) (uint32, uint32) { return n - i, 1<<31 - n + i },
	"all the same":               func(i, n uint32) (uint32, uint32) { return 7, 1 << 31 },
	"all from the first on":      func(i, n uint32) (uint32, uint32) { return 0, i },
	"all to the last":            func(i, n uint32) (uint32, uint32) { return i, 1<<32 - 1 },
	"all but one address":        func(i, n uint32) (uint32, uint32) { return 1, 1<<32 - 2 },
	"a stair":                    func(i, n uint32) (uint32, uint32) { return i, i + n },
	"a stair down":               func(i, n uint32) (uint32, uint32) { return n - i, 2*n - i },
	"one around pairs":           func(i, n uint32) (uint32, uint32) { return i &^ 1, min(i|1+n*(i&1), 1<<31) },
	"shuffled": func(i, n uint32) (uint32, uint32) {
		a, b := i*0x9e3779b1, i*0x85ebca6b
		return min(a, b), max(a, b)
	},
}

// TestWork: however rows overlap, n of them cost n log n comparisons and yield 2n+1 starts.
func TestWork(t *testing.T) {
	for name, shape := range shapes {
		for _, n := range []uint32{1, 1000, 100_000} {
			rows := make([]Row[countedKey], n)
			for i := range n {
				first, last := shape(i, n)
				require.LessOrEqual(t, first, last, "%s: row %d", name, i)
				rows[i] = Row[countedKey]{countedKey(first), countedKey(last), i%2 + 1}
			}
			compared = 0
			starts := Resolve(rows)
			assert.LessOrEqual(t, len(starts), int(2*n+1), name)
			assert.LessOrEqual(t, compared, int(n)*(8+5*bits.Len32(n)), "%s: comparisons of %d rows", name, n)
		}
	}
}

// FuzzResolve compares with a search of all rows for each address.
func FuzzResolve(f *testing.F) {
	f.Add([]byte{0, 255, 1, 254, 2, 253})
	f.Add([]byte{3, 3, 3, 3, 250, 255, 0, 9})
	f.Fuzz(func(t *testing.T, data []byte) {
		var rows []Row[V4]
		for i := 0; i+1 < len(data) && i < 200; i += 2 {
			first, last := V4(min(data[i], data[i+1])), V4(max(data[i], data[i+1]))
			if last == 255 {
				last = 1<<32 - 1
			}
			rows = append(rows, Row[V4]{first, last, uint32(i % 7)})
		}
		want := func(a V4) uint32 {
			best := -1
			for i, r := range rows {
				if r.First > a || r.Last < a {
					continue
				}
				if best >= 0 {
					size, old := r.Last-r.First, rows[best].Last-rows[best].First
					if size > old || size == old && r.First < rows[best].First {
						continue
					}
				}
				best = i
			}
			if best < 0 {
				return 0
			}
			return rows[best].ID
		}
		all := make(map[V4]uint32)
		for a := range V4(257) {
			all[a] = want(a)
		}
		starts := Resolve(append([]Row[V4](nil), rows...))
		id, k := uint32(0), 0
		for a := range V4(257) {
			if k < len(starts) && starts[k].First == a {
				require.NotEqual(t, id, starts[k].ID, "%v: not merged at %d in %v", starts, a, rows)
				id = starts[k].ID
				k++
			}
			require.Equal(t, all[a], id, "at %d of %v", a, rows)
		}
		require.Len(t, starts, k)
	})
}

func TestLast(t *testing.T) {
	for prefix, want := range map[string]string{
		"0.0.0.0/0":         "255.255.255.255",
		"192.0.2.0/24":      "192.0.2.255",
		"192.0.2.1/32":      "192.0.2.1",
		"::/0":              "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
		"2001:db8::/32":     "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
		"2001:db8::/64":     "2001:db8::ffff:ffff:ffff:ffff",
		"2001:db8::/65":     "2001:db8::7fff:ffff:ffff:ffff",
		"2001:db8::/127":    "2001:db8::1",
		"2001:db8::ff/128":  "2001:db8::ff",
		"2001:db8:0:1::/63": "2001:db8:0:1:ffff:ffff:ffff:ffff",
	} {
		assert.Equal(t, want, Last(netip.MustParsePrefix(prefix).Masked()).String(), prefix)
	}
}
