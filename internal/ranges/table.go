package ranges

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// A serialised table is little-endian and consists of a header of headerSize
// bytes and these sections, each from a multiple of 8 bytes on:
//
//	root4    65536 × 4       IPv4 by its first 16 bits: an ID, or a node and nodeFlag
//	nodes4   n × 40          256 parts of a /16 or of a /24: a bit for each part that
//	                         differs from the one before (32 bytes), where the values
//	                         of its bits begin, how many bits the first 1, 2 and 3
//	                         words have (4, and 3 × 1 byte), and zero
//	values4  n × 3           for each bit: an ID, or a node and valueFlag
//	root6    65536 × 4       IPv6 by its first 16 bits: how many starts lie below, or a
//	                         node of the next section and nodeFlag; absent without starts
//	nodes6   n × 1028        for the next 8 bits: how many starts lie below each part,
//	                         or a node and nodeFlag, and how many below what follows
//	starts6  n × 8           most significant halves of the IPv6 starts, ascending
//	fine6    n × 16          starts within split /64 networks: both halves
//	ids6     starts6 × width ID of the range that begins there
//	fineIDs6 fine6 × width
//	records  n × Form.Record what each ID stands for; the first is not read
//	texts    n               what records point into
//	name     n               of the table, in UTF-8, and each remark behind a zero byte
//	sums     CRC-32C of each block of blockSize bytes of what stands before
//
// The tree of IPv4 is that of Asai and Ohara's Poptrie (SIGCOMM 2015) with
// strides of 16, 8 and 8 bits.
//
// An IPv6 range ends where the next one starts. Few boundaries lie within a /64 in published
// tables, so only these cost 16 bytes. If the ID equals the number of records, the /64 is
// split and in fine6, from its first address on. width is the number of bytes that hold that
// ID.
//
// The header: magic (8 bytes), version, CRC-32C of the header, in which this is
// zero, and of sums, date (8 bytes, Unix seconds, 0: unknown), stamp of the
// sources (16 bytes), the lengths of nodes4, values4, nodes6, starts6, fine6,
// records, texts and name, the number of ranges, flags, and zeros.
const (
	version    = 4
	magicSize  = 8
	headerSize = 128
	rootSize   = 1 << 16
	nodeSize   = 40
	valueSize  = 3
	node6Size  = 257 * 4
	blockSize  = 1 << 16

	nodeFlag  = 1 << 31
	valueFlag = 1 << 23

	// MaxRecords is how many records a table may have, with that of ID 0, which is none.
	MaxRecords = 1 << 23
	maxNodes   = 1 << 23
	maxName    = 1<<16 - 1 // bytes of the name of a table
)

// A Form describes the tables of one package.
type Form struct {
	Magic  string // the first 8 bytes of a table
	Ending string // of the names of files in the folder of OpenCached
	Record int    // bytes of a record
	Max    int64  // maximum bytes of the content of a file for a Reader
	// Check reports whether the record of an ID is valid; see [Table.Verify].
	Check func(t *Table, id uint32) bool
	// Beside returns the files that are read together with a file; nil: none.
	Beside func(name string) []string
}

// An Info describes a table.
type Info struct {
	Name   string
	Date   time.Time // of the data, to the second; zero: unknown
	Ranges int       // that have an ID
	// Remarks are what its users should know of the sources, such as rows that were left out.
	Remarks []string
}

// A Table is an immutable table of ranges of addresses, each with an ID, and of the records of
// the IDs. ID 0 means none. It is searched in its serialised bytes, which may be mapped from a
// file. It is safe for concurrent use. The zero Table is empty.
type Table struct {
	form *Form
	data string
	lengths
	offsets
	width  int // bytes of an ID
	ranges int
	flags  uint32
	date   int64
	stamp  Stamp

	// The sections from records on. They are a part of data, or a copy if data may vanish,
	// since results of lookups refer to them.
	tail string

	file   string      // the mapped file
	mapped os.FileInfo // of the file when it was mapped; nil: it was read
	// Set when data could not be read, since the mapped file was truncated. Nil: data is
	// not a mapped file.
	cut *atomic.Bool
	// For each block whether it was checked, and the result. Nil: the data are trusted.
	checked []atomic.Uint32

	// A cache of IPv4 lookups, since the same few peers are looked up again and again.
	// Each entry is an address and, in the lower half, its ID plus one.
	recent *[1 << cacheBits]atomic.Uint64
	// A cache of /64 networks with one ID, each with a mark of the ID in it (Hyatt and
	// Mann's lockless hash table): halves of two writers do not match.
	recent6 *[1 << cache6Bits]struct{ network, id atomic.Uint64 }
}

