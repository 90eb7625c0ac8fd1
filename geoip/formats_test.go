package geoip

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/ranges"
)

func countryPlace(t *testing.T, code string) Place {
	p, ok := CountryPlace(code)
	require.True(t, ok, code)
	return p
}

// TestFormats opens a small table of each format.
func TestFormats(t *testing.T) {
	v4 := func(s string) Range {
		return Range{First: addr("192.0.2." + s[:strings.Index(s, "-")]), Last: addr("192.0.2." + s[strings.Index(s, "-")+1:])}
	}
	v6 := Range{First: addr("2001:db8::"), Last: addr("2001:db8:0:ffff:ffff:ffff:ffff:ffff")}
	au, nl := countryPlace(t, "AU"), countryPlace(t, "NL")
	brisbane := Place{Lat: -27.4767, Lon: 153.017, Country: "AU", City: "South Brisbane", Precision: City}
	for _, tt := range []struct {
		name  string
		files map[string]string // those beside it too; the one to open is "table"
		want  []testRow
		date  string
	}{
		{"DB-IP city", map[string]string{"table": `0.0.0.0,0.255.255.255,ZZ,ZZ,,,0,0
192.0.2.0,192.0.2.127,OC,AU,Queensland,"South Brisbane",-27.4767,153.017
192.0.2.128,192.0.2.255,EU,NL,,,52.1,5.3
2001:db8::,2001:db8:0:ffff:ffff:ffff:ffff:ffff,OC,AU,Queensland,"South Brisbane",-27.4767,153.017
`}, []testRow{{v4("0-127"), brisbane}, {v4("128-255"), nl}, {v6, brisbane}}, ""},
		{"DB-IP country", map[string]string{"table": "192.0.2.0,192.0.2.127,AU\n192.0.2.128,192.0.2.255,ZZ\n2001:db8::,2001:db8:0:ffff:ffff:ffff:ffff:ffff,NL\n"},
			[]testRow{{v4("0-127"), au}, {v6, nl}}, ""},
		{"tor's geoip", map[string]string{"table": "# Generated: Thu, 25 Jun 2026 04:33:59 GMT\n3221225984,3221226111,AU\n3221226112,3221226239,??\n"},
			[]testRow{{v4("0-127"), au}}, "2026-06-25"},
		{"iptoasn", map[string]string{"table": "192.0.2.0\t192.0.2.127\t64496\tAU\tEXAMPLE - Example, \"Ltd\n192.0.2.128\t192.0.2.200\t0\tNone\tNot routed\n192.0.2.201\t192.0.2.255\t64497\tNL\t\n"},
			[]testRow{{v4("0-127"), au}, {v4("201-255"), nl}}, ""},
		{"sapics city", map[string]string{"table": "192.0.2.0,192.0.2.127,AU,Queensland,,South Brisbane,4101,-27.4767,153.017,Australia/Brisbane\n"},
			[]testRow{{v4("0-127"), brisbane}}, ""},
		{"connmap", map[string]string{"table": "3221225985,3221226238,-27.4767,153.017\r\n"},
			[]testRow{{v4("0-255"), Place{Lat: -27.4767, Lon: 153.017, Precision: City}}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range tt.files {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
			}
			db, err := Open(filepath.Join(dir, "table"))
			require.NoError(t, err)
			require.NoError(t, db.Verify())
			assert.Equal(t, tt.want, all(db))
			if tt.date != "" {
				assert.Equal(t, tt.date, db.Info().Date.Format(time.DateOnly))
			}
		})
	}
}

const (
	blocksHeader    = "network,geoname_id,registered_country_geoname_id,represented_country_geoname_id,is_anonymous_proxy,is_satellite_provider,postal_code,latitude,longitude,accuracy_radius,is_anycast\n"
	locationsHeader = "geoname_id,locale_code,continent_code,continent_name,country_iso_code,country_name,subdivision_1_iso_code,subdivision_1_name,subdivision_2_iso_code,subdivision_2_name,city_name,metro_code,time_zone,is_in_european_union\n"
)

