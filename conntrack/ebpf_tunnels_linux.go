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

// This file tells of what tunnels send, which the programs do not see. All of it belongs
// to the pump.

const (
	ofTunnel      = 1 << 62 // a bit of the cookie of what is no socket: the kernel's count from one
	maxNamespaces = 256     // that are looked into
	maxTunnels    = 1024
	maxRemotes    = 1024 // of one tunnel
	remoteSlack   = 50 * time.Millisecond
)

// A tunnels is what is known of the tunnels of all network namespaces.
type tunnels struct {
	loopback   bool                   // tell of peers on loopback addresses
	namespaces map[uint32]*namespace  // those with tunnels, by inode
	n          int                    // tunnels in them
	seq        uint64                 // of cookies
	nextFind   time.Time              // when to look for others
	lastFind   time.Time              // when that was last done
	cost       time.Duration          // and how long it took
	overflow   overflow               // by it
	gone       map[deviceName]*device // that were found the last time, and are not there any more
	arrived    map[deviceName]*device // that are new, and come from another namespace
	finding    failure                // of it
	counting   failure                // of the last count
	buf        []byte                 // of netlink
}

// A overflow says how much there is beyond what is followed.
type overflow struct{ namespaces, tunnels int }

// A netns is a network namespace, as a file that names it.
type netns struct {
	inode uint32
	path  string
}

// A namespace is a network namespace with tunnels. None of its files stays open: that
// would keep it, and its devices, beyond the end of its processes.
type namespace struct {
	netns
	devices map[int32]*device // by index
}

// A deviceName is what a device keeps when it moves to another namespace.
type deviceName struct{ kind, name string }

// A device is a tunnel that is followed. In the table it is a socket with a flow for
// each peer.
type device struct {
	deviceName
	cookie  uint64
	older   bool                   // than the collector: what it has sent before is not told
	meter   meter                  // as told
	meters  map[wireGuardKey]meter // of peers, instead
	askAt   time.Time              // when it may be asked for its peers again
	askedAt time.Time              // when all that it had sent was told; zero: nothing yet
}

// A meter is counters of bytes.
type meter struct{ tx, rx uint64 }

// since returns what was counted since before; counters may have begun anew.
func (m meter) since(before meter) meter {
	if m.tx < before.tx || m.rx < before.rx {
		return m
	}
	return meter{m.tx - before.tx, m.rx - before.rx}
}

// findTunnels looks for tunnels that have come or gone.
func (e *ebpf) findTunnels() {
	ts := &e.tunnels
	start := time.Now()
	ts.arrived = nil
	list, left, failed := networkNamespaces()
	out := overflow{namespaces: left}
	there := make(map[uint32]bool, len(list))
	for _, at := range list {
		ns := ts.namespaces[at.inode]
		if ns == nil {
			ns = &namespace{devices: make(map[int32]*device)}
		}
		there[at.inode], ns.netns = true, at
		n, err := e.lookInto(ns)
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
		if !there[inode] {
			for index := range ns.devices {
				e.dropDevice(ns, index)
			}
		}
		if len(ns.devices) == 0 {
			delete(ts.namespaces, inode)
		}
	}
	// What a device has sent in one namespace is not told once more in another.
	for name, d := range ts.arrived {
		if before := ts.gone[name]; before != nil {
			d.meter, d.meters, d.older, d.askedAt = before.meter, before.meters, before.older, before.askedAt
		}
	}
	ts.gone, ts.arrived = nil, nil
	if out != ts.overflow && out != (overflow{}) {
		e.log.Warn("conntrack: there are more tunnels than are followed", "namespaces", out.namespaces, "tunnels", out.tunnels)
	}
	ts.overflow = out
	ts.finding.set(e.log, failed)
	ts.lastFind = time.Now()
	ts.cost = ts.lastFind.Sub(start)
	ts.nextFind = start.Add(max(holdersEvery, holdersShare*ts.cost))
}

