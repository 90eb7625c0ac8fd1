package conntrack

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

func open(o Options) (backend, error) {
	d, err := openDiag(o)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func openDiag(o Options) (*diag, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, fmt.Errorf("%w: the kernel has no sock_diag (%w): load the module inet_diag, or use a kernel with CONFIG_INET_DIAG", errors.ErrUnsupported, err)
	}
	if err != nil {
		return nil, fmt.Errorf("netlink socket for sock_diag: %w: a sandbox may forbid it", err)
	}
	d := &diag{
		log:      o.Logger,
		loopback: o.Loopback,
		link:     netlink{fd: fd, buf: make([]byte, 256<<10)},
		table:    make(map[uint64]int32),
	}
	// A kernel that does not answer is an error, not a hang.
	timeout := unix.NsecToTimeval(int64(5 * time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink socket for sock_diag: %w", err)
	}
	if err := d.link.dumpTCP(1<<stateListen, func([]byte) {}); err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.ENOENT) {
			return nil, fmt.Errorf("%w: the kernel's sock_diag does not know TCP (%w): load the module tcp_diag, or use a kernel with CONFIG_INET_TCP_DIAG", errors.ErrUnsupported, err)
		}
		return nil, fmt.Errorf("the kernel refused to list TCP sockets: %w", err)
	}
	if err := d.link.dumpUDP(unix.AF_INET, 1<<stateListen, func([]byte) {}); err != nil {
		d.limited = append(d.limited, "UDP is not seen: load the kernel module udp_diag, or use a kernel with CONFIG_INET_UDP_DIAG")
		d.log.Warn("conntrack: the kernel refused to list UDP sockets", "error", err)
		d.noUDP = true
	}
	if err := d.owners.open("/proc"); err != nil {
		d.log.Warn("conntrack: programs will be unknown", "error", err)
		d.limited = append(d.limited, "programs are unknown: /proc cannot be read")
	} else if status, err := os.ReadFile("/proc/self/status"); err == nil && !seesAll(status) {
		d.owners.denied = true
	}
	return d, nil
}
