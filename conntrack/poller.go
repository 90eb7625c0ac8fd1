package conntrack

import (
	"context"
	"fmt"
	"hash/maphash"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// States of sockets, from Linux's net/tcp_states.h. Sockets of protocols other than TCP are
// Established if they have a peer, and Close otherwise.
const (
	stateEstablished = uint8(Established)
	stateFinWait1    = uint8(FinWait1)
	stateFinWait2    = uint8(FinWait2)
	stateClose       = uint8(Closed)
	stateCloseWait   = uint8(CloseWait)
	stateLastAck     = uint8(LastAck)
	stateListen      = 10
	stateClosing     = uint8(Closing)
)

const (
	tcpStates = 1<<stateEstablished | 1<<stateFinWait1 | 1<<stateFinWait2 | 1<<stateCloseWait |
		1<<stateLastAck | 1<<stateClosing // those of connections

	timerTimeWait = 3 // sock.timer of a TIME_WAIT socket
)

// A lister finds the sockets of the network namespace in which it was opened.
type lister interface {
	// list calls add for each socket. It may omit sockets that are neither connected
	// nor listening, and may list a socket twice.
	list(ctx context.Context, add func(Proto, *sock)) error
	close() error
}

// owners find the processes that hold the sockets of a snapshot.
type owners interface {
	// find sets the process of each entry of p.live.
	find(p *poller)
	// of returns the process with a PID; zero: unknown.
	of(pid int32) Process
	// limited says, for people, what could not be inspected; empty: nothing.
	limited() string
	close()
}

// A sock is a socket as a lister reports it. It is valid during the call of add only.
type sock struct {
	state, timer uint8
	local, peer  netip.AddrPort
	cookie       uint64 // zero: unknown
	uid          uint32
	inode        uint32 // zero: no process holds the socket, or the system has no inodes
	pid          int32  // process that holds it; zero: unknown, or none
	tx, rx       uint64
	rtt          time.Duration
}

// A poller is a backend that remembers what its lister has found, and finds the processes.
type poller struct {
	name     Backend
	loopback bool
	limited  []string // what it does not see, as known since it was opened

	mu             sync.Mutex
	lister         lister
	closed         bool
	gen            uint64 // number of the snapshot
	now            time.Time
	table          map[uint64]int32    // indexes of entries by ID
	blocks         []*[blockSize]entry // entries; those not in table are in free
	free           []int32
	live           []int32 // entries of this snapshot
	owners         owners
	tcpListening   ports // ports of listeners
	udpUnconnected ports // ports of unconnected sockets
}

// newPoller returns a poller that owns l and w. missed and limited say, for people, what it
// does not see besides connections shorter than a poll.
func newPoller(name Backend, o Options, l lister, w owners, missed string, limited ...string) *poller {
	p := &poller{name: name, loopback: o.Loopback, lister: l, owners: w, table: make(map[uint64]int32)}
	p.limited = append([]string{fmt.Sprintf("it polls every %v, and misses shorter connections, %s", o.Interval, missed)}, limited...)
	if o.Names {
		p.limited = append(p.limited, "names of peers need eBPF")
	}
	return p
}

// An entry is a connection as remembered between snapshots. It holds no pointers, and entries
// are in blocks: the garbage collector would need longer for a table of ten thousand Conns
// than the lookups take.
type entry struct {
	id             uint64
	local, peer    endpoint
	proto          Proto
	state          State
	direction      Direction
	directionFinal bool  // direction is final
	found          bool  // pid is the owner
	tries          uint8 // walks of /proc that did not find the owner
	pid            int32 // last known owner; zero: none
	uid            uint32
	inode          uint32 // zero: no process has held it yet
	tx, rx         uint64
	rtt            time.Duration
	opened         int64  // in Unix nanoseconds
	nextWalk       int64  // earliest next walk, in Unix nanoseconds
	gen            uint64 // last snapshot that saw it
	next           int32  // another entry with the same inode, as TCP subflows of MPTCP; -1: none
}

// An endpoint is a netip.AddrPort without pointers.
type endpoint struct {
	addr   [16]byte
	port   uint16
	device uint32 // see zoned
}

func endpointOf(a netip.AddrPort) endpoint {
	e := endpoint{addr: a.Addr().As16(), port: a.Port()}
	if zone := a.Addr().Zone(); zone != "" {
		n, _ := strconv.ParseUint(zone, 10, 32)
		e.device = uint32(n)
	}
	return e
}

func (e endpoint) addrPort() netip.AddrPort {
	return netip.AddrPortFrom(zoned(netip.AddrFrom16(e.addr).Unmap(), e.device), e.port)
}

const blockSize = 256

func (p *poller) entry(i int32) *entry { return &p.blocks[i/blockSize][i%blockSize] }

// alloc returns the index of a zero entry.
func (p *poller) alloc() int32 {
	if len(p.free) == 0 {
		first := int32(len(p.blocks) * blockSize)
		p.blocks = append(p.blocks, new([blockSize]entry))
		for i := range int32(blockSize) {
			p.free = append(p.free, first+blockSize-1-i)
		}
	}
	n := len(p.free) - 1
	i := p.free[n]
	p.free = p.free[:n]
	return i
}

// ports holds the sets of ports of this snapshot and of the one before.
type ports struct{ now, before [1 << 16 / 64]uint64 }

func (p *ports) add(port uint16)      { p.now[port/64] |= 1 << (port % 64) }
func (p *ports) has(port uint16) bool { return (p.now[port/64]|p.before[port/64])&(1<<(port%64)) != 0 }
func (p *ports) rotate()              { p.before = p.now; clear(p.now[:]) }

func (p *poller) info() Info {
	p.mu.Lock()
	defer p.mu.Unlock()
	limited := p.limited
	if denied := p.owners.limited(); denied != "" {
		limited = append(limited[:len(limited):len(limited)], denied)
	}
	return Info{Backend: p.name, Limited: strings.Join(limited, "; ")}
}

func (p *poller) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("conntrack: collector: %w", os.ErrClosed)
	}
	p.closed = true
	p.owners.close()
	return p.lister.close()
}

