package asn_test

import (
	"fmt"
	"maps"
	"net/netip"
	"os"

	"github.com/connmapgo/connmap/asn"
)

func Example() {
	db, err := asn.New(asn.Info{Name: "example"}, maps.All(map[netip.Prefix]asn.AS{
		netip.MustParsePrefix("192.0.2.0/24"):  {Number: 64496, Org: "Example Carrier"},
		netip.MustParsePrefix("192.0.2.64/26"): {Number: 64497, Org: "Customer of the carrier"},
		netip.MustParsePrefix("2001:db8::/32"): {Number: 64496, Org: "Example Carrier"},
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range []string{"192.0.2.1", "192.0.2.65", "2001:db8::1", "203.0.113.1"} {
		as, ok := db.Lookup(netip.MustParseAddr(s))
		fmt.Println(s, as.Number, as.Org, ok)
	}
	// Output:
	// 192.0.2.1 64496 Example Carrier true
	// 192.0.2.65 64497 Customer of the carrier true
	// 2001:db8::1 64496 Example Carrier true
	// 203.0.113.1 0  false
}

func ExampleWhois() {
	db, err := asn.New(asn.Info{Name: "example"}, maps.All(map[netip.Prefix]asn.AS{
		netip.MustParsePrefix("192.0.2.0/24"): {Number: 64496, Org: "Example Carrier"},
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	w := asn.Whois{ASNs: []*asn.DB{db}}
	report, err := w.Report(netip.MustParseAddr("192.0.2.1"))
	if err != nil {
		fmt.Println(err)
		return
	}
	report.WriteText(os.Stdout)
	// Output:
	// 192.0.2.1: documentation, TEST-NET-1 (RFC 5737)
	//   3 AS numbers    AS64496 (of the AS that announces the address)  [example, date unknown]
	//   5 Announced by  AS64496 Example Carrier  [example, date unknown]
}
