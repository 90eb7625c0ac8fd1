package conntrack

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	tcpStates = 1<<stateEstablished | 1<<stateFinWait1 | 1<<stateFinWait2 | 1<<stateCloseWait |
		1<<stateLastAck | 1<<stateClosing | 1<<stateListen
	udpStates = 1<<stateEstablished | 1<<stateClose

	dumpTries  = 4 // an interrupted dump is asked for again
	ownerTries = 5 // at once, then 1, 4, 16 and 64 seconds after the last
)

// A diag is the backend Diag.
type diag struct {
	log      *slog.Logger
	loopback bool
	noUDP    bool
	limited  []string // why it does not see all, known since open

	mu     sync.Mutex
	link   netlink
	closed bool
	gen    uint64 // number of the snapshot
	now    time.Time
	table  map[uint64]int32    // indexes of entries by cookie
	blocks []*[blockSize]entry // entries; those not in table are in free
	free   []int32
	live   []int32 // entries of this snapshot
	owners owners
	tcp    ports // with listeners
	udp    ports // with unconnected sockets
}

// An entry is what is remembered of a connection between snapshots. It holds no
// pointers, and entries lie in blocks: a table of ten thousand Conns would keep
// the garbage collector busy for longer than the look-ups take.
type entry struct {
	cookie      uint64
	local, peer endpoint
	proto       Proto
	state       State
	direction   Direction
	found       bool  // pid is the owner
	tries       uint8 // walks of /proc that did not find the owner
	pid         int32 // last owner known; zero: none
	uid         uint32
	inode       uint32 // zero: no process has held it yet
	tx, rx      uint64
	rtt         time.Duration
	opened      int64  // in Unix nanoseconds
	retry       int64  // when to walk again, likewise
	gen         uint64 // snapshot that saw it last
	next        int32  // another one with the same inode, as TCP subflows of MPTCP; -1: none
}

// An endpoint is a netip.AddrPort without pointers.
type endpoint struct {
	addr [16]byte
	port uint16
}

func endpointOf(a netip.AddrPort) endpoint { return endpoint{a.Addr().As16(), a.Port()} }

func (e endpoint) addrPort() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(e.addr).Unmap(), e.port)
}

const blockSize = 256

func (d *diag) entry(i int32) *entry { return &d.blocks[i/blockSize][i%blockSize] }

// alloc returns the index of a zero entry.
func (d *diag) alloc() int32 {
	if len(d.free) == 0 {
		first := int32(len(d.blocks) * blockSize)
		d.blocks = append(d.blocks, new([blockSize]entry))
		for i := range int32(blockSize) {
			d.free = append(d.free, first+blockSize-1-i)
		}
	}
	n := len(d.free) - 1
	i := d.free[n]
	d.free = d.free[:n]
	return i
}

// ports are sets of ports, of this snapshot and the one before.
type ports struct{ now, before [1 << 16 / 64]uint64 }

func (p *ports) add(port uint16)      { p.now[port/64] |= 1 << (port % 64) }
func (p *ports) has(port uint16) bool { return (p.now[port/64]|p.before[port/64])&(1<<(port%64)) != 0 }
func (p *ports) age()                 { p.before = p.now; clear(p.now[:]) }

func (d *diag) info() Info {
	d.mu.Lock()
	defer d.mu.Unlock()
	limited := d.limited
	if d.owners.denied {
		limited = append(limited[:len(limited):len(limited)],
			"names of other users' programs need root, or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH")
	}
	return Info{Backend: Diag, Limited: strings.Join(limited, "; ")}
}

func (d *diag) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fmt.Errorf("conntrack: collector: %w", os.ErrClosed)
	}
	d.closed = true
	d.owners.close()
	return unix.Close(d.link.fd)
}

func (d *diag) events(ctx context.Context, interval time.Duration, yield func(Event) bool) error {
	return poll(ctx, interval, d.snapshot, yield)
}

// snapshot appends the current connections to dst.
func (d *diag) snapshot(ctx context.Context, dst []Conn) ([]Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return dst, fmt.Errorf("collector: %w", os.ErrClosed)
	}
	if dst == nil {
		// Garbage collection that this starts is over when dst is filled, mostly:
		// meanwhile the kernel is at work.
		dst = make([]Conn, 0, len(d.table)+len(d.table)/8)
	}
	d.gen++
	d.now = time.Now().Round(0)
	d.live = d.live[:0]
	d.tcp.age()
	d.udp.age()
	if err := d.list(ctx, TCP, unix.AF_UNSPEC); err != nil {
		return dst, err
	}
	if !d.noUDP {
		for _, family := range [...]uint8{unix.AF_INET, unix.AF_INET6} {
			if err := d.list(ctx, UDP, family); err != nil {
				return dst, err
			}
		}
	}
	for _, i := range d.live {
		e, listening := d.entry(i), &d.tcp
		if e.direction != Unknown {
			continue
		}
		if e.proto == UDP {
			listening = &d.udp
		}
		e.direction = Out
		if listening.has(e.local.port) {
			e.direction = In
		}
	}
	if len(d.live) != len(d.table) {
		for cookie, i := range d.table {
			if d.entry(i).gen != d.gen {
				delete(d.table, cookie)
				*d.entry(i) = entry{}
				d.free = append(d.free, i)
			}
		}
	}
	d.findOwners()
	dst = slices.Grow(dst, len(d.live))
	for _, i := range d.live {
		e := d.entry(i)
		c := Conn{
			ID: e.cookie, Proto: e.proto, State: e.state, Direction: e.direction, Local: e.local.addrPort(), Peer: e.peer.addrPort(),
			UID: e.uid, Tx: e.tx, Rx: e.rx, RTT: e.rtt, Opened: time.Unix(0, e.opened),
		}
		if p := d.owners.known[e.pid]; p != nil {
			c.Process = p.Process
		}
		dst = append(dst, c)
	}
	return dst, nil
}

