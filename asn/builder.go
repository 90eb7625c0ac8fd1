package asn

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"iter"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/connmapgo/connmap/internal/ranges"
)

// New returns a DB of prefixes. They may be in any order and nested: the
// longest prefix that holds an address decides, and of equal ones the last. A
// prefix whose AS has number 0 has no AS, even inside one that has. It fails
// if a prefix is invalid, a name longer than 65,535 bytes, all names than 268,435,456,
// or if there are more than 16,777,216 prefixes or 16,777,215 different ASes.
func New(info Info, prefixes iter.Seq2[netip.Prefix, AS]) (*DB, error) {
	b := newBuilder()
	for p, as := range prefixes {
		if !p.IsValid() {
			return nil, fmt.Errorf("asn: invalid prefix of AS%d", as.Number)
		}
		if err := b.add(p, as); err != nil {
			return nil, fmt.Errorf("asn: %w", err)
		}
	}
	db, err := b.db(info)
	if err != nil {
		return nil, fmt.Errorf("asn: %w", err)
	}
	return db, nil
}

const (
	maxASes  = 1<<24 - 1
	maxName  = 1<<16 - 1 // bytes of a name
	maxNames = 256 << 20 // bytes of all names
)

// A builder collects the rows of a table.
type builder struct {
	rows4 []ranges.Row[ranges.V4]
	rows6 []ranges.Row[ranges.V6]
	ids   map[AS]uint32 // number 0: no AS
	ases  []AS          // by id
	names int           // bytes of those of ases
}

func newBuilder() *builder {
	return &builder{ids: map[AS]uint32{{}: 0}, ases: []AS{{}}}
}

// add adds a prefix.
func (b *builder) add(p netip.Prefix, as AS) error {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	p = p.Masked()
	return b.addRange(Range{p.Addr(), ranges.Last(p)}, as)
}

// addRange adds a range, both ends of which must be of the same family.
func (b *builder) addRange(r Range, as AS) error {
	if len(b.rows4)+len(b.rows6) >= ranges.Max {
		return ranges.ErrTooMany
	}
	id, err := b.id(as)
	if err != nil {
		return err
	}
	if r.First.Is4() {
		b.rows4 = append(b.rows4, ranges.Row[ranges.V4]{First: ranges.Key4(r.First), Last: ranges.Key4(r.Last), ID: id})
	} else {
		b.rows6 = append(b.rows6, ranges.Row[ranges.V6]{First: ranges.Key6(r.First), Last: ranges.Key6(r.Last), ID: id})
	}
	return nil
}

func (b *builder) empty() bool { return len(b.rows4)+len(b.rows6) == 0 }

// id returns the id of an AS.
func (b *builder) id(as AS) (uint32, error) {
	if as.Number == 0 {
		as = AS{}
	}
	as.Org = strings.ToValidUTF8(as.Org, "\uFFFD")
	id, ok := b.ids[as]
	if ok {
		return id, nil
	}
	if len(b.ases) > maxASes {
		return 0, fmt.Errorf("more than %d different ASes", maxASes)
	}
	if len(as.Org) > maxName {
		return 0, fmt.Errorf("name of AS%d has %d bytes, more than %d", as.Number, len(as.Org), maxName)
	}
	if b.names += len(as.Org); b.names > maxNames {
		return 0, fmt.Errorf("names of more than %d bytes", maxNames)
	}
	id = uint32(len(b.ases))
	as.Org = strings.Clone(as.Org) // it may be part of a line of the file
	b.ids[as] = id
	b.ases = append(b.ases, as)
	return id, nil
}

func (b *builder) db(info Info) (*DB, error) {
	table, err := encode(info, cover(ranges.Resolve(b.rows4)), cover(ranges.Resolve(b.rows6)), b.ases)
	if err != nil {
		return nil, err
	}
	return Load(table)
}

// cover returns starts that cover their family from its first address on.
func cover[K comparable](starts []ranges.Start[K]) []ranges.Start[K] {
	var first ranges.Start[K]
	if len(starts) > 0 && starts[0].First == first.First {
		return starts
	}
	return slices.Insert(starts, 0, first)
}

// encode writes the table; its form is told in table.go.
func encode(info Info, v4 []ranges.Start[ranges.V4], v6 []ranges.Start[ranges.V6], ases []AS) (string, error) {
	le := binary.LittleEndian

	// Equal rows must give equal tables whatever their order.
	order := make([]uint32, len(ases))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(i, j uint32) int {
		a, b := ases[i], ases[j]
		return cmp.Or(cmp.Compare(a.Number, b.Number), strings.Compare(a.Org, b.Org))
	})
	ids := make([]uint32, len(ases)) // new by old
	for i, old := range order {
		ids[old] = uint32(i)
	}

	var names []byte
	offsets := make(map[string]uint32)
	name := func(s string) uint32 {
		offset, ok := offsets[s]
		if !ok {
			offset = uint32(len(names))
			offsets[s] = offset
			names = append(le.AppendUint16(names, uint16(len(s))), s...)
		}
		return offset
	}
	if len(info.Name) > maxName {
		return "", fmt.Errorf("name of the table has %d bytes, more than %d", len(info.Name), maxName)
	}
	name(info.Name)
	records := make([]byte, 0, len(ases)*asSize)
	for _, i := range order {
		records = le.AppendUint32(records, ases[i].Number)
		records = le.AppendUint32(records, name(ases[i].Org))
		if uint64(len(names)) > math.MaxUint32 {
			return "", fmt.Errorf("names have more than %d bytes", uint32(math.MaxUint32))
		}
	}

	width := 1
	for _, s := range v6 {
		b := s.First.Addr().As16()
		for i := 15; i >= width; i-- {
			if b[i] != 0 {
				width = i + 1
			}
		}
	}

	var date int64
	if !info.Date.IsZero() {
		date = info.Date.Unix()
	}
	size := headerSize + indexSize + len(v4)*v4Size + len(v6)*(width+3) + len(records) + len(names)
	t := make([]byte, 0, size)
	t = append(t, magic...)
	t = le.AppendUint32(t, version)
	t = le.AppendUint32(t, 0) // checksum, set last
	t = le.AppendUint64(t, uint64(date))
	t = le.AppendUint32(t, uint32(len(v4)))
	t = le.AppendUint32(t, uint32(len(v6)))
	t = le.AppendUint32(t, uint32(len(ases)))
	t = le.AppendUint32(t, uint32(len(names)))
	t = le.AppendUint32(t, uint32(width))

	n := 0
	for high := range 65536 {
		for ; n < len(v4); n++ {
			if int(v4[n].First>>16) != high {
				break
			}
		}
		t = le.AppendUint32(t, uint32(n))
	}
	for _, s := range v4 {
		t = le.AppendUint16(t, uint16(s.First))
		t = append24(t, ids[s.ID])
	}
	for _, s := range v6 {
		b := s.First.Addr().As16()
		t = append(t, b[:width]...)
		t = append24(t, ids[s.ID])
	}
	t = append(t, records...)
	t = append(t, names...)
	le.PutUint32(t[12:], crc32.ChecksumIEEE(t[16:]))
	return string(t), nil
}

func append24(b []byte, v uint32) []byte {
	return append(b, byte(v), byte(v>>8), byte(v>>16))
}
