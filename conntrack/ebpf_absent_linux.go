//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// absent returns those of some sockets that no network namespace has any more, for where
// the programs in the kernel cannot visit sockets. It asks sock_diag, and takes in the
// counters of the TCP connections that there are. What it cannot ask about, such as what
// is neither of TCP nor of UDP, is absent when nobody has held it for long.
func (e *ebpf) absent(cookies []uint64, now time.Time) (gone []uint64, err error) {
	there := make(map[uint64]bool, len(cookies))
	for _, cookie := range cookies {
		there[cookie] = false
	}
	list, left, err := networkNamespaces()
	if err != nil {
		return nil, err
	}
	whole := left == 0
	for _, ns := range list {
		n, err := e.tunnels.dial(ns, unix.NETLINK_SOCK_DIAG)
		if err != nil {
			return nil, err
		}
		if n == nil {
			whole = false // it is gone, or may not be entered
			continue
		}
		d := diag{netlink: n, log: e.log}
		err = d.list(context.Background(), func(proto Proto, s *sock) {
			if _, asked := there[s.cookie]; !asked || s.state == stateListen || s.timer == timerTimeWait {
				return
			}
			there[s.cookie] = true
			t := e.conns[s.cookie]
			if proto == TCP && t != nil && t.flow == nil && t.recount(s.tx, s.rx, s.rtt, State(s.state), s.uid) {
				e.update(t, now)
			}
		})
		n.close()
		if err != nil {
			return nil, err
		}
	}
	for _, cookie := range cookies {
		if !there[cookie] && (whole && e.isListed(cookie) || e.misses(cookie) >= mostUnheld) {
			gone = append(gone, cookie)
		}
	}
	return gone, nil
}

// isListed reports whether sock_diag lists sockets of this kind.
func (e *ebpf) isListed(cookie uint64) bool {
	s := e.sockets[cookie]
	return s == nil || s.fixed.conn.Proto == UDP
}

func (e *ebpf) misses(cookie uint64) uint8 {
	if s := e.sockets[cookie]; s != nil {
		return s.misses
	}
	if t := e.conns[cookie]; t != nil {
		return t.misses
	}
	return 0
}
