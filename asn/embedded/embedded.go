// Package embedded holds a table of autonomous systems, so that addresses can be looked up
// without any file. It is a package of its own because it adds megabytes to a program.
//
// The table is made from the location database of the IPFire Project
// (https://location.ipfire.org/), Creative Commons Attribution-ShareAlike 4.0
// (https://creativecommons.org/licenses/by-sa/4.0/). Show its date, DB().Info().Date, where you
// show results of it.
package embedded

import (
	_ "embed"
	"fmt"
	"sync"

	"github.com/connmapgo/connmap/asn"
)

//go:generate go run ./gen -o asn.table

//go:embed asn.table
var table string

// DB returns the table, at once. Only the parts of it that lookups read take memory, and the
// system can drop these again.
func DB() *asn.DB { return db() }

var db = sync.OnceValue(func() *asn.DB {
	db, err := asn.Load(table)
	if err != nil {
		panic(fmt.Sprintf("asn/embedded: program was built with a wrong asn.table: %v", err))
	}
	return db
})
