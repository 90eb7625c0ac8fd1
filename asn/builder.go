package asn

import (
	"fmt"
	"iter"
	"strings"

	"github.com/connmapgo/connmap/internal/layout"
	"github.com/connmapgo/connmap/internal/ranges"
)

// New makes a DB of rows in any order. Where rows overlap the smallest wins, then the one
// that starts later, then the later row. A row whose AS has number 0 cuts a hole into those
// around it. New takes Name and Date from info.
//
// It fails if a row is not a range, a name longer than 65,535 bytes, all names than 268,435,456,
// or if there are more than 16,777,216 rows or 8,388,607 different ASes.
func New(info Info, rows iter.Seq2[Range, AS]) (*DB, error) {
	b := newBuilder()
	n := 0
	for r, as := range rows {
		n++
		if err := b.add(r, as); err != nil {
			return nil, fmt.Errorf("asn: row %d: %w", n, err)
		}
	}
	return dbOf(b.Table(ranges.Info{Name: info.Name, Date: info.Date}, ranges.Stamp{}))
}

const (
	maxName  = 1<<16 - 1 // bytes of a name
	maxNames = 256 << 20 // bytes of all names
)

// A builder collects rows.
type builder struct {
	ranges.Builder
	ids   map[AS]uint32 // 0: no AS
	ases  []AS          // by ID
	names int           // bytes of the names of ases
}

func newBuilder() *builder {
	return &builder{ids: map[AS]uint32{{}: 0}, ases: []AS{{}}}
}

func (b *builder) add(r Range, as AS) error {
	id, err := b.id(as)
	if err != nil {
		return err
	}
	return b.Add(r, id)
}

// ID returns the number of the AS of a row, or 0 if the row has no AS.
func (b *builder) ID(f layout.Facts) (uint32, error) { return b.id(AS{f.AS, f.Org}) }

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
	if len(b.ases) >= ranges.MaxRecords {
		return 0, fmt.Errorf("more than %d different ASes", ranges.MaxRecords-1)
	}
	if len(as.Org) > maxName {
		return 0, fmt.Errorf("name of AS%d has %d bytes, more than %d", as.Number, len(as.Org), maxName)
	}
	if b.names += len(as.Org); b.names > maxNames {
		return 0, fmt.Errorf("names of more than %d bytes", maxNames)
	}
	id = uint32(len(b.ases))
	as.Org = strings.Clone(as.Org) // it may share memory with a line of the file
	b.ids[as] = id
	b.ases = append(b.ases, as)
	return id, nil
}

// Table makes a table of the rows.
func (b *builder) Table(info ranges.Info, stamp ranges.Stamp) (*ranges.Table, error) {
	c := ranges.Content{Info: info, Stamp: stamp}
	var ids []uint32
	c.Records, c.Texts, ids = records(b.ases)
	c.V4, c.V6 = b.Resolve()
	for i := range c.V4 {
		c.V4[i].ID = ids[c.V4[i].ID]
	}
	for i := range c.V6 {
		c.V6[i].ID = ids[c.V6[i].ID]
	}
	data, err := form.Encode(c)
	if err != nil {
		return nil, err
	}
	return form.Load(data)
}
