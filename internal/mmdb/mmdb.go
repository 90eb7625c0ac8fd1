// Package mmdb reads all networks and records of MaxMind DB files. Since anybody may have made a
// file, its size bounds the cost of reading it. The package does not look up addresses.
//
// The form: https://maxmind.github.io/MaxMind-DB/
package mmdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"net/netip"
	"time"
)

// MaxMeta is the number of bytes at the end of a file that include all of its metadata.
const MaxMeta = 128 << 10

const (
	marker    = "\xab\xcd\xefMaxMind.com" // before the metadata
	separator = 16                        // bytes between tree and data
)

// Is reports whether a file ends with the metadata of a MaxMind DB.
func Is(file []byte) bool {
	return bytes.Contains(file[max(0, len(file)-MaxMeta):], []byte(marker))
}

// A DB is an open file. It is not safe for concurrent use.
type DB struct {
	Type  string    // of the database, such as GeoLite2-City
	Built time.Time // zero: unknown

	tree   []byte
	nodes  int
	record int // bits of a record, which is half a node
	six    bool
	data   section
}

// Open returns the DB of a file. The file must not change while the DB is in use.
func Open(file []byte) (*DB, error) {
	fields, end, err := metadata(file)
	if err != nil {
		return nil, err
	}
	number := func(name string) uint64 {
		n, _ := fields[name].(uint64)
		return n
	}
	if n := number("binary_format_major_version"); n != 2 {
		return nil, fmt.Errorf("metadata: version %d of the format, expected 2", n)
	}
	db := &DB{six: number("ip_version") == 6}
	db.Type, _ = fields["database_type"].(string)
	if s := number("build_epoch"); s > 0 && s < 1<<40 {
		db.Built = time.Unix(int64(s), 0).UTC()
	}
	switch n := number("record_size"); n {
	case 24, 28, 32:
		db.record = int(n)
	default:
		return nil, fmt.Errorf("metadata: records of %d bits, expected 24, 28 or 32", n)
	}
	// A node has two records.
	nodes := number("node_count")
	if nodes > uint64(end) || nodes*uint64(db.record)/4+separator > uint64(end) {
		return nil, fmt.Errorf("metadata: a tree of %d nodes does not fit into the file", nodes)
	}
	db.nodes = int(nodes)
	size := db.nodes * db.record / 4
	// Reading a valid file takes at most two steps for a byte.
	budget := 16*int64(len(file)) + 1<<20
	db.tree, db.data = file[:size], section{file[size+separator : end], &budget}
	return db, nil
}

// Type returns the type of a database from the end of its file, of at least MaxMeta bytes; empty:
// it is not a MaxMind DB.
func Type(end []byte) string {
	fields, _, err := metadata(end)
	if err != nil {
		return ""
	}
	s, _ := fields["database_type"].(string)
	return s
}

// metadata returns the metadata of a file, and their position.
func metadata(file []byte) (fields map[string]any, end int, err error) {
	from := max(0, len(file)-MaxMeta)
	at := bytes.LastIndex(file[from:], []byte(marker))
	if at < 0 {
		return nil, 0, errors.New("the metadata that end a MaxMind DB file are missing")
	}
	end = from + at
	left := int64(MaxMeta)
	v, _, err := section{file[end+len(marker):], &left}.value(0, Fields{
		"node_count": nil, "record_size": nil, "ip_version": nil,
		"database_type": nil, "build_epoch": nil, "binary_format_major_version": nil,
	})
	if err != nil {
		return nil, 0, fmt.Errorf("metadata: %w", err)
	}
	fields, _ = v.(map[string]any)
	return fields, end, nil
}

// A Network is a network and the position of its record in the data. Networks may share a record.
type Network struct {
	Prefix netip.Prefix
	Record int
}

// Networks yields the networks that have a record, in the order of their addresses, and IPv4
// networks once. It ends with the first error. A tree with clearly more networks than nodes,
// since many lead to the same one, is damaged.
func (db *DB) Networks() iter.Seq2[Network, error] {
	return func(yield func(Network, error) bool) {
		if db.nodes == 0 {
			return
		}
		width := 32
		if db.six {
			width = 128
		}
		four := db.ipv4Root()
		type branch struct {
			record uint32
			bits   int
			addr   [16]byte
		}
		stack := []branch{{}}
		visits := 0
		for len(stack) > 0 {
			b := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			under4 := [12]byte(b.addr[:12]) == [12]byte{}
			switch {
			case int64(b.record) == int64(db.nodes): // no record
				continue
			case int64(b.record) > int64(db.nodes):
				n, err := db.network(b.addr, b.bits, b.record)
				if !yield(n, err) || err != nil {
					return
				}
				// All of IPv4 lies in it.
				if db.six && under4 && b.bits < 96 && !yield(Network{netip.PrefixFrom(netip.IPv4Unspecified(), 0), n.Record}, nil) {
					return
				}
				continue
			case four > 0 && int(b.record) == four && !under4:
				continue // an alias of IPv4
			case b.bits == width:
				yield(Network{}, errors.New("the tree is deeper than addresses are long"))
				return
			}
			if visits++; visits > 2*db.nodes {
				yield(Network{}, errors.New("more networks than the tree has records"))
				return
			}
			left, right := db.node(int(b.record))
			b.bits++
			b.record = right
			b.addr[(b.bits-1)/8] |= 0x80 >> ((b.bits - 1) % 8)
			stack = append(stack, b)
			b.record = left
			b.addr[(b.bits-1)/8] &^= 0x80 >> ((b.bits - 1) % 8)
			stack = append(stack, b)
		}
	}
}

