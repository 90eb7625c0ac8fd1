//go:build linux

package traffic

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Scenario is one kind of traffic between a client and a server.
type Scenario struct {
	Name string

	// Proto is the IANA protocol number of its flows.
	Proto uint8

	// Tolerance is the relative error of the bytes that a collector may make:
	// the largest one of its flows, see Flow.
	Tolerance float64
	mptcp     bool // that of all flows, too

	// Loopback: client and server are both in namespace A and use 127.0.0.1
	// or ::1.
	Loopback bool

	// Container: client and server are both in the third namespace.
	Container bool

	// Short: connections or processes end as soon as they can and are never
	// held, so that collectors that poll are bound to miss most of them.
	Short bool

	key                    string // names the processes, 9 bytes at most
	ipv6                   bool
	server, client, worker func(*role) error // server is nil if the kernel is the server
}

// A Flow is what one end of a connection did, in its own view. Of a socket that
// several processes use there is one Flow, with the sum.
type Flow struct {
	Role  string // "client" or "server"
	Proto uint8  // IANA number; TCP for MPTCP

	// Local is the address that the packets carry, even if the socket is
	// bound to none. Its port is the identifier for ICMP echo sockets, and
	// zero for raw sockets. Peer has no port in both cases. Neither is an
	// IPv4-mapped IPv6 address.
	Local, Peer netip.AddrPort

	Out       bool   // this end opened it, or sent first
	Connected bool   // the socket has one peer, by connect or accept
	Wildcard  bool   // the socket is bound to no address, or to all
	PID       int    // the last process to send or receive
	Comm      string // of that process
	Exe       string // of that process
	Sharers   []int  // PIDs of the other processes that hold the socket at the end

	// Tx and Rx are the payload bytes that system calls sent and received. An
	// IPv4 header that a raw socket receives does not count, an ICMP header
	// does.
	Tx, Rx uint64

	// Tolerance is the relative error a collector may make in Tx and Rx.
	Tolerance float64

	// Held: the socket stayed open as long as Run was asked to hold it.
	Held bool
}

// Run starts the server in namespace B and the client in namespace A, as child processes, and
// returns what they did. That is one Flow for each end of each connection. Once all bytes are
// transferred, the processes keep their sockets open for the time of hold, unless the scenario
// is Short; with zero they close them at once. If the kernel lacks something the scenario
// needs, the error wraps errors.ErrUnsupported. No process is left when Run returns. A hold of
// more than a minute is too long for children, who watch their own time.
func (s Scenario) Run(ctx context.Context, n *Net, hold time.Duration) ([]Flow, error) {
	if s.Short {
		hold = 0
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var children []*child
	defer func() {
		cancel(nil)
		for _, c := range children {
			<-c.ended
		}
	}()

	nsClient, nsServer, own, to := n.a, n.b, AddrA, AddrB
	switch {
	case s.Container:
		nsClient, nsServer, own, to = n.container, n.container, addrContainerClient, addrContainerServer
	case s.Loopback && s.ipv6:
		nsServer, own, to = n.a, netip.IPv6Loopback(), netip.IPv6Loopback()
	case s.Loopback:
		own = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		nsServer, to = n.a, own
	case s.ipv6:
		own, to = AddrA6, AddrB6
	}
	peer := netip.AddrPortFrom(to, 0)
	if s.server != nil {
		c, err := s.start(ctx, cancel, n, nsServer, "server", hold > 0, to.String())
		if err != nil {
			return nil, err
		}
		children = append(children, c)
		select {
		case peer = <-c.ready:
		case <-c.ended:
			return nil, s.failure(ctx, "server ended early")
		}
	}
	c, err := s.start(ctx, cancel, n, nsClient, "client", hold > 0, own.String(), peer.String())
	if err != nil {
		return nil, err
	}
	children = append(children, c)
	for _, c := range children {
		<-c.done
	}
	if hold > 0 {
		select {
		case <-time.After(hold):
		case <-ctx.Done():
		}
	}
	var flows []Flow
	for _, c := range children {
		c.stdin.Close()
	}
	for _, c := range children {
		<-c.ended
		for _, f := range c.flows {
			if s.mptcp {
				f.Tolerance = s.Tolerance
			}
			flows = append(flows, f)
		}
	}
	if ctx.Err() != nil {
		return nil, s.failure(ctx, "")
	}
	for i := range flows {
		flows[i].Held = hold > 0
	}
	return flows, nil
}

func (s Scenario) failure(ctx context.Context, other string) error {
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("traffic: %s: %w", s.Name, err)
	}
	return fmt.Errorf("traffic: %s: %s", s.Name, other)
}

// A child is a process that plays a role.
type child struct {
	stdin io.Closer
	ready chan netip.AddrPort // where the server serves
	done  chan struct{}       // closed when all traffic is done, or the process has ended
	ended chan struct{}       // closed when the process has ended
	flows []Flow              // complete when it has ended
}

// start starts a child. If it fails it cancels the whole run.
func (s Scenario) start(ctx context.Context, cancel context.CancelCauseFunc, n *Net, ns *os.File, name string, hold bool, args ...string) (*child, error) {
	path, err := n.executable("tfc-" + s.key + "-" + name[:1])
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = append(os.Environ(), Env+"="+s.Name+"/"+name+" "+strings.Join(args, " "))
	// With the race detector a process would wait for a second before it ends.
	cmd.Env = append(cmd.Env, "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	cmd.Dir = "/"
	// The child may start processes itself, which have to end with it.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := start(cmd, ns); err != nil {
		return nil, fmt.Errorf("traffic: %s: %w", s.Name, err)
	}
	if !hold {
		stdin.Close()
	}
	c := &child{stdin, make(chan netip.AddrPort, 1), make(chan struct{}), make(chan struct{}), nil}
	go func() {
		defer close(c.ended)
		done := sync.OnceFunc(func() { close(c.done) })
		defer done()
		err := c.read(stdout, done)
		if err != nil {
			cancel(err)
		}
		if err := cmd.Wait(); err != nil {
			cancel(fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(stderr.String())))
		}
	}()
	return c, nil
}

// read reads the reports of a child, one a line.
func (c *child) read(stdout io.Reader, done func()) error {
	var skip error
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch {
		case word == "done":
			done()
		case word == "ready":
			addr, err := netip.ParseAddrPort(rest)
			if err != nil {
				return err
			}
			c.ready <- addr
		case word == "skip":
			skip = fmt.Errorf("%s: %w", rest, errors.ErrUnsupported)
		case strings.HasPrefix(word, "{"):
			var f Flow
			if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
				return err
			}
			c.flows = append(c.flows, f)
		default:
			return fmt.Errorf("unexpected output: %q", lines.Text())
		}
	}
	return errors.Join(skip, lines.Err())
}
