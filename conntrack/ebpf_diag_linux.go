//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// goneSockets returns the sockets that no network namespace has any more. It is for kernels
// whose programs cannot visit sockets. It asks sock_diag, and updates the counters of the TCP
// connections that exist. Since sock_diag lists only TCP and UDP, a socket of another protocol
// is gone when no process has held it for maxUnheld passes.
func (e *ebpf) goneSockets(cookies []uint64, now time.Time) (gone []uint64, err error) {
	exists := make(map[uint64]bool, len(cookies))
	for _, cookie := range cookies {
		exists[cookie] = false
	}
	list, left, err := networkNamespaces()
	if err != nil {
		return nil, err
	}
	complete := left == 0
	for _, ns := range list {
		n, err := e.tunnels.dial(ns, unix.NETLINK_SOCK_DIAG)
		if err != nil {
			return nil, err
		}
		if n == nil {
			complete = false // the namespace is gone, or cannot be entered
			continue
		}
		d := diag{netlink: n, log: e.log}
		err = d.list(context.Background(), func(proto Proto, s *sock) {
			if _, suspect := exists[s.cookie]; !suspect || s.state == stateListen || s.timer == timerTimeWait {
				return
			}
			exists[s.cookie] = true
			t := e.conns[s.cookie]
			if proto == TCP && t != nil && t.flow == nil && t.updateCounters(s.tx, s.rx, s.rtt, State(s.state), s.uid) {
				e.update(t, now)
			}
		})
		n.close()
		if err != nil {
			return nil, err
		}
	}
	for _, cookie := range cookies {
		if !exists[cookie] && (complete && e.diagLists(cookie) || e.missesOf(cookie) >= maxUnheld) {
			gone = append(gone, cookie)
		}
	}
	return gone, nil
}

// diagLists reports whether sock_diag lists the protocol of this socket.
func (e *ebpf) diagLists(cookie uint64) bool {
	s := e.sockets[cookie]
	return s == nil || s.connected.conn.Proto == UDP
}

// missesOf returns how many consecutive passes have not found a socket.
func (e *ebpf) missesOf(cookie uint64) uint8 {
	if s := e.sockets[cookie]; s != nil {
		return s.misses
	}
	if t := e.conns[cookie]; t != nil {
		return t.misses
	}
	return 0
}
