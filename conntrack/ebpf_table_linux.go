//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/connmapgo/connmap/conntrack/internal/bpf"
)

// This file is the table of connections of the backend ebpf. All of it belongs
// to the pump.

// A tracked is a connection in the table. There may be hundreds of thousands: what only
// flows need is apart.
type tracked struct {
	conn     Conn
	opened   int64 // as the kernel's clock says
	guessed  bool  // opened is when a pass found it
	flow     *flow // nil of a TCP connection
	presence       // of its socket; of a flow, that of the socket has it
	late     bool  // its update waits until there is room
}

// A flow is what a tracked that is one has besides.
type flow struct {
	socket    *socket
	cookie    uint64 // of the socket
	connected bool
	grown     time.Duration // when the counters last were seen to grow, after ebpf.started
	links     [2]link       // in flowLists
}

func (t *tracked) key() bpf.FlowKey {
	return bpf.KeyOf(t.flow.cookie, uint8(t.conn.Proto), t.conn.Peer)
}

// A presence is when passes last found a socket.
type presence struct {
	pass   uint32
	at     int32 // its place in ebpf.touched
	misses uint8 // passes that did not find it, one after the other
}

// A socket is one with flows.
type socket struct {
	presence
	flows   flowList
	fixed   *tracked // the flow that is connected
	process *Process // the owner of those flows that grow from now on; nil: no other
}

// A holding is who holds a socket, as a pass finds it.
type holding struct {
	socket  *socket   // nil: conn is held
	conn    *tracked  // nil: the flows of socket are
	primary Process   // the owner, if the pass has found it
	holders []Process // the others
}

// A flowList is flows in the order in which they last grew. A flow can be in two
// of them, one for each of its links.
type flowList struct {
	front, back *tracked
	n           int
}

type link struct{ prev, next *tracked }

const (
	ofSocket = iota // index of tracked.links
	ofAll
)

func (l *flowList) add(t *tracked, of int) {
	t.flow.links[of] = link{prev: l.back}
	if l.back != nil {
		l.back.flow.links[of].next = t
	} else {
		l.front = t
	}
	l.back = t
	l.n++
}

func (l *flowList) remove(t *tracked, of int) {
	k := t.flow.links[of]
	if k.prev != nil {
		k.prev.flow.links[of].next = k.next
	} else {
		l.front = k.next
	}
	if k.next != nil {
		k.next.flow.links[of].prev = k.prev
	} else {
		l.back = k.prev
	}
	t.flow.links[of] = link{}
	l.n--
}

func (l *flowList) all() iter.Seq[*tracked] {
	return func(yield func(*tracked) bool) {
		for t := l.front; t != nil; {
			next := t.flow.links[ofSocket].next // t may be ended
			if !yield(t) {
				return
			}
			t = next
		}
	}
}

type endpointNS struct {
	netns uint32
	proto Proto
	port  uint16
}

// handle takes in what the programs tell.
func (e *ebpf) handle(s *bpf.Socket, p *bpf.Process) {
	if p != nil {
		e.processes.add(p)
		return
	}
	switch s.Kind {
	case bpf.Opened:
		delete(e.ignored, s.Cookie) // its socket has connected anew
		e.open(s)
	case bpf.Closed:
		if e.ignored[s.Cookie] {
			delete(e.ignored, s.Cookie)
			return
		}
		// If its opening was lost, it is told now.
		t := e.open(s)
		t.count(s)
		t.conn.State, t.conn.UID = Closed, s.UID
		if p := e.processes.of(&s.Owner); p != (Process{}) {
			t.conn.Process = p
		}
		e.end(t, e.wall(s.Time))
		e.putAside(t)
	case bpf.FlowOpened:
		if e.behind && !e.probe.HasFlow(s.Key()) {
			return // a pass has found it, and it has ended
		}
		e.openFlow(s)
	case bpf.Released:
		if sock := e.sockets[s.Cookie]; sock != nil {
			p := e.processes.of(&s.Owner)
			for t := range sock.flows.all() {
				if sock.flows.n == 1 || t.conn.Process.PID == p.PID {
					e.owns(t, p)
				}
			}
		}
		e.endFlows(s.Cookie, e.wall(s.Time))
		if s.Untold && len(e.released) < mostReleased {
			e.released[s.Cookie] = s.Time
		}
	case bpf.Refused:
		p := e.processes.of(&s.Owner)
		e.log.Warn("conntrack: a program has more new peers at once than are followed; some of its flows are not seen",
			"program", p.Comm, "pid", p.PID, "exe", p.Exe)
	}
}

