// Package embedded holds the default table of geoip: which country every
// address is in, as of the day that its Info tells. It knows no cities; for
// these open a file with geoip.Open.
//
// The ranges are those of the IPFire Location database,
// https://location.ipfire.org/, as packaged for Tor, under CC BY-SA 4.0. The
// points of the countries are cities of GeoNames, https://www.geonames.org/,
// under CC BY 4.0. Addresses that the source gives to a region such as Europe
// and to no country are not in the table.
package embedded

import (
	_ "embed"
	"sync"

	"github.com/connmapgo/connmap/geoip"
)

//go:generate go run ./gen

// A string, because that is searched where it lies in the program.
//
//go:embed table.bin
var table string

var load = sync.OnceValue(func() *geoip.DB {
	db, err := geoip.Load(table)
	if err != nil {
		panic(err) // the program was built from a damaged table.bin
	}
	return db
})

// DB returns the table, always the same. It takes no memory but the parts of
// the program that are looked at.
func DB() *geoip.DB {
	return load()
}
