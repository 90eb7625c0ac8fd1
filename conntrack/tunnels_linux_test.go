//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"
)

// An attr is an attribute of a message of netlink: a value, or attributes in it.
type attr struct {
	typ   uint16
	value []byte
	in    []attr
}

func encode(header []byte, list ...attr) []byte {
	b := slices.Clone(header)
	for _, a := range list {
		if a.in != nil {
			a.typ, a.value = a.typ|unix.NLA_F_NESTED, encode(nil, a.in...)
		}
		b = appendAttribute(b, a.typ, a.value)
	}
	return b
}

func u16(n uint16) []byte  { return binary.NativeEndian.AppendUint16(nil, n) }
func u32(n uint32) []byte  { return binary.NativeEndian.AppendUint32(nil, n) }
func u64(n uint64) []byte  { return binary.NativeEndian.AppendUint64(nil, n) }
func be16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
func addr(s string) []byte { return netip.MustParseAddr(s).AsSlice() }
func text(s string) []byte { return append([]byte(s), 0) }
func stats(n ...uint64) (b []byte) {
	for _, v := range n {
		b = append(b, u64(v)...)
	}
	return b
}

// linkMessage is what RTM_GETLINK answers about a device.
func linkMessage(kind string, data ...attr) []byte {
	header := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(header[4:], 42)
	return encode(header,
		attr{typ: unix.IFLA_IFNAME, value: text("tun0")},
		attr{typ: unix.IFLA_STATS64, value: stats(1, 2, 300, 400, 5, 6)},
		attr{typ: unix.IFLA_LINKINFO, in: []attr{
			{typ: unix.IFLA_INFO_KIND, value: text(kind)},
			{typ: unix.IFLA_INFO_DATA, in: data},
		}})
}

func TestParseTunnel(t *testing.T) {
	v4, v6 := netip.MustParseAddr("198.51.100.20"), netip.MustParseAddr("2001:db8:b::20")
	own4, own6 := netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("2001:db8:a::10")
	moved := append(linkMessage(wireGuard), encode(nil, attr{typ: unix.IFLA_LINK_NETNSID, value: u32(3)})...)
	for _, tt := range []struct {
		name string
		b    []byte
		want tunnel
		ok   bool
	}{
		{"VXLAN", linkMessage("vxlan", attr{typ: 2, value: addr("198.51.100.20")}, attr{typ: 3, value: u32(7)}, attr{typ: 4, value: addr("203.0.113.10")}, attr{typ: 15, value: be16(4789)}, attr{typ: 25, value: []byte{0}}),
			tunnel{kind: vxlan, proto: UDP, remote: v4, local: own4, port: 4789, lower: 7}, true},
		{"VXLAN over IPv6", linkMessage("vxlan", attr{typ: 16, value: addr("2001:db8:b::20")}, attr{typ: 17, value: addr("2001:db8:a::10")}, attr{typ: 15, value: be16(8472)}),
			tunnel{kind: vxlan, proto: UDP, remote: v6, local: own6, port: 8472}, true},
		{"VXLAN without remote", linkMessage("vxlan", attr{typ: 15, value: be16(4789)}), tunnel{kind: vxlan, proto: UDP, port: 4789}, true},
		{"VXLAN, external", linkMessage("vxlan", attr{typ: 15, value: be16(4789)}, attr{typ: 25, value: []byte{1}}), tunnel{}, false},
		{"GENEVE", linkMessage("geneve", attr{typ: 2, value: addr("198.51.100.20")}, attr{typ: 5, value: be16(6081)}), tunnel{kind: "geneve", proto: UDP, remote: v4, port: 6081}, true},
		{"GENEVE over IPv6", linkMessage("geneve", attr{typ: 7, value: addr("2001:db8:b::20")}, attr{typ: 5, value: be16(6081)}), tunnel{kind: "geneve", proto: UDP, remote: v6, port: 6081}, true},
		{"GENEVE, external", linkMessage("geneve", attr{typ: 6}), tunnel{}, false},
		{"GRE", linkMessage("gretap", attr{typ: 6, value: addr("203.0.113.10")}, attr{typ: 7, value: addr("198.51.100.20")}, attr{typ: 14, value: u16(0)}), tunnel{kind: "gretap", proto: gre, remote: v4, local: own4}, true},
		{"GRE over IPv6", linkMessage("ip6gre", attr{typ: 6, value: addr("::")}, attr{typ: 7, value: addr("2001:db8:b::20")}), tunnel{kind: "ip6gre", proto: gre, remote: v6}, true},
		{"GRE to any", linkMessage("gre", attr{typ: 6, value: addr("0.0.0.0")}, attr{typ: 7, value: addr("0.0.0.0")}), tunnel{}, false},
		{"GRE in UDP", linkMessage("gre", attr{typ: 7, value: addr("198.51.100.20")}, attr{typ: 14, value: u16(1)}), tunnel{}, false},
		{"IP in IP", linkMessage("ipip", attr{typ: 3, value: addr("198.51.100.20")}, attr{typ: 9, value: []byte{0}}), tunnel{kind: "ipip", proto: 4, remote: v4}, true},
		{"IPv4 in IPv6", linkMessage("ip6tnl", attr{typ: 3, value: addr("2001:db8:b::20")}, attr{typ: 9, value: []byte{4}}), tunnel{kind: "ip6tnl", proto: 4, remote: v6}, true},
		{"IPv6 in IP", linkMessage("sit", attr{typ: 3, value: addr("198.51.100.20")}), tunnel{kind: "sit", proto: 41, remote: v4}, true},
		{"IP in IP, external", linkMessage("ipip", attr{typ: 3, value: addr("198.51.100.20")}, attr{typ: 19}), tunnel{}, false},
		{"WireGuard", linkMessage(wireGuard), tunnel{kind: wireGuard, proto: UDP}, true},
		{"WireGuard from elsewhere", moved, tunnel{kind: wireGuard, proto: UDP, moved: true}, true},
		{"no tunnel", linkMessage("veth"), tunnel{}, false},
		{"an address of no family", linkMessage("geneve", attr{typ: 2, value: make([]byte, 5)}), tunnel{}, false},
		{"cut off", linkMessage("geneve")[:15], tunnel{}, false},
		{"empty", nil, tunnel{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got tunnel
			ok := got.parse(tt.b)
			assert.Equal(t, tt.ok, ok)
			if ok {
				tt.want.name, tt.want.index, tt.want.rx, tt.want.tx = "tun0", 42, 300, 400
				assert.Equal(t, tt.want, got)
			}
		})
	}
}

