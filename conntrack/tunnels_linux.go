//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// This file reads the kernel's tunnels: devices and their neighbours by rtnetlink(7), WireGuard
// by generic netlink.

// A tunnel is a device that wraps packets in packets of its own, and sends them to other hosts.
type tunnel struct {
	kind   string // as in ip-link(8)
	name   string
	index  int32
	proto  Proto
	local  netip.Addr // zero: any
	remote netip.Addr // zero: none, or several
	port   uint16     // of both ends
	lower  int32      // index of the lower device that must send its packets; zero: any
	moved  bool       // it sends from another network namespace than its own
	tx, rx uint64     // bytes
}

const (
	vxlan     = "vxlan"
	wireGuard = "wireguard"
)

const gre Proto = 47

// neverUsed is the age of a remote to which nothing was ever sent.
const neverUsed = time.Duration(math.MaxInt64)

// A tunnelKind has the types of a device's attributes; zero: it has no such attribute.
type tunnelKind struct {
	proto                                        Proto
	local, local6, remote, remote6               uint16
	lower, port, innerProto, external, encapType uint16
}

// kindOf returns the attributes of a kind of device, from linux/if_link.h and linux/if_tunnel.h.
func kindOf(name []byte) (k tunnelKind, ok bool) {
	switch string(name) {
	case vxlan:
		return tunnelKind{proto: UDP, local: 4, local6: 17, remote: 2, remote6: 16, lower: 3, port: 15, external: 25}, true
	case "geneve":
		return tunnelKind{proto: UDP, remote: 2, remote6: 7, port: 5, external: 6}, true
	case wireGuard:
		return tunnelKind{proto: UDP}, true
	case "gre", "gretap", "ip6gre", "ip6gretap":
		return tunnelKind{proto: gre, local: 6, remote: 7, lower: 1, encapType: 14, external: 18}, true
	case "ipip":
		k.proto = unix.IPPROTO_IPIP
	case "sit", "ip6tnl":
		k.proto = unix.IPPROTO_IPV6
	default:
		return k, false
	}
	k.local, k.remote, k.lower, k.innerProto, k.encapType, k.external = 2, 3, 1, 9, 15, 19
	return k, true
}

// parse reads a struct ifinfomsg and the attributes that follow it. It reports whether the
// device is a tunnel whose peers the kernel may know.
func (t *tunnel) parse(b []byte) bool {
	if len(b) < unix.SizeofIfInfomsg {
		return false
	}
	ne := binary.NativeEndian
	*t = tunnel{index: int32(ne.Uint32(b[4:]))}
	var name, kind, data []byte
	for typ, v := range attributes(b[unix.SizeofIfInfomsg:]) {
		switch typ {
		case unix.IFLA_IFNAME:
			name = v
		case unix.IFLA_STATS64:
			if len(v) >= 32 {
				t.rx, t.tx = ne.Uint64(v[16:]), ne.Uint64(v[24:])
			}
		case unix.IFLA_LINK_NETNSID:
			t.moved = true
		case unix.IFLA_LINKINFO:
			for typ, v := range attributes(v) {
				switch typ {
				case unix.IFLA_INFO_KIND:
					kind = bytes.TrimSuffix(v, []byte{0})
				case unix.IFLA_INFO_DATA:
					data = v
				}
			}
		}
	}
	has, ok := kindOf(kind)
	if !ok {
		return false
	}
	t.kind, t.name, t.proto = string(kind), unix.ByteSliceToString(name), has.proto
	for typ, v := range attributes(data) {
		switch {
		case typ == 0:
		case typ == has.local || typ == has.local6:
			t.local = address(v)
		case typ == has.remote || typ == has.remote6:
			t.remote = address(v)
		case typ == has.port && len(v) == 2:
			t.port = binary.BigEndian.Uint16(v)
		case typ == has.lower && len(v) == 4:
			t.lower = int32(ne.Uint32(v))
		case typ == has.innerProto && len(v) == 1 && v[0] != 0:
			t.proto = Proto(v[0])
		case typ == has.external && (len(v) == 0 || v[0] != 0):
			return false // the peer is in each packet's metadata
		case typ == has.encapType && len(v) == 2 && ne.Uint16(v) != 0:
			return false // wrapped in UDP, with ports that need not be the peer's
		}
	}
	return t.remote.IsValid() || t.kind == vxlan || t.kind == wireGuard
}