func TestGeoLite(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
		return name
	}
	blocks4 := write("GeoLite2-City-Blocks-IPv4.csv", blocksHeader+
		"192.0.2.0/25,1,2,,0,0,4101,-27.4767,153.0170,10,\n"+
		"192.0.2.128/26,2,2,,0,0,,-25.0000,134.0000,1000,\n"+ // the middle of nowhere
		"192.0.2.192/27,,3,,0,0,,,,,\n"+
		"192.0.2.224/27,,,,0,1,,,,,\n")
	blocks6 := write("GeoLite2-City-Blocks-IPv6.csv", blocksHeader+"2001:db8::/48,1,2,,0,0,,-27.4767,153.0170,10,\n")
	bare := func(lat, lon float64, radius uint16) Place {
		return Place{Lat: lat, Lon: lon, Precision: City, Radius: radius}
	}

	// Without the names there are only coordinates.
	db, err := Open(blocks4)
	require.NoError(t, err)
	assert.Equal(t, []testRow{
		{Range{First: addr("192.0.2.0"), Last: addr("192.0.2.127")}, bare(-27.4767, 153.017, 10)},
		{Range{First: addr("192.0.2.128"), Last: addr("192.0.2.191")}, Place{Lat: -25, Lon: 134, Precision: Region, Radius: 1000}},
	}, all(db))

	locations := locationsHeader +
		"1,en,OC,Oceania,AU,Australia,QLD,Queensland,,,\"South \"\"B\"\"\",,Australia/Brisbane,0\n" +
		"2,en,OC,Oceania,AU,Australia,,,,,,,Australia/Sydney,0\n" +
		"3,en,EU,Europe,NL,Netherlands,,,,,,,Europe/Amsterdam,1\n"
	write("GeoLite2-City-Locations-en.csv.gz", string(gzipped(t, []byte(locations))))
	south := Place{Lat: -27.4767, Lon: 153.017, Country: "AU", City: `South "B"`, Precision: City, Radius: 10}
	want := []testRow{
		{Range{First: addr("192.0.2.0"), Last: addr("192.0.2.127")}, south},
		{Range{First: addr("192.0.2.128"), Last: addr("192.0.2.191")}, countryPlace(t, "AU")},
		{Range{First: addr("192.0.2.192"), Last: addr("192.0.2.223")}, countryPlace(t, "NL")},
		{Range{First: addr("2001:db8::"), Last: addr("2001:db8:0:ffff:ffff:ffff:ffff:ffff")}, south},
	}
	db, err = Open(blocks4, blocks6)
	require.NoError(t, err)
	assert.Equal(t, want, all(db))
	assert.Empty(t, db.Remarks())
	write("GeoLite2-City-Locations-en.csv.gz", string(gzipped(t, []byte(strings.ReplaceAll(locations, "\n1,en", "\n7,en")))))
	db, err = Open(blocks4)
	require.NoError(t, err)
	require.Len(t, db.Remarks(), 1)
	assert.Contains(t, db.Remarks()[0], "1 place has no name in the file of locations: take that of the same release")
	write("GeoLite2-City-Locations-en.csv.gz", string(gzipped(t, []byte(locations))))

	// The country edition has no coordinates.
	country := write("GeoLite2-Country-Blocks-IPv4.csv", "network,geoname_id,registered_country_geoname_id,represented_country_geoname_id,is_anonymous_proxy,is_satellite_provider\n192.0.2.0/25,3,3,,0,0\n")
	_, err = Open(country)
	assert.ErrorContains(t, err, "put GeoLite2-Country-Locations-en.csv beside it")
	write("GeoLite2-Country-Locations-en.csv", "geoname_id,locale_code,continent_code,continent_name,country_iso_code,country_name,is_in_european_union\n3,en,EU,Europe,NL,Netherlands,1\n")
	db, err = Open(country)
	require.NoError(t, err)
	assert.Equal(t, []testRow{{Range{First: addr("192.0.2.0"), Last: addr("192.0.2.127")}, countryPlace(t, "NL")}}, all(db))

	for _, tt := range []struct{ row, err string }{
		{"192.0.2.0/33,1,2,,0,0,,1,1,10,\n", `line 2: "192.0.2.0/33" is not a network`},
		{"192.0.2.0/25,1,2,,0,0,,91,1,10,\n", `line 2: latitude "91" is not a number from -90 to 90`},
		{"192.0.2.0/25,1,2\n", "line 2: 3 columns, expected 11"},
	} {
		_, err = Open(write("GeoLite2-City-Blocks-IPv4.csv", blocksHeader+tt.row))
		assert.ErrorContains(t, err, tt.err)
	}
	write("GeoLite2-Country-Locations-en.csv", "geoname_id,locale_code\n")
	_, err = Open(country)
	assert.ErrorContains(t, err, "GeoLite2-Country-Locations-en.csv: line 1: expected the columns")
}

