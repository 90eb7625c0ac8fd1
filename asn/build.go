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
)

// New returns a DB of prefixes. They may be in any order and nested: the
// longest prefix that holds an address decides, and of equal ones the last. A
// prefix whose AS has number 0 has no AS, even inside one that has. It fails
// if a prefix is invalid, a name longer than 65,535 bytes or the table larger than
// its form allows (16,777,215 different ASes).
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
	maxASes = 1<<24 - 1
	maxName = math.MaxUint16
)

// A row is a prefix and the id of its AS.
type row struct {
	prefix netip.Prefix
	id     uint32
}

// A start is the first address of a range and the id of its AS.
type start struct {
	addr netip.Addr
	id   uint32
}

// A builder collects the rows of a table.
type builder struct {
	rows []row
	ids  map[AS]uint32 // number 0: no AS
	ases []AS          // by id
}

func newBuilder() *builder {
	return &builder{ids: map[AS]uint32{{}: 0}, ases: []AS{{}}}
}

func (b *builder) add(p netip.Prefix, as AS) error {
	if as.Number == 0 {
		as = AS{}
	}
	as.Org = strings.ToValidUTF8(as.Org, "\uFFFD")
	id, ok := b.ids[as]
	if !ok {
		if len(b.ases) > maxASes {
			return fmt.Errorf("more than %d different ASes", maxASes)
		}
		if len(as.Org) > maxName {
			return fmt.Errorf("name of AS%d has %d bytes, more than %d", as.Number, len(as.Org), maxName)
		}
		id = uint32(len(b.ases))
		as.Org = strings.Clone(as.Org) // it may be part of a line of the file
		b.ids[as] = id
		b.ases = append(b.ases, as)
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	b.rows = append(b.rows, row{p.Masked(), id})
	return nil
}

func (b *builder) db(info Info) (*DB, error) {
	byPrefix := func(a, b row) int { return a.prefix.Compare(b.prefix) }
	if !slices.IsSortedFunc(b.rows, byPrefix) {
		slices.SortStableFunc(b.rows, byPrefix)
	}
	n := 0
	for n < len(b.rows) && b.rows[n].prefix.Addr().Is4() {
		n++
	}
	v4 := flatten(b.rows[:n], netip.IPv4Unspecified())
	v6 := flatten(b.rows[n:], netip.IPv6Unspecified())
	table, err := encode(info, v4, v6, b.ases)
	if err != nil {
		return nil, err
	}
	return Load(table)
}

// flatten turns sorted, maybe nested prefixes of one family into the starts of
// ranges that cover the family from its first address on.
func flatten(rows []row, first netip.Addr) []start {
	type open struct {
		last netip.Addr
		id   uint32
	}
	starts := make([]start, 0, len(rows)+1)
	from := func(addr netip.Addr, id uint32) {
		// A prefix begins where one around it begins or another one has ended.
		if n := len(starts) - 1; n >= 0 && starts[n].addr == addr {
			starts = starts[:n]
		}
		if n := len(starts) - 1; n >= 0 && starts[n].id == id {
			return
		}
		starts = append(starts, start{addr, id})
	}
	from(first, 0)
	var nest []open // each inside the one before
	leave := func() {
		after := nest[len(nest)-1].last.Next()
		nest = nest[:len(nest)-1]
		if !after.IsValid() {
			return
		}
		outer := uint32(0)
		if len(nest) > 0 {
			outer = nest[len(nest)-1].id
		}
		from(after, outer)
	}
	for _, r := range rows {
		for len(nest) > 0 && nest[len(nest)-1].last.Less(r.prefix.Addr()) {
			leave()
		}
		from(r.prefix.Addr(), r.id)
		nest = append(nest, open{last(r.prefix), r.id})
	}
	for len(nest) > 0 {
		leave()
	}
	return starts
}

// last returns the last address of a masked prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().As16()
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	for i := bits; i < 128; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	if p.Addr().Is4() {
		return netip.AddrFrom16(b).Unmap()
	}
	return netip.AddrFrom16(b)
}

// encode writes the table; its form is told in table.go.
func encode(info Info, v4, v6 []start, ases []AS) (string, error) {
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
		b := s.addr.As16()
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
			b := v4[n].addr.As4()
			if int(binary.BigEndian.Uint16(b[:])) != high {
				break
			}
		}
		t = le.AppendUint32(t, uint32(n))
	}
	for _, s := range v4 {
		b := s.addr.As4()
		t = le.AppendUint16(t, binary.BigEndian.Uint16(b[2:]))
		t = append24(t, ids[s.id])
	}
	for _, s := range v6 {
		b := s.addr.As16()
		t = append(t, b[:width]...)
		t = append24(t, ids[s.id])
	}
	t = append(t, records...)
	t = append(t, names...)
	le.PutUint32(t[12:], crc32.ChecksumIEEE(t[16:]))
	return string(t), nil
}

func append24(b []byte, v uint32) []byte {
	return append(b, byte(v), byte(v>>8), byte(v>>16))
}
