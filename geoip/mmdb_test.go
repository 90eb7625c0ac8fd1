package geoip

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/mmdb"
	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/internal/unpack"
)

// appendMMDB encodes a value as in
// https://maxmind.github.io/MaxMind-DB/#data-field-format.
func appendMMDB(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		if len(v) > 28 {
			panic("long text is not needed here")
		}
		return append(append(b, 2<<5|byte(len(v))), v...)
	case float64:
		return binary.BigEndian.AppendUint64(append(b, 3<<5|8), math.Float64bits(v))
	case uint16:
		return binary.BigEndian.AppendUint16(append(b, 5<<5|2), v)
	case uint32:
		return binary.BigEndian.AppendUint32(append(b, 6<<5|4), v)
	case uint64:
		return binary.BigEndian.AppendUint64(append(b, 8, 9-7), v)
	case []any:
		b = append(b, byte(len(v)), 11-7)
		for _, x := range v {
			b = appendMMDB(b, x)
		}
		return b
	case map[string]any:
		b = append(b, 7<<5|byte(len(v)))
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			b = appendMMDB(appendMMDB(b, k), v[k])
		}
		return b
	}
	panic(fmt.Sprintf("type %T", v))
}

// mmdbFile returns an IPv4 database of a tree, given as the two records of
// each node, and its data.
func mmdbFile(tree []uint32, data []byte) []byte {
	var b []byte
	for _, v := range tree {
		b = append(b, byte(v>>16), byte(v>>8), byte(v))
	}
	b = append(b, make([]byte, 16)...)
	b = append(b, data...)
	b = append(b, "\xab\xcd\xefMaxMind.com"...)
	return appendMMDB(b, map[string]any{
		"binary_format_major_version": uint16(2),
		"binary_format_minor_version": uint16(0),
		"build_epoch":                 uint64(1782361439),
		"database_type":               "Test",
		"description":                 map[string]any{},
		"ip_version":                  uint16(4),
		"languages":                   []any{},
		"node_count":                  uint32(len(tree) / 2),
		"record_size":                 uint16(24),
	})
}

// sampleMMDB returns an IPv4 database of up to four records, for the networks
// 0.0.0.0/2, 64.0.0.0/2 and so on.
func sampleMMDB(records ...map[string]any) []byte {
	const nodes = 3
	tree := []uint32{1, 2, nodes, nodes, nodes, nodes} // nodes: nothing there
	var data []byte
	for i, r := range records {
		tree[2+i] = nodes + 16 + uint32(len(data))
		data = appendMMDB(data, r)
	}
	return mmdbFile(tree, data)
}

var sampleRecords = []map[string]any{
	{
		"city":     map[string]any{"names": map[string]any{"en": "Amsterdam", "de": "Amsterdam"}},
		"country":  map[string]any{"iso_code": "NL"},
		"location": map[string]any{"latitude": 52.37403, "longitude": 4.88969},
	},
	{"country": "Australia", "country_code": "AU"},
	{"continent": map[string]any{"code": "EU"}},
}

func TestOpenMMDB(t *testing.T) {
	data := sampleMMDB(sampleRecords...)
	for _, data := range [][]byte{data, gzipped(t, data)} {
		db, err := Open(writeFile(t, "ipv4.csv", data))
		require.NoError(t, err)
		require.NoError(t, db.Verify())
		au, _ := CountryPlace("AU")
		assert.Equal(t, []testRow{
			{Range{First: addr("0.0.0.0"), Last: addr("63.255.255.255")}, places[1]},
			{Range{First: addr("64.0.0.0"), Last: addr("127.255.255.255")}, au},
		}, all(db))
		assert.Equal(t, Info{Name: "ipv4.csv", Date: time.Date(2026, 6, 25, 4, 23, 59, 0, time.UTC), Ranges: 2}, db.Info())
		got, ok := db.Lookup(addr("127.0.0.1"))
		assert.True(t, ok)
		assert.Equal(t, Country, got.Precision)
		assert.NotEqual(t, au, got, "places of countries are scattered")
	}
}