// address reads an address; an unspecified one becomes the zero Addr.
func address(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	if a = a.Unmap(); a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// tunnels calls visit for each tunnel of the network namespace, without its bytes. The tunnel
// is valid during the call only.
func (n *netlink) tunnels(visit func(*tunnel)) error {
	const skipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS
	req := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg)
	req = appendAttribute(req, unix.IFLA_EXT_MASK, binary.NativeEndian.AppendUint32(nil, skipStats))
	var t tunnel
	return n.request(unix.RTM_GETLINK, unix.NLM_F_DUMP, req, func(b []byte) {
		if t.parse(b) {
			visit(&t)
		}
	})
}

// tunnel reads one tunnel. The error is ENODEV if no tunnel has that index.
func (n *netlink) tunnel(index int32) (t tunnel, err error) {
	req := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(req[unix.SizeofNlMsghdr+4:], uint32(index))
	ok := false
	err = n.request(unix.RTM_GETLINK, unix.NLM_F_ACK, req, func(b []byte) { ok = t.parse(b) })
	if err == nil && !ok {
		err = unix.ENODEV
	}
	return t, err
}

// remotes calls visit for each remote of a VXLAN device, with the time since it last sent there
// or received from there.
func (n *netlink) remotes(t *tunnel, visit func(netip.AddrPort, time.Duration)) error {
	req := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg)
	req[unix.SizeofNlMsghdr] = unix.AF_BRIDGE
	binary.NativeEndian.PutUint32(req[unix.SizeofNlMsghdr+4:], uint32(t.index))
	return n.request(unix.RTM_GETNEIGH, unix.NLM_F_DUMP, req, func(b []byte) {
		if peer, ago, ok := parseRemote(b, t); ok {
			visit(peer, ago)
		}
	})
}

// parseRemote reads a struct ndmsg of a device, and the attributes that follow it.
func parseRemote(b []byte, t *tunnel) (peer netip.AddrPort, ago time.Duration, ok bool) {
	const size = 12
	ne := binary.NativeEndian
	if len(b) < size || int32(ne.Uint32(b[4:])) != t.index {
		return peer, 0, false
	}
	static := ne.Uint16(b[8:])&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0
	var addr netip.Addr
	port := t.port
	ago = neverUsed
	for typ, v := range attributes(b[size:]) {
		switch {
		case typ == unix.NDA_DST:
			addr = address(v)
		case typ == unix.NDA_PORT && len(v) == 2:
			port = binary.BigEndian.Uint16(v)
		case typ == unix.NDA_CACHEINFO && len(v) >= 12:
			used, updated := ne.Uint32(v[4:]), ne.Uint32(v[8:])
			// Received packets update an entry that was learned. A static entry is
			// updated when it is set, and has the same age of use until something
			// is sent.
			if static && used >= updated {
				continue
			}
			ago = time.Duration(min(used, updated)) * time.Second / userHZ
		}
	}
	return netip.AddrPortFrom(addr, port), ago, addr.IsValid()
}

// source returns the local address from which the kernel would send; zero: unknown, or the
// packets would leave by the tunnel itself.
func (n *netlink) source(t *tunnel, peer netip.Addr) netip.Addr {
	const size = 12 // struct rtmsg
	dst := peer.AsSlice()
	req := make([]byte, unix.SizeofNlMsghdr+size)
	req[unix.SizeofNlMsghdr] = unix.AF_INET
	if peer.Is6() {
		req[unix.SizeofNlMsghdr] = unix.AF_INET6
	}
	req[unix.SizeofNlMsghdr+1] = uint8(8 * len(dst))
	req = appendAttribute(req, unix.RTA_DST, dst)
	if t.lower != 0 {
		req = appendAttribute(req, unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, uint32(t.lower)))
	}
	var from netip.Addr
	err := n.request(unix.RTM_GETROUTE, unix.NLM_F_ACK, req, func(b []byte) {
		if a, by := parseRoute(b); by != t.index {
			from = a
		}
	})
	if err != nil {
		return netip.Addr{}
	}
	return from
}

// parseRoute reads a struct rtmsg and the attributes that follow it: the source address, and
// the device that sends.
func parseRoute(b []byte) (from netip.Addr, by int32) {
	const size = 12
	if len(b) < size {
		return from, 0
	}
	for typ, v := range attributes(b[size:]) {
		switch {
		case typ == unix.RTA_PREFSRC:
			from = address(v)
		case typ == unix.RTA_OIF && len(v) == 4:
			by = int32(binary.NativeEndian.Uint32(v))
		}
	}
	return from, by
}

