// Package asn finds the autonomous system that announces an address: its number and the name of
// its holder. It neither downloads tables nor asks a server.
//
//	db, err := asn.Open("GeoLite2-ASN.mmdb")
//	if err != nil {
//		return err
//	}
//	if as, ok := db.Lookup(addr); ok {
//		fmt.Printf("AS%d %s\n", as.Number, as.Org)
//	}
//
// Package embedded has a table that comes with the program. [OpenCached] keeps what it has
// compiled in a folder and maps it into memory, so later starts take no time.
//
// Every source is compiled into one kind of table, a [DB], which is searched in its serialised
// bytes. One in the program or in a file needs little heap and no start-up.
package asn

import (
	"fmt"
	"io"
	"iter"
	"net/netip"
	"sort"
	"time"

	"github.com/connmapgo/connmap/internal/ranges"
)

// An AS is an autonomous system. It is a comparable value; the zero AS is none.
type AS struct {
	Number uint32
	Org    string // name of the holder as the data has it, in UTF-8; empty if unknown
}

// A Range is the addresses from First to Last, both included and both of the
// same family. It is the same type as that of package geoip.
type Range = ranges.Range

// RangeOf returns the addresses of a network.
func RangeOf(p netip.Prefix) Range { return ranges.Of(p) }

// An Info describes a table or a file.
type Info struct {
	Name   string    // of the file without its folder, or of the data if there is no file
	Date   time.Time // of the data, to the second; zero: unknown
	Ranges int       // of a DB: how many ranges have an AS
}

// A DB is an immutable table of the autonomous systems of address ranges. It
// is safe for concurrent use. The zero DB is empty. A DB of [OpenCached] keeps its file
// mapped as long as the program runs.
type DB struct {
	t ranges.Table
}

// Load returns the DB that [DB.WriteTo] wrote as data. It checks sizes only and copies
// nothing. In damaged data Lookup may return wrong networks, but does not panic; [DB.Verify]
// finds damage.
func Load(data string) (*DB, error) { return dbOf(form.Load(data)) }

// dbOf returns the DB of a table. There may be both a table and an error.
func dbOf(t *ranges.Table, err error) (*DB, error) {
	if t == nil {
		return nil, named(err)
	}
	return &DB{*t}, named(err)
}

// named adds the name of the package to an error.
func named(err error) error {
	if err != nil {
		return fmt.Errorf("asn: %w", err)
	}
	return nil
}

// Verify reads the whole table and reports whether it is undamaged. It removes a damaged file
// from the folder of [OpenCached], which then compiles it again.
func (db *DB) Verify() error { return named(db.t.Verify()) }

// WriteTo writes the table in the form that [Load] reads. Equal tables give equal bytes, the
// zero DB none.
func (db *DB) WriteTo(w io.Writer) (int64, error) {
	n, err := db.t.WriteTo(w)
	return n, named(err)
}

// Err returns an error if the mapped file of a DB of [OpenCached] was truncated or written to
// while in use. Lookup may then miss addresses; OpenCached compiles the table again. A file that
// was removed or replaced is no error, since the DB keeps the old one. Err asks only the file
// system, and reads no data.
func (db *DB) Err() error { return named(db.t.Err()) }

// Info describes the DB. That of the zero DB is the zero Info.
func (db *DB) Info() Info {
	i := db.t.Info()
	return Info{i.Name, i.Date, i.Ranges}
}

// Remarks are what users of the table should know of its files, such as how many rows could
// not be read and were left out.
func (db *DB) Remarks() []string { return db.t.Info().Remarks }

// Lookup returns the autonomous system of an address, and whether the table knows it.
// Of IPv6 addresses that stand for an IPv4 one (mapped, 6to4, Teredo, and NAT64 with
// 64:ff9b::/96) that is looked up; zones are ignored. It does not allocate: Org shares memory
// with the table.
func (db *DB) Lookup(a netip.Addr) (AS, bool) { return as(&db.t, db.t.Find(a)) }

// LookupAS returns the autonomous system with a number, and whether it announces any address
// of the table. If it has several names, the first in order is returned.
func (db *DB) LookupAS(number uint32) (AS, bool) {
	// Records are sorted by number.
	id := uint32(1 + sort.Search(max(0, db.t.Records()-1), func(i int) bool {
		s, ok := db.t.Record(uint32(i + 1))
		return !ok || ranges.U32(s, 0) >= number
	}))
	found, ok := as(&db.t, id)
	if !ok || found.Number != number {
		return AS{}, false
	}
	return found, true
}

// All yields the ranges that have an autonomous system, IPv4 before IPv6, ascending and
// without overlaps. Adjacent ranges differ in their AS. A mapped table is copied into memory
// first; a damaged one has no ranges.
func (db *DB) All() iter.Seq2[Range, AS] {
	return func(yield func(Range, AS) bool) {
		for r, id := range db.t.All() {
			if as, ok := as(&db.t, id); ok && !yield(r, as) {
				return
			}
		}
	}
}
