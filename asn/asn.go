// Package asn tells which autonomous system announces an address: its number
// and the name of its holder. It neither downloads tables nor asks a server.
//
// A table is opened from a file or comes with the program (package embedded):
//
//	db, err := asn.Open("GeoLite2-ASN-Blocks-IPv4.csv")
//	if err != nil {
//		return err
//	}
//	if as, ok := db.Lookup(addr); ok {
//		fmt.Printf("AS%d %s\n", as.Number, as.Org)
//	}
//
// Whatever it comes from, a table ends up in one compact form (see Load),
// in which it is searched without being unpacked.
package asn

import (
	"io"
	"iter"
	"net/netip"
	"time"
)

// An AS is an autonomous system. It is a comparable value; the zero AS is
// none.
type AS struct {
	Number uint32
	Org    string // name of the holder as the data has it, in UTF-8; empty if unknown
}

// A Range is all addresses from First to Last, both included and of the same
// family.
type Range struct {
	First, Last netip.Addr
}

// An Info says what a table is.
type Info struct {
	Name string    // of the file without its folders, or of the data if there is no file
	Date time.Time // of the data, to the second; zero: unknown
}

// A DB is an immutable table of the autonomous systems of address ranges. It
// is safe for concurrent use. The zero DB is empty.
type DB struct {
	info Info

	table string // the whole of it, in which the others lie
	index string
	v4    string
	v6    string
	width int // bytes of a key in v6
	ases  string
	names string
}

// Info says what the table is.
func (db *DB) Info() Info { return db.info }

// Lookup reports the autonomous system of an address, by the longest prefix
// that holds it. IPv4-mapped IPv6 addresses are looked up as IPv4, zones do
// not matter. It is false if the table knows none. It does not allocate: Org
// shares memory with the table.
func (db *DB) Lookup(addr netip.Addr) (AS, bool) {
	addr = addr.Unmap()
	switch {
	case addr.Is4():
		return db.as(db.find4(addr))
	case addr.Is6():
		return db.as(db.find6(addr))
	}
	return AS{}, false
}

// All reports the ranges whose autonomous system is known, IPv4 before IPv6,
// ascending. Adjoining ranges differ in their AS.
func (db *DB) All() iter.Seq2[Range, AS] {
	return func(yield func(Range, AS) bool) {
		var first netip.Addr
		var id uint32
		for start, next := range db.starts() {
			if first.IsValid() {
				last := start.Prev()
				if first.Is4() && !start.Is4() {
					last = max4
				}
				if as, ok := db.as(id); ok && !yield(Range{first, last}, as) {
					return
				}
			}
			first, id = start, next
		}
		if !first.IsValid() {
			return
		}
		last := max6
		if first.Is4() {
			last = max4
		}
		if as, ok := db.as(id); ok {
			yield(Range{first, last}, as)
		}
	}
}

// WriteTo writes the table in the form that Load reads. It writes nothing
// if the DB is the zero DB.
func (db *DB) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, db.table)
	return int64(n), err
}

var (
	max4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	max6 = netip.AddrFrom16([16]byte{
		255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
	})
)
