//go:build amd64 || arm64 || loong64 || riscv64

package bpf

import (
	"bytes"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Delay is how long the programs may let the reader sleep although there are events.
const Delay = 100 * time.Millisecond

// A Kind says what a Socket reports. The values are those of connmap.bpf.c.
type Kind uint8

// The kinds.
const (
	Opened     Kind = 1  // a TCP connection opened
	Closed     Kind = 2  // a TCP connection closed
	FlowOpened Kind = 4  // the first packet between a socket and a peer
	Released   Kind = 5  // a socket with flows was closed
	process    Kind = 6  // a Process, not a Socket
	Held       Kind = 7  // a process holds this socket
	Listening  Kind = 8  // a process holds this socket, which listens
	path       Kind = 9  // a Process, not a Socket
	Refused    Kind = 10 // there was no room for a flow of this socket
	payload    Kind = 11 // a Payload, not a Socket
)

// A Socket is a report on a TCP connection, a flow or a socket.
type Socket struct {
	Kind        Kind
	Proto       uint8
	State       uint8 // of TCP; the one before closing if Kind is Closed
	Direction   uint8 // 1: out, 2: in, 0: unknown
	Connected   bool  // the socket has only this peer
	Unreported  bool  // no event has reported this flow, or, if Kind is Released, some flow of the socket
	Local, Peer netip.AddrPort
	UID         uint32
	Cookie      uint64
	Time        int64 // ns since boot, including suspended time
	Opened      int64 // as Time
	Tx, Rx      uint64
	RTT         time.Duration
	NetNS       uint32
	Owner       Owner  // if Kind is Held, a process that holds the socket
	Primary     uint32 // if Kind is Held, the PID of the owner; zero: unknown
}

// An Owner identifies a process. Each Socket has one.
type Owner struct {
	PID   uint32
	Exec  uint32 // how many programs the process has executed, to tell them apart
	Start int64  // ns since boot
	Comm  [16]byte
}

// CommText returns Comm without the zero bytes at its end.
func (o *Owner) CommText() []byte {
	if i := bytes.IndexByte(o.Comm[:], 0); i >= 0 {
		return o.Comm[:i]
	}
	return o.Comm[:]
}

// A Process describes a process. Each is reported once.
type Process struct {
	PID    uint32
	Exec   uint32
	Start  int64
	Exe    string // path of the executable; empty: a second Process has it, since it is long
	Cgroup string // path of the cgroup; empty in that second Process
}

// A Payload is a part of that of a packet, which may name the peer: of DNS, or of the beginning of TLS,
// QUIC or HTTP.
type Payload struct {
	Proto  uint8
	Sent   bool
	Peer   netip.AddrPort
	Seq    uint32 // of TCP, of the first byte
	Begins bool   // it is the first of a TCP connection's that may name the peer
	UID    uint32
	Cookie uint64
	Owner  Owner
	Data   []byte
}

// A Change is a report on a socket that has changed.
type Change struct {
	Cookie  uint64
	Counted bool // State, UID, Tx, Rx and RTT, of a TCP connection, are current
	State   uint8
	UID     uint32
	Tx, Rx  uint64
	RTT     time.Duration
	Owned   bool // Owner is set, and may have changed
	Owner   Owner
}

const (
	socketSize  = int(unsafe.Sizeof(connmapSockEvent{}))
	processSize = int(unsafe.Sizeof(connmapProcessEvent{}))
	pathSize    = int(unsafe.Sizeof(connmapPathEvent{}))
	changeSize  = int(unsafe.Sizeof(connmapChange{}))
	payloadSize = int(unsafe.Offsetof(connmapPayload{}.Data)) // Go pads it at its end
)

// decode copies b into a value without pointers, if their sizes agree.
func decode[T any](v *T, b []byte) bool {
	// The ring rounds sizes up to 8 bytes.
	if size := int(unsafe.Sizeof(*v)); len(b) < size || len(b) >= size+8 {
		return false
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)), b)
	return true
}

