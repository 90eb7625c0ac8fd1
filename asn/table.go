package asn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"math"
	"net/netip"
	"time"
)

// The serialised table, all numbers little-endian:
//
//	header   magic "asntable", version u32, CRC-32 (IEEE) u32 of all that
//	         follows, date i64 (Unix seconds, 0 unknown), count of v4 u32,
//	         count of v6 u32, count of ases u32, bytes of names u32,
//	         bytes W of a key in v6 u32
//	index    65,536 x u32: how many v4 entries start in this /16 or before
//	v4       per range: low 16 bits of its start u16, AS u24
//	v6       per range: the first W bytes of its start, most significant
//	         first, the others being zero; AS u24
//	ases     per AS: number u32, offset in names u32
//	names    per name: length u16, UTF-8; the first is the name of the table
//
// A range ends where the next one starts. Both lists cover their whole family:
// what no prefix covers belongs to entry 0 of ases, whose number is 0.
const (
	magic      = "asntable"
	version    = 1
	headerSize = 44
	indexSize  = 65536 * 4
	v4Size     = 2 + 3
	asSize     = 4 + 4
)

var errDamaged = errors.New("asn: table is damaged: make or download it again")

// Load returns the DB of a table written by DB.WriteTo. The string is
// searched where it lies: one that comes from a go:embed directive costs
// neither memory nor time before pages of it are touched. For that reason the
// contents are not read here, only their sizes checked; a damaged table gives
// wrong answers but no panic, and Verify finds the damage.
func Load(table string) (*DB, error) {
	if len(table) < headerSize || table[:len(magic)] != magic {
		return nil, fmt.Errorf("asn: no table: it must begin with %q", magic)
	}
	if v := u32(table, 8); v != version {
		return nil, fmt.Errorf("asn: table is of version %d, this program reads version %d: make the table again", v, version)
	}
	var (
		date   = int64(uint64(u32(table, 16)) | uint64(u32(table, 20))<<32)
		n4     = uint64(u32(table, 24))
		n6     = uint64(u32(table, 28))
		ases   = uint64(u32(table, 32))
		names  = uint64(u32(table, 36))
		width  = uint64(u32(table, 40))
		v6Size = width + 3
	)
	if width < 1 || width > 16 {
		return nil, errDamaged
	}
	if want := headerSize + indexSize + n4*v4Size + n6*v6Size + ases*asSize + names; uint64(len(table)) != want {
		return nil, fmt.Errorf("asn: table has %d bytes instead of %d: make or download it again", len(table), want)
	}
	db := &DB{table: table, width: int(width)}
	rest := table[headerSize:]
	section := func(n uint64) string {
		s := rest[:n]
		rest = rest[n:]
		return s
	}
	db.index = section(indexSize)
	db.v4 = section(n4 * v4Size)
	db.v6 = section(n6 * v6Size)
	db.ases = section(ases * asSize)
	db.names = section(names)
	db.info.Name, _ = db.name(0)
	if date != 0 {
		db.info.Date = time.Unix(date, 0).UTC()
	}
	return db, nil
}

// Verify reads the whole table and reports an error if it is damaged.
func (db *DB) Verify() error {
	if db.table == "" {
		return nil
	}
	if checksum(db.table) != u32(db.table, 12) {
		return errDamaged
	}
	n4, n6, ases := len(db.v4)/v4Size, len(db.v6)/(db.width+3), len(db.ases)/asSize
	if end(db.index, 65535) != n4 {
		return errDamaged
	}
	var prev netip.Addr
	n := 0
	for start, id := range db.starts() {
		if !prev.Less(start) || int(id) >= ases {
			return errDamaged
		}
		if (n == 0 || n == n4) && start != netip.IPv4Unspecified() && start != netip.IPv6Unspecified() {
			return errDamaged
		}
		prev = start
		n++
	}
	if n4 == 0 || n6 == 0 || n != n4+n6 || u32(db.ases, 0) != 0 {
		return errDamaged
	}
	for i := range ases {
		if _, ok := db.name(u32(db.ases, i*asSize+4)); !ok {
			return errDamaged
		}
	}
	return nil
}

