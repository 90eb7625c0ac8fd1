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

// States of sockets, from Linux's net/tcp_states.h. Sockets of other protocols than TCP
// use Established if they have a peer and Close if not.
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
	// list calls add for each socket. It may leave out those that are neither
	// connected nor listening, and list others twice.
	list(ctx context.Context, add func(Proto, *sock)) error
	close() error
}

// owners find the processes that hold the sockets of a snapshot.
type owners interface {
	// find gives each entry of p.live its process.
	find(p *poller)
	// of returns the process of an entry, zero if it is not known.
	of(pid int32) Process
	// limited says what they were not allowed to look at, for people; empty: nothing.
	limited() string
	close()
}

// A sock is what a lister says of a socket. It is valid during the call of add
// only.
type sock struct {
	state, timer uint8
	local, peer  netip.AddrPort
	cookie       uint64 // zero: not told
	uid          uint32
	inode        uint32 // zero: no process holds the socket, or the system has none
	pid          int32  // process that holds it; zero: not told, or none
	tx, rx       uint64
	rtt          time.Duration
}

// A poller is the backend that remembers what a lister has found, and finds the
// processes.
type poller struct {
	name     Backend
	loopback bool
	limited  []string // why it does not see all, known since open

	mu     sync.Mutex
	lister lister
	closed bool
	gen    uint64 // number of the snapshot
	now    time.Time
	table  map[uint64]int32    // indexes of entries by id
	blocks []*[blockSize]entry // entries; those not in table are in free
	free   []int32
	live   []int32 // entries of this snapshot
	owners owners
	tcp    ports // with listeners
	udp    ports // with unconnected sockets
}

// newPoller returns a poller that owns l and w. It misses what is shorter than a poll and
// what missed names; limited says what else is not known.
func newPoller(name Backend, o Options, l lister, w owners, missed string, limited ...string) *poller {
	p := &poller{name: name, loopback: o.Loopback, lister: l, owners: w, table: make(map[uint64]int32)}
	p.limited = append([]string{fmt.Sprintf("it looks once in %v, and misses what is shorter, and %s", o.Interval, missed)}, limited...)
	return p
}

// An entry is what is remembered of a connection between snapshots. It holds no
// pointers, and entries lie in blocks: a table of ten thousand Conns would keep
// the garbage collector busy for longer than the look-ups take.
type entry struct {
	id          uint64
	local, peer endpoint
	proto       Proto
	state       State
	direction   Direction
	directed    bool  // direction is final
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

// ports are sets of ports, of this snapshot and the one before.
type ports struct{ now, before [1 << 16 / 64]uint64 }

func (p *ports) add(port uint16)      { p.now[port/64] |= 1 << (port % 64) }
func (p *ports) has(port uint16) bool { return (p.now[port/64]|p.before[port/64])&(1<<(port%64)) != 0 }
func (p *ports) age()                 { p.before = p.now; clear(p.now[:]) }

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
		// Garbage collection that this starts is over when dst is filled, mostly:
		// meanwhile the kernel is at work.
		dst = make([]Conn, 0, len(p.table)+len(p.table)/8)
	}
	p.gen++
	p.now = time.Now().Round(0)
	p.live = p.live[:0]
	p.tcp.age()
	p.udp.age()
	if err := p.lister.list(ctx, p.add); err != nil {
		return dst, err
	}
	for _, i := range p.live {
		e := p.entry(i)
		if e.directed {
			continue
		}
		// The kernel lists listeners before connections: one that began to listen
		// in between, and accepted, is listed only the next time.
		e.directed = e.direction != Unknown
		e.direction = Out
		if e.proto == TCP && p.tcp.has(e.local.port) || e.proto == UDP && p.udp.has(e.local.port) {
			e.direction, e.directed = In, true
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

var seed = maphash.MakeSeed() // of the hashes that serve as ids

// add takes a socket into the snapshot if it is a connection.
func (p *poller) add(proto Proto, s *sock) {
	switch {
	case proto == TCP && s.state == stateListen:
		p.tcp.add(s.local.Port())
		return
	case proto == TCP && (uint32(1)<<s.state&tcpStates == 0 || s.timer == timerTimeWait):
		// The kernel lists the TIME_WAIT remains of a socket in FIN_WAIT2 under
		// that state, with a new cookie.
		return
	case proto == UDP && s.local.Port() != 0 && (s.state != stateEstablished || s.peer.Port() == 0):
		p.udp.add(s.local.Port())
		return
	case s.state != stateEstablished && proto != TCP, !p.loopback && s.peer.Addr().IsLoopback():
		return
	}
	local, peer := endpointOf(s.local), endpointOf(s.peer)
	id := s.cookie
	switch {
	case id != 0:
	case s.inode != 0 && (proto != TCP || s.local.Port() == 0):
		// Of a raw socket, even one with the protocol TCP, others may be copies.
		id = uint64(s.inode)
	default:
		// The inode of a TCP connection comes with accept and goes with close,
		// and subflows of MPTCP share one. But no two have the same ends.
		id = maphash.Comparable(seed, tuple{proto, local, peer})>>3 | 1<<62
	}
	i, ok := p.table[id]
	if !ok {
		i = p.alloc()
		p.table[id] = i
	}
	e := p.entry(i)
	successor := s.cookie == 0 && (e.inode != 0 && s.inode != 0 && s.inode != e.inode || e.pid != 0 && s.pid != 0 && s.pid != e.pid) // with the same ends
	if successor || e.proto != proto || e.local != local || e.peer != peer {
		*e = entry{id: id, proto: proto, local: local, peer: peer, uid: s.uid, opened: p.now.UnixNano(), gen: e.gen}
	}
	if proto == TCP {
		e.state = State(s.state)
	}
	e.tx, e.rx, e.rtt = s.tx, s.rx, s.rtt
	// A socket that its program has closed lives on without inode and user until
	// the peer knows: it keeps its last owner.
	if s.inode != e.inode && s.inode != 0 {
		e.inode, e.uid, e.pid = s.inode, s.uid, 0
		e.found, e.tries, e.retry = false, 0, 0
	}
	if s.pid != 0 {
		e.pid = s.pid
	}
	// The kernel may list a socket twice when its table changes under way.
	if e.gen != p.gen {
		e.gen = p.gen
		p.live = append(p.live, i)
	}
}
