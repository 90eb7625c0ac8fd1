package geoip

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/internal/unpack"
)

// testData returns the path of a file of test data kept outside the
// repository, and skips the test where it is absent.
func testData(tb testing.TB, name string) string {
	dir, err := os.Getwd()
	require.NoError(tb, err)
	for dir != filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			name = filepath.Join(dir, "..", "shared", "data", filepath.FromSlash(name))
			break
		}
		dir = filepath.Dir(dir)
	}
	if _, err := os.Stat(name); err != nil {
		tb.Skip("test data absent: ", err)
	}
	return name
}

// unpacked returns the content of a file of test data.
func unpacked(tb testing.TB, name string) []byte {
	f, err := os.Open(name)
	require.NoError(tb, err)
	defer f.Close()
	r, err := unpack.Reader(f, 1<<32)
	require.NoError(tb, err)
	data, err := io.ReadAll(r)
	require.NoError(tb, err)
	return data
}

// unxz is unpacked of a file of test data by its name there.
func unxz(tb testing.TB, name string) []byte { return unpacked(tb, testData(tb, name)) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// A testRow is a row of a table to compile.
type testRow struct {
	Range
	place Place
}

func compileRows(tb testing.TB, rows []testRow) *DB {
	db, err := New(Info{}, func(yield func(Range, Place) bool) {
		for _, r := range rows {
			if !yield(r.Range, r.place) {
				return
			}
		}
	})
	require.NoError(tb, err)
	require.NoError(tb, db.Verify())
	return db
}

// linear is Lookup as its documentation words it.
func linear(rows []testRow, a netip.Addr) (Place, bool) {
	best := -1
	for i, r := range rows {
		if r.First.BitLen() != a.BitLen() || a.Less(r.First) || r.Last.Less(a) {
			continue
		}
		if best >= 0 {
			size, old := distance(r.Range), distance(rows[best].Range)
			if c := size.Compare(old); c > 0 || c == 0 && r.First.Less(rows[best].First) {
				continue
			}
		}
		best = i
	}
	if best < 0 || rows[best].place.Precision == Unknown {
		return Place{}, false
	}
	return rows[best].place, true
}

func distance(r Range) ranges.V6 {
	if r.First.Is4() {
		return ranges.V6{Lo: uint64(ranges.Key4(r.Last) - ranges.Key4(r.First))}
	}
	return ranges.Key6(r.Last).Minus(ranges.Key6(r.First))
}

// places are what rows of tests have; of precision City, since Lookup scatters
// the others.
var places = []Place{
	{},
	{Lat: 52.37403, Lon: 4.88969, Country: "NL", City: "Amsterdam", Precision: City},
	{Lat: -33.494, Lon: 143.2104, Country: "AU", City: "Balranald", Precision: City},
	{Lat: -90, Lon: -180, Precision: City},
	{Lat: 90, Lon: 180, City: "\u00c5", Precision: City},
}

// fuzzRows makes rows from bytes: three for each, of few addresses that lie
// together so that they overlap and touch, at the ends of the families, at the
// edges of IPv4 buckets and at those of /64 networks.
func fuzzRows(data []byte) []testRow {
	bases := []netip.Addr{
		addr("0.0.0.0"), addr("192.0.2.250"), addr("198.51.255.240"), addr("255.255.255.224"),
		addr("::"), addr("2001:db8::ffff:ffff:ffff:fff0"), addr("2001:db8:0:1::"), addr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffe0"),
	}
	var rows []testRow
	for ; len(data) >= 3; data = data[3:] {
		base := bases[data[0]&7]
		first, last := step(base, data[1]&31), step(base, data[2]&31)
		// Some rows end or begin in other /64 networks.
		if !base.Is4() && data[1]&0x80 != 0 {
			first = ranges.V6{Hi: ranges.Key6(first).Hi + uint64(data[1]>>5&3)}.Addr()
		}
		if !base.Is4() && data[2]&0x80 != 0 {
			last = ranges.V6{Hi: ranges.Key6(last).Hi + uint64(data[2]>>5&3), Lo: math.MaxUint64}.Addr()
		}
		if last.Less(first) {
			first, last = last, first
		}
		rows = append(rows, testRow{Range{First: first, Last: last}, places[int(data[0]>>3)%len(places)]})
	}
	return rows
}

func step(a netip.Addr, n byte) netip.Addr {
	for range n {
		a = a.Next()
	}
	return a
}

func FuzzNew(f *testing.F) {
	f.Add([]byte{8, 0, 31, 16, 4, 9, 0, 5, 5})
	f.Add([]byte{11, 0, 31, 19, 31, 31})
	f.Add([]byte{13, 0, 31, 21, 15, 16, 14, 0, 2, 21, 0x80, 0xff, 5, 3, 4})
	f.Add([]byte{15, 0, 31, 23, 0x85, 0x9f, 7, 31, 31})
	f.Fuzz(func(t *testing.T, data []byte) {
		rows := fuzzRows(data[:min(len(data), 300)])
		db := compileRows(t, rows)
		check := func(a netip.Addr) {
			if !a.IsValid() {
				return
			}
			got, ok := db.Lookup(a)
			want, wantOK := linear(rows, a)
			if got != want || ok != wantOK {
				t.Fatalf("%v: got %+v %v, want %+v %v in %v", a, got, ok, want, wantOK, rows)
			}
		}
		for _, r := range rows {
			for _, a := range []netip.Addr{r.First, r.Last} {
				check(a.Prev())
				check(a)
				check(a.Next())
			}
		}
		var before Range
		var beforePlace Place
		for r, p := range db.All() {
			require.False(t, r.Last.Less(r.First))
			if before.Last.IsValid() && before.Last.BitLen() == r.First.BitLen() {
				require.True(t, before.Last.Less(r.First), "%v then %v", before, r)
				require.False(t, before.Last.Next() == r.First && beforePlace == p, "%v and %v are not merged", before, r)
			}
			for _, a := range []netip.Addr{r.First, r.Last} {
				got, ok := linear(rows, a)
				require.True(t, ok, "%v of %v is in no row", a, r)
				require.Equal(t, p, got)
			}
			before, beforePlace = r, p
		}
		require.Equal(t, all(db), all(compileRows(t, all(db))))
	})
}

func all(db *DB) []testRow {
	var rows []testRow
	for r, p := range db.All() {
		rows = append(rows, testRow{r, p})
	}
	return rows
}

func TestNew(t *testing.T) {
	ok := Place{Lat: 1, Lon: 2, Precision: City}
	one := Range{First: addr("192.0.2.0"), Last: addr("192.0.2.255")}
	for _, tt := range []struct {
		name string
		r    Range
		p    Place
		err  string
	}{
		{name: "latitude", r: one, p: Place{Lat: 91, Precision: City}, err: "geoip: row 1: coordinates 91, 0 are not degrees on Earth"},
		{name: "not a number", r: one, p: Place{Lon: math.NaN(), Precision: City}, err: "geoip: row 1: coordinates 0, NaN are not degrees on Earth"},
		{name: "precision", r: one, p: Place{Precision: 9}, err: "geoip: row 1: unknown precision 9"},
		{name: "country", r: one, p: Place{Country: "nld", Precision: City}, err: `geoip: row 1: country "nld" is not a code of two capital letters`},
		{name: "order", r: Range{First: one.Last, Last: one.First}, p: ok, err: "geoip: row 1: last address 192.0.2.0 is before first 192.0.2.255"},
		{name: "families", r: Range{First: one.First, Last: addr("2001:db8::")}, p: ok, err: "geoip: row 1: 192.0.2.0 to 2001:db8:: is not a range of addresses"},
		{name: "no address", p: ok, err: "geoip: row 1: invalid IP to invalid IP is not a range of addresses"},
		{name: "mapped", r: Range{First: addr("::ffff:192.0.2.0"), Last: addr("::ffff:192.0.2.255")}, p: ok},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db, err := New(Info{}, func(yield func(Range, Place) bool) { yield(tt.r, tt.p) })
			if tt.err != "" {
				require.EqualError(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			p, found := db.Lookup(addr("192.0.2.77"))
			assert.True(t, found)
			assert.Equal(t, ok, p)
		})
	}
}

func TestNewCutsLongNames(t *testing.T) {
	p := Place{Precision: City}
	for range 100 {
		p.City += "京都"
	}
	db := compileRows(t, []testRow{{Range{First: addr("192.0.2.0"), Last: addr("192.0.2.0")}, p}})
	got, _ := db.Lookup(addr("192.0.2.0"))
	assert.Equal(t, p.City[:255], got.City)
}

// More places than fit into two bytes.
func TestManyPlaces(t *testing.T) {
	var rows []testRow
	for i := range uint32(70_000) {
		a := addr4(i << 8)
		rows = append(rows, testRow{Range{First: a, Last: a}, Place{Lat: float64(i) / 1000, Precision: City, City: fmt.Sprint(i)}})
	}
	db := compileRows(t, rows)
	for _, r := range rows {
		got, ok := db.Lookup(r.First)
		require.True(t, ok)
		require.Equal(t, r.place, got)
	}
}

func TestZeroDB(t *testing.T) {
	var db DB
	p, ok := db.Lookup(addr("192.0.2.1"))
	assert.False(t, ok)
	assert.Zero(t, p)
	_, ok = db.Lookup(addr("2001:db8::1"))
	assert.False(t, ok)
	assert.Empty(t, all(&db))
	assert.Zero(t, db.Info())
	assert.NoError(t, db.Verify())
	_, ok = compileRows(t, nil).Lookup(addr("192.0.2.1"))
	assert.False(t, ok)
}

func TestLookupAddresses(t *testing.T) {
	db := compileRows(t, []testRow{
		{Range{First: addr("192.0.2.0"), Last: addr("192.0.2.255")}, places[1]},
		{Range{First: addr("2001:db8::"), Last: addr("2001:db8::ffff")}, places[2]},
	})
	for _, tt := range []struct {
		a    netip.Addr
		want Place
	}{
		{addr("192.0.2.255"), places[1]},
		{addr("::ffff:192.0.2.255"), places[1]},
		{addr("192.0.3.0"), Place{}},
		{addr("2001:db8::1%eth0"), places[2]},
		{addr("2001:db8::1:0"), Place{}},
		{netip.Addr{}, Place{}},
	} {
		got, ok := db.Lookup(tt.a)
		assert.Equal(t, tt.want, got, "%v", tt.a)
		assert.Equal(t, tt.want != Place{}, ok, "%v", tt.a)
	}
}

func TestLookupAllocates(t *testing.T) {
	p, _ := CountryPlace("FJ")
	db := compileRows(t, []testRow{
		{Range{First: addr("192.0.2.0"), Last: addr("192.0.2.255")}, places[1]},
		{Range{First: addr("198.51.100.0"), Last: addr("198.51.100.255")}, p},
		{Range{First: addr("2001:db8::1"), Last: addr("2001:db8::ffff")}, p},
	})
	for _, a := range []netip.Addr{addr("192.0.2.1"), addr("198.51.100.1"), addr("::ffff:198.51.100.1"), addr("2001:db8::1"), addr("203.0.113.1")} {
		assert.Zero(t, testing.AllocsPerRun(100, func() { db.Lookup(a) }), "%v", a)
	}
}

func TestScatter(t *testing.T) {
	p, ok := CountryPlace("FJ") // beside the 180th meridian
	require.True(t, ok)
	db := compileRows(t, []testRow{
		{Range{First: addr("198.51.0.0"), Last: addr("198.51.255.255")}, p},
		{Range{First: addr("2001:db8::"), Last: addr("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")}, p},
	})
	seen := make(map[Place]bool)
	for i := range 256 {
		a := netip.AddrFrom4([4]byte{198, 51, byte(i), 1})
		got, ok := db.Lookup(a)
		require.True(t, ok)
		seen[got] = true
		east := math.Mod(got.Lon-p.Lon+540, 360) - 180
		assert.LessOrEqual(t, math.Hypot(got.Lat-p.Lat, east), 0.9, "%v", got)
		assert.LessOrEqual(t, math.Abs(got.Lon), 180.0)
		assert.Equal(t, Country, got.Precision)
		assert.Equal(t, "FJ", got.Country)
		same, _ := db.Lookup(netip.AddrFrom4([4]byte{198, 51, byte(i), 200}))
		assert.Equal(t, got, same, "addresses of a /24 share a point")
	}
	assert.Len(t, seen, 256)
	a, _ := db.Lookup(addr("2001:db8:1::"))
	b, _ := db.Lookup(addr("2001:db8:1:ffff::1"))
	c, _ := db.Lookup(addr("2001:db8:2::"))
	assert.Equal(t, a, b, "addresses of a /48 share a point")
	assert.NotEqual(t, a, c)

	// Computers must agree, so these values may never change.
	lat, lon := scatter(0, 0, 0xc00002)
	assert.Equal(t, [2]int32{-7289155, 1648498}, [2]int32{lat, lon})

	lat, lon = scatter(90*degree, 180*degree, 1)
	assert.LessOrEqual(t, lat, int32(90*degree))
	assert.LessOrEqual(t, lon, int32(180*degree))
}

// TestLoad: a record that is no place is damage. The rest is tested in internal/ranges.
func TestLoad(t *testing.T) {
	db := compileRows(t, []testRow{{Range{First: addr("192.0.2.0"), Last: addr("192.0.2.255")}, places[1]}})
	var b bytes.Buffer
	_, err := db.WriteTo(&b)
	require.NoError(t, err)
	again, err := Load(b.String())
	require.NoError(t, err)
	require.NoError(t, again.Verify())
	assert.Equal(t, all(db), all(again))
	_, err = Load("x")
	assert.EqualError(t, err, "geoip: not a compiled table")
	bad := bytes.Replace(b.Bytes(), []byte("Amsterdam"), []byte("Rotterdam"), 1)
	again, err = Load(string(bad))
	require.NoError(t, err)
	assert.EqualError(t, again.Verify(), "geoip: damaged table")

	for name, p := range map[string]Place{
		"latitude":  {Lat: 91, Precision: City},
		"longitude": {Lon: -181, Precision: City},
		"unknown":   {},
	} {
		c := ranges.Content{V4: []ranges.Start[ranges.V4]{{First: 1, ID: 1}}}
		c.Records, c.Texts, c.Flags = records([]Place{{}, p})
		data, err := form.Encode(c)
		require.NoError(t, err)
		db, err := Load(data)
		require.NoError(t, err)
		assert.EqualError(t, db.Verify(), "geoip: damaged table", name)
	}
}

func TestInfo(t *testing.T) {
	date := time.Date(2026, 6, 25, 4, 33, 59, 0, time.UTC)
	p, _ := CountryPlace("NL")
	r := Range{First: addr("192.0.2.0"), Last: addr("192.0.2.255")}
	db, err := New(Info{Name: "x", Date: date}, func(yield func(Range, Place) bool) { yield(r, p) })
	require.NoError(t, err)
	assert.Equal(t, Info{Name: "x", Date: date, CountryLevel: true, Ranges: 1}, db.Info())
	db, err = New(Info{Name: "x", Date: date}, func(yield func(Range, Place) bool) { _ = yield(r, p) && yield(r, places[1]) })
	require.NoError(t, err)
	assert.Equal(t, Info{Name: "x", Date: date, Ranges: 1}, db.Info())
}

func TestCountries(t *testing.T) {
	for _, tt := range []struct{ code, country, name string }{
		{"NL", "NL", "Netherlands"},
		{"XK", "XK", "Kosovo"},
		{"UK", "GB", "United Kingdom"},
		{"AQ", "AQ", "Antarctica"},
		{"EU", "", ""},
		{"AP", "", ""},
		{"A1", "", ""},
		{"??", "", ""},
		{"", "", ""},
	} {
		p, ok := CountryPlace(tt.code)
		assert.Equal(t, tt.country, p.Country, tt.code)
		assert.Equal(t, tt.country != "", ok, tt.code)
		assert.Equal(t, tt.name, CountryName(tt.code), tt.code)
	}
	us, _ := CountryPlace("US")
	assert.InDelta(t, 38.9, us.Lat, 0.1, "Washington, not Kansas")
	for i, c := range countries {
		assert.True(t, isCode(c.code), c.code)
		assert.NotEmpty(t, c.name, c.code)
		assert.False(t, c.lat == 0 && c.lon == 0, c.code)
		assert.True(t, i == 0 || countries[i-1].code < c.code, c.code)
	}
}

func writeFile(tb testing.TB, name string, data []byte) string {
	name = filepath.Join(tb.TempDir(), name)
	require.NoError(tb, os.WriteFile(name, data, 0o600))
	return name
}

func gzipped(tb testing.TB, data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(data)
	require.NoError(tb, err)
	require.NoError(tb, z.Close())
	return b.Bytes()
}

// 192.0.2.0/24 is 3221225984 to 3221226239, 198.51.100.0/24 begins at
// 3325256704.
const csvSample = "3221225985,3221226238,-33.6629,151.3986\n" +
	"3325256704,3325256704,52.37403,4.88969\r\n" +
	"\n" +
	"3325256720,3325256730,,\n" +
	"3325256740,3325256750,0,0\n" +
	"3325256760,3325256761,90,-180.0\n"

func TestOpenErrors(t *testing.T) {
	mmdb := sampleMMDB(sampleRecords...)
	squashed := gzipped(t, []byte(csvSample))
	for _, tt := range []struct {
		name string
		data []byte
		err  string
	}{
		{"empty", nil, "the file is empty"},
		{"text", []byte("Dear Sir or Madam\n"), "the layout is not known: the first line is \"Dear Sir or Madam\"; understood are MaxMind DB files"},
		{"binary", []byte("\x00\x01\x02\x03"), "binary data without the metadata that ends a MaxMind DB file: truncated"},
		{"fields", []byte("1,2,3,4\n5,6,7,8\n5,6,7\n5,6,7\n5,6,7\n"), "the layout is not known: 4 columns between commas"},
		{"cut in address", []byte("1,2,3,4\n5\n5\n5\n"), "the layout is not known: 4 columns between commas"},
		{"start", []byte("start,end,lat,lon\nx,6,7,8\n"), `1 of 1 rows cannot be read: line 2: first address "x" is not an IP address`},
		{"end", []byte("start,end,lat,lon\n5,4294967296,7,8\n"), `line 2: "5" and "4294967296" are of two families`},
		{"order", []byte("start,end,lat,lon\n6,5,7,8\n"), "line 2: last address 5 is before first 6"},
		{"latitude", []byte("start,end,lat,lon\n1,2,90.01,4\n"), `line 2: latitude "90.01" is not a number from -90 to 90`},
		{"longitude", []byte("start,end,lat,lon\n1,2,3,nan\n"), `line 2: longitude "nan" is not a number from -180 to 180`},
		{"no coordinates", []byte("1,2,,\n"), "no row has a place that is known"},
		{"compressed nothing", gzipped(t, nil), "the file is empty"},
		{"compressed and cut short", squashed[:len(squashed)-12], "the gzip data are cut off after"},
		{"MMDB cut short", mmdb[:len(mmdb)/2], "truncated"},
		{"MMDB without places", sampleMMDB(map[string]any{"asn": "AS64496"}), `MaxMind DB Test: not a table of places`},
		{"MMDB coordinates", sampleMMDB(map[string]any{"lat": "95", "lng": "1"}), "network 0.0.0.0/2: coordinates 95, 1 are not degrees on Earth"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := writeFile(t, "file", tt.data)
			_, err := Open(name)
			require.ErrorContains(t, err, "geoip: "+name+": ")
			assert.ErrorContains(t, err, tt.err)
		})
	}
	_, err := Open(filepath.Join(t.TempDir(), "absent"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = Open(t.TempDir())
	assert.ErrorContains(t, err, "geoip: ")
}

// fileOf returns data as a file that is read.
func fileOf(t testing.TB, data []byte) *ranges.File {
	return &ranges.File{Reader: bufio.NewReaderSize(bytes.NewReader(data), 256<<10), Name: filepath.Join(t.TempDir(), "file"), Size: int64(len(data))}
}

func addr4(ip uint32) netip.Addr { return ranges.V4(ip).Addr() }
