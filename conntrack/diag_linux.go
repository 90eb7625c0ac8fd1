package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From linux/sock_diag.h and linux/inet_diag.h.
const (
	tcpDiagGetSock   = 18
	sockDiagByFamily = 20
	extInfo          = 2 // INET_DIAG_INFO: struct tcp_info
	sizeofRequest    = unix.SizeofNlMsghdr + 60
	sizeofMessage    = 72 // struct inet_diag_msg
)

const dumpTries = 4 // how often an interrupted dump is requested

// A diag is the lister of the backend Diag: a sock_diag socket and its buffer.
type diag struct {
	*netlink
	log   *slog.Logger
	noUDP bool
	req   [sizeofRequest]byte
	sock  sock // reused, since passing a new one to each call of add would allocate
}

func openDiag(o Options) (backend, error) {
	n, err := openNetlink(unix.NETLINK_SOCK_DIAG, make([]byte, 256<<10))
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, fmt.Errorf("%w: the kernel has no sock_diag (%w): load the module inet_diag, or use a kernel with CONFIG_INET_DIAG", errors.ErrUnsupported, err)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open a netlink socket for sock_diag: %w: a sandbox may forbid it", err)
	}
	d := &diag{log: o.Logger, netlink: n}
	if err := d.dumpTCP(1<<stateListen, func([]byte) {}); err != nil {
		d.close()
		if errors.Is(err, unix.ENOENT) {
			return nil, fmt.Errorf("%w: the kernel's sock_diag does not know TCP (%w): load the module tcp_diag, or use a kernel with CONFIG_INET_TCP_DIAG", errors.ErrUnsupported, err)
		}
		return nil, fmt.Errorf("the kernel refused to list TCP sockets: %w", err)
	}
	var limited []string
	if err := d.dumpUDP(unix.AF_INET, 1<<stateListen, func([]byte) {}); err != nil {
		limited = append(limited, "UDP is not seen: load the kernel module udp_diag, or use a kernel with CONFIG_INET_UDP_DIAG")
		d.log.Warn("conntrack: the kernel refused to list UDP sockets", "error", err)
		d.noUDP = true
	}
	return newLinuxPoller(Diag, o, d, limited...), nil
}

func (d *diag) list(ctx context.Context, add func(Proto, *sock)) error {
	err := d.complete(ctx, TCP, func() error {
		return d.dumpTCP(tcpStates|1<<stateListen, func(b []byte) { d.visit(b, TCP, add) })
	})
	if d.noUDP {
		return err
	}
	for _, family := range [...]uint8{unix.AF_INET, unix.AF_INET6} {
		if err != nil {
			return err
		}
		err = d.complete(ctx, UDP, func() error {
			return d.dumpUDP(family, 1<<stateEstablished|1<<stateClose, func(b []byte) { d.visit(b, UDP, add) })
		})
	}
	return err
}

func (d *diag) visit(b []byte, proto Proto, add func(Proto, *sock)) {
	if d.sock.parse(b) {
		add(proto, &d.sock)
	}
}

// complete calls dump until its answer is consistent, at most dumpTries times.
func (d *diag) complete(ctx context.Context, proto Proto, dump func() error) error {
	for try := 1; ; try++ {
		// A dump cannot be canceled: it must be read to its end, which takes milliseconds.
		if err := ctx.Err(); err != nil {
			return err
		}
		err := dump()
		if err == nil {
			return nil
		}
		if err != errInterrupted || try == dumpTries {
			return fmt.Errorf("cannot list %v sockets: %w", proto, err)
		}
		d.log.Debug("conntrack: list of sockets interrupted, trying again", "proto", proto.String(), "try", try)
	}
}

// dumpTCP calls visit with the inet_diag_msg and attributes of each TCP socket whose state is
// in the set states. They are valid during the call only. The error is errInterrupted if a
// retry may help.
//
// It sends a struct inet_diag_req, which lists both families in one pass over the kernel's
// table. A struct inet_diag_req_v2 cannot do that.
func (d *diag) dumpTCP(states uint32, visit func([]byte)) error {
	clear(d.req[:])
	req := d.req[unix.SizeofNlMsghdr:]
	req[3] = 1 << (extInfo - 1)
	binary.NativeEndian.PutUint32(req[52:], states)
	return d.request(tcpDiagGetSock, unix.NLM_F_DUMP, d.req[:], visit)
}

// dumpUDP does the same for the UDP sockets of one family.
func (d *diag) dumpUDP(family uint8, states uint32, visit func([]byte)) error {
	clear(d.req[:])
	req := d.req[unix.SizeofNlMsghdr:]
	req[0] = family
	req[1] = unix.IPPROTO_UDP
	binary.NativeEndian.PutUint32(req[4:], states)
	return d.request(sockDiagByFamily, unix.NLM_F_DUMP, d.req[:unix.SizeofNlMsghdr+56], visit)
}

// parse reads a struct inet_diag_msg and the attributes that follow it.
func (s *sock) parse(b []byte) bool {
	if len(b) < sizeofMessage {
		return false
	}
	ne := binary.NativeEndian
	*s = sock{state: b[1], timer: b[2]}
	var local, peer netip.Addr
	switch b[0] {
	case unix.AF_INET:
		local = netip.AddrFrom4([4]byte(b[8:12]))
		peer = netip.AddrFrom4([4]byte(b[24:28]))
	case unix.AF_INET6:
		// Sockets of dual-stack servers have IPv4 peers as ::ffff:a.b.c.d.
		device := ne.Uint32(b[40:])
		local = zoned(netip.AddrFrom16([16]byte(b[8:24])).Unmap(), device)
		peer = zoned(netip.AddrFrom16([16]byte(b[24:40])).Unmap(), device)
	default:
		return false
	}
	s.local = netip.AddrPortFrom(local, binary.BigEndian.Uint16(b[4:]))
	s.peer = netip.AddrPortFrom(peer, binary.BigEndian.Uint16(b[6:]))
	s.cookie = uint64(ne.Uint32(b[44:])) | uint64(ne.Uint32(b[48:]))<<32
	s.uid, s.inode = ne.Uint32(b[64:]), ne.Uint32(b[68:])

	for b = b[sizeofMessage:]; len(b) >= unix.SizeofRtAttr; {
		size := int(ne.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return false
		}
		if ne.Uint16(b[2:]) == extInfo {
			s.readTCPInfo(b[unix.SizeofRtAttr:size])
			break
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return true
}

// readTCPInfo reads the counters of a struct tcp_info, which is shorter in older kernels.
func (s *sock) readTCPInfo(info []byte) {
	const (
		rtt      = unsafe.Offsetof(unix.TCPInfo{}.Rtt)
		received = unsafe.Offsetof(unix.TCPInfo{}.Bytes_received)
		sent     = unsafe.Offsetof(unix.TCPInfo{}.Bytes_sent)
		resent   = unsafe.Offsetof(unix.TCPInfo{}.Bytes_retrans)
	)
	ne, n := binary.NativeEndian, uintptr(len(info))
	if n >= rtt+4 {
		s.rtt = time.Duration(ne.Uint32(info[rtt:])) * time.Microsecond
	}
	if n >= received+8 {
		s.setReceived(ne.Uint64(info[received:]))
	}
	if n >= resent+8 {
		// Older kernels have only bytes_acked, which counts SYN and FIN.
		total, resentBytes := ne.Uint64(info[sent:]), ne.Uint64(info[resent:])
		s.tx = total - min(total, resentBytes)
	}
}
