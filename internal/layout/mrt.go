package layout

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/connmapgo/connmap/internal/ranges"
)

// Records of a dump of a routing table, RFC 6396 and RFC 8050.
const (
	mrtHeader      = 12
	tableDumpV2    = 13
	peerIndexTable = 1
	ribIPv4        = 2
	ribIPv6        = 4
	ribIPv4AddPath = 8
	ribIPv6AddPath = 10
	asPath         = 2 // the type of an attribute
	maxRecord      = 1 << 20

	// The types of a part of a path; those above them are of a confederation.
	asSet      = 1
	asSequence = 2
)

// isMRT reports whether a file begins with the table of peers that dumps of routing tables
// begin with.
func isMRT(head []byte) bool {
	be := binary.BigEndian
	return len(head) >= mrtHeader && be.Uint16(head[4:]) == tableDumpV2 && be.Uint16(head[6:]) == peerIndexTable && be.Uint32(head[8:]) <= maxRecord
}

// readMRT passes on the prefixes of a dump of a routing table. The AS of a prefix is the one
// from which most peers have it.
func readMRT(f *ranges.File, sink Sink, limit int64) (Report, error) {
	report := Report{Kind: Kind{Name: "MRT routing table", Networks: true}}
	ids := map[uint32]uint32{}
	var data []byte
	var bad error
	for report.Rows < limit {
		header := make([]byte, mrtHeader)
		if _, err := io.ReadFull(f, header); err == io.EOF {
			break
		} else if errors.Is(err, io.ErrUnexpectedEOF) {
			report.truncate()
			break
		} else if err != nil {
			return report, fmt.Errorf("the file is damaged or truncated: %w", err)
		}
		be := binary.BigEndian
		if report.Date.IsZero() {
			report.Date = time.Unix(int64(be.Uint32(header)), 0).UTC()
		}
		size := be.Uint32(header[8:])
		if size > maxRecord {
			return report, fmt.Errorf("record %d has %d bytes, more than %d: the file is damaged", report.Rows+report.Skipped+1, size, maxRecord)
		}
		data = append(data[:0], make([]byte, size)...)
		if _, err := io.ReadFull(f, data); err != nil {
			if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
				report.truncate()
				break
			}
			return report, fmt.Errorf("the file is damaged or truncated: %w", err)
		}
		kind := be.Uint16(header[6:])
		if be.Uint16(header[4:]) != tableDumpV2 || kind != ribIPv4 && kind != ribIPv6 && kind != ribIPv4AddPath && kind != ribIPv6AddPath {
			continue
		}
		prefix, as, err := ribEntry(data, kind == ribIPv6 || kind == ribIPv6AddPath, kind >= ribIPv4AddPath)
		if err != nil {
			if report.Skipped++; bad == nil {
				bad = fmt.Errorf("record %d: %w", report.Rows+report.Skipped, err)
			}
			continue
		}
		report.Rows++
		if as == 0 || prefix.Bits() == 0 {
			continue // a default route
		}
		id, ok := ids[as]
		if !ok {
			if id, err = sink.ID(Facts{AS: as}); err != nil {
				return report, err
			}
			ids[as] = id
		}
		if id != 0 {
			if err := sink.Add(ranges.Of(prefix), id); err != nil {
				return report, err
			}
		}
	}
	return report.finish(bad)
}

func (r *Report) truncate() {
	r.Truncated = true
	r.Remarks = append(r.Remarks, "it is truncated in its last record")
}

var errRecord = errors.New("a record is truncated")

// ribEntry returns the prefix of a record, and the AS from which most of its routes come.
func ribEntry(b []byte, six, addPath bool) (netip.Prefix, uint32, error) {
	if len(b) < 5 {
		return netip.Prefix{}, 0, errRecord
	}
	n := int(b[4])
	bytes, b := (n+7)/8, b[5:]
	max := 32
	if six {
		max = 128
	}
	if n > max || len(b) < bytes+2 {
		return netip.Prefix{}, 0, errRecord
	}
	var raw [16]byte
	copy(raw[:], b[:bytes])
	addr := netip.AddrFrom16(raw)
	if !six {
		addr = netip.AddrFrom4([4]byte(raw[:4]))
	}
	count := int(binary.BigEndian.Uint16(b[bytes:]))
	b = b[bytes+2:]
	votes := make(map[uint32]int)
	best := uint32(0)
	for range count {
		head := 8
		if addPath {
			head += 4
		}
		if len(b) < head {
			return netip.Prefix{}, 0, errRecord
		}
		size := int(binary.BigEndian.Uint16(b[head-2:]))
		if b = b[head:]; len(b) < size {
			return netip.Prefix{}, 0, errRecord
		}
		as := origin(b[:size])
		b = b[size:]
		if as == 0 {
			continue
		}
		if votes[as]++; votes[as] > votes[best] || best == 0 {
			best = as
		}
	}
	return netip.PrefixFrom(addr, n).Masked(), best, nil
}

// origin returns the last AS of the path among attributes, 0 if there is none. Of a set at its
// end it is the first, as of the several origins in RouteViews' files. Members of a confederation
// are none: their numbers mean something only inside it (RFC 5065).
func origin(b []byte) (last uint32) {
	for len(b) >= 3 {
		flags, kind, size, head := b[0], b[1], int(b[2]), 3
		if flags&0x10 != 0 { // a length of two bytes
			if len(b) < 4 {
				return 0
			}
			size, head = int(binary.BigEndian.Uint16(b[2:])), 4
		}
		if len(b) < head+size {
			return 0
		}
		value := b[head : head+size]
		b = b[head+size:]
		if kind != asPath {
			continue
		}
		for len(value) >= 2 {
			n := int(value[1])
			if len(value) < 2+4*n {
				return 0
			}
			switch {
			case n > 0 && value[0] == asSet:
				last = binary.BigEndian.Uint32(value[2:])
			case n > 0 && value[0] == asSequence:
				last = binary.BigEndian.Uint32(value[2+4*(n-1):])
			}
			value = value[2+4*n:]
		}
	}
	return last
}
