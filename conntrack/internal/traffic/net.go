//go:build linux

package traffic

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The addresses of a Net. Those of the third namespace, which stands for a
// container, are both on its loopback interface.
var (
	AddrA  = netip.MustParseAddr("203.0.113.10")
	AddrA6 = netip.MustParseAddr("2001:db8:a::10")
	AddrB  = netip.MustParseAddr("198.51.100.20")
	AddrB6 = netip.MustParseAddr("2001:db8:b::20")

	addrContainerClient = netip.MustParseAddr("203.0.113.30")
	addrContainerServer = netip.MustParseAddr("198.51.100.40")
)

// The addresses of the two ends of the veth pair.
const (
	macA = "02:00:00:00:00:0a"
	macB = "02:00:00:00:00:0b"
)

// A Net is two network namespaces joined by a veth pair, and a third one that
// stands alone. The first two have names, as ip-netns(8) gives; the third can
// be found through its processes only, like that of a container. Different
// scenarios may run in one Net at the same time, except that a raw socket also
// receives what is meant for others of its protocol.
type Net struct {
	A, B string // names in /run/netns

	a, b, container *os.File
	dir             string // executables named after their role
}

// NewNet makes a Net, which the caller has to close. It needs root and ip(8);
// without them the error wraps errors.ErrUnsupported.
func NewNet(ctx context.Context) (_ *Net, err error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("traffic: network namespaces need root: %w", errors.ErrUnsupported)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, fmt.Errorf("traffic: network namespaces need ip(8): %w", errors.ErrUnsupported)
	}
	id := make([]byte, 5)
	rand.Read(id)
	name := "traffic-" + hex.EncodeToString(id)
	n := &Net{}
	defer func() {
		if err != nil {
			n.Close()
		}
	}()
	if n.dir, err = os.MkdirTemp("", "traffic"); err != nil {
		return nil, err
	}
	// As /proc/PID/exe shows it.
	if n.dir, err = filepath.EvalSymlinks(n.dir); err != nil {
		return nil, err
	}
	// A name is set once the namespace is this one's, so that Close removes no
	// other.
	for _, ns := range []struct {
		name *string
		file **os.File
		is   string
	}{{&n.A, &n.a, name + "-a"}, {&n.B, &n.b, name + "-b"}} {
		if err := n.ip(ctx, nil, "netns add "+ns.is); err != nil {
			return nil, err
		}
		*ns.name = ns.is
		if *ns.file, err = os.Open(filepath.Join("/run/netns", ns.is)); err != nil {
			return nil, err
		}
	}
	if n.container, err = unnamed(); err != nil {
		return nil, err
	}
	if err := n.ip(ctx, nil, fmt.Sprintf("link add vA netns %s address %s type veth peer name vB netns %s address %s", n.A, macA, n.B, macB)); err != nil {
		return nil, err
	}
	for _, half := range []struct {
		ns        *os.File
		dev       string
		own, own6 netip.Addr
		to, to6   netip.Addr
		mac       string
	}{{n.a, "vA", AddrA, AddrA6, AddrB, AddrB6, macB}, {n.b, "vB", AddrB, AddrB6, AddrA, AddrA6, macA}} {
		if err := n.ip(ctx, half.ns,
			"link set lo up",
			fmt.Sprintf("addr add %v/32 dev %s", half.own, half.dev),
			fmt.Sprintf("addr add %v/128 dev %s nodad", half.own6, half.dev),
			fmt.Sprintf("link set %s up", half.dev),
			fmt.Sprintf("route add %v/32 dev %s src %v", half.to, half.dev, half.own),
			fmt.Sprintf("-6 route add %v/128 dev %s src %v", half.to6, half.dev, half.own6),
			// While a neighbour is looked for, few datagrams are kept.
			fmt.Sprintf("neigh add %v lladdr %s dev %s nud permanent", half.to, half.mac, half.dev),
			fmt.Sprintf("neigh add %v lladdr %s dev %s nud permanent", half.to6, half.mac, half.dev),
		); err != nil {
			return nil, err
		}
		if err := WaitForAddress(ctx, half.ns, half.own6); err != nil {
			return nil, err
		}
	}
	return n, n.ip(ctx, n.container,
		"link set lo up",
		fmt.Sprintf("addr add %v/32 dev lo", addrContainerClient),
		fmt.Sprintf("addr add %v/32 dev lo", addrContainerServer),
		// Otherwise the source of what goes to an own address is that address.
		fmt.Sprintf("route replace local %v dev lo table local proto kernel scope host src %v", addrContainerServer, addrContainerClient),
		fmt.Sprintf("route replace local %v dev lo table local proto kernel scope host src %v", addrContainerClient, addrContainerServer),
	)
}

