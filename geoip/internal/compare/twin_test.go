package compare

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/geoip"
)

// lookups is how many addresses each kind of table is asked for, at least.
const lookups = 100_000

// A row is what a table says of the addresses from first to last.
type row[T any] struct {
	first, last netip.Addr
	says        T
}

// A key is an address as a number of 128 bits, of IPv4 too.
type key struct{ hi, lo uint64 }

func keyOf(a netip.Addr) key {
	if a.Is4() {
		b := a.As4()
		return key{0, uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return key{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (k key) addr(four bool) netip.Addr {
	if four {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(k.lo))))
	}
	return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, k.hi), k.lo)))
}

func (k key) compare(l key) int { return cmp.Or(cmp.Compare(k.hi, l.hi), cmp.Compare(k.lo, l.lo)) }

func (k key) minus(l key) key {
	lo, borrow := bits.Sub64(k.lo, l.lo, 0)
	hi, _ := bits.Sub64(k.hi, l.hi, borrow)
	return key{hi, lo}
}

func (k key) plus(l key) key {
	lo, carry := bits.Add64(k.lo, l.lo, 0)
	hi, _ := bits.Add64(k.hi, l.hi, carry)
	return key{hi, lo}
}

// A twin finds the smallest row that holds an address, of equally large ones that which starts
// later, then the later one. It looks at each row that may hold the address.
type twin[T any] struct{ v4, v6 family[T] }

type family[T any] struct {
	rows []twinRow[T] // by their first addresses
	// reach is the greatest last address of a row and those before it.
	reach []key
}

type twinRow[T any] struct {
	first, last key
	says        T
}

func twinOf[T any](rows []row[T]) *twin[T] {
	t := new(twin[T])
	for _, r := range rows {
		f := &t.v6
		if r.first.Is4() {
			f = &t.v4
		}
		f.rows = append(f.rows, twinRow[T]{keyOf(r.first), keyOf(r.last), r.says})
	}
	for _, f := range []*family[T]{&t.v4, &t.v6} {
		slices.SortStableFunc(f.rows, func(a, b twinRow[T]) int { return a.first.compare(b.first) })
		var reach key
		for _, r := range f.rows {
			if reach.compare(r.last) < 0 {
				reach = r.last
			}
			f.reach = append(f.reach, reach)
		}
	}
	return t
}

// find returns what the table says of an address; zero: nothing.
func (t *twin[T]) find(a netip.Addr) (says T) {
	a = inner(a)
	f, k := &t.v6, keyOf(a)
	if a.Is4() {
		f = &t.v4
	}
	from, _ := slices.BinarySearchFunc(f.rows, k, func(r twinRow[T], k key) int {
		if r.first.compare(k) <= 0 {
			return -1
		}
		return 1
	})
	var size key
	found := false
	for i := from - 1; i >= 0 && f.reach[i].compare(k) >= 0; i-- {
		r := f.rows[i]
		if r.last.compare(k) < 0 {
			continue
		}
		if s := r.last.minus(r.first); !found || s.compare(size) < 0 {
			size, says, found = s, r.says, true
		}
	}
	return says
}

var (
	sixToFour = netip.MustParsePrefix("2002::/16")
	teredo    = netip.MustParsePrefix("2001::/32")
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	low       = netip.MustParsePrefix("::/80") // IPv4-mapped and IPv4-compatible addresses
)

// inner returns the IPv4 address that an IPv6 address stands for, or else that itself.
func inner(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is4() {
		return a
	}
	b := a.As16()
	switch {
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:]))
	case teredo.Contains(a):
		return netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})
	case nat64.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return a
}

// probes returns n addresses to look up: half of them at the borders of rows or just beside, the
// others inside rows and anywhere. Where the rows are of both families half are of IPv6.
func probes[T any](r *rand.Rand, rows []row[T], n int) []netip.Addr {
	of := map[bool][]row[T]{}
	for _, x := range rows {
		of[x.first.Is4()] = append(of[x.first.Is4()], x)
	}
	all := append(make([]netip.Addr, 0, n), key{}.addr(true), key{0, 1<<32 - 1}.addr(true), key{^uint64(0), ^uint64(0)}.addr(false))
	for len(all) < n {
		four := r.IntN(2) == 0
		if len(of[four]) == 0 && r.IntN(10) > 0 {
			four = !four
		}
		kind := r.IntN(4)
		if len(of[four]) == 0 {
			kind = 3
		}
		var a netip.Addr
		switch kind {
		case 0, 1:
			x := of[four][r.IntN(len(of[four]))]
			a = []netip.Addr{x.first.Prev(), x.first, x.first.Next(), x.last.Prev(), x.last, x.last.Next()}[r.IntN(6)]
		case 2:
			x := of[four][r.IntN(len(of[four]))]
			a = between(r, x.first, x.last)
		case 3:
			a = key{r.Uint64(), r.Uint64()}.addr(four)
			if !four && r.IntN(10) == 0 {
				// One that stands for an address of IPv4.
				b := a.As16()
				copy(b[:], [][]byte{{0x20, 0x02}, {0x20, 1, 0, 0}, {0, 0x64, 0xff, 0x9b, 11: 0}, {10: 0xff, 11: 0xff}}[r.IntN(4)])
				a = netip.AddrFrom16(b)
			}
		}
		if a.IsValid() {
			all = append(all, a)
		}
	}
	return all
}