// checksum is over all that follows the checksum itself.
func checksum(table string) uint32 {
	const chunk = 32 << 10 // converting all at once would copy the table
	sum := uint32(0)
	for s := table[16:]; s != ""; {
		n := min(chunk, len(s))
		sum = crc32.Update(sum, crc32.IEEETable, []byte(s[:n]))
		s = s[n:]
	}
	return sum
}

// find4 returns the entry of ases for an IPv4 address. The index leaves
// the starts of one /16 to bisect; if none of them is at or before the address, the
// last range that starts in an earlier /16 holds it.
func (db *DB) find4(addr netip.Addr) uint32 {
	if db.index == "" {
		return 0
	}
	b := addr.As4()
	high, low := int(binary.BigEndian.Uint16(b[:])), binary.BigEndian.Uint16(b[2:])
	i, j := 0, end(db.index, high)
	if high > 0 {
		i = end(db.index, high-1)
	}
	if n := len(db.v4) / v4Size; i > n || j > n {
		return 0
	}
	for i < j {
		m := int(uint(i+j) >> 1)
		if u16(db.v4, m*v4Size) <= low {
			i = m + 1
		} else {
			j = m
		}
	}
	if i == 0 {
		return 0
	}
	return u24(db.v4, (i-1)*v4Size+2)
}

// find6 returns the entry of ases for an IPv6 address. What follows the
// first width bytes is zero in every start, so it decides no comparison.
func (db *DB) find6(addr netip.Addr) uint32 {
	b := addr.As16()
	size := db.width + 3
	i, j := 0, len(db.v6)/size
	for i < j {
		m := int(uint(i+j) >> 1)
		if db.v6[m*size:m*size+db.width] <= string(b[:db.width]) {
			i = m + 1
		} else {
			j = m
		}
	}
	if i == 0 {
		return 0
	}
	return u24(db.v6, (i-1)*size+db.width)
}

// as returns an entry of ases; it is false for the entry of no AS.
func (db *DB) as(id uint32) (AS, bool) {
	i := int(id) * asSize
	if i+asSize > len(db.ases) {
		return AS{}, false
	}
	number := u32(db.ases, i)
	if number == 0 {
		return AS{}, false
	}
	org, _ := db.name(u32(db.ases, i+4))
	return AS{Number: number, Org: org}, true
}

// name returns the name at an offset; it is false if none lies there.
func (db *DB) name(offset uint32) (string, bool) {
	i := uint64(offset)
	if i+2 > uint64(len(db.names)) {
		return "", false
	}
	n := uint64(u16(db.names, int(i)))
	if i+2+n > uint64(len(db.names)) {
		return "", false
	}
	return db.names[i+2 : i+2+n], true
}

// starts reports the first address of every range and its entry of ases.
func (db *DB) starts() iter.Seq2[netip.Addr, uint32] {
	return func(yield func(netip.Addr, uint32) bool) {
		if db.table == "" {
			return
		}
		i := 0
		for high := range 65536 {
			for n := min(end(db.index, high), len(db.v4)/v4Size); i < n; i++ {
				low := u16(db.v4, i*v4Size)
				addr := netip.AddrFrom4([4]byte{byte(high >> 8), byte(high), byte(low >> 8), byte(low)})
				if !yield(addr, u24(db.v4, i*v4Size+2)) {
					return
				}
			}
		}
		size := db.width + 3
		for i := 0; i < len(db.v6); i += size {
			var b [16]byte
			copy(b[:], db.v6[i:i+db.width])
			if !yield(netip.AddrFrom16(b), u24(db.v6, i+db.width)) {
				return
			}
		}
	}
}

// end returns how many IPv4 ranges start in a /16 or before. It is never
// negative, where an int has 32 bits either.
func end(index string, high int) int { return int(min(u32(index, high*4), math.MaxInt32)) }

func u16(s string, i int) uint16 {
	s = s[i : i+2]
	return uint16(s[0]) | uint16(s[1])<<8
}

func u24(s string, i int) uint32 {
	s = s[i : i+3]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16
}

func u32(s string, i int) uint32 {
	s = s[i : i+4]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}