// open returns the TCP connection that s tells of, and adds it if it is new.
func (e *ebpf) open(s *bpf.Socket) *tracked {
	t := e.conns[s.Cookie]
	if t != nil && t.flow == nil {
		if t.opened == s.Opened || s.Opened == 0 {
			return t
		}
		if t.guessed && s.Opened < t.opened {
			// A pass has found it before its opening was read.
			t.opened, t.guessed, t.conn.Opened = s.Opened, false, e.wall(s.Opened)
			if s.Direction != 0 {
				t.conn.Direction = direction(s.Direction)
			}
			return t
		}
		// The end of the one before was lost.
		e.end(t, e.wall(s.Opened))
	}
	guessed := s.Opened == 0
	if guessed {
		s.Opened = s.Time
	}
	t = e.unused()
	*t = tracked{opened: s.Opened, guessed: guessed, conn: Conn{
		ID: s.Cookie, Proto: TCP, State: State(s.State), Direction: direction(s.Direction), Local: s.Local, Peer: s.Peer,
		Process: e.processes.of(&s.Owner), UID: s.UID, Opened: e.wall(s.Opened),
	}}
	t.count(s)
	if t.conn.Direction == Unknown {
		t.conn.Direction = e.side(s)
	}
	e.conns[s.Cookie] = t
	e.tcp++
	e.emit(Open, t.conn.Opened, &t.conn)
	return t
}

// unused returns a tracked to fill: short connections are many.
func (e *ebpf) unused() *tracked {
	n := len(e.spare)
	if n == 0 {
		return new(tracked)
	}
	t := e.spare[n-1]
	e.spare = e.spare[:n-1]
	return t
}

// putAside keeps a tracked that has ended, to be filled again.
func (e *ebpf) putAside(t *tracked) {
	if len(e.spare) < mostSpare {
		e.spare = append(e.spare, t)
	}
}

func direction(out uint8) Direction {
	switch out {
	case 1:
		return Out
	case 2:
		return In
	}
	return Unknown
}

// side guesses the direction of a connection that is older than the programs.
func (e *ebpf) side(s *bpf.Socket) Direction {
	if e.listening[endpointNS{s.NetNS, Proto(s.Proto), s.Local.Port()}] {
		return In
	}
	return Out
}

func (t *tracked) count(s *bpf.Socket) {
	t.conn.Tx, t.conn.Rx, t.conn.RTT = s.Tx, s.Rx, s.RTT
}

// recount takes in the counters and the state of now, and reports whether one is another.
// The round-trip time alone is no news.
func (t *tracked) recount(tx, rx uint64, rtt time.Duration, state State, uid uint32) bool {
	k := &t.conn
	news := k.Tx != tx || k.Rx != rx || k.State != state || k.UID != uid
	k.Tx, k.Rx, k.RTT, k.State, k.UID = tx, rx, rtt, state, uid
	return news
}

// end takes a connection out of the table.
func (e *ebpf) end(t *tracked, at time.Time) {
	delete(e.conns, t.conn.ID)
	if t.flow == nil {
		e.tcp--
	}
	if at.Before(t.conn.Opened) {
		at = t.conn.Opened
	}
	e.emit(Close, at, &t.conn)
}

func holds(list []Process, pid int) bool {
	return slices.ContainsFunc(list, func(p Process) bool { return p.PID == pid })
}

func without(list []Process, pid int) []Process {
	if !holds(list, pid) {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(p Process) bool { return p.PID == pid })
}

