package asn_test

import (
	"fmt"
	"log"
	"maps"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/connmapgo/connmap/asn"
)

func Example() {
	db, err := asn.New(asn.Info{Name: "example"}, maps.All(map[asn.Range]asn.AS{
		asn.RangeOf(netip.MustParsePrefix("192.0.2.0/24")):  {Number: 64496, Org: "Example Carrier"},
		asn.RangeOf(netip.MustParsePrefix("192.0.2.64/26")): {Number: 64497, Org: "Customer of the carrier"},
		asn.RangeOf(netip.MustParsePrefix("2001:db8::/32")): {Number: 64496, Org: "Example Carrier"},
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

// file makes a file for an example, and returns its name and what removes it.
func file(content string) (name string, remove func()) {
	dir, err := os.MkdirTemp("", "asn")
	if err == nil {
		name = filepath.Join(dir, "file")
		err = os.WriteFile(name, []byte(content), 0o600)
	}
	if err != nil {
		log.Fatal(err)
	}
	return name, func() { os.RemoveAll(dir) }
}

// A table of a file is compiled the first time, and from then on mapped into memory.
func ExampleOpenCached() {
	name, remove := file("192.0.2.0\t192.0.2.255\t64496\tUS\tEXAMPLE\n")
	defer remove()
	for range 2 {
		db, err := asn.OpenCached(filepath.Join(filepath.Dir(name), "cache"), nil, name)
		if db == nil {
			fmt.Println(err)
			return
		}
		as, ok := db.Lookup(netip.MustParseAddr("192.0.2.1"))
		fmt.Println(as.Number, as.Org, ok, db.Info().Ranges)
	}
	// Output:
	// 64496 EXAMPLE true 1
	// 64496 EXAMPLE true 1
}

func ExampleOpenDelegations() {
	name, remove := file("2|arin|20260101|3|19700101|20260101|0\n" +
		"arin|US|ipv4|192.0.2.0|256|20000102|allocated|A\n" +
		"arin|US|asn|64496|2|20000103|assigned|A\n")
	defer remove()
	d, err := asn.OpenDelegations(name)
	if err != nil {
		fmt.Println(err)
		return
	}
	r, ok := d.Lookup(netip.MustParseAddr("192.0.2.1"))
	fmt.Println(r.Registry, r.Country, r.Block.First, r.Block.Last, r.Status, r.OpaqueID, ok)
	fmt.Println(d.Holdings(r.Registry, r.OpaqueID), d.Warnings())
	// Output:
	// arin US 192.0.2.0 192.0.2.255 allocated A true
	// [AS64496-AS64497] []
}

func ExampleOpenOrgs() {
	name, remove := file("# format:org_id|changed|org_name|country|source\nEX-ARIN||Example, Inc.|US|ARIN\n" +
		"# format:aut|changed|aut_name|org_id|opaque_id|source\n64496||EXAMPLE|EX-ARIN||ARIN\n")
	defer remove()
	o, err := asn.OpenOrgs(name)
	if err != nil {
		fmt.Println(err)
		return
	}
	org, ok := o.Lookup(64496)
	fmt.Println(org.Name, org.Country, org.ID, org.ASName, ok)
	// Output:
	// Example, Inc. US EX-ARIN EXAMPLE true
}

func ExampleOpenAutNums() {
	name, remove := file("aut-num: AS64496\nas-name: EXAMPLE\n\naut-num: AS64497\nas-name: OTHER\n")
	defer remove()
	a, err := asn.OpenAutNums("", name) // a program that runs often names a folder
	if err != nil {
		fmt.Println(err)
		return
	}
	defer a.Close()
	r, ok, err := a.Lookup(64497)
	fmt.Println(ok, err)
	fmt.Print(r.Text)
	// Output:
	// true <nil>
	// aut-num: AS64497
	// as-name: OTHER
}

func ExampleRecognise() {
	name, remove := file("2|arin|20260101|3|19700101|20260101|0\n")
	defer remove()
	fmt.Println(asn.Recognise(name))
	// Output:
	// delegations <nil>
}

func ExampleSpecial() {
	fmt.Println(asn.Special(netip.MustParseAddr("100.64.0.1")))
	fmt.Println(asn.SpecialAS(64496))
	// Output:
	// shared address space of carrier-grade NAT (RFC 6598)
	// documentation (RFC 5398)
}