// lookInto looks for tunnels in a network namespace, and returns for how many there was no
// room.
func (e *ebpf) lookInto(ns *namespace) (left int, err error) {
	ts := &e.tunnels
	n, err := ts.dial(ns.netns, unix.NETLINK_ROUTE)
	if err != nil || n == nil {
		return 0, err
	}
	defer n.close()
	there := make(map[int32]bool)
	err = n.tunnels(func(t *tunnel) {
		switch {
		case ns.devices[t.index] != nil:
			there[t.index] = true
		case ts.n == maxTunnels:
			left++
		default:
			there[t.index] = true
			ts.seq++
			ts.n++
			d := &device{deviceName: deviceName{t.kind, t.name}, cookie: ofTunnel | ts.seq, older: ts.lastFind.IsZero()}
			ns.devices[t.index] = d
			if t.moved {
				if ts.arrived == nil {
					ts.arrived = make(map[deviceName]*device)
				}
				ts.arrived[d.deviceName] = d
			}
		}
	})
	if err != nil {
		if err == errInterrupted {
			err = nil // the next look is soon enough
		}
		return left, err
	}
	for index := range ns.devices {
		if !there[index] {
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
	if len(ts.gone) < maxTunnels {
		if ts.gone == nil {
			ts.gone = make(map[deviceName]*device)
		}
		ts.gone[d.deviceName] = d
	}
}

// countTunnels reads the counters of the tunnels that are known.
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
	ts.counting.set(e.log, failed)
	// The process that named a namespace has ended; another may name it.
	if lost && time.Since(ts.lastFind) > holdersShare*ts.cost {
		e.findTunnels()
	}
}

// countTunnel tells what a tunnel has sent and received since it was last asked.
func (e *ebpf) countTunnel(n *netlink, ns *namespace, index int32, d *device) error {
	now := time.Now()
	if now.Before(d.askAt) {
		return nil
	}
	t, err := n.tunnel(index)
	if err != nil {
		return err
	}
	known := !d.older || !d.askedAt.IsZero()
	m := meter{t.tx, t.rx}
	growth := m.since(d.meter)
	switch {
	case t.kind == wireGuard:
		err = e.countPeers(n, ns, &t, d, known, now)
	case !known || growth == meter{}:
	case t.kind == vxlan:
		err = e.countRemotes(n, &t, d, growth, now)
	default:
		e.tunnelGrew(n, &t, d, netip.AddrPortFrom(t.remote, t.port), growth, growth.tx > 0, now)
	}
	switch err {
	case nil:
		d.meter, d.askedAt = m, now
	case errInterrupted: // what it lacks is asked for the next time
		d.meter, err = m, nil
	}
	return err
}

// countRemotes tells to which remotes a VXLAN device has sent. Its bytes are known if
// there is only one.
func (e *ebpf) countRemotes(n *netlink, t *tunnel, d *device, growth meter, now time.Time) error {
	remotes := make(map[netip.AddrPort]time.Duration)
	err := n.remotes(t, func(remote netip.AddrPort, ago time.Duration) {
		before, ok := remotes[remote]
		if ok && ago < before || !ok && len(remotes) < maxRemotes {
			remotes[remote] = ago
		}
	})
	d.askAt = now.Add(holdersShare * time.Since(now))
	if err != nil && err != errInterrupted {
		return err
	}
	// When a remote was used is asked after the counters, and known to within some hundredths
	// of a second.
	since := time.Since(d.askedAt)
	for remote, ago := range remotes {
		switch {
		case len(remotes) == 1 && err == nil:
			e.tunnelGrew(n, t, d, remote, growth, growth.tx > 0, now)
		case ago != never && ago-remoteSlack < since:
			e.tunnelGrew(n, t, d, remote, meter{}, growth.tx > 0, now)
		}
	}
	return err
}

// countPeers tells what the peers of a WireGuard device have received and sent, if what
// they had before is known.
func (e *ebpf) countPeers(n *netlink, ns *namespace, t *tunnel, d *device, known bool, now time.Time) error {
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
	d.askAt = now.Add(holdersShare * time.Since(now))
	if err != nil {
		return err
	}
	meters := make(map[wireGuardKey]meter, len(peers))
	for i := range peers {
		p := &peers[i]
		m := meter{p.tx, p.rx}
		meters[p.key] = m
		if growth := m.since(d.meters[p.key]); known && growth != (meter{}) {
			e.tunnelGrew(n, t, d, p.endpoint, growth, growth.tx > 0, now)
		}
	}
	d.meters = meters
	return nil
}

// tunnelGrew tells of packets between a tunnel and a peer. If they are the first for a
// while, sent says whether some were sent.
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

// networkNamespaces lists the network namespaces that have a name or a process which this
// one may look at, its own first, and says how many it leaves out.
func networkNamespaces() (list []netns, left int, err error) {
	known := make(map[uint32]bool)
	add := func(inode uint32, path string) {
		switch {
		case known[inode]:
			return
		case len(list) == maxNamespaces:
			left++
		default:
			list = append(list, netns{inode, path})
		}
		known[inode] = true
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
			// One that is not mounted is an empty file.
			if unix.Stat(path, &st) == nil && st.Dev == own.Dev {
				add(uint32(st.Ino), path)
			}
		}
	}
	var o holders
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

// dial opens a netlink in a network namespace. It is nil if the namespace is gone or may
// not be entered. All have one buffer.
func (ts *tunnels) dial(ns netns, protocol int) (n *netlink, err error) {
	if ts.buf == nil {
		ts.buf = make([]byte, 32<<10) // as much as the kernel tells at a time
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		var leave func() error
		if leave, err = ns.enter(); err == nil {
			n, err = openNetlink(protocol, ts.buf)
			if leave() != nil {
				return // with the thread locked, which ends it
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
	there, err := os.Open(ns.path)
	if err == nil {
		defer there.Close()
		if !ns.is(there) {
			err = os.ErrNotExist // its path is another's now
		} else if err = unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err == nil {
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
