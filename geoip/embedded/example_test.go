package embedded_test

import (
	"fmt"
	"net/netip"

	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/geoip/embedded"
)

func Example() {
	place, ok := embedded.DB().Lookup(netip.MustParseAddr("193.0.14.129")) // k.root-servers.net
	fmt.Println(geoip.CountryName(place.Country), place.Precision, ok)
	fmt.Println(embedded.DB().Info().CountryLevel)
	// Output:
	// Netherlands country true
	// true
}