func (p *poller) events(ctx context.Context, interval time.Duration, yield func(Event) bool) error {
	return poll(ctx, interval, p.snapshot, yield)
}

// snapshot appends the current connections to dst.
func (p *poller) snapshot(ctx context.Context, dst []Conn) ([]Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return dst, fmt.Errorf("collector: %w", os.ErrClosed)
	}
	if dst == nil {
		// Garbage collection that this starts runs while the kernel works, and is mostly
		// over when dst is filled.
		dst = make([]Conn, 0, len(p.table)+len(p.table)/8)
	}
	p.gen++
	p.now = time.Now().Round(0)
	p.live = p.live[:0]
	p.tcpListening.rotate()
	p.udpUnconnected.rotate()
	if err := p.lister.list(ctx, p.add); err != nil {
		return dst, err
	}
	for _, i := range p.live {
		e := p.entry(i)
		if e.directionFinal {
			continue
		}
		// The kernel lists listeners before connections. If one began to listen in
		// between, and accepted, only the next snapshot has it.
		e.directionFinal = e.direction != Unknown
		e.direction = Out
		if e.proto == TCP && p.tcpListening.has(e.local.port) || e.proto == UDP && p.udpUnconnected.has(e.local.port) {
			e.direction, e.directionFinal = In, true
		}
	}
	if len(p.live) != len(p.table) {
		for id, i := range p.table {
			if p.entry(i).gen != p.gen {
				delete(p.table, id)
				*p.entry(i) = entry{}
				p.free = append(p.free, i)
			}
		}
	}
	p.owners.find(p)
	dst = slices.Grow(dst, len(p.live))
	for _, i := range p.live {
		e := p.entry(i)
		dst = append(dst, Conn{
			ID: e.id, Proto: e.proto, State: e.state, Direction: e.direction, Local: e.local.addrPort(), Peer: e.peer.addrPort(),
			Process: p.owners.of(e.pid), UID: e.uid, Tx: e.tx, Rx: e.rx, RTT: e.rtt, Opened: time.Unix(0, e.opened),
		})
	}
	return dst, nil
}

type tuple struct {
	proto       Proto
	local, peer endpoint
}

var seed = maphash.MakeSeed() // of the hashes that serve as IDs

// add adds a socket to the snapshot if it is a connection.
func (p *poller) add(proto Proto, s *sock) {
	switch {
	case proto == TCP && s.state == stateListen:
		p.tcpListening.add(s.local.Port())
		return
	case proto == TCP && (uint32(1)<<s.state&tcpStates == 0 || s.timer == timerTimeWait):
		// The kernel lists the TIME_WAIT remains of a socket under FIN_WAIT2, with a new
		// cookie.
		return
	case proto == UDP && s.local.Port() != 0 && (s.state != stateEstablished || s.peer.Port() == 0):
		p.udpUnconnected.add(s.local.Port())
		return
	case s.state != stateEstablished && proto != TCP, !p.loopback && s.peer.Addr().IsLoopback():
		return
	}
	local, peer := endpointOf(s.local), endpointOf(s.peer)
	id := s.cookie
	switch {
	case id != 0:
	case s.inode != 0 && (proto != TCP || s.local.Port() == 0):
		// Several raw sockets, even with the protocol TCP, may have the same addresses.
		id = uint64(s.inode)
	default:
		// The inode of a TCP connection comes with accept and goes with close, and
		// subflows of MPTCP share one. But its addresses are unique.
		id = maphash.Comparable(seed, tuple{proto, local, peer})>>3 | 1<<62
	}
	i, ok := p.table[id]
	if !ok {
		i = p.alloc()
		p.table[id] = i
	}
	e := p.entry(i)
	replaced := s.cookie == 0 && (e.inode != 0 && s.inode != 0 && s.inode != e.inode || e.pid != 0 && s.pid != 0 && s.pid != e.pid) // by one with the same addresses
	if replaced || e.proto != proto || e.local != local || e.peer != peer {
		*e = entry{id: id, proto: proto, local: local, peer: peer, uid: s.uid, opened: p.now.UnixNano(), gen: e.gen}
	}
	if proto == TCP {
		e.state = State(s.state)
	}
	e.tx, e.rx, e.rtt = s.tx, s.rx, s.rtt
	// A socket that its program has closed lives on, without inode and user, until the peer
	// acknowledges that. It keeps its last owner.
	if s.inode != e.inode && s.inode != 0 {
		e.inode, e.uid, e.pid = s.inode, s.uid, 0
		e.found, e.tries, e.nextWalk = false, 0, 0
	}
	if s.pid != 0 {
		e.pid = s.pid
	}
	// The kernel may list a socket twice if its table changes meanwhile.
	if e.gen != p.gen {
		e.gen = p.gen
		p.live = append(p.live, i)
	}
}
