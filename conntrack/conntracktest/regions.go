package conntracktest

import (
	"encoding/binary"
	"net/netip"
)

// A region is the area of a regional Internet registry.
type region struct {
	name      string
	percent   int     // of the peers
	near, far float64 // round-trip time from Europe, in milliseconds
	v4        []byte  // first bytes
	v6        []uint16
	v6span    uint // the second 16 bits are below this, where most is in use
}

// From IANA's registries of IPv4 address space and IPv6 unicast allocations:
// those blocks that are densely used and contain no special-purpose prefix.
var regions = [...]region{
	{
		name: "RIPE NCC", percent: 41, near: 8, far: 70,
		v4: []byte{2, 5, 31, 37, 46, 62, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 95, 109, 176, 178, 185, 188, 193, 194, 195, 212, 213, 217},
		v6: []uint16{0x2a00, 0x2a01, 0x2a02, 0x2a03}, v6span: 0x2000,
	}, {
		name: "ARIN", percent: 28, near: 80, far: 190,
		v4: []byte{3, 8, 12, 13, 18, 20, 23, 24, 32, 34, 35, 40, 44, 47, 50, 52, 54, 63, 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 96, 97, 98, 99, 104, 107, 108, 142, 162, 173, 174, 184, 199, 204, 205, 206, 207, 208, 209, 216},
		v6: []uint16{0x2600, 0x2601, 0x2604, 0x2605, 0x2606, 0x2607}, v6span: 0x2000,
	}, {
		name: "APNIC", percent: 18, near: 140, far: 320,
		v4: []byte{1, 14, 27, 36, 39, 42, 43, 49, 58, 59, 60, 61, 101, 103, 106, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 133, 150, 153, 163, 171, 175, 180, 182, 183, 202, 210, 211, 218, 219, 220, 221, 222, 223},
		v6: []uint16{0x2400, 0x2401, 0x2402, 0x2403, 0x2404, 0x2405, 0x2406}, v6span: 0x8000,
	}, {
		name: "LACNIC", percent: 8, near: 170, far: 280,
		v4: []byte{177, 179, 181, 186, 187, 189, 190, 191, 200, 201},
		v6: []uint16{0x2800, 0x2803, 0x2804}, v6span: 0x2000,
	}, {
		name: "AFRINIC", percent: 5, near: 60, far: 260,
		v4: []byte{41, 102, 105, 154, 196, 197},
		v6: []uint16{0x2c0f}, v6span: 0xff00,
	},
}

func (m *maker) addr4(g *region) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], m.r.Uint32())
	b[0] = g.v4[m.r.IntN(len(g.v4))]
	b[3] = byte(1 + m.r.IntN(254)) // neither a network nor its broadcast address
	return netip.AddrFrom4(b)
}

func (m *maker) addr6(g *region) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint16(b[0:], g.v6[m.r.IntN(len(g.v6))])
	// Registries give out /32 prefixes and leave room for each to grow to a /29.
	binary.BigEndian.PutUint16(b[2:], uint16(m.r.UintN(g.v6span))&^7)
	binary.BigEndian.PutUint16(b[4:], uint16(m.r.UintN(256)))
	binary.BigEndian.PutUint64(b[8:], m.r.Uint64()|1)
	return netip.AddrFrom16(b)
}