// neighbourMessage is what RTM_GETNEIGH answers about an entry of a device.
func neighbourMessage(state uint16, list ...attr) []byte {
	header := make([]byte, 12)
	header[0] = unix.AF_BRIDGE
	binary.NativeEndian.PutUint32(header[4:], 42)
	binary.NativeEndian.PutUint16(header[8:], state)
	return encode(header, list...)
}

// cacheInfo is a struct nda_cacheinfo with times in hundredths of a second.
func cacheInfo(used, updated uint32) attr {
	return attr{typ: unix.NDA_CACHEINFO, value: slices.Concat(u32(0), u32(used), u32(updated), u32(1))}
}

func TestParseRemote(t *testing.T) {
	const neverUsed = time.Duration(math.MaxInt64)
	to := attr{typ: unix.NDA_DST, value: addr("198.51.100.20")}
	remote := netip.MustParseAddrPort("198.51.100.20:4789")
	for _, tt := range []struct {
		name string
		b    []byte
		want netip.AddrPort
		ago  time.Duration
		ok   bool
	}{
		{"set, and used since", neighbourMessage(unix.NUD_PERMANENT, to, cacheInfo(50, 900)), remote, 500 * time.Millisecond, true},
		{"set, and not used since", neighbourMessage(unix.NUD_PERMANENT, to, cacheInfo(900, 900)), remote, neverUsed, true},
		{"set anew, and not used since", neighbourMessage(unix.NUD_NOARP|unix.NUD_REACHABLE, to, cacheInfo(900, 5)), remote, neverUsed, true},
		{"learned, and received from", neighbourMessage(unix.NUD_REACHABLE, to, cacheInfo(900, 5)), remote, 50 * time.Millisecond, true},
		{"learned, and sent to", neighbourMessage(unix.NUD_REACHABLE, to, cacheInfo(5, 900)), remote, 50 * time.Millisecond, true},
		{"another port", neighbourMessage(unix.NUD_REACHABLE, to, attr{typ: unix.NDA_PORT, value: be16(8472)}), netip.MustParseAddrPort("198.51.100.20:8472"), neverUsed, true},
		{"IPv6", neighbourMessage(unix.NUD_REACHABLE, attr{typ: unix.NDA_DST, value: addr("2001:db8:b::20")}), netip.MustParseAddrPort("[2001:db8:b::20]:4789"), neverUsed, true},
		{"of a bridge", neighbourMessage(unix.NUD_REACHABLE, attr{typ: unix.NDA_LLADDR, value: make([]byte, 6)}), netip.AddrPort{}, 0, false},
		{"empty", nil, netip.AddrPort{}, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ago, ok := parseRemote(tt.b, &tunnel{index: 42, port: 4789})
			assert.Equal(t, tt.ok, ok)
			if ok {
				assert.Equal(t, tt.want, got)
				assert.Equal(t, tt.ago, ago)
			}
			_, _, ok = parseRemote(tt.b, &tunnel{index: 43, port: 4789})
			assert.False(t, ok, "of another device")
		})
	}
}

func TestParseRoute(t *testing.T) {
	b := encode(make([]byte, 12), attr{typ: unix.RTA_OIF, value: u32(7)}, attr{typ: unix.RTA_PREFSRC, value: addr("203.0.113.10")})
	from, by := parseRoute(b)
	assert.Equal(t, netip.MustParseAddr("203.0.113.10"), from)
	assert.Equal(t, int32(7), by)
	from, by = parseRoute(b[:11])
	assert.Equal(t, netip.Addr{}, from)
	assert.Zero(t, by)
}

