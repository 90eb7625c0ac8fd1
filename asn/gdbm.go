package asn

import (
	"encoding/binary"
	"fmt"
)

// The form of a GDBM file, all numbers little-endian and offsets of 64 bits
// (https://www.gnu.org.ua/software/gdbm/):
//
//	header   magic u32, block size i32, offset of the directory i64, bytes of
//	         it i32, bits of it i32, size of a bucket i32, elements of it i32
//	directory offsets of buckets i64; many are the same
//	bucket   at 104: bits i32, count i32, then per element: hash i32, -1
//	         for none; first bytes of the key [4]; offset of the data i64;
//	         bytes of the key i32, bytes of the value i32
//	data     the key and then the value
const (
	gdbmMagic       = 0x13579acf
	gdbmMagicSync   = 0x13579ad1 // with a longer header
	gdbmHeaderSize  = 32
	gdbmBucketSize  = 112
	gdbmElementSize = 24
)

// gdbmOther are the magic numbers of files that programs on other machines write.
var gdbmOther = map[uint32]string{
	0x13579ace: "a header of old",
	0x13579acd: "offsets of 32 bits",
	0x13579ad0: "offsets of 32 bits",
	0xcf9a5713: "numbers in big-endian order",
	0xce9a5713: "numbers in big-endian order",
	0xcd9a5713: "numbers in big-endian order",
	0xd09a5713: "numbers in big-endian order",
	0xd19a5713: "numbers in big-endian order",
}

// isGDBM reports whether head is the beginning of a GDBM file.
func isGDBM(head []byte) bool {
	if len(head) < 4 {
		return false
	}
	magic := binary.LittleEndian.Uint32(head)
	_, other := gdbmOther[magic]
	return other || magic == gdbmMagic || magic == gdbmMagicSync
}

// readGDBM calls record for each record of a GDBM file, in no order. Key and value share memory
// with data.
func readGDBM(data []byte, record func(key, value []byte)) error {
	le := binary.LittleEndian
	// part returns n bytes, or nil if they are not within the file.
	part := func(offset, n int64) []byte {
		if offset < 0 || n < 0 || offset > int64(len(data)) || n > int64(len(data))-offset {
			return nil
		}
		return data[offset : offset+n]
	}
	number := func(b []byte, i int) int64 { return int64(int32(le.Uint32(b[i:]))) }

	if !isGDBM(data) {
		return fmt.Errorf("is not a GDBM file")
	}
	if other, ok := gdbmOther[le.Uint32(data)]; ok {
		return fmt.Errorf("is a GDBM file with %s: gdbm_dump there and gdbm_load here turn it into one that can be read", other)
	}
	header := part(0, gdbmHeaderSize)
	if header == nil {
		return fmt.Errorf("GDBM file is cut off: it has %d bytes", len(data))
	}
	directory := part(int64(le.Uint64(header[8:])), number(header, 16))
	bucketSize, elements := number(header, 24), number(header, 28)
	if directory == nil || elements < 1 || bucketSize < gdbmBucketSize+elements*gdbmElementSize {
		return fmt.Errorf("GDBM file is damaged or cut off: header does not fit %d bytes", len(data))
	}
	// Many entries of the directory are equal, and in damaged files buckets may overlap:
	// the size of the file bounds the whole.
	seen := make(map[int64]bool)
	left := int64(len(data))
	for ; len(directory) >= 8; directory = directory[8:] {
		offset := int64(le.Uint64(directory))
		if seen[offset] {
			continue
		}
		seen[offset] = true
		bucket := part(offset, bucketSize)
		if bucket == nil {
			return fmt.Errorf("GDBM file is damaged or cut off: bucket at %d does not lie in its %d bytes", offset, len(data))
		}
		if left -= bucketSize; left < 0 {
			return fmt.Errorf("GDBM file is damaged: its buckets overlap")
		}
		for i := range elements {
			e := bucket[gdbmBucketSize+i*gdbmElementSize:]
			if number(e, 0) == -1 {
				continue
			}
			key, value := number(e, 16), number(e, 20)
			both := part(int64(le.Uint64(e[8:])), key+value)
			if key < 0 || value < 0 || both == nil {
				return fmt.Errorf("GDBM file is damaged or cut off: record %d of the bucket at %d does not lie in its %d bytes", i, offset, len(data))
			}
			if left -= key + value; left < 0 {
				return fmt.Errorf("GDBM file is damaged: its records overlap")
			}
			record(both[:key], both[key:])
		}
	}
	return nil
}