// TestOpenSeveral: two lists of one family each are one table.
func TestOpenSeveral(t *testing.T) {
	four := writeFile(t, "4", []byte("# Generated: Thu, 25 Jun 2026 04:33:59 GMT\n3221225984,3221226239,AU\n"))
	six := writeFile(t, "6", []byte("# Generated: Wed, 24 Jun 2026 04:33:59 GMT\n2001:db8::,2001:db8::ff,NL\n"))
	db, err := Open(four, six)
	require.NoError(t, err)
	assert.Len(t, all(db), 2)
	assert.Equal(t, "2026-06-24", db.Info().Date.Format(time.DateOnly))
	_, err = Open()
	assert.EqualError(t, err, "geoip: no file is named")
}

// TestAccuracy: every row of every real table gives its place at its first and
// last address and inside, from the text, from the compiled table, and from
// where that is mapped.
func TestAccuracy(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	for _, tt := range []struct {
		name  string
		files []string
		rows  int
	}{
		{"tor's lists", []string{"geo/tor-geoip-20260625.txt.gz", "geo/tor-geoip6-20260625.txt.gz"}, 600_000},
		{"connmap's ipv4.csv", []string{"synth/connmap_ipv4_head200k.csv.xz"}, 190_000},
		{"GeoLite2-City blocks", []string{"synth/GeoLite2-City-Blocks-IPv4_head100k.csv.xz"}, 90_000},
		{"iptoasn", []string{"asn/ip2asn-v4-excerpt-2020.tsv"}, 1000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var names []string
			for _, f := range tt.files {
				names = append(names, testData(t, f))
			}
			folder := t.TempDir()
			compiled, err := OpenCached(folder, nil, names...)
			require.NoError(t, err)
			mapped, err := OpenCached(folder, compiledAgain(t), names...)
			require.NoError(t, err)
			fresh, err := Open(names...)
			require.NoError(t, err)
			r := rand.New(rand.NewPCG(1, 2))
			rows := 0
			for _, name := range names {
				visitRows(t, name, func(first, last netip.Addr, want Place) {
					rows++
					for _, a := range []netip.Addr{first, last, between(r, first, last)} {
						if ranges.Inner(a) != a {
							continue // the IPv4 address inside is looked up
						}
						for i, db := range []*DB{compiled, mapped, fresh} {
							got, ok := db.Lookup(a)
							if ok != (want.Precision != Unknown) || !near(got, want) {
								t.Fatalf("%d: %v: got %+v, want %+v", i, a, got, want)
							}
						}
					}
				})
			}
			assert.Greater(t, rows, tt.rows)
			t.Logf("%d rows", rows)
		})
	}
}

