package whois_test

import (
	"fmt"
	"maps"
	"net/netip"
	"os"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/asn/whois"
)

func Example() {
	db, err := asn.New(asn.Info{Name: "example"}, maps.All(map[asn.Range]asn.AS{
		asn.RangeOf(netip.MustParsePrefix("192.0.2.0/24")): {Number: 64496, Org: "Example Carrier"},
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	sources := whois.Sources{Networks: []*asn.DB{db}}
	report, err := sources.Report(netip.MustParseAddr("192.0.2.1"))
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