// openFlow returns the flow that s tells of, and adds it if it is new.
func (e *ebpf) openFlow(s *bpf.Socket) *tracked {
	if t := e.flows[s.Key()]; t != nil {
		return t
	}
	return e.addFlow(s, e.processes.of(&s.Owner))
}

// addFlow adds the flow that s tells of, which is new.
func (e *ebpf) addFlow(s *bpf.Socket, owner Process) *tracked {
	key := s.Key()
	sock := e.sockets[s.Cookie]
	if sock == nil {
		sock = new(socket)
		e.sockets[s.Cookie] = sock
	}
	id := s.Cookie
	if s.Connected {
		// A socket that connects anew has left its former peer.
		if sock.fixed != nil {
			e.endFlow(sock.fixed, e.wall(s.Opened))
			e.sockets[s.Cookie] = sock
		}
	}
	if e.conns[id] != nil || !s.Connected {
		e.flowSeq++
		id = 1<<63 | e.flowSeq
	}
	t := e.unused()
	f := t.flow
	if f == nil {
		f = new(flow)
	}
	*f = flow{socket: sock, connected: s.Connected, cookie: s.Cookie, grown: time.Since(e.started)}
	*t = tracked{opened: s.Opened, flow: f, conn: Conn{
		ID: id, Proto: Proto(s.Proto), Direction: direction(s.Direction), Local: s.Local, Peer: s.Peer,
		Process: owner, UID: s.UID, Opened: e.wall(s.Opened),
	}}
	t.count(s)
	if t.conn.Direction == Unknown {
		t.conn.Direction = e.side(s)
	}
	if len(e.flows) == 0 && e.nextTick.IsZero() {
		e.nextTick = time.Now()
	}
	e.conns[id], e.flows[key] = t, t
	sock.flows.add(t, ofSocket)
	e.fresh++
	e.emit(Open, t.conn.Opened, &t.conn)
	if t.flow.connected {
		sock.fixed = t
	} else {
		e.idlest.add(t, ofAll)
		e.makeRoom(sock)
	}
	return t
}

// connect takes in that the socket of a flow has been connected to its peer.
func (e *ebpf) connect(t *tracked) {
	sock := t.flow.socket
	if sock.fixed == t {
		return
	}
	e.disconnect(sock)
	e.idlest.remove(t, ofAll)
	t.flow.connected, sock.fixed = true, t
}

// disconnect takes in that a socket is not connected any more: its flow ends when it is idle.
func (e *ebpf) disconnect(sock *socket) {
	t := sock.fixed
	if t == nil {
		return
	}
	t.flow.connected, sock.fixed = false, nil
	t.flow.grown = time.Since(e.started)
	e.idlest.add(t, ofAll)
}

// grow takes in the counters of a flow that was not idle.
func (e *ebpf) grow(t *tracked, tx, rx uint64, now time.Time) {
	if t.conn.Tx != tx || t.conn.Rx != rx {
		t.conn.Tx, t.conn.Rx = tx, rx
		if t.flow.socket.process != nil {
			e.owns(t, *t.flow.socket.process)
		}
		e.emit(Update, now.Round(0), &t.conn)
	}
	t.flow.grown = now.Sub(e.started)
	t.flow.socket.flows.remove(t, ofSocket)
	t.flow.socket.flows.add(t, ofSocket)
	if !t.flow.connected {
		e.idlest.remove(t, ofAll)
		e.idlest.add(t, ofAll)
	}
}

// makeRoom ends some idle flows early, if a socket has too many or if there are too
// many at all: then they are of the socket with most of them. Connected flows do
// not count, as their number is that of sockets.
func (e *ebpf) makeRoom(sock *socket) {
	if sock.flows.n <= mostFlows/2 {
		if e.idlest.n <= mostFlows {
			return
		}
		sock = e.largest()
	}
	var list []*tracked
	if sock != nil {
		for t := range sock.flows.all() {
			if !t.flow.connected {
				list = append(list, t)
			}
			if len(list) == min(mostEvicted, sock.flows.n/4) {
				break
			}
		}
	} else {
		for t := e.idlest.front; t != nil && len(list) < mostEvicted; t = t.flow.links[ofAll].next {
			list = append(list, t)
		}
	}
	e.endAll(list, time.Now().Round(0))
}