// endpointAttr is a struct sockaddr_in or sockaddr_in6.
func endpointAttr(s string) attr {
	a := netip.MustParseAddrPort(s)
	b := slices.Concat(u16(unix.AF_INET), be16(a.Port()), a.Addr().AsSlice(), make([]byte, 8))
	if a.Addr().Is6() {
		b = slices.Concat(u16(unix.AF_INET6), be16(a.Port()), make([]byte, 4), a.Addr().AsSlice(), make([]byte, 4))
	}
	return attr{typ: unix.WGPEER_A_ENDPOINT, value: b}
}

// wireGuardMessage is what WG_CMD_GET_DEVICE answers first.
func wireGuardMessage() []byte {
	peer := func(key byte, list ...attr) attr {
		return attr{in: append([]attr{
			{typ: unix.WGPEER_A_PUBLIC_KEY, value: bytes.Repeat([]byte{key}, 32)},
			{typ: unix.WGPEER_A_PRESHARED_KEY, value: make([]byte, 32)},
		}, list...)}
	}
	return encode([]byte{0, 1, 0, 0},
		attr{typ: unix.WGDEVICE_A_PRIVATE_KEY, value: make([]byte, 32)},
		attr{typ: unix.WGDEVICE_A_LISTEN_PORT, value: u16(51820)},
		attr{typ: unix.WGDEVICE_A_PEERS, in: []attr{
			peer(1, endpointAttr("198.51.100.20:51821"), attr{typ: unix.WGPEER_A_RX_BYTES, value: u64(300)}, attr{typ: unix.WGPEER_A_TX_BYTES, value: u64(400)}),
			peer(2, attr{typ: unix.WGPEER_A_RX_BYTES, value: u64(5)}), // without endpoint
			peer(3, endpointAttr("[2001:db8:b::20]:51822"), attr{typ: unix.WGPEER_A_ALLOWEDIPS, in: []attr{{in: []attr{{typ: 1, value: u16(unix.AF_INET)}}}}}),
			peer(4, endpointAttr("[::ffff:198.51.100.21]:51823")),
		}})
}

func TestParseWireGuard(t *testing.T) {
	var got []wireGuardPeer
	port := parseWireGuard(wireGuardMessage(), func(p *wireGuardPeer) { got = append(got, *p) })
	key := func(b byte) wireGuardKey { return wireGuardKey(bytes.Repeat([]byte{b}, 32)) }
	assert.Equal(t, uint16(51820), port)
	assert.Equal(t, []wireGuardPeer{
		{key: key(1), endpoint: netip.MustParseAddrPort("198.51.100.20:51821"), tx: 400, rx: 300},
		{key: key(3), endpoint: netip.MustParseAddrPort("[2001:db8:b::20]:51822")},
		{key: key(4), endpoint: netip.MustParseAddrPort("198.51.100.21:51823")},
	}, got)
	assert.Zero(t, parseWireGuard([]byte{0, 1}, nil))
	assert.False(t, sockaddr(append(u16(unix.AF_INET6), make([]byte, 14)...)).IsValid())
}

func TestMeter(t *testing.T) {
	assert.Equal(t, meter{30, 4}, meter{130, 204}.since(meter{100, 200}))
	assert.Equal(t, meter{30, 204}, meter{30, 204}.since(meter{100, 200}), "counted anew")
}

// FuzzTunnels: whatever the kernel says of tunnels, addresses are as they are elsewhere.
func FuzzTunnels(f *testing.F) {
	f.Add(linkMessage("vxlan", attr{typ: 2, value: addr("198.51.100.20")}, attr{typ: 3, value: u32(7)}, attr{typ: 15, value: be16(4789)}))
	f.Add(linkMessage("ip6gre", attr{typ: 6, value: addr("::ffff:198.51.100.20")}, attr{typ: 7, value: addr("2001:db8:b::20")}))
	f.Add(neighbourMessage(unix.NUD_REACHABLE, attr{typ: unix.NDA_DST, value: addr("198.51.100.20")}, cacheInfo(5, 900)))
	f.Add(encode(make([]byte, 12), attr{typ: unix.RTA_OIF, value: u32(7)}, attr{typ: unix.RTA_PREFSRC, value: addr("203.0.113.10")}))
	f.Add(wireGuardMessage())
	f.Fuzz(func(t *testing.T, b []byte) {
		var x tunnel
		check := func(a netip.Addr) {
			if a.Is4In6() || a.IsValid() && a.IsUnspecified() {
				t.Error(a)
			}
		}
		if x.parse(b) {
			if x.proto == 0 || x.kind == "" {
				t.Errorf("%+v", x)
			}
			check(x.local)
			check(x.remote)
		}
		if peer, ago, ok := parseRemote(b, &x); ok {
			if ago < 0 || !peer.IsValid() {
				t.Error(peer, ago)
			}
			check(peer.Addr())
		}
		from, _ := parseRoute(b)
		check(from)
		parseWireGuard(b, func(p *wireGuardPeer) {
			if !p.endpoint.IsValid() {
				t.Errorf("%+v", p)
			}
			check(p.endpoint.Addr())
		})
	})
}