// lengths are the numbers of elements of the sections.
type lengths struct {
	nodes4, values4, nodes6, starts6, fine6, records, texts, name int
}

// offsets are the positions of the sections.
type offsets struct {
	atRoot4, atNodes4, atValues4, atRoot6, atNodes6, atStarts6, atFine6, atIDs6, atFineIDs6, atRecords, atTexts, atName int

	atSums int
}

// States of blocks.
const (
	notChecked = iota
	intact
	damaged
)

var (
	errDamaged = errors.New("damaged table")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// layout computes offsets and width from lengths. It returns the size of the table.
func (t *Table) layout() (size uint64) {
	for v := t.records; v > 0; v >>= 8 {
		t.width++
	}
	root6 := 0
	if t.starts6 > 0 {
		root6 = rootSize
	}
	size = headerSize
	for _, s := range []struct {
		at      *int
		n, each int
	}{
		{&t.atRoot4, rootSize, 4}, {&t.atNodes4, t.nodes4, nodeSize}, {&t.atValues4, t.values4, valueSize},
		{&t.atRoot6, root6, 4}, {&t.atNodes6, t.nodes6, node6Size}, {&t.atStarts6, t.starts6, 8}, {&t.atFine6, t.fine6, 16},
		{&t.atIDs6, t.starts6, t.width}, {&t.atFineIDs6, t.fine6, t.width},
		{&t.atRecords, t.records, t.form.Record}, {&t.atTexts, t.texts, 1}, {&t.atName, t.name, 1},
	} {
		size = (size + 7) &^ 7
		*s.at = int(size)
		size += uint64(s.n) * uint64(s.each)
	}
	size = (size + 7) &^ 7
	t.atSums = int(size)
	return size + (size+blockSize-1)/blockSize*4
}

// Load returns the table whose serialised form is data. It checks sizes only and copies nothing.
// In damaged data lookups may return wrong IDs, but do not panic.
func (f *Form) Load(data string) (*Table, error) {
	if len(data) < headerSize || data[:magicSize] != f.Magic {
		return nil, errors.New("not a compiled table")
	}
	t := &Table{form: f, data: data}
	if t.u32(8) != version {
		return nil, errors.New("the table was compiled by another version: compile it again")
	}
	t.date = int64(t.u64(16))
	copy(t.stamp[:], data[24:40])
	for i, n := range t.header() {
		v := t.u32(40 + 4*i)
		if v > math.MaxInt32 {
			return nil, errDamaged
		}
		*n = int(v)
	}
	t.flags = t.u32(40 + 4*len(t.header()))
	if t.records > MaxRecords || t.layout() != uint64(len(data)) {
		return nil, errDamaged
	}
	if headerSum(data[:headerSize], data[t.atSums:]) != t.u32(12) {
		return nil, errDamaged
	}
	t.tail = data[t.atRecords:t.atSums]
	t.recent = new([1 << cacheBits]atomic.Uint64)
	if t.starts6 > 0 {
		t.recent6 = new([1 << cache6Bits]struct{ network, id atomic.Uint64 })
	}
	return t, nil
}

// header returns the numbers of the header, in their order.
func (t *Table) header() [9]*int {
	return [...]*int{&t.nodes4, &t.values4, &t.nodes6, &t.starts6, &t.fine6, &t.records, &t.texts, &t.name, &t.ranges}
}

func headerSum(header, sums string) uint32 {
	h := []byte(header)
	clear(h[12:16])
	return crc32.Update(crc32.Checksum(h, castagnoli), castagnoli, unsafeBytes(sums))
}

// distrust makes each block be checked when it is first used. It checks and copies the tail now.
func (t *Table) distrust() {
	t.checked = make([]atomic.Uint32, (t.atSums+blockSize-1)/blockSize)
	for block := t.atRecords / blockSize; block < len(t.checked); block++ {
		t.intact(block * blockSize)
	}
	t.tail = strings.Clone(t.tail)
	t.cut = new(atomic.Bool)
}

// intact reports whether the block at an offset is undamaged.
func (t *Table) intact(off int) bool { return t.checked == nil || t.blockIntact(off/blockSize) }

// blockIntact is not inlined, so that intact is: most tables are trusted.
//
//go:noinline
func (t *Table) blockIntact(block int) bool {
	switch t.checked[block].Load() {
	case notChecked:
		return t.checkBlock(block)
	case intact:
		return true
	}
	return false
}

// checkBlock compares a block with its checksum.
func (t *Table) checkBlock(block int) bool {
	s := t.data[block*blockSize : min((block+1)*blockSize, t.atSums)]
	sum := uint32(0)
	if block == 0 {
		// The header has a checksum of its own, which is in this block.
		var header [headerSize]byte
		copy(header[:], s)
		clear(header[12:16])
		sum = crc32.Checksum(header[:], castagnoli)
		s = s[headerSize:]
	}
	ok := crc32.Update(sum, castagnoli, unsafeBytes(s)) == t.u32(t.atSums+4*block)
	if t.checked != nil {
		t.checked[block].Store(map[bool]uint32{true: intact, false: damaged}[ok])
	}
	return ok
}

// Verify reads the whole table and reports whether it is undamaged. It removes a damaged file
// from the folder of OpenCached.
func (t *Table) Verify() error {
	if t.data == "" {
		return nil
	}
	err := errDamaged
	t.guard(func() { err = t.verify() })
	if err != nil && t.file != "" {
		err = fmt.Errorf("%w %s", err, t.file)
		// Another file may have the name by now.
		if now, e := os.Stat(t.file); e == nil && (t.mapped == nil || os.SameFile(now, t.mapped)) {
			os.Remove(t.file)
		}
	}
	return err
}

func (t *Table) verify() error {
	for block := range (t.atSums + blockSize - 1) / blockSize {
		if !t.checkBlock(block) {
			return errDamaged
		}
	}
	for id := 1; id < t.records; id++ {
		if !t.form.Check(t, uint32(id)) {
			return errDamaged
		}
	}
	if !t.startsAscend() {
		return errDamaged
	}
	return nil
}

// Err returns an error if somebody has truncated the mapped file or written into it. A file that
// was removed or replaced is no error, since the mapped one stays.
func (t *Table) Err() error {
	if t.cut != nil && t.cut.Load() {
		return fmt.Errorf("%s was truncated while it was in use", t.file)
	}
	if t.mapped == nil {
		return nil
	}
	now, err := os.Stat(t.file)
	if err != nil || !os.SameFile(now, t.mapped) {
		return nil
	}
	switch was := t.mapped; {
	case now.Size() < was.Size():
		return fmt.Errorf("%s was truncated while it was in use", t.file)
	case now.Size() != was.Size() || !now.ModTime().Equal(was.ModTime()):
		return fmt.Errorf("%s was changed while it was in use", t.file)
	}
	return nil
}

// WriteTo writes the serialised form. It is empty for the zero Table.
func (t *Table) WriteTo(w io.Writer) (int64, error) {
	data, err := t.copied()
	if err != nil {
		return 0, err
	}
	n, err := io.WriteString(w, data)
	return int64(n), err
}

// Info describes the table.
func (t *Table) Info() Info {
	name, remarks, _ := strings.Cut(t.part(t.atName, t.name), "\x00")
	info := Info{Name: name, Ranges: t.ranges}
	if remarks != "" {
		info.Remarks = strings.Split(remarks, "\x00")
	}
	if t.date != 0 {
		info.Date = time.Unix(t.date, 0).UTC()
	}
	return info
}

// Flags returns the flags of the Content.
func (t *Table) Flags() uint32 { return t.flags }

// Records returns the number of records, including that of ID 0.
func (t *Table) Records() int { return t.records }

// Record returns the record of an ID; false: there is none, or it is damaged.
func (t *Table) Record(id uint32) (string, bool) {
	if id == 0 || id >= uint32(t.records) {
		return "", false
	}
	size := t.form.Record
	off := t.atRecords + size*int(id)
	if !t.intact(off) || !t.intact(off+size-1) {
		return "", false
	}
	return t.tail[size*int(id):][:size], true
}

// Text returns n bytes of the texts, from at on. It is empty if they are missing or damaged.
func (t *Table) Text(at, n int) string {
	if at < 0 || n < 0 || at > t.texts-n {
		return ""
	}
	return t.part(t.atTexts+at, n)
}

// part returns n bytes of the tail; empty: they are damaged.
func (t *Table) part(off, n int) string {
	if n == 0 || !t.intact(off) || !t.intact(off+n-1) {
		return ""
	}
	return t.tail[off-t.atRecords:][:n]
}

func (t *Table) u32(off int) uint32 { return U32(t.data, off) }
func (t *Table) u64(off int) uint64 { return u64(t.data, off) }

// U32 returns a little-endian number of four bytes in a record.
func U32(s string, off int) uint32 {
	s = s[off : off+4]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

func u64(s string, off int) uint64 {
	s = s[off : off+8]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}