// TestAccuracyOfCities: a table of cities as text, and the same as a MaxMind DB, are
// as accurate, compiled and mapped, at the first and last address of a row and inside. Each row
// has its turn in one of the tables, and in all of them with CONNMAP_LONG.
func TestAccuracyOfCities(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	text, mmdb := unpacked(t, testData(t, "synth/city4.csv.xz")), testData(t, "synth/GeoLite2-City-SYNTHETIC.mmdb.xz")
	folder := t.TempDir()
	csv := filepath.Join(folder, "city4.csv")
	require.NoError(t, os.WriteFile(csv, text, 0o600))
	var tables []*DB
	for _, name := range []string{csv, mmdb} {
		for _, progress := range []func(done, size int64){nil, compiledAgain(t)} {
			db, err := OpenCached(folder, progress, name)
			require.NoError(t, err)
			tables = append(tables, db)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	rows := 0
	for line := range bytes.Lines(text) {
		f := strings.Split(strings.TrimSpace(string(line)), ",")
		first, errFirst := strconv.ParseUint(f[0], 10, 32)
		last, errLast := strconv.ParseUint(f[1], 10, 32)
		lat, errLat := strconv.ParseFloat(f[2], 64)
		lon, errLon := strconv.ParseFloat(f[3], 64)
		if err := errors.Join(errFirst, errLast, errLat, errLon); err != nil {
			t.Fatal(err) // require costs more than what it tests
		}
		rows++
		for _, ip := range []uint64{first, last, first + r.Uint64N(last-first+1)} {
			for i, db := range tables {
				if os.Getenv("CONNMAP_LONG") == "" && i != rows%len(tables) {
					continue
				}
				if p, ok := db.Lookup(addr4(uint32(ip))); !ok || p.Lat != lat || p.Lon != lon {
					t.Fatalf("%d: %v: got %+v, want %v %v", i, addr4(uint32(ip)), p, lat, lon)
				}
			}
		}
	}
	assert.Equal(t, 3_802_720, rows)
}

// compiledAgain is the progress of what must not be compiled, but mapped.
func compiledAgain(tb testing.TB) func(done, size int64) {
	return func(_, _ int64) { tb.Error("it is compiled again") }
}

// near reports whether a place is the one of a row; those of countries are
// scattered.
func near(got, want Place) bool {
	if want.Precision == Country {
		return got.Country == want.Country && got.Precision == Country && abs(got.Lat-want.Lat) <= 0.9
	}
	return got == want
}

func abs(x float64) float64 { return max(x, -x) }

// between returns a random address from first to last.
func between(r *rand.Rand, first, last netip.Addr) netip.Addr {
	if first.Is4() {
		x, y := ranges.Key4(first), ranges.Key4(last)
		return addr4(uint32(x) + uint32(r.Uint64N(uint64(y-x)+1)))
	}
	x, y := ranges.Key6(first), ranges.Key6(last)
	a := ranges.V6{Hi: x.Hi + r.Uint64N(y.Hi-x.Hi+1), Lo: r.Uint64()}.Addr()
	if a.Less(first) || last.Less(a) {
		return first
	}
	return a
}

// visitRows reads a real table by simple means of its own.
func visitRows(t *testing.T, name string, visit func(first, last netip.Addr, want Place)) {
	for line := range strings.Lines(string(unpacked(t, name))) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || strings.HasPrefix(line, "network,") {
			continue
		}
		if f := strings.Split(line, "\t"); len(f) > 3 {
			p, _ := CountryPlace(f[3])
			visit(addr(f[0]), addr(f[1]), p)
			continue
		}
		f := strings.Split(line, ",")
		switch {
		case len(f) == 3:
			first, last := naiveAddr(t, f[0]), naiveAddr(t, f[1])
			p, _ := CountryPlace(f[2])
			visit(first, last, p)
		case len(f) == 4:
			first, last := naiveAddr(t, f[0]), naiveAddr(t, f[1])
			visit(first, last, naivePoint(t, f[2], f[3]))
		default:
			p := netip.MustParsePrefix(f[0])
			want := naivePoint(t, f[7], f[8])
			if want.Precision != Unknown && len(f) > 9 {
				fmt.Sscan(f[9], &want.Radius)
				if want.Radius > 50 {
					want.Precision = Region
				}
			}
			visit(p.Addr(), ranges.Last(p), want)
		}
	}
}

func naiveAddr(t *testing.T, s string) netip.Addr {
	var v uint32
	if strings.Contains(s, ":") {
		return addr(s)
	}
	_, err := fmt.Sscan(s, &v)
	require.NoError(t, err)
	return addr4(v)
}

func naivePoint(t *testing.T, lat, lon string) Place {
	if lat == "" || lon == "" {
		return Place{}
	}
	p := Place{Precision: City}
	_, err := fmt.Sscan(lat+" "+lon, &p.Lat, &p.Lon)
	require.NoError(t, err)
	return p
}

// FuzzReadText: no text makes a table that answers what no line says, or worse.
func FuzzReadText(f *testing.F) {
	for _, seed := range []string{
		csvSample,
		"# Generated: Thu, 25 Jun 2026 04:33:59 GMT\n3221225984,3221226111,AU\n",
		"192.0.2.0,192.0.2.127,OC,AU,Queensland,\"South \"\"B\"\"\",-27.4767,153.017\n",
		"192.0.2.0\t192.0.2.127\t64496\tAU\tEXAMPLE\n",
		"192.0.2.0,192.0.2.127,AU,Queensland,,South Brisbane,4101,-27.4767,153.017,Australia/Brisbane\n",
		"2001:db8::,2001:db8::ffff,NL\r\n\n",
		blocksHeader + "192.0.2.0/25,1,2,,0,0,4101,-27.4767,153.0170,10,\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b := newBuilder()
		if _, _, err := b.Read(fileOf(t, data)); err != nil {
			return
		}
		db, err := dbOf(b.Table(ranges.Info{}, ranges.Stamp{}))
		require.NoError(t, err)
		require.NoError(t, db.Verify())
		known := map[Place]bool{}
		for _, p := range b.places {
			known[p] = true
		}
		for r, p := range db.All() {
			require.True(t, p.Precision != Country || known[p], "%v", p)
			_, ok := db.Lookup(r.First)
			require.True(t, ok)
		}
	})
}
