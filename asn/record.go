package asn

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/connmapgo/connmap/internal/ranges"
)

// A record is an AS: its number (4 bytes) and where its name begins in the texts (4). There
// a name has its length (2) before it. Records are sorted by number.
const recordSize = 8

// form is what tables of autonomous systems are like.
var form = &ranges.Form{
	Magic:  "asntable",
	Ending: ".asn",
	Record: recordSize,
	Max:    maxTable,
	Check: func(t *ranges.Table, id uint32) bool {
		s, ok := t.Record(id)
		_, named := name(t, s)
		before, _ := t.Record(id - 1)
		return ok && named && ranges.U32(s, 0) != 0 && (id == 1 || ranges.U32(before, 0) <= ranges.U32(s, 0))
	},
}

// records serialises ASes, whose order does not matter. It returns the IDs of their records.
// Equal names share their bytes.
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
			texts = append(le.AppendUint16(texts, uint16(len(org))), org...)
		}
		records = le.AppendUint32(le.AppendUint32(records, ases[i].Number), at[org])
	}
	return records, texts, ids
}

// as returns the AS of an ID, and whether there is one.
func as(t *ranges.Table, id uint32) (AS, bool) {
	s, ok := t.Record(id)
	if !ok {
		return AS{}, false
	}
	org, _ := name(t, s)
	return AS{Number: ranges.U32(s, 0), Org: org}, true
}

// name returns the name of a record; it is false if none is there.
func name(t *ranges.Table, record string) (string, bool) {
	if record == "" {
		return "", false
	}
	at := int(ranges.U32(record, 4))
	length := t.Text(at, 2)
	if length == "" {
		return "", false
	}
	n := int(length[0]) | int(length[1])<<8
	s := t.Text(at+2, n)
	return s, len(s) == n
}
