package compare

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/packet/mrt"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/internal/random"
)

// A ribBody is a record of a prefix. That of gobgp cannot write one of IPv6.
type ribBody []byte

func (b ribBody) Serialize() ([]byte, error) { return b, nil }

// dump returns a random dump of a routing table, whose header and routes gobgp writes.
func dump(t *testing.T, r *rand.Rand) []byte {
	var b bytes.Buffer
	put := func(kind mrt.MRTSubTypeTableDumpv2, body mrt.Body) {
		m, err := mrt.NewMRTMessage(time.Unix(1767225600, 0), mrt.TABLE_DUMPv2, kind, body)
		require.NoError(t, err)
		data, err := m.Serialize()
		require.NoError(t, err)
		b.Write(data)
	}
	var peers []*mrt.Peer
	for i := range 8 {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		peers = append(peers, mrt.NewPeer(addr, addr, 64496+uint32(i), true))
	}
	put(mrt.PEER_INDEX_TABLE, mrt.NewPeerIndexTable(netip.MustParseAddr("192.0.2.255"), "test", peers))
	prefixes := append(networks(r, 7000, true), networks(r, 7000, false)...)
	r.Shuffle(len(prefixes), func(i, j int) { prefixes[i], prefixes[j] = prefixes[j], prefixes[i] })
	prefixes = append(prefixes, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
	for i, p := range prefixes {
		kinds := []mrt.MRTSubTypeTableDumpv2{mrt.RIB_IPV4_UNICAST, mrt.RIB_IPV4_UNICAST_ADDPATH, mrt.RIB_IPV4_MULTICAST}
		if p.Addr().Is6() {
			kinds = []mrt.MRTSubTypeTableDumpv2{mrt.RIB_IPV6_UNICAST, mrt.RIB_IPV6_UNICAST_ADDPATH, mrt.RIB_IPV6_MULTICAST}
		}
		kind := pick(r, kinds[0], kinds[0], kinds[r.IntN(3)])
		b := binary.BigEndian.AppendUint32(nil, uint32(i))
		b = append(append(b, byte(p.Bits())), p.Addr().AsSlice()[:(p.Bits()+7)/8]...)
		n := r.IntN(6)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
		for range n {
			addPath := kind == kinds[1]
			e, err := mrt.NewRibEntry(uint16(r.IntN(len(peers))), 1767225600, r.Uint32(), attributes(r), addPath).Serialize()
			require.NoError(t, err)
			b = append(b, e...)
		}
		put(kind, ribBody(b))
	}
	return b.Bytes()
}

// attributes returns random attributes of a route.
func attributes(r *rand.Rand) []bgp.PathAttributeInterface {
	numbers := func() (all []uint32) {
		for range 1 + r.IntN(5) {
			all = append(all, pick(r, 1+r.Uint32N(300), 4200000000+r.Uint32N(300)))
		}
		return all
	}
	var path []bgp.AsPathParamInterface
	add := func(kind uint8) { path = append(path, bgp.NewAs4PathParam(kind, numbers())) }
	if r.IntN(8) == 0 { // of a confederation, whose members no other network sees
		add(bgp.BGP_ASPATH_ATTR_TYPE_CONFED_SEQ)
	}
	if r.IntN(8) > 0 {
		add(bgp.BGP_ASPATH_ATTR_TYPE_SEQ)
	}
	if len(path) > 0 && r.IntN(20) == 0 {
		add(bgp.BGP_ASPATH_ATTR_TYPE_SET)
	}
	if r.IntN(100) == 0 { // longer than one segment may be, and than one byte of length
		for range 30 {
			add(bgp.BGP_ASPATH_ATTR_TYPE_SEQ)
		}
	}
	all := []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(0), bgp.NewPathAttributeAsPath(path), bgp.NewPathAttributeMultiExitDisc(r.Uint32())}
	if r.IntN(2) == 0 {
		all[0], all[2] = all[2], all[0]
	}
	return all
}

// routes returns the prefixes of a dump as gobgp reads it, and the ASes of which each is: that
// from which the most routes come, and of those of equally many the one that has so many first.
func routes(t *testing.T, data []byte) (rows []row[asn.AS]) {
	for len(data) > 0 {
		h, err := mrt.ParseHeader(data)
		require.NoError(t, err)
		data = data[mrt.MRT_COMMON_HEADER_LEN:]
		m, err := mrt.ParseBody(data[:h.Len], h)
		require.NoError(t, err)
		data = data[h.Len:]
		rib, ok := m.Body.(*mrt.Rib)
		if !ok || rib.Family != bgp.RF_IPv4_UC && rib.Family != bgp.RF_IPv6_UC {
			continue
		}
		best, count := asn.AS{}, map[uint32]int{}
		for _, e := range rib.Entries {
			origin := uint32(0)
			for _, a := range e.PathAttributes {
				path, ok := a.(*bgp.PathAttributeAsPath)
				if !ok {
					continue
				}
				for _, segment := range path.Value {
					if kind := segment.GetType(); kind == bgp.BGP_ASPATH_ATTR_TYPE_SEQ || kind == bgp.BGP_ASPATH_ATTR_TYPE_SET {
						numbers := segment.GetAS()
						if origin = numbers[len(numbers)-1]; kind == bgp.BGP_ASPATH_ATTR_TYPE_SET {
							origin = numbers[0]
						}
					}
				}
			}
			if count[origin]++; origin != 0 && (best.Number == 0 || count[origin] > count[best.Number]) {
				best.Number = origin
			}
		}
		p := rib.Prefix.(*bgp.IPAddrPrefix).Prefix
		if best.Number != 0 && p.Bits() > 0 { // and no default route
			rows = append(rows, row[asn.AS]{p.Addr(), last(p), best})
		}
	}
	return rows
}

// TestMRT compares dumps of routing tables with gobgp's reader.
func TestMRT(t *testing.T) {
	t.Parallel()
	r := random.For(t)
	data := dump(t, r)
	rows := routes(t, data)
	require.Greater(t, len(rows), 7000)
	db, err := asn.Open(written(t, "rib", data))
	require.NoError(t, err)
	require.Empty(t, db.Remarks())
	agree(t, probes(r, rows, lookups), networksOf(db), twinOf(rows).find, sameAS)
}
