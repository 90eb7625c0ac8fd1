//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/connmapgo/connmap/conntrack/internal/bpf"
)

// This file reports the traffic of tunnels, which the kernel programs do not see. Only the
// pump uses it.

const (
	tunnelCookie  = 1 << 62 // bit of a cookie that is a device's; cookies of sockets count from one
	maxNamespaces = 256     // that are searched
	maxTunnels    = 1024
	maxRemotes    = 1024 // of one tunnel
	remoteSlack   = 50 * time.Millisecond
)

// A tunnels holds the tunnels of all network namespaces.
type tunnels struct {
	loopback     bool                   // report peers on loopback addresses
	namespaces   map[uint32]*namespace  // those with tunnels, by inode
	n            int                    // tunnels in them
	seq          uint64                 // of cookies
	nextFind     time.Time              // next search for new tunnels
	lastFind     time.Time              // last search
	cost         time.Duration          // of the last search
	overflow     overflow               // of the last search
	removed      map[deviceName]*device // devices of the last search that have disappeared
	movedIn      map[deviceName]*device // new devices that come from another namespace
	findFailure  failure                // of the last search
	countFailure failure                // of the last count
	buf          []byte                 // of netlink
}

// An overflow counts what exists beyond the limits.
type overflow struct{ namespaces, tunnels int }

// A netns is a network namespace and the path of a file that refers to it.
type netns struct {
	inode uint32
	path  string
}

// A namespace is a network namespace with tunnels. None of its files stays open, since that
// would keep it, and its devices, after its last process has ended.
type namespace struct {
	netns
	devices map[int32]*device // by index
}

// A deviceName identifies a device, also after it has moved to another namespace.
type deviceName struct{ kind, name string }

// A device is a followed tunnel. In the table it is a socket with a flow for each peer.
type device struct {
	deviceName
	cookie      uint64
	preexisting bool                   // it is older than the collector: its earlier traffic is not reported
	meter       meter                  // counters as last reported
	meters      map[wireGuardKey]meter // counters of WireGuard peers, instead of meter
	nextQuery   time.Time              // earliest next query for its peers
	reportedAt  time.Time              // when all of its traffic was last reported; zero: never
}

// A meter holds counters of bytes.
type meter struct{ tx, rx uint64 }

// since returns the growth since before. Counters that have shrunk have started anew.
func (m meter) since(before meter) meter {
	if m.tx < before.tx || m.rx < before.rx {
		return m
	}
	return meter{m.tx - before.tx, m.rx - before.rx}
}

// findTunnels searches for new tunnels, and drops those that have disappeared.
func (e *ebpf) findTunnels() {
	ts := &e.tunnels
	start := time.Now()
	ts.movedIn = nil
	list, left, failed := networkNamespaces()
	out := overflow{namespaces: left}
	exists := make(map[uint32]bool, len(list))
	for _, at := range list {
		ns := ts.namespaces[at.inode]
		if ns == nil {
			ns = &namespace{devices: make(map[int32]*device)}
		}
		exists[at.inode], ns.netns = true, at
		n, err := e.searchNamespace(ns)
		out.tunnels += n
		if failed == nil {
			failed = err
		}
		if len(ns.devices) > 0 {
			if ts.namespaces == nil {
				ts.namespaces = make(map[uint32]*namespace)
			}
			ts.namespaces[at.inode] = ns
		}
	}
	for inode, ns := range ts.namespaces {
		if !exists[inode] {
			for index := range ns.devices {
				e.dropDevice(ns, index)
			}
		}
		if len(ns.devices) == 0 {
			delete(ts.namespaces, inode)
		}
	}
	// A device that has moved here keeps its counters: nothing is reported twice.
	for name, d := range ts.movedIn {
		if before := ts.removed[name]; before != nil {
			d.meter, d.meters, d.preexisting, d.reportedAt = before.meter, before.meters, before.preexisting, before.reportedAt
		}
	}
	ts.removed, ts.movedIn = nil, nil
	if out != ts.overflow && out != (overflow{}) {
		e.log.Warn("conntrack: there are more tunnels than can be followed", "namespaces", out.namespaces, "tunnels", out.tunnels)
	}
	ts.overflow = out
	ts.findFailure.set(e.log, failed)
	ts.lastFind = time.Now()
	ts.cost = ts.lastFind.Sub(start)
	ts.nextFind = start.Add(max(holdersEvery, holdersShare*ts.cost))
}

