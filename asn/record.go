package asn

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/connmapgo/connmap/internal/layout"
	"github.com/connmapgo/connmap/internal/ranges"
)

// A record is an AS: its number (4 bytes), the position of its name in the texts (4), and the
// length of the name (2). Records are sorted by number.
const recordSize = 10

// form describes tables of autonomous systems.
var form = &ranges.Form{
	Magic:  "asntable",
	Ending: ".asn",
	Record: recordSize,
	Max:    layout.Max,
	Beside: layout.Beside,
	Check: func(t *ranges.Table, id uint32) bool {
		s, ok := t.Record(id)
		if !ok {
			return false
		}
		before, _ := t.Record(id - 1)
		return len(name(t, s)) == nameLength(s) && ranges.U32(s, 0) != 0 &&
			(id == 1 || ranges.U32(before, 0) <= ranges.U32(s, 0))
	},
}

// records serialises ASes in any order, and returns the IDs of their records. Equal names share
// their bytes.
func records(ases []AS) (records, texts []byte, ids []uint32) {
	le := binary.LittleEndian
	order := make([]uint32, len(ases))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(i, j uint32) int {
		a, b := ases[i], ases[j]
		return cmp.Or(cmp.Compare(a.Number, b.Number), strings.Compare(a.Org, b.Org))
	})
	ids = make([]uint32, len(ases))
	at := make(map[string]uint32)
	for id, i := range order {
		ids[i] = uint32(id)
		org := ases[i].Org
		if _, ok := at[org]; !ok {
			at[org] = uint32(len(texts))
			texts = append(texts, org...)
		}
		records = le.AppendUint32(le.AppendUint32(records, ases[i].Number), at[org])
		records = le.AppendUint16(records, uint16(len(org)))
	}
	return records, texts, ids
}

// as returns the AS of an ID, and whether there is one.
func as(t *ranges.Table, id uint32) (AS, bool) {
	s, ok := t.Record(id)
	if !ok {
		return AS{}, false
	}
	return AS{Number: ranges.U32(s, 0), Org: name(t, s)}, true
}

// name returns the name of a record; empty: it has none.
func name(t *ranges.Table, record string) string {
	return t.Text(int(ranges.U32(record, 4)), nameLength(record))
}

func nameLength(record string) int { return int(record[8]) | int(record[9])<<8 }