func (s *Socket) parse(b []byte) bool {
	var r connmapSockEvent
	if !decode(&r, b) || r.Kind == 0 || Kind(r.Kind) == process || Kind(r.Kind) == path || Kind(r.Kind) > Refused {
		return false
	}
	local, peer := netip.AddrFrom16(r.Local).Unmap(), netip.AddrFrom16(r.Peer).Unmap()
	if r.Family == unix.AF_INET {
		local, peer = netip.AddrFrom4([4]byte(r.Local[:4])), netip.AddrFrom4([4]byte(r.Peer[:4]))
	} else {
		local, peer = zoned(local, r.Device), zoned(peer, r.Device)
	}
	*s = Socket{
		Kind: Kind(r.Kind), Proto: r.Proto, State: r.State, Direction: r.Out, Connected: r.Connected != 0, Unreported: r.Unreported != 0,
		Local: netip.AddrPortFrom(local, bits.ReverseBytes16(r.LocalPort)), Peer: netip.AddrPortFrom(peer, bits.ReverseBytes16(r.PeerPort)),
		UID: r.Uid, Cookie: r.Cookie, Time: int64(r.Time), Opened: int64(r.Opened), Tx: r.Tx, Rx: r.Rx,
		RTT: time.Duration(r.Rtt) * time.Microsecond, NetNS: r.Netns,
		Owner:   ownerOf(&r.Owner),
		Primary: r.Primary,
	}
	return true
}

func (s *Payload) parse(b []byte) bool {
	if len(b) < payloadSize || Kind(b[0]) != payload {
		return false
	}
	var r connmapPayload
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&r)), payloadSize), b)
	data := b[payloadSize:]
	if int(r.Len) > len(data) {
		return false
	}
	*s = Payload{
		Proto: r.Proto, Sent: r.Out == 1, Seq: r.Seq, Begins: r.Begins != 0, UID: r.Uid, Cookie: r.Cookie, Owner: ownerOf(&r.Owner), Data: data[:r.Len],
		Peer: netip.AddrPortFrom(netip.AddrFrom16(r.Peer).Unmap(), bits.ReverseBytes16(r.PeerPort)),
	}
	return true
}

// zoned returns a link-local IPv6 address with the index of its device as zone.
func zoned(a netip.Addr, device uint32) netip.Addr {
	if device == 0 || !a.Is6() || !a.IsLinkLocalUnicast() && !a.IsLinkLocalMulticast() {
		return a
	}
	return a.WithZone(strconv.FormatUint(uint64(device), 10))
}

// device returns the index that zoned has set.
func device(a netip.Addr) uint32 {
	n, _ := strconv.ParseUint(a.Zone(), 10, 32)
	return uint32(n)
}

func ownerOf(o *connmapOwner) Owner {
	return Owner{PID: o.Pid, Exec: o.Exec, Start: int64(o.Start), Comm: name(o.Comm)}
}

func name(c [16]int8) (b [16]byte) {
	for i, x := range c {
		b[i] = byte(x)
	}
	return b
}

func (s *Socket) flow(k *connmapFlowKey, f *connmapFlow) {
	*s = Socket{
		Kind: FlowOpened, Unreported: f.Reported == 0, Proto: k.Proto, Direction: f.Out, Connected: f.Connected != 0,
		Local: netip.AddrPortFrom(zoned(netip.AddrFrom16(f.Local).Unmap(), f.Device), bits.ReverseBytes16(f.LocalPort)),
		Peer:  netip.AddrPortFrom(zoned(netip.AddrFrom16(k.Peer).Unmap(), f.Device), bits.ReverseBytes16(k.PeerPort)),
		UID:   f.Uid, Cookie: k.Cookie, Opened: int64(f.Opened), Tx: f.Tx, Rx: f.Rx,
		Owner: ownerOf(&f.Owner),
	}
}

// Key returns the key of the flow that s reports.
func (s *Socket) Key() FlowKey { return KeyOf(s.Cookie, s.Proto, s.Peer) }