// ipv4Root returns the node of IPv4, at ::/96, in an IPv6 tree, and 0 in others.
func (db *DB) ipv4Root() int {
	if !db.six {
		return 0
	}
	at := uint32(0)
	for range 96 {
		if int64(at) >= int64(db.nodes) {
			return 0
		}
		at, _ = db.node(int(at))
	}
	if int64(at) >= int64(db.nodes) {
		return 0
	}
	return int(at)
}

// node returns the records of a node.
func (db *DB) node(i int) (left, right uint32) {
	b := db.tree[i*db.record/4:]
	switch db.record {
	case 24:
		return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]), uint32(b[3])<<16 | uint32(b[4])<<8 | uint32(b[5])
	case 28:
		return uint32(b[3]&0xf0)<<20 | uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]),
			uint32(b[3]&0xf)<<24 | uint32(b[4])<<16 | uint32(b[5])<<8 | uint32(b[6])
	}
	return binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
}

func (db *DB) network(addr [16]byte, bits int, record uint32) (Network, error) {
	var p netip.Prefix
	switch {
	case !db.six:
		p = netip.PrefixFrom(netip.AddrFrom4([4]byte(addr[:4])), bits)
	case bits >= 96 && [12]byte(addr[:12]) == [12]byte{}:
		p = netip.PrefixFrom(netip.AddrFrom4([4]byte(addr[12:])), bits-96)
	default:
		p = netip.PrefixFrom(netip.AddrFrom16(addr), bits)
	}
	at := int64(record) - int64(db.nodes) - separator
	if at < 0 || at >= int64(len(db.data.b)) {
		return Network{}, fmt.Errorf("network %v: its record does not lie in the file", p)
	}
	return Network{p, int(at)}, nil
}

// Fields are the keys of a map that are wanted and, for each that leads to a map, those that
// are wanted there. The key "*" stands for all others.
type Fields map[string]Fields

// Record returns what is wanted of a record. Texts are string, numbers without a sign uint64,
// with one int64 and those with a point float64; of an array there is a slice that is as empty
// as it is; all else is nil. It fails if the record is damaged, or if all records so far are clearly more
// than the file holds, since many lead to the same data.
func (db *DB) Record(at int, want Fields) (map[string]any, error) {
	v, _, err := db.data.value(at, want)
	m, _ := v.(map[string]any)
	return m, err
}

// The types of values.
const (
	extended = iota
	pointer
	text
	double
	binaries
	uint16s
	uint32s
	maps
	int32s
	uint64s
	uint128s
	arrays
	_ // a cache container, which files do not have
	_ // an end marker, which files do not have
	booleans
	floats
)

var (
	errCut  = errors.New("cut off")
	errWork = errors.New("its records are clearly more than the file holds")
)

// A section is encoded values, with a budget of values to visit.
type section struct {
	b    []byte
	left *int64
}

// spend deducts n values from the budget.
func (s section) spend(n int) error {
	if *s.left -= int64(n); *s.left < 0 {
		return errWork
	}
	return nil
}

// take returns n bytes.
func (s section) take(at, n int) ([]byte, int, error) {
	if at < 0 || at > len(s.b) || n > len(s.b)-at {
		return nil, 0, fmt.Errorf("at offset %d: %w", at, errCut)
	}
	return s.b[at : at+n], at + n, nil
}

