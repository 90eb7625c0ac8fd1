//go:build linux

package traffic

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
)

// The processes of the scenario of short-lived ones, and their bytes.
const (
	procs     = 300
	procsUp   = 16
	procsDown = 32
)

// procSource connects to an IPv4 address and port, sends and receives, and
// prints its port and the bytes. A Go program takes several times as long.
const procSource = `
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t len = sizeof a;
	char b[64] = { 0 };
	int n, tx, rx = 0, s = socket(AF_INET, SOCK_STREAM, 0);

	if (argc != 5 || inet_pton(AF_INET, argv[1], &a.sin_addr) != 1)
		return 2;
	a.sin_port = htons(atoi(argv[2]));
	if (connect(s, (struct sockaddr *)&a, sizeof a))
		return 3;
	tx = write(s, b, atoi(argv[3]));
	while (rx < atoi(argv[4]) && (n = read(s, b, sizeof b)) > 0)
		rx += n;
	if (getsockname(s, (struct sockaddr *)&a, &len))
		return 4;
	printf("%d %d %d\n", ntohs(a.sin_port), tx, rx);
	return 0;
}
`

// spawn starts one process after another, each of which makes a connection and
// ends.
func spawn(r *role) error {
	// Not the path of a worker, as both may exist.
	path := strings.TrimSuffix(r.workerPath(), "w") + "p"
	if err := compile(path); err != nil {
		return spawnSelf(r)
	}
	id := r.id
	id.Exe = path
	id.Comm = path[strings.LastIndexByte(path, '/')+1:]
	for range procs {
		cmd := exec.Command(path, r.peer.Addr().String(), fmt.Sprint(r.peer.Port()), fmt.Sprint(procsUp), fmt.Sprint(procsDown))
		b, err := cmd.Output()
		if err != nil {
			return err
		}
		f, port := id, uint16(0)
		if _, err := fmt.Sscan(string(b), &port, &f.Tx, &f.Rx); err != nil {
			return fmt.Errorf("%q: %w", b, err)
		}
		f.Local, f.Peer = netip.AddrPortFrom(r.self, port), r.peer
		f.PID = cmd.Process.Pid
		f.Out, f.Connected = true, true
		if err := r.report(f); err != nil {
			return err
		}
	}
	return r.linger()
}

// compile makes path, unless there is no compiler for C.
func compile(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	// Another process may do the same.
	temp := fmt.Sprintf("%s%d", path, os.Getpid())
	cmd := exec.Command("gcc", "-O1", "-static", "-o", temp, "-x", "c", "-")
	cmd.Stdin = strings.NewReader(procSource)
	if err := cmd.Run(); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// spawnSelf needs no compiler.
func spawnSelf(r *role) error {
	const parallel = 2 // as these processes start slowly
	var g group
	for range parallel {
		g.Go(func() error {
			for range procs / parallel {
				cmd, err := r.startWorker(nil, r.peer.String())
				if err != nil {
					return err
				}
				if err := cmd.Wait(); err != nil {
					return fmt.Errorf("worker: %w", err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return r.linger()
}

// workProc is one of the processes if they are made of this program.
func workProc(r *role) error {
	if len(r.args) != 1 {
		return fmt.Errorf("want one argument, got %q", r.args)
	}
	peer, err := netip.ParseAddrPort(r.args[0])
	if err != nil {
		return err
	}
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(peer))
	if err != nil {
		return err
	}
	defer c.Close()
	sent, got, err := request(c, procsUp, procsDown)
	if err != nil {
		return err
	}
	err = r.report(Flow{Role: "client", Local: local(c.LocalAddr()), Peer: peer, Out: true, Connected: true, Tx: sent, Rx: got})
	if err != nil {
		return err
	}
	return r.flush()
}
