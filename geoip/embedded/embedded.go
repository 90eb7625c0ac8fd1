// Package embedded holds the default table of geoip: the country of every address, as of the
// date in its Info. It has no cities; for these open a file with geoip.Open.
//
// The ranges are those of the IPFire Location database,
// https://location.ipfire.org/, as packaged for Tor, under CC BY-SA 4.0. The
// points of the countries are cities of GeoNames, https://www.geonames.org/,
// under CC BY 4.0. Addresses that the source assigns to a region such as Europe, and not to a
// country, are not in the table.
package embedded

import (
	_ "embed"
	"sync"

	"github.com/connmapgo/connmap/geoip"
)

//go:generate go run ./gen

// It is a string, since strings are searched in place in the program.
//
//go:embed table.bin
var table string

var load = sync.OnceValue(func() *geoip.DB {
	db, err := geoip.Load(table)
	if err != nil {
		panic(err) // table.bin was damaged when the program was built
	}
	return db
})

// DB returns the table, which all callers share. Only the parts of the program that are read
// take memory.
func DB() *geoip.DB {
	return load()
}