// between returns a random address from first to last.
func between(r *rand.Rand, first, last netip.Addr) netip.Addr {
	f := keyOf(first)
	size := keyOf(last).minus(f)
	for {
		k := key{0, r.Uint64()}
		switch {
		case size.hi == ^uint64(0):
			k.hi = r.Uint64()
		case size.hi > 0:
			k.hi = r.Uint64N(size.hi + 1)
		case size.lo < ^uint64(0):
			k.lo = r.Uint64N(size.lo + 1)
		}
		if k.compare(size) <= 0 {
			return f.plus(k).addr(first.Is4())
		}
	}
}

// agree looks up addresses in two ways, and fails if they differ for any.
func agree[T comparable](t *testing.T, addrs []netip.Addr, ours, theirs func(netip.Addr) T, same func(got, want T) bool) {
	t.Helper()
	var none T
	known, differ := 0, 0
	for _, a := range addrs {
		got, want := ours(a), theirs(a)
		if want != none {
			known++
		}
		if same(got, want) {
			continue
		}
		if differ++; differ <= 5 {
			t.Errorf("%v: got %+v, want %+v", a, got, want)
		}
	}
	assert.Zero(t, differ, "addresses that differ, of %d", len(addrs))
	assert.Greater(t, known, len(addrs)/4, "addresses that the other reader knows")
	assert.Less(t, known, len(addrs), "addresses that the other reader knows")
}

// samePlace compares a place with one that has no point of its own if it is a country's.
func samePlace(got, want geoip.Place) bool {
	if got.Country != want.Country || got.City != want.City || got.Precision != want.Precision {
		return false
	}
	if want.Precision <= geoip.Country {
		return true
	}
	return near(got.Lat, want.Lat) && near(got.Lon, want.Lon) && (got.Radius == want.Radius || got.Radius == 0 && want.Radius > 1023)
}

// near reports whether two degrees are equal, but for the rounding to 1e-7.
func near(a, b float64) bool { return max(a-b, b-a) < 1.01e-7 }

func sameAS(got, want asn.AS) bool { return got == want }

// A claim is what one row of a table says of a place.
type claim struct {
	country, city string
	region        bool // a region or postal code is named
	point         bool
	lat, lon      float64
	radius        uint16
	unnamed       bool // the table has no names of places
}

// place returns the place that a row means: a country without more has the country's own point,
// unless its coordinates are exact.
func (f claim) place() geoip.Place {
	country, known := geoip.CountryPlace(f.country)
	p := geoip.Place{Lat: f.lat, Lon: f.lon, Country: country.Country, City: f.city, Precision: geoip.City, Radius: f.radius}
	exact := f.unnamed && f.radius == 0 || 0 < f.radius && f.radius <= 50
	switch {
	case !f.point && known, known && f.city == "" && !f.region && !exact:
		return geoip.Place{Country: country.Country, Precision: geoip.Country}
	case !f.point:
		return geoip.Place{}
	case f.city == "" && (f.region || known || f.radius > 50):
		p.Precision = geoip.Region
	}
	return p
}

func placesOf(db *geoip.DB) func(netip.Addr) geoip.Place {
	return func(a netip.Addr) geoip.Place {
		p, _ := db.Lookup(a)
		return p
	}
}

func networksOf(db *asn.DB) func(netip.Addr) asn.AS {
	return func(a netip.Addr) asn.AS {
		as, _ := db.Lookup(a)
		return as
	}
}

// networks returns random networks of a family, of which many lie in others. There are none
// that stand for IPv4 addresses.
func networks(r *rand.Rand, n int, four bool) (all []netip.Prefix) {
	for len(all) < n {
		a, bits := key{r.Uint64(), r.Uint64()}.addr(four), 4+r.IntN(21)
		if !four {
			bits = 4 + r.IntN(61)
		}
		if len(all) > 0 && r.IntN(3) > 0 {
			// Inside another network, or that again.
			p := all[r.IntN(len(all))]
			a = between(r, p.Addr(), last(p))
			bits = min(p.Bits()+r.IntN(17), a.BitLen())
		}
		p := netip.PrefixFrom(a, bits).Masked()
		if p.Overlaps(low) || p.Overlaps(sixToFour) || p.Overlaps(teredo) || p.Overlaps(nat64) {
			continue
		}
		all = append(all, p)
	}
	return all
}

// codes are codes of countries, among them some that are no country's, that are written in
// small letters, or that others have replaced.
var codes = []string{"DE", "US", "AU", "NL", "JP", "BR", "ZA", "IN", "FR", "GB", "XK", "TW", "de", "AN", "UK", "EU", "AP", "ZZ", "T1"}

// names are names of cities and companies.
var names = []string{"Bonn", "São Paulo", "Washington, D.C.", `The "Hague"`, "Ürümqi", "東京", "O'Fallon", "Nuku'alofa", "s-Hertogenbosch", "Å",
	"A city whose name is longer than all others, since those in tables have up to some dozens of letters"}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// written writes a file for a test and returns its name.
func written(t *testing.T, name string, data []byte) string {
	name = filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(name, data, 0o600))
	return name
}

// writeBeside writes a file into the folder of another.
func writeBeside(other, name string, data []byte) error {
	return os.WriteFile(filepath.Join(filepath.Dir(other), name), data, 0o600)
}
