//go:build linux

package traffic

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
)

// The bytes of the connection whose server end several processes use.
const (
	shareUp   = 1 << 20
	shareDown = 256 << 10
)

// serveByWorker accepts a connection and hands it to a worker, who alone has it
// from then on unless keep. If both is set, which implies keep, the server does
// half of the work first.
func serveByWorker(keep, both bool) func(*role) error {
	return func(r *role) error {
		c, err := acceptOne(r)
		if err != nil {
			return err
		}
		defer c.Close()
		var sent, got uint64
		if both {
			if sent, got, err = answer(c, shareDown/2, shareUp/2); err != nil {
				return err
			}
		}
		worker, err := handOver(r, c, sent, got, keep)
		if err != nil {
			return err
		}
		if err := worker.Wait(); err != nil {
			return fmt.Errorf("worker: %w", err)
		}
		return nil
	}
}

func acceptOne(r *role) (*net.TCPConn, error) {
	l, err := listen(netip.AddrPortFrom(r.self, 0), false)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if err := r.ready(local(l.Addr())); err != nil {
		return nil, err
	}
	c, err := l.Accept()
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

func handOver(r *role, c *net.TCPConn, sent, got uint64, keep bool) (*exec.Cmd, error) {
	f, err := c.File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sharer := 0
	if keep {
		sharer = os.Getpid()
	}
	worker, err := r.startWorker(f, strconv.FormatUint(sent, 10), strconv.FormatUint(got, 10), strconv.Itoa(sharer))
	if err == nil && !keep {
		c.Close()
	}
	return worker, err
}

// work does what is left to do on the connection that it was handed, and
// reports for all.
func work(r *role) error {
	if len(r.args) != 3 {
		return fmt.Errorf("want three arguments, got %q", r.args)
	}
	var n [3]uint64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseUint(r.args[i], 10, 64); err != nil {
			return err
		}
	}
	f := os.NewFile(3, "connection")
	nc, err := net.FileConn(f)
	if err != nil {
		return err
	}
	f.Close()
	c := nc.(*net.TCPConn)
	defer c.Close()
	sent, got, err := answer(c, shareDown-n[0], shareUp-n[1])
	if err != nil {
		return err
	}
	flow := Flow{Role: "server", Local: local(c.LocalAddr()), Peer: local(c.RemoteAddr()), Connected: true, Tx: n[0] + sent, Rx: n[1] + got}
	if n[2] != 0 {
		flow.Sharers = []int{int(n[2])}
	}
	if err := r.report(flow); err != nil {
		return err
	}
	return r.linger()
}
