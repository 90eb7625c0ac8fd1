package whois_test

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/asn/whois"
)

func Example() {
	db, err := asn.New(asn.Info{Name: "example"}, maps.All(map[asn.Range]asn.AS{
		asn.RangeOf(netip.MustParsePrefix("8.8.8.0/24")): {Number: 64496, Org: "Example Carrier"},
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	sources := whois.Sources{Networks: []*asn.DB{db}}
	report, err := sources.Report(netip.MustParseAddr("8.8.8.8"))
	if err != nil {
		fmt.Println(err)
		return
	}
	report.WriteText(os.Stdout)
	// Output:
	// 8.8.8.8
	//   1 Delegation    no file for it is open (one of: the registries' delegated-*-extended files)
	//   2 Organisation  no file for it is open (one of: CAIDA's as-org2info.txt)
	//   3 AS numbers    AS64496 (of the AS that announces the address)  [example, date unknown]
	//   4 Place         no file for it is open (one of: a table of places such as GeoLite2-City.mmdb or dbip-city-lite.csv.gz)
	//   5 Announced by  AS64496 Example Carrier  [example, date unknown]
	//   6 aut-num       no file for it is open (one of: a registry's database such as ripe.db.aut-num.gz)
}

// Files in a folder are recognised by their content.
func ExampleFiles() {
	dir, err := os.MkdirTemp("", "whois")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	day := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for name, content := range map[string]string{
		"delegated-arin": "2|arin|20260101|2|19700101|20260101|0\narin|US|ipv4|8.0.0.0|256|20000102|allocated|A\narin|US|asn|64496|1|20000103|assigned|A\n",
		"org2info.txt":   "# format:aut|changed|aut_name|org_id|source\n64496||EX|EX-ARIN|ARIN\n# format:org_id|changed|org_name|country|source\nEX-ARIN||Example, Inc.|US|ARIN\n",
		"ip2asn.tsv":     "8.0.0.0\t8.0.0.255\t64496\tUS\tEXAMPLE\n",
		"dbip-city.csv":  "8.0.0.0,8.0.0.255,EU,NL,North Holland,Amsterdam,52.374,4.8897\n",
	} {
		name = filepath.Join(dir, name)
		err := os.WriteFile(name, []byte(content), 0o600)
		if err == nil {
			err = os.Chtimes(name, day, day)
		}
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	files := whois.Files{Data: dir, Cache: filepath.Join(dir, "cache")}
	sources, err := files.Open(func(warning string) { fmt.Println(warning) })
	if err != nil {
		fmt.Println(err)
		return
	}
	defer sources.Close()
	report, err := sources.Ask("8.0.0.1")
	if err != nil {
		fmt.Println(err)
		return
	}
	report.WriteLine(os.Stdout)
	fmt.Println(report.Place.City, report.PlaceSource.Name, report.PlaceSource.Date.Format(time.DateOnly))
	// Output:
	// 8.0.0.1	64496	EXAMPLE	US	arin	8.0.0.0-8.0.0.255	allocated	Example, Inc.
	// Amsterdam dbip-city.csv 2026-01-02
}
