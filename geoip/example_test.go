package geoip_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/connmapgo/connmap/geoip"
)

func Example() {
	db, err := geoip.New(geoip.Info{Name: "example"}, func(yield func(geoip.Range, geoip.Place) bool) {
		yield(geoip.Range{First: netip.MustParseAddr("192.0.2.0"), Last: netip.MustParseAddr("192.0.2.255")},
			geoip.Place{Lat: 52.374, Lon: 4.8897, Country: "NL", City: "Amsterdam", Precision: geoip.City})
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	p, ok := db.Lookup(netip.MustParseAddr("192.0.2.7"))
	fmt.Println(ok, p.City, geoip.CountryName(p.Country), p.Lat, p.Lon, p.Precision)
	_, ok = db.Lookup(netip.MustParseAddr("203.0.113.7"))
	fmt.Println(ok)
	// Output:
	// true Amsterdam Netherlands 52.374 4.8897 city
	// false
}

// A table of a file is compiled the first time, and from then on mapped into memory.
func ExampleOpenCached() {
	dir, err := os.MkdirTemp("", "geoip")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "dbip-city-lite.csv")
	rows := "192.0.2.0,192.0.2.255,EU,NL,North Holland,Amsterdam,52.374,4.8897\n" +
		"2001:db8::,2001:db8:ffff:ffff:ffff:ffff:ffff:ffff,EU,DE,Land Berlin,Berlin,52.52,13.405\n"
	if err := os.WriteFile(name, []byte(rows), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	for range 2 {
		db, err := geoip.OpenCached(filepath.Join(dir, "cache"), func(done, size int64) {}, name)
		if err != nil {
			fmt.Println(err)
			return
		}
		p, _ := db.Lookup(netip.MustParseAddr("2001:db8::1"))
		fmt.Println(db.Info().Ranges, p.City)
	}
	// Output:
	// 2 Berlin
	// 2 Berlin
}