// KeyOf returns the key of the flow between a socket and a peer.
func KeyOf(cookie uint64, proto uint8, peer netip.AddrPort) FlowKey {
	return FlowKey{Cookie: cookie, Peer: peer.Addr().As16(), PeerPort: bits.ReverseBytes16(peer.Port()), Proto: proto}
}

func (s *Socket) value() connmapFlow {
	f := connmapFlow{
		Opened: uint64(s.Opened), Local: s.Local.Addr().As16(), LocalPort: bits.ReverseBytes16(s.Local.Port()),
		Out: s.Direction, Uid: s.UID, Device: max(device(s.Local.Addr()), device(s.Peer.Addr())),
	}
	if s.Connected {
		f.Connected = 1
	}
	if !s.Unreported {
		f.Reported = 1
	}
	f.Owner.Pid, f.Owner.Exec, f.Owner.Start = s.Owner.PID, s.Owner.Exec, uint64(s.Owner.Start)
	for i, x := range s.Owner.Comm {
		f.Owner.Comm[i] = int8(x)
	}
	return f
}

func (c *Change) parse(b []byte) bool {
	var r connmapChange
	if !decode(&r, b) {
		return false
	}
	*c = Change{
		Cookie: r.Cookie, Counted: r.Counted != 0, State: r.State, UID: r.Uid, Tx: r.Tx, Rx: r.Rx,
		RTT: time.Duration(r.Rtt) * time.Microsecond, Owned: r.Owned != 0, Owner: ownerOf(&r.Owner),
	}
	return true
}

func parseProcess(b []byte) (Process, bool) {
	var r connmapProcessEvent
	var long connmapPathEvent
	switch {
	case decode(&r, b) && Kind(r.Kind) == process:
		return Process{r.Pid, r.Exec, int64(r.Start), joinPath(r.Exe[:], r.ExeLen), joinPath(r.Cgroup[:], r.CgroupLen)}, true
	case decode(&long, b) && Kind(long.Kind) == path:
		return Process{long.Pid, long.Exec, int64(long.Start), joinPath(long.Exe[:], long.Len), ""}, true
	}
	return Process{}, false
}

// joinPath joins the n bytes of parts of a path, of which the last part comes first.
func joinPath(c []int8, n uint16) string {
	b := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(c))), len(c))[:min(int(n), len(c))]
	b = bytes.TrimSuffix(b, []byte{0})
	if len(b) == 0 {
		return ""
	}
	parts := strings.Split(string(b), "\x00")
	slices.Reverse(parts)
	return "/" + strings.Join(parts, "/")
}

// cgroupMount returns the mount point of a cgroup2 file system in a /proc/PID/mountinfo,
// preferably one of the whole hierarchy.
func cgroupMount(mountinfo []byte) (dir string, complete bool) {
	for line := range bytes.Lines(mountinfo) {
		front, back, ok := bytes.Cut(line, []byte(" - "))
		f, g := bytes.Fields(front), bytes.Fields(back)
		if !ok || len(f) < 5 || len(g) < 1 || string(g[0]) != "cgroup2" {
			continue
		}
		if complete = string(f[3]) == "/"; complete || dir == "" {
			dir = unescape(string(f[4]))
		}
		if complete {
			break
		}
	}
	return dir, complete
}

// unescape decodes the octal escapes of mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// missing names the needed capabilities that a process with this /proc/PID/status lacks.
func missing(status []byte) (names string, known bool) {
	for line := range bytes.Lines(status) {
		digits, ok := bytes.CutPrefix(line, []byte("CapEff:"))
		if !ok {
			continue
		}
		caps, err := strconv.ParseUint(string(bytes.TrimSpace(digits)), 16, 64)
		if err != nil || caps&(1<<unix.CAP_SYS_ADMIN) != 0 {
			return "", err == nil
		}
		var lacks []string
		for _, c := range []struct {
			bit  uint
			name string
		}{{unix.CAP_BPF, "CAP_BPF"}, {unix.CAP_PERFMON, "CAP_PERFMON"}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}} {
			if caps&(1<<c.bit) == 0 {
				lacks = append(lacks, c.name)
			}
		}
		return strings.Join(lacks, ", "), true
	}
	return "", false
}
