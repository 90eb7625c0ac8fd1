package geoip_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/connmapgo/connmap/geoip"
)

func Example() {
	db, err := geoip.Compile(func(yield func(geoip.Range, geoip.Place) bool) {
		yield(geoip.Range{First: netip.MustParseAddr("192.0.2.0"), Last: netip.MustParseAddr("192.0.2.255")},
			geoip.Place{Lat: 52.374, Lon: 4.8897, Country: "NL", City: "Amsterdam", Precision: geoip.City})
	}, time.Time{})
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