// list adds sockets until the answer is consistent.
func (d *diag) list(ctx context.Context, proto Proto, family uint8) error {
	for try := 1; ; try++ {
		// A dump that has begun must be read to its end, and takes milliseconds.
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if proto == TCP {
			err = d.link.dumpTCP(tcpStates, d.addTCP)
		} else {
			err = d.link.dumpUDP(family, udpStates, d.addUDP)
		}
		if err == nil {
			return nil
		}
		if err != errInterrupted || try == dumpTries {
			return fmt.Errorf("list of %v sockets: %w", proto, err)
		}
		d.log.Debug("conntrack: list of sockets interrupted, asking again", "proto", proto.String(), "try", try)
	}
}

func (d *diag) addTCP(b []byte) {
	s, ok := parseSock(b)
	switch {
	case !ok:
	case s.state == stateListen:
		d.tcp.add(s.local.Port())
	case s.timer == timerTimeWait:
		// The kernel lists the TIME_WAIT remains of a socket in FIN_WAIT2 under
		// that state, with a new cookie.
	default:
		d.add(TCP, &s)
	}
}

func (d *diag) addUDP(b []byte) {
	s, ok := parseSock(b)
	switch {
	case !ok:
	case s.state != stateEstablished || s.peer.Port() == 0:
		d.udp.add(s.local.Port())
	default:
		d.add(UDP, &s)
	}
}

func (d *diag) add(proto Proto, s *sock) {
	if !d.loopback && s.peer.Addr().IsLoopback() {
		return
	}
	i, ok := d.table[s.cookie]
	if !ok {
		i = d.alloc()
		d.table[s.cookie] = i
	}
	e := d.entry(i)
	local, peer := endpointOf(s.local), endpointOf(s.peer)
	if e.proto != proto || e.local != local || e.peer != peer {
		*e = entry{cookie: s.cookie, proto: proto, local: local, peer: peer, uid: s.uid, opened: d.now.UnixNano()}
	}
	if proto == TCP {
		e.state = State(s.state)
	}
	e.tx, e.rx, e.rtt = s.tx, s.rx, s.rtt
	// A socket that its program has closed lives on without inode and user until
	// the peer knows: it keeps its last owner.
	if s.inode != 0 && s.inode != e.inode {
		e.inode, e.uid, e.pid = s.inode, s.uid, 0
		e.found, e.tries, e.retry = false, 0, 0
	}
	// The kernel may list a socket twice when its table changes under way.
	if e.gen != d.gen {
		e.gen = d.gen
		d.live = append(d.live, i)
	}
}

// findOwners gives each entry of d.live its process. It walks /proc only if
// there is a socket that it has not looked for before, or not for a while.
func (d *diag) findOwners() {
	due := 0
	for _, i := range d.live {
		e := d.entry(i)
		if p := d.owners.known[e.pid]; p != nil {
			p.gen = d.gen
		}
		if d.due(e) {
			due++
		}
	}
	if d.owners.forget(d.gen) {
		due = 0
		for _, i := range d.live {
			e := d.entry(i)
			if p := d.owners.known[e.pid]; e.found && p.gone {
				e.found, e.tries, e.retry = false, 0, 0
			}
			if d.due(e) {
				due++
			}
		}
	}
	if due == 0 || !d.owners.usable {
		return
	}

	// The walk also looks for sockets that are not due: it costs nothing more.
	// It ends when those are found that are.
	want := make(map[uint32]int32, due)
	for _, i := range d.live {
		e := d.entry(i)
		if e.found || e.inode == 0 {
			continue
		}
		e.next = -1
		if other, ok := want[e.inode]; ok {
			e.next = other
		}
		want[e.inode] = i
	}
	d.owners.walk(func(pid int32, inode uint32) bool {
		i, ok := want[inode]
		if !ok {
			return true
		}
		for e := d.entry(i); !e.found; e = d.entry(i) {
			if d.due(e) {
				due--
			}
			d.owners.process(pid).gen = d.gen
			e.found, e.pid = true, pid
			if i = e.next; i < 0 {
				break
			}
		}
		return due > 0
	})
	for _, i := range d.live {
		if e := d.entry(i); d.due(e) {
			e.retry = d.now.Add(time.Second << (2 * e.tries)).UnixNano()
			e.tries++
		}
	}
}

// due says whether e is worth a walk of /proc.
func (d *diag) due(e *entry) bool {
	return !e.found && e.inode != 0 && e.tries < ownerTries && d.now.UnixNano() >= e.retry
}