// largest returns a socket that has many flows, about the most of all; nil: none
// has many. It looks at all sockets only when that which had most has lost half.
func (e *ebpf) largest() *socket {
	const many = 16
	if e.most == nil && e.soughtAt == e.countedAt {
		return nil // nor was there one a moment ago
	}
	if e.most == nil || e.most.flows.n <= e.mostAt/2 {
		e.most, e.mostAt, e.soughtAt = nil, many, e.countedAt
		for _, s := range e.sockets {
			if s.flows.n > e.mostAt {
				e.most, e.mostAt = s, s.flows.n
			}
		}
	}
	return e.most
}

// endFlow takes a flow out of the table and out of the kernel's.
func (e *ebpf) endFlow(t *tracked, at time.Time) { e.endAll([]*tracked{t}, at) }

// endAll takes flows out of the table and out of the kernel's.
func (e *ebpf) endAll(list []*tracked, at time.Time) {
	e.keys = e.keys[:0]
	for _, t := range list {
		e.keys = append(e.keys, t.key())
	}
	counted := func(i int, tx, rx uint64) { list[i].conn.Tx, list[i].conn.Rx = tx, rx }
	if err := e.probe.EndFlows(e.keys, counted); err != nil {
		// As for want of a file descriptor.
		e.log.Debug("conntrack: flows are ended one by one", "error", err)
		for i := range e.keys {
			e.probe.EndFlows(e.keys[i:i+1], func(_ int, tx, rx uint64) { counted(i, tx, rx) })
		}
	}
	for i, t := range list {
		delete(e.flows, e.keys[i])
		t.flow.socket.flows.remove(t, ofSocket)
		if t.flow.connected {
			t.flow.socket.fixed = nil
		} else {
			e.idlest.remove(t, ofAll)
		}
		if t.flow.socket.flows.n == 0 {
			delete(e.sockets, t.flow.cookie)
		}
		e.end(t, at)
		*t.flow = flow{} // lets go of the socket
		e.putAside(t)
	}
}

func (e *ebpf) endFlows(cookie uint64, at time.Time) {
	if sock := e.sockets[cookie]; sock != nil {
		e.endAll(slices.Collect(sock.flows.all()), at)
	}
}

// endIdle ends flows on which nothing has been sent for a while, a number of them
// at a time, and reports whether there are more. Those of connected sockets end
// with the socket.
func (e *ebpf) endIdle(now time.Time) (more bool) {
	var list []*tracked
	for t := e.idlest.front; t != nil && now.Sub(e.started)-t.flow.grown > flowIdle; t = t.flow.links[ofAll].next {
		if len(list) == mostEnds {
			more = true
			break
		}
		list = append(list, t)
	}
	e.endAll(list, now.Round(0))
	return more
}

// owns makes a process the owner of a connection, and reports whether that is news.
func (e *ebpf) owns(t *tracked, p Process) bool {
	before := t.conn.Process
	if p == (Process{}) || p == before {
		return false
	}
	t.conn.Process = p
	switch {
	case p.PID == before.PID:
	case holds(t.conn.Sharers, p.PID):
		// They take turns.
		sharers := append(without(t.conn.Sharers, p.PID), before)
		slices.SortFunc(sharers, func(a, b Process) int { return cmp.Compare(a.PID, b.PID) })
		t.conn.Sharers = sharers
	default:
		e.holdersAt = time.Time{} // does the one before still hold it?
	}
	return true
}

// update reports a change, or queues it until the followers have room.
func (e *ebpf) update(t *tracked, at time.Time) {
	if !e.full() {
		e.emit(Update, at, &t.conn)
	} else if !t.late {
		t.late = true
		e.late = append(e.late, t)
	}
}