func TestMMDBPlace(t *testing.T) {
	type m = map[string]any
	nl, _ := CountryPlace("NL")
	xk, _ := CountryPlace("XK")
	amsterdam := places[1]
	point := m{"latitude": 52.37403, "longitude": 4.88969}
	for _, tt := range []struct {
		name string
		in   m
		want Place
	}{
		{"nothing", nil, Place{}},
		{"MaxMind city", m{"city": m{"names": m{"en": "Amsterdam"}}, "country": m{"iso_code": "NL"}, "location": point}, amsterdam},
		{"no city but a postal code", m{"postal": m{"code": "1012"}, "country": m{"iso_code": "NL"}, "location": point},
			Place{Lat: 52.37403, Lon: 4.88969, Country: "NL", Precision: Region}},
		{"no city but a province", m{"subdivisions": []any{m{"iso_code": "NH"}}, "country": m{"iso_code": "NL"}, "location": point},
			Place{Lat: 52.37403, Lon: 4.88969, Country: "NL", Precision: Region}},
		{"middle of the country", m{"country": m{"iso_code": "NL"}, "location": m{"latitude": 52.3824, "longitude": 4.8995}}, nl},
		{"MaxMind country", m{"country": m{"iso_code": "NL"}, "registered_country": m{"iso_code": "US"}}, nl},
		{"only registered", m{"registered_country": m{"iso_code": "NL"}}, nl},
		{"IPinfo city", m{"city": "Amsterdam", "country": "NL", "region": "North Holland", "lat": "52.37403", "lng": "4.88969"}, amsterdam},
		{"IPinfo country", m{"country": "NL", "country_name": "Netherlands"}, nl},
		{"IPinfo lite", m{"country": "Netherlands", "country_code": "NL", "asn": "AS64496"}, nl},
		{"flat numbers", m{"city": "Amsterdam", "country_code": "NL", "latitude": 52.37403, "longitude": 4.88969}, amsterdam},
		{"coordinates alone", m{"location": point}, Place{Lat: 52.37403, Lon: 4.88969, Precision: City}},
		{"Kosovo", m{"country": m{"iso_code": "XK"}}, xk},
		{"null island", m{"city": m{"names": m{"en": "Amsterdam"}}, "country": m{"iso_code": "NL"}, "location": m{"latitude": 0.0, "longitude": 0.0}}, nl},
		{"no country", m{"country": m{"iso_code": "ZZ"}, "location": m{"latitude": 0.0, "longitude": 0.0}}, Place{}},
		{"region of the world", m{"country": m{"iso_code": "EU"}}, Place{}},
		{"other types", m{"country": 5.0, "city": []any{"Amsterdam"}, "location": "here", "lng": "east"}, Place{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db, err := Open(writeFile(t, "file", sampleMMDB(tt.in, m{"country": "SE"})))
			require.NoError(t, err)
			got := Place{}
			if rows := all(db); len(rows) > 1 {
				got = rows[0].place
			}
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestOpenSharedNodes(t *testing.T) {
	record := appendMMDB(nil, map[string]any{"country": "NL"})
	// Both records of every node lead to the next one: 2^20 networks.
	var tree []uint32
	for i := range uint32(20) {
		tree = append(tree, i+1, i+1)
	}
	tree[38], tree[39] = 20+16, 20+16
	_, err := Open(writeFile(t, "file", mmdbFile(tree, record)))
	require.ErrorContains(t, err, "damaged MaxMind DB: more networks than the tree has records")
	// And a node that leads to itself.
	_, err = Open(writeFile(t, "file", mmdbFile([]uint32{0, 1 + 16}, record)))
	require.ErrorContains(t, err, "damaged MaxMind DB")
}

func FuzzReadMMDB(f *testing.F) {
	data := sampleMMDB(sampleRecords...)
	f.Add(data)
	for i := 0; i < len(data); i += 5 {
		bad := slices.Clone(data)
		bad[i] ^= 0xff
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !mmdb.Is(data) {
			return
		}
		b := newBuilder()
		if _, _, err := b.Read(fileOf(t, data)); err != nil {
			return
		}
		db, err := dbOf(b.Table(ranges.Info{}, ranges.Stamp{}))
		require.NoError(t, err)
		require.NoError(t, db.Verify())
	})
}

func TestOpenMMDBFixtures(t *testing.T) {
	for _, tt := range []struct{ name, err string }{
		{"GeoLite2-City-Test.mmdb", ""},
		{"GeoIP2-City-Test.mmdb", ""},
		{"GeoLite2-Country-Test.mmdb", ""},
		{"GeoLite2-ASN-Test.mmdb", "not a table of places"},
		{"MaxMind-DB-test-broken-pointers-24.mmdb", "damaged MaxMind DB: network 1.1.1.16/28: at offset"},
		{"MaxMind-DB-test-ipv4-24.mmdb", "has coordinates, a country or an AS number"},
		{"MaxMind-DB-test-ipv6-32.mmdb", "has coordinates, a country or an AS number"},
		{"MaxMind-DB-test-mixed-28.mmdb", "has coordinates, a country or an AS number"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db, err := Open(testData(t, "geo/"+tt.name))
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			require.NoError(t, db.Verify())
			assert.Equal(t, 2026, db.Info().Date.Year())
			assert.Equal(t, strings.Contains(tt.name, "Country"), db.Info().CountryLevel)
			got, ok := db.Lookup(addr("81.2.69.142"))
			assert.True(t, ok)
			assert.Equal(t, "GB", got.Country)
			if !db.Info().CountryLevel {
				assert.Equal(t, Place{Lat: 51.5142, Lon: -0.0931, Country: "GB", City: "London", Precision: City, Radius: 10}, got)
				got, _ = db.Lookup(addr("2a02:d340::1"))
				assert.Equal(t, Country, got.Precision, "coordinates without a city are those of the country")
			}
		})
	}
}

func TestOpenCountryMMDB(t *testing.T) {
	name := testData(t, "geo/GeoLite2-Country-20191217.mmdb.gz")
	db, err := Open(name)
	require.NoError(t, err)
	require.NoError(t, db.Verify())
	assert.True(t, db.Info().CountryLevel)
	assert.Equal(t, "2019-12-17", db.Info().Date.Format(time.DateOnly))

	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	z, err := unpack.Reader(f, 1<<32)
	require.NoError(t, err)
	data, err := io.ReadAll(z)
	require.NoError(t, err)
	r, err := maxminddb.OpenBytes(data)
	require.NoError(t, err)
	defer r.Close()
	n := 0
	for result := range r.Networks() {
		var record struct {
			Country struct {
				ISOCode string `maxminddb:"iso_code"`
			} `maxminddb:"country"`
			Registered struct {
				ISOCode string `maxminddb:"iso_code"`
			} `maxminddb:"registered_country"`
		}
		require.NoError(t, result.Decode(&record))
		code := record.Country.ISOCode
		if code == "" {
			code = record.Registered.ISOCode
		}
		for _, a := range []netip.Addr{result.Prefix().Addr(), ranges.Last(result.Prefix())} {
			got, ok := db.Lookup(a)
			if code == "" {
				require.False(t, ok, "%v", a)
				continue
			}
			require.True(t, ok, "%v", a)
			require.Equal(t, code, got.Country, "%v", a)
		}
		n++
	}
	assert.Greater(t, n, 400_000)

	_, err = Open(writeFile(t, "file", data[:len(data)-1000]))
	assert.ErrorContains(t, err, "truncated")
}

// TestPointsWithoutNames: coordinates count without the name of a place if they are exact, and not
// those of a country or a continent. A bad record costs its networks and is reported.
func TestPointsWithoutNames(t *testing.T) {
	at := func(radius uint16, more map[string]any) map[string]any {
		more["location"] = map[string]any{"latitude": 46.25, "longitude": 20.15, "accuracy_radius": radius}
		return more
	}
	hungary := map[string]any{"iso_code": "HU"}
	data := sampleMMDB(at(20, map[string]any{"country": hungary}), at(1000, map[string]any{"country": hungary}),
		at(1000, map[string]any{"continent": map[string]any{"code": "EU"}}), map[string]any{"country": hungary, "location": map[string]any{"latitude": 146.25, "longitude": 20.15}})
	name := filepath.Join(t.TempDir(), "x.mmdb")
	require.NoError(t, os.WriteFile(name, data, 0o600))
	db, err := Open(name)
	require.NoError(t, err)
	look := func(addr string) Place {
		p, _ := db.Lookup(netip.MustParseAddr(addr))
		return p
	}
	assert.Equal(t, Place{Lat: 46.25, Lon: 20.15, Country: "HU", Precision: Region, Radius: 20}, look("1.0.0.0"))
	assert.Equal(t, []any{"HU", Country}, []any{look("65.0.0.0").Country, look("65.0.0.0").Precision})
	assert.NotEqual(t, 46.25, look("65.0.0.0").Lat)
	assert.Zero(t, look("129.0.0.0"))
	assert.Zero(t, look("193.0.0.0"))
	require.Len(t, db.Remarks(), 1)
	assert.Contains(t, db.Remarks()[0], "1 row is left out: network 192.0.0.0/2: coordinates 146.25, 20.15 are not degrees on Earth")

	for text, want := range map[string]Place{
		"network,latitude,longitude,country_code\n192.0.2.0/24,46.25,20.15,HU\n":                          {Lat: 46.25, Lon: 20.15, Country: "HU", Precision: Region},
		"192.0.2.0,192.0.2.255,HU,46.25,20.15\n":                                                          {Lat: 46.25, Lon: 20.15, Country: "HU", Precision: Region},
		"network,latitude,longitude,country_code,city,accuracy_radius\n192.0.2.0/24,46.25,20.15,HU,,20\n": {Lat: 46.25, Lon: 20.15, Country: "HU", Precision: Region, Radius: 20},
	} {
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		db, err := Open(name)
		require.NoError(t, err, text)
		p, _ := db.Lookup(netip.MustParseAddr("192.0.2.1"))
		assert.Equal(t, want, p, text)
	}
}