// head decodes the start of a value: its type, and its size or, for a pointer, its target.
func (s section) head(at int) (kind, size, next int, err error) {
	if err := s.spend(1); err != nil {
		return 0, 0, 0, err
	}
	b, next, err := s.take(at, 1)
	if err != nil {
		return 0, 0, 0, err
	}
	kind, size = int(b[0]>>5), int(b[0]&31)
	if kind == pointer {
		n := size>>3 + 1
		if b, next, err = s.take(next, n); err != nil {
			return 0, 0, 0, err
		}
		v := size & 7
		if n == 4 {
			v = 0
		}
		for _, c := range b {
			v = v<<8 | int(c)
		}
		return kind, v + [...]int{0, 2048, 526336, 0}[n-1], next, nil
	}
	if kind == extended {
		if b, next, err = s.take(next, 1); err != nil {
			return 0, 0, 0, err
		}
		if kind = 7 + int(b[0]); kind <= maps || kind > floats {
			return 0, 0, 0, fmt.Errorf("at offset %d: unknown type %d", at, kind)
		}
	}
	if size >= 29 {
		n := size - 28
		if b, next, err = s.take(next, n); err != nil {
			return 0, 0, 0, err
		}
		size = 0
		for _, c := range b {
			size = size<<8 | int(c)
		}
		size += [...]int{29, 285, 65821}[n-1]
	}
	return kind, size, next, nil
}

// follow is head for a value or a pointer to one. next is the position after the pointer, and
// inside the position of the value's content.
func (s section) follow(at int) (kind, size, inside, next int, err error) {
	kind, size, next, err = s.head(at)
	if err != nil || kind != pointer {
		return kind, size, next, next, err
	}
	to := size
	if kind, size, inside, err = s.head(to); err == nil && kind == pointer {
		err = fmt.Errorf("at offset %d: a pointer to a pointer", at)
	}
	return kind, size, inside, next, err
}

// skip returns the position after n values, without decoding them.
func (s section) skip(at, values int) (next int, err error) {
	for n := int64(values); n > 0; n-- {
		kind, size, next, err := s.head(at)
		if err != nil {
			return 0, err
		}
		switch kind {
		case maps:
			n += 2 * int64(size)
		case arrays:
			n += int64(size)
		case pointer, booleans:
		default:
			if _, next, err = s.take(next, size); err != nil {
				return 0, err
			}
		}
		at = next
	}
	return at, nil
}

// value returns a value, and the position after it. It decodes only what want has.
func (s section) value(at int, want Fields) (v any, next int, err error) {
	kind, size, inside, next, err := s.follow(at)
	if err != nil {
		return nil, 0, err
	}
	here := inside == next // it is not behind a pointer
	switch kind {
	case maps:
		if want == nil {
			break
		}
		m := make(map[string]any)
		for range size {
			var key []byte
			if key, inside, err = s.text(inside); err != nil {
				return nil, 0, err
			}
			deeper, ok := want[string(key)]
			if !ok {
				deeper, ok = want["*"]
			}
			if !ok {
				inside, err = s.skip(inside, 1)
			} else {
				m[string(key)], inside, err = s.value(inside, deeper)
			}
			if err != nil {
				return nil, 0, err
			}
		}
		if here {
			next = inside
		}
		return m, next, nil
	case arrays:
		v = make([]any, min(size, 1))
	case booleans:
		return nil, next, nil
	default:
		b, behind, err := s.take(inside, size)
		if err != nil {
			return nil, 0, err
		}
		if here {
			next = behind
		}
		v, err = s.scalar(at, kind, b)
		return v, next, err
	}
	if here {
		n := size
		if kind == maps {
			n *= 2
		}
		next, err = s.skip(inside, n)
	}
	return v, next, err
}

// text returns a text, which may be behind a pointer, and the position after it.
func (s section) text(at int) ([]byte, int, error) {
	kind, size, inside, next, err := s.follow(at)
	if err != nil {
		return nil, 0, err
	}
	if kind != text {
		return nil, 0, fmt.Errorf("at offset %d: expected a text as a key", at)
	}
	b, behind, err := s.take(inside, size)
	if err == nil {
		err = s.spend(size / 8)
	}
	if inside == next {
		next = behind
	}
	return b, next, err
}

func (s section) scalar(at, kind int, b []byte) (any, error) {
	switch {
	case kind == text:
		return string(b), s.spend(len(b) / 8)
	case kind == double && len(b) == 8:
		return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
	case kind == floats && len(b) == 4:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(b))), nil
	case kind == uint16s && len(b) <= 2, kind == uint32s && len(b) <= 4, kind == uint64s && len(b) <= 8:
		n := uint64(0)
		for _, c := range b {
			n = n<<8 | uint64(c)
		}
		return n, nil
	case kind == int32s && len(b) <= 4:
		// A shorter number has no sign.
		n := uint32(0)
		for _, c := range b {
			n = n<<8 | uint32(c)
		}
		return int64(int32(n)), nil
	case kind == binaries, kind == uint128s && len(b) <= 16:
		return nil, nil
	}
	return nil, fmt.Errorf("at offset %d: %d bytes for a value of type %d", at, len(b), kind)
}