// A wireGuardKey is the public key of a peer. It stays when the peer's address changes.
type wireGuardKey [unix.WG_KEY_LEN]byte

// A wireGuardPeer is a peer of a WireGuard device.
type wireGuardPeer struct {
	key      wireGuardKey
	endpoint netip.AddrPort // invalid: unknown so far
	tx, rx   uint64         // bytes
}

const genericHeader = 4 // struct genlmsghdr

// family returns the number of a generic netlink family. It needs a netlink of NETLINK_GENERIC.
func (n *netlink) family(name string) (id uint16, err error) {
	req := append(make([]byte, unix.SizeofNlMsghdr), unix.CTRL_CMD_GETFAMILY, 1, 0, 0)
	req = appendAttribute(req, unix.CTRL_ATTR_FAMILY_NAME, append([]byte(name), 0))
	err = n.request(unix.GENL_ID_CTRL, unix.NLM_F_ACK, req, func(b []byte) {
		if len(b) < genericHeader {
			return
		}
		for typ, v := range attributes(b[genericHeader:]) {
			if typ == unix.CTRL_ATTR_FAMILY_ID && len(v) == 2 {
				id = binary.NativeEndian.Uint16(v)
			}
		}
	})
	if err == nil && id == 0 {
		err = errMalformed
	}
	return id, err
}

// wireGuard calls visit for each peer of a WireGuard device, and returns the port on which the
// device listens. It needs a netlink of NETLINK_GENERIC, and CAP_NET_ADMIN.
func (n *netlink) wireGuard(index int32, visit func(*wireGuardPeer)) (port uint16, err error) {
	family, err := n.family(unix.WG_GENL_NAME)
	if err != nil {
		return 0, err
	}
	// The answer also has the private key.
	defer clear(n.buf)
	req := append(make([]byte, unix.SizeofNlMsghdr), unix.WG_CMD_GET_DEVICE, unix.WG_GENL_VERSION, 0, 0)
	req = appendAttribute(req, unix.WGDEVICE_A_IFINDEX, binary.NativeEndian.AppendUint32(nil, uint32(index)))
	err = n.request(family, unix.NLM_F_DUMP, req, func(b []byte) {
		if p := parseWireGuard(b, visit); p != 0 {
			port = p
		}
	})
	return port, err
}

// parseWireGuard reads a message of WG_CMD_GET_DEVICE, as in linux/wireguard.h. If there are
// several, only the first has the port. A peer with many addresses is in several messages, and
// its first has the fields read here.
func parseWireGuard(b []byte, visit func(*wireGuardPeer)) (port uint16) {
	if len(b) < genericHeader {
		return 0
	}
	for typ, v := range attributes(b[genericHeader:]) {
		switch {
		case typ == unix.WGDEVICE_A_LISTEN_PORT && len(v) == 2:
			port = binary.NativeEndian.Uint16(v)
		case typ == unix.WGDEVICE_A_PEERS:
			for _, v := range attributes(v) {
				if p := parseWireGuardPeer(v); p.endpoint.IsValid() {
					visit(&p)
				}
			}
		}
	}
	return port
}

func parseWireGuardPeer(b []byte) (p wireGuardPeer) {
	for typ, v := range attributes(b) {
		switch {
		case typ == unix.WGPEER_A_PUBLIC_KEY && len(v) == len(p.key):
			p.key = wireGuardKey(v)
		case typ == unix.WGPEER_A_ENDPOINT:
			p.endpoint = sockaddr(v)
		case typ == unix.WGPEER_A_TX_BYTES && len(v) == 8:
			p.tx = binary.NativeEndian.Uint64(v)
		case typ == unix.WGPEER_A_RX_BYTES && len(v) == 8:
			p.rx = binary.NativeEndian.Uint64(v)
		}
	}
	return p
}

// sockaddr reads a struct sockaddr_in or sockaddr_in6; invalid: it is neither, or has no address.
func sockaddr(b []byte) netip.AddrPort {
	var a netip.Addr
	switch {
	case len(b) >= unix.SizeofSockaddrInet4 && binary.NativeEndian.Uint16(b) == unix.AF_INET:
		a = address(b[4:8])
	case len(b) >= unix.SizeofSockaddrInet6 && binary.NativeEndian.Uint16(b) == unix.AF_INET6:
		a = address(b[8:24])
	default:
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[2:]))
}