// searchNamespace searches a network namespace for tunnels, and returns how many exceed the limit.
func (e *ebpf) searchNamespace(ns *namespace) (left int, err error) {
	ts := &e.tunnels
	n, err := ts.dial(ns.netns, unix.NETLINK_ROUTE)
	if err != nil || n == nil {
		return 0, err
	}
	defer n.close()
	exists := make(map[int32]bool)
	err = n.tunnels(func(t *tunnel) {
		switch {
		case ns.devices[t.index] != nil:
			exists[t.index] = true
		case ts.n == maxTunnels:
			left++
		default:
			exists[t.index] = true
			ts.seq++
			ts.n++
			d := &device{deviceName: deviceName{t.kind, t.name}, cookie: tunnelCookie | ts.seq, preexisting: ts.lastFind.IsZero()}
			ns.devices[t.index] = d
			if t.moved {
				if ts.movedIn == nil {
					ts.movedIn = make(map[deviceName]*device)
				}
				ts.movedIn[d.deviceName] = d
			}
		}
	})
	if err != nil {
		if err == errInterrupted {
			err = nil // the next search is soon enough
		}
		return left, err
	}
	for index := range ns.devices {
		if !exists[index] {
			e.dropDevice(ns, index)
		}
	}
	return left, nil
}

func (e *ebpf) dropDevice(ns *namespace, index int32) {
	d := ns.devices[index]
	e.closeFlowsOf(d.cookie, time.Now().Round(0))
	delete(ns.devices, index)
	ts := &e.tunnels
	ts.n--
	if len(ts.removed) < maxTunnels {
		if ts.removed == nil {
			ts.removed = make(map[deviceName]*device)
		}
		ts.removed[d.deviceName] = d
	}
}

// countTunnels reads the counters of the known tunnels.
func (e *ebpf) countTunnels() {
	ts := &e.tunnels
	var failed error
	lost := false
	for inode, ns := range ts.namespaces {
		n, err := ts.dial(ns.netns, unix.NETLINK_ROUTE)
		if failed == nil {
			failed = err
		}
		if n == nil {
			lost = lost || err == nil
			continue
		}
		for index, d := range ns.devices {
			err := e.countTunnel(n, ns, index, d)
			if errors.Is(err, unix.ENODEV) {
				e.dropDevice(ns, index)
			} else if failed == nil {
				failed = err
			}
		}
		n.close()
		if len(ns.devices) == 0 {
			delete(ts.namespaces, inode)
		}
	}
	ts.countFailure.set(e.log, failed)
	// The process that gave a namespace its path has ended; another may give it a new one.
	if lost && time.Since(ts.lastFind) > holdersShare*ts.cost {
		e.findTunnels()
	}
}

// countTunnel reports the traffic of a tunnel since the last count.
func (e *ebpf) countTunnel(n *netlink, ns *namespace, index int32, d *device) error {
	now := time.Now()
	if now.Before(d.nextQuery) {
		return nil
	}
	t, err := n.tunnel(index)
	if err != nil {
		return err
	}
	hasBaseline := !d.preexisting || !d.reportedAt.IsZero()
	m := meter{t.tx, t.rx}
	growth := m.since(d.meter)
	switch {
	case t.kind == wireGuard:
		err = e.countPeers(n, ns, &t, d, hasBaseline, now)
	case !hasBaseline || growth == meter{}:
	case t.kind == vxlan:
		err = e.countRemotes(n, &t, d, growth, now)
	default:
		e.tunnelGrew(n, &t, d, netip.AddrPortFrom(t.remote, t.port), growth, growth.tx > 0, now)
	}
	switch err {
	case nil:
		d.meter, d.reportedAt = m, now
	case errInterrupted: // the next count gets the rest
		d.meter, err = m, nil
	}
	return err
}

// countRemotes reports to which remotes a VXLAN device has sent. Bytes are known only if exists
// is one remote.
func (e *ebpf) countRemotes(n *netlink, t *tunnel, d *device, growth meter, now time.Time) error {
	remotes := make(map[netip.AddrPort]time.Duration)
	err := n.remotes(t, func(remote netip.AddrPort, ago time.Duration) {
		before, ok := remotes[remote]
		if ok && ago < before || !ok && len(remotes) < maxRemotes {
			remotes[remote] = ago
		}
	})
	d.nextQuery = now.Add(holdersShare * time.Since(now))
	if err != nil && err != errInterrupted {
		return err
	}
	// The time of last use is read after the counters, and is exact to some hundredths of a
	// second.
	since := time.Since(d.reportedAt)
	for remote, ago := range remotes {
		switch {
		case len(remotes) == 1 && err == nil:
			e.tunnelGrew(n, t, d, remote, growth, growth.tx > 0, now)
		case ago != neverUsed && ago-remoteSlack < since:
			e.tunnelGrew(n, t, d, remote, meter{}, growth.tx > 0, now)
		}
	}
	return err
}

