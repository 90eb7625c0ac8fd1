package geoip

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTables: the most exact place counts, then the first, and a geofeed where it names another
// country; also when the tables are compiled and mapped. Sort puts the newest first.
func TestTables(t *testing.T) {
	dir := t.TempDir()
	open := func(name, content string) *DB {
		name = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
		var db *DB
		for range 2 {
			var err error
			db, err = OpenCached(filepath.Join(dir, "cache"), nil, name)
			require.NoError(t, err)
		}
		return db
	}
	countries := open("countries.csv", "192.0.2.0,192.0.2.255,DE\n198.51.100.0,198.51.100.255,DE\n")
	cities := open("cities.csv", "192.0.2.0,192.0.2.127,EU,DE,NRW,Bonn,50.7,7.1\n")
	others := open("others.csv", "192.0.2.0,192.0.2.127,EU,DE,NRW,Cologne,50.9,6.9\n")
	feed := open("feed.csv", "# of the holder\n192.0.2.0/26,FR,,Paris,\n192.0.2.64/26,DE,,Munich,\n203.0.113.0/24,NZ,,,\n")
	mixed, err := Open(filepath.Join(dir, "feed.csv"), filepath.Join(dir, "cities.csv"))
	require.NoError(t, err)
	assert.True(t, feed.Info().Geofeed)
	assert.False(t, cities.Info().Geofeed)
	assert.False(t, mixed.Info().Geofeed)
	for _, tt := range []struct {
		tables  Tables
		addr    string
		country string
		city    string
		by      *DB
	}{
		{nil, "192.0.2.1", "", "", nil},
		{Tables{countries, cities, others}, "192.0.2.1", "DE", "Bonn", cities},
		{Tables{others, countries, cities}, "192.0.2.1", "DE", "Cologne", others},
		{Tables{countries, cities, others}, "192.0.2.200", "DE", "", countries},
		{Tables{countries, cities, feed}, "192.0.2.1", "FR", "", feed},
		{Tables{feed, countries, cities}, "192.0.2.1", "FR", "", feed},
		{Tables{countries, cities, feed}, "192.0.2.70", "DE", "Bonn", cities},
		{Tables{countries, cities, feed}, "203.0.113.1", "NZ", "", feed},
		{Tables{countries, cities, feed}, "233.252.0.1", "", "", nil},
	} {
		p, by := tt.tables.Lookup(netip.MustParseAddr(tt.addr))
		assert.Equal(t, []any{tt.country, tt.city}, []any{p.Country, p.City}, tt.addr)
		assert.Same(t, tt.by, by, tt.addr)
	}

	// Coordinates without a country have that of another table.
	points := open("points.csv", "192.0.2.0,192.0.2.255,50.8,7.2\n")
	p, by := Tables{points, countries}.Lookup(netip.MustParseAddr("192.0.2.1"))
	assert.Equal(t, Place{Lat: 50.8, Lon: 7.2, Country: "DE", Precision: City}, p)
	assert.Same(t, points, by)

	// The date in the data counts, before that of the file.
	old := open("a-2020-01-01.csv", "192.0.2.0,192.0.2.255,NL\n")
	young := open("b-2026-01-01.csv", "192.0.2.0,192.0.2.255,BE\n")
	both := open("c-2026-02-01.tsv", "192.0.2.0\t192.0.2.255\t64496\tFR\tExample\n")
	info := open("d-2019-01-01.csv", "network,country,country_code,asn,as_name\n192.0.2.0/24,Luxembourg,LU,AS64496,Example\n")
	tables := Tables{both, info, old, young}
	tables.Sort()
	assert.Equal(t, Tables{young, old, info, both}, tables)
	// A default comes before countries that are those of ASes.
	assert.Equal(t, Tables{young, old, info, countries, both}, tables.WithDefault(countries))
	assert.Equal(t, Tables{young, countries}, Tables{young}.WithDefault(countries))
	p, _ = Tables{both, info}.WithDefault(countries).Lookup(netip.MustParseAddr("198.51.100.1"))
	assert.Equal(t, "DE", p.Country)

	// Of two cities that within a much smaller radius counts.
	wide := open("wide.csv", "network,country_code,city,latitude,longitude,accuracy_radius\n192.0.2.0/24,FR,Paris,48.8,2.3,1000\n")
	narrow := open("narrow.csv", "network,country_code,city,latitude,longitude,accuracy_radius\n192.0.2.0/24,FR,Lyon,45.7,4.8,5\n")
	near := open("near.csv", "network,country_code,city,latitude,longitude,accuracy_radius\n192.0.2.0/24,FR,Brest,48.4,-4.5,9\n")
	for _, tt := range []struct {
		tables Tables
		city   string
	}{{Tables{wide, narrow}, "Lyon"}, {Tables{narrow, wide}, "Lyon"}, {Tables{near, narrow}, "Brest"}, {Tables{wide, near, narrow}, "Brest"}, {Tables{cities, narrow}, "Bonn"}} {
		p, _ := tt.tables.Lookup(netip.MustParseAddr("192.0.2.1"))
		assert.Equal(t, tt.city, p.City)
	}
}
