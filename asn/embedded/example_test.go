package embedded_test

import (
	"fmt"
	"net/netip"

	"github.com/connmapgo/connmap/asn/embedded"
)

func Example() {
	as, ok := embedded.DB().Lookup(netip.MustParseAddr("193.0.14.129")) // k.root-servers.net
	fmt.Println(as.Number, as.Org, ok)
	// Output: 25152 Reseaux IP Europeens Network Coordination Centre (RIPE NCC) true
}