// countPeers reports the traffic of the peers of a WireGuard device, if their counters before
// are known.
func (e *ebpf) countPeers(n *netlink, ns *namespace, t *tunnel, d *device, hasBaseline bool, now time.Time) error {
	g, err := e.tunnels.dial(ns.netns, unix.NETLINK_GENERIC)
	if err != nil || g == nil {
		return err
	}
	defer g.close()
	var peers []wireGuardPeer
	t.port, err = g.wireGuard(t.index, func(p *wireGuardPeer) {
		if len(peers) < maxRemotes {
			peers = append(peers, *p)
		}
	})
	d.nextQuery = now.Add(holdersShare * time.Since(now))
	if err != nil {
		return err
	}
	meters := make(map[wireGuardKey]meter, len(peers))
	for i := range peers {
		p := &peers[i]
		m := meter{p.tx, p.rx}
		meters[p.key] = m
		if growth := m.since(d.meters[p.key]); hasBaseline && growth != (meter{}) {
			e.tunnelGrew(n, t, d, p.endpoint, growth, growth.tx > 0, now)
		}
	}
	d.meters = meters
	return nil
}

// tunnelGrew reports traffic between a tunnel and a peer. For a new flow, sent says whether
// the tunnel has sent some of it.
func (e *ebpf) tunnelGrew(n *netlink, t *tunnel, d *device, peer netip.AddrPort, growth meter, sent bool, now time.Time) {
	if peer.Addr().IsLoopback() && !e.tunnels.loopback {
		return
	}
	s := bpf.Socket{
		Proto: uint8(t.proto), Direction: 2, Peer: peer, Cookie: d.cookie,
		Opened: now.UnixNano() - e.offset, Tx: growth.tx, Rx: growth.rx,
	}
	if f := e.flows[s.Key()]; f != nil {
		e.growFlow(f, f.conn.Tx+growth.tx, f.conn.Rx+growth.rx, now)
		return
	}
	if sent {
		s.Direction = 1
	}
	local := t.local
	if !local.IsValid() && !t.moved {
		local = n.source(t, peer.Addr())
	}
	switch {
	case local.IsValid():
	case peer.Addr().Is4():
		local = netip.IPv4Unspecified()
	default:
		local = netip.IPv6Unspecified()
	}
	s.Local = netip.AddrPortFrom(local, t.port)
	owner := kernel
	owner.Exe = t.name
	e.addFlow(&s, owner)
}

// networkNamespaces lists the network namespaces that have a name or a process that this one
// is allowed to inspect, its own first. left counts those beyond the limit.
func networkNamespaces() (list []netns, left int, err error) {
	seen := make(map[uint32]bool)
	add := func(inode uint32, path string) {
		switch {
		case seen[inode]:
			return
		case len(list) == maxNamespaces:
			left++
		default:
			list = append(list, netns{inode, path})
		}
		seen[inode] = true
	}
	const self = "/proc/self/ns/net"
	var own, st unix.Stat_t
	if err := unix.Stat(self, &own); err != nil {
		return nil, 0, os.NewSyscallError("stat "+self, err)
	}
	add(uint32(own.Ino), self)
	const named = "/run/netns" // see ip-netns(8)
	if dir, err := os.Open(named); err == nil {
		names, _ := dir.Readdirnames(2 * maxNamespaces)
		dir.Close()
		for _, name := range names {
			path := filepath.Join(named, name)
			// One that is not mounted is an empty file on another device.
			if unix.Stat(path, &st) == nil && st.Dev == own.Dev {
				add(uint32(st.Ino), path)
			}
		}
	}
	var o procOwners
	if err := o.open("/proc"); err != nil {
		return list, left, err
	}
	defer o.close()
	o.entries(o.root, func(name []byte) bool {
		if _, ok := number(name); !ok {
			return true
		}
		path := string(name) + "/ns/net"
		if n, err := unix.Readlinkat(o.root, path, o.file); err == nil {
			if inode, ok := inodeOf(o.file[:n], "net"); ok {
				add(inode, "/proc/"+path)
			}
		}
		return true
	})
	return list, left, nil
}

// dial opens a netlink socket in a network namespace. It returns nil if the namespace is gone
// or cannot be entered. All sockets share one buffer.
func (ts *tunnels) dial(ns netns, protocol int) (n *netlink, err error) {
	if ts.buf == nil {
		ts.buf = make([]byte, 32<<10) // the kernel's longest message
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		var leave func() error
		if leave, err = ns.enter(); err == nil {
			n, err = openNetlink(protocol, ts.buf)
			if leave() != nil {
				return // with the thread still locked, which ends the thread
			}
		}
		runtime.UnlockOSThread()
	}()
	<-done
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) || errors.Is(err, unix.ESRCH) {
		err = nil
	}
	return n, err
}

// enter moves the calling thread to a network namespace.
func (ns netns) enter() (leave func() error, err error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	if ns.is(home) {
		return home.Close, nil
	}
	target, err := os.Open(ns.path)
	if err == nil {
		defer target.Close()
		if !ns.is(target) {
			err = os.ErrNotExist // the path now refers to another namespace
		} else if err = unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err == nil {
			return func() error {
				defer home.Close()
				return unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)
			}, nil
		}
	}
	home.Close()
	return nil, err
}

func (ns netns) is(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && uint32(st.Ino) == ns.inode
}