// Close removes the namespaces. Processes that still run in one keep it alive.
func (n *Net) Close() error {
	// The context of NewNet may have ended by now.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var errs []error
	for _, f := range []*os.File{n.a, n.b, n.container} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	for _, name := range []string{n.A, n.B} {
		if name != "" {
			errs = append(errs, n.ip(ctx, nil, "netns del "+name))
		}
	}
	if n.dir != "" {
		errs = append(errs, os.RemoveAll(n.dir))
	}
	return errors.Join(errs...)
}

// Enter moves the caller to namespace n.A or n.B, for a collector that sees its
// own only. The goroutine is locked to its thread until it calls leave, which
// takes it back. Meanwhile other goroutines, and /proc/net, are where they were;
// what belongs to the thread is /proc/thread-self/net. If leave fails the
// goroutine stays locked, so that its thread ends with it.
func (n *Net) Enter(name string) (leave func() error, err error) {
	ns := n.a
	if name == n.B {
		ns = n.b
	} else if name != n.A {
		return nil, fmt.Errorf("traffic: no namespace %q", name)
	}
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err == nil {
		if err = setns(ns); err == nil {
			return func() error {
				defer home.Close()
				if err := setns(home); err != nil {
					return err
				}
				runtime.UnlockOSThread()
				return nil
			}, nil
		}
		home.Close()
	}
	runtime.UnlockOSThread()
	return nil, fmt.Errorf("traffic: %w", err)
}

func setns(ns *os.File) error {
	return os.NewSyscallError("setns", unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET))
}

// ip runs ip(8) in a namespace, in that of the caller if nil.
func (n *Net) ip(ctx context.Context, ns *os.File, commands ...string) error {
	for _, c := range commands {
		if _, err := ip(ctx, ns, c); err != nil {
			return err
		}
	}
	return nil
}

// ip runs ip(8) in a network namespace and returns what it prints.
func ip(ctx context.Context, ns *os.File, args string) (string, error) {
	var out strings.Builder
	cmd := exec.CommandContext(ctx, "ip", strings.Fields(args)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := start(cmd, ns)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return "", fmt.Errorf("traffic: ip %s: %w: %s", args, err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// WaitForAddress waits until the kernel takes packets to an address of IPv6 that was added in a
// network namespace; nil: that of the calling thread. It makes the route for them later, in a
// queue that others keep busy, and refuses connections until then.
func WaitForAddress(ctx context.Context, ns *os.File, addr netip.Addr) error {
	route := fmt.Sprintf("local %v ", addr)
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		out, err := ip(ctx, ns, "-6 route show table local")
		switch {
		case err == nil && strings.Contains(out, route):
			return nil
		case time.Now().After(end):
			return fmt.Errorf("traffic: no local route to %v after a minute: %v, %s", addr, err, out)
		}
	}
}

// start starts cmd in a network namespace, in that of the caller if nil. That
// is what nsenter(1) does; ip-netns(8) would also mount /sys anew.
func start(cmd *exec.Cmd, ns *os.File) (err error) {
	if ns == nil {
		return cmd.Start()
	}
	err2 := elsewhere(func() error {
		if err := setns(ns); err != nil {
			return err
		}
		err = cmd.Start()
		return nil
	})
	return errors.Join(err, err2)
}

// unnamed makes a namespace that only the file keeps alive.
func unnamed() (ns *os.File, err error) {
	err2 := elsewhere(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		ns, err = os.Open("/proc/thread-self/ns/net")
		return nil
	})
	return ns, errors.Join(err, err2)
}

// elsewhere calls f on a thread that then returns to its network namespace. A
// thread is not thrown away, because it may be the main one, which never ends
// and whose namespace is what /proc/PID/ns/net shows.
func elsewhere(f func() error) error {
	errs := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			errs <- err
			return
		}
		defer home.Close()
		err = f()
		if back := setns(home); back != nil {
			errs <- errors.Join(err, back)
			return // with the thread locked, which ends it
		}
		runtime.UnlockOSThread()
		errs <- err
	}()
	return <-errs
}

// executable returns a path of this executable that ends in name. The kernel
// names a process after the path it was started by, all its threads alike.
func (n *Net) executable(name string) (string, error) {
	path := filepath.Join(n.dir, name)
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	return path, link(self, path)
}

// link makes path another name of an executable. A hard link also gives it a
// path of its own in /proc/PID/exe, but cannot be made across file systems.
func link(exe, path string) error {
	if err := os.Link(exe, path); err == nil || errors.Is(err, os.ErrExist) {
		return nil
	}
	if err := os.Symlink(exe, path); !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}
