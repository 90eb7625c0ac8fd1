//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/connmapgo/connmap/conntrack/internal/bpf"
)

// This file has the backend's table of connections. Only the pump uses it.

// A tracked is a connection in the table. There may be hundreds of thousands, so fields that
// only flows need are in a struct of their own.
type tracked struct {
	conn     Conn
	opened   int64 // by the kernel's clock, in ns
	guessed  bool  // opened is when a pass found it
	flow     *flow // nil for a TCP connection
	presence       // of a TCP connection's socket; a flow has flow.socket.presence
	late     bool  // it is in ebpf.lateUpdates
	gone     int   // PID of the owner that the kernel's programs know, but a pass did not find; 0: none
}

// A flow holds the fields of a tracked that is a flow.
type flow struct {
	socket    *socket
	cookie    uint64 // of the socket
	connected bool
	grewAt    time.Duration // when its counters last grew, after ebpf.started
	links     [2]link       // in flowLists
}

func (t *tracked) key() bpf.FlowKey {
	return bpf.KeyOf(t.flow.cookie, uint8(t.conn.Proto), t.conn.Peer)
}

// A presence says when passes last found a socket.
type presence struct {
	pass   uint32
	at     int32 // index in ebpf.held; -1: not in it
	misses uint8 // consecutive passes that did not find it
}

// A socket is a socket, or a tunnel device, that has flows.
type socket struct {
	presence
	flows     flowList
	connected *tracked // the flow that is connected
	process   *Process // new owner, for each flow that grows from now on; nil: none
}

// A socketHolders lists the processes that hold a socket, as found by a pass.
type socketHolders struct {
	socket  *socket   // nil: it is the socket of conn
	conn    *tracked  // nil: it is the socket of flows
	primary Process   // the owner, if the pass has found it
	holders []Process // the others
}

// A flowList is a list of flows, longest idle first. A flow can be in two lists, one for each
// of its links.
type flowList struct {
	front, back *tracked
	n           int
}

type link struct{ prev, next *tracked }

const (
	inSocket = iota // index in flow.links
	inUnconnected
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
			next := t.flow.links[inSocket].next // yield may close t
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

// handle applies an event of the kernel programs to the table.
func (e *ebpf) handle(ev bpf.Event) {
	switch {
	case ev.Process != nil:
		e.processes.add(ev.Process)
		return
	case ev.Payload != nil:
		e.readPayload(ev.Payload)
		return
	}
	s := ev.Socket
	switch s.Kind {
	case bpf.Opened:
		delete(e.ignored, s.Cookie) // its socket has connected again
		e.open(s)
	case bpf.Closed:
		if e.ignored[s.Cookie] {
			delete(e.ignored, s.Cookie)
			return
		}
		// If the Open event was dropped, the connection is reported now.
		t := e.open(s)
		t.setCounters(s)
		t.conn.State, t.conn.UID = Closed, s.UID
		if p := e.processes.of(&s.Owner); p != (Process{}) && p.PID != t.gone {
			t.conn.Process = p
		}
		e.closeConn(t, e.wall(s.Time))
		e.recycle(t)
	case bpf.FlowOpened:
		if e.behind && !e.probe.HasFlow(s.Key()) {
			return // a pass found it before, and it has closed
		}
		e.openFlow(s)
	case bpf.Released:
		if sock := e.sockets[s.Cookie]; sock != nil {
			p := e.processes.of(&s.Owner)
			for t := range sock.flows.all() {
				if (sock.flows.n == 1 || t.conn.Process.PID == p.PID) && p.PID != t.gone {
					e.setOwner(t, p)
				}
			}
		}
		e.closeFlowsOf(s.Cookie, e.wall(s.Time))
		if s.Unreported && len(e.released) < maxReleased {
			e.released[s.Cookie] = s.Time
		}
	case bpf.Refused:
		p := e.processes.of(&s.Owner)
		e.log.Warn("conntrack: a program has more new peers at once than can be followed; some of its flows are not reported",
			"program", p.Comm, "pid", p.PID, "exe", p.Exe)
	}
}

// open returns the TCP connection of s, and adds it to the table if it is new.
func (e *ebpf) open(s *bpf.Socket) *tracked {
	t := e.conns[s.Cookie]
	if t != nil && t.flow == nil {
		if t.opened == s.Opened || s.Opened == 0 {
			return t
		}
		if t.guessed && s.Opened < t.opened {
			// A pass found it before its Open event was read.
			t.opened, t.guessed, t.conn.Opened = s.Opened, false, e.wall(s.Opened)
			if s.Direction != 0 {
				t.conn.Direction = direction(s.Direction)
			}
			return t
		}
		// The Close event of the connection before was dropped.
		e.closeConn(t, e.wall(s.Opened))
	}
	guessed := s.Opened == 0
	if guessed {
		s.Opened = s.Time
	}
	t = e.newTracked()
	*t = tracked{opened: s.Opened, guessed: guessed, conn: Conn{
		ID: s.Cookie, Proto: TCP, State: State(s.State), Direction: direction(s.Direction), Local: s.Local, Peer: s.Peer,
		Process: e.processes.of(&s.Owner), UID: s.UID, Opened: e.wall(s.Opened),
	}}
	t.setCounters(s)
	if t.conn.Direction == Unknown {
		t.conn.Direction = e.guessDirection(s)
	}
	e.nameNew(t, s.Cookie, s.Owner.Start)
	e.conns[s.Cookie] = t
	e.tcp++
	e.emit(Open, t.conn.Opened, &t.conn)
	return t
}

// newTracked returns a tracked to fill in. It reuses those of closed connections: short
// connections are many.
func (e *ebpf) newTracked() *tracked {
	n := len(e.spare)
	if n == 0 {
		return new(tracked)
	}
	t := e.spare[n-1]
	e.spare = e.spare[:n-1]
	return t
}

// recycle keeps the tracked of a closed connection for newTracked.
func (e *ebpf) recycle(t *tracked) {
	if len(e.spare) < maxSpare {
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

// guessDirection guesses the direction of a connection that is older than the programs.
func (e *ebpf) guessDirection(s *bpf.Socket) Direction {
	if e.listening[endpointNS{s.NetNS, Proto(s.Proto), s.Local.Port()}] {
		return In
	}
	return Out
}

func (t *tracked) setCounters(s *bpf.Socket) {
	t.conn.Tx, t.conn.Rx, t.conn.RTT = s.Tx, s.Rx, s.RTT
}

// updateCounters sets the counters and the state, and reports whether one has changed, not
// counting the round-trip time.
func (t *tracked) updateCounters(tx, rx uint64, rtt time.Duration, state State, uid uint32) bool {
	k := &t.conn
	changed := k.Tx != tx || k.Rx != rx || k.State != state || k.UID != uid
	k.Tx, k.Rx, k.RTT, k.State, k.UID = tx, rx, rtt, state, uid
	return changed
}

// closeConn removes a connection from the table and reports its close.
func (e *ebpf) closeConn(t *tracked, at time.Time) {
	delete(e.conns, t.conn.ID)
	if t.flow == nil {
		e.tcp--
	}
	if at.Before(t.conn.Opened) {
		at = t.conn.Opened
	}
	e.nameLate(t)
	e.emit(Close, at, &t.conn)
}

func containsPID(list []Process, pid int) bool {
	return slices.ContainsFunc(list, func(p Process) bool { return p.PID == pid })
}

func removePID(list []Process, pid int) []Process {
	if !containsPID(list, pid) {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(p Process) bool { return p.PID == pid })
}

// openFlow returns the flow of s, and adds it to the table if it is new.
func (e *ebpf) openFlow(s *bpf.Socket) *tracked {
	if t := e.flows[s.Key()]; t != nil {
		return t
	}
	return e.addFlow(s, e.processes.of(&s.Owner))
}

// addFlow adds the flow of s, which must be new.
func (e *ebpf) addFlow(s *bpf.Socket, owner Process) *tracked {
	key := s.Key()
	sock := e.sockets[s.Cookie]
	if sock == nil {
		sock = new(socket)
		e.sockets[s.Cookie] = sock
	}
	id := s.Cookie
	if s.Connected {
		// A socket that connects again has left its former peer.
		if sock.connected != nil {
			e.closeFlow(sock.connected, e.wall(s.Opened))
			e.sockets[s.Cookie] = sock
		}
	}
	if e.conns[id] != nil || !s.Connected {
		e.flowSeq++
		id = 1<<63 | e.flowSeq
	}
	t := e.newTracked()
	f := t.flow
	if f == nil {
		f = new(flow)
	}
	*f = flow{socket: sock, connected: s.Connected, cookie: s.Cookie, grewAt: time.Since(e.started)}
	*t = tracked{opened: s.Opened, flow: f, conn: Conn{
		ID: id, Proto: Proto(s.Proto), Direction: direction(s.Direction), Local: s.Local, Peer: s.Peer,
		Process: owner, UID: s.UID, Opened: e.wall(s.Opened),
	}}
	t.setCounters(s)
	if t.conn.Direction == Unknown {
		t.conn.Direction = e.guessDirection(s)
	}
	if len(e.flows) == 0 && e.nextTick.IsZero() {
		e.nextTick = time.Now()
	}
	e.nameNew(t, s.Cookie, s.Owner.Start)
	e.conns[id], e.flows[key] = t, t
	sock.flows.add(t, inSocket)
	e.newFlows++
	e.emit(Open, t.conn.Opened, &t.conn)
	if t.flow.connected {
		sock.connected = t
	} else {
		e.unconnected.add(t, inUnconnected)
		e.makeRoom(sock)
	}
	return t
}

// connect records that the socket of a flow is now connected to the flow's peer.
func (e *ebpf) connect(t *tracked) {
	sock := t.flow.socket
	if sock.connected == t {
		return
	}
	e.disconnect(sock)
	e.unconnected.remove(t, inUnconnected)
	t.flow.connected, sock.connected = true, t
}

// disconnect records that a socket is not connected any more. Its flow then closes when it is
// idle.
func (e *ebpf) disconnect(sock *socket) {
	t := sock.connected
	if t == nil {
		return
	}
	t.flow.connected, sock.connected = false, nil
	t.flow.grewAt = time.Since(e.started)
	e.unconnected.add(t, inUnconnected)
}

// growFlow sets the counters of a flow, and moves it to the end of its lists.
func (e *ebpf) growFlow(t *tracked, tx, rx uint64, now time.Time) {
	if t.conn.Tx != tx || t.conn.Rx != rx {
		t.conn.Tx, t.conn.Rx = tx, rx
		if t.flow.socket.process != nil {
			e.setOwner(t, *t.flow.socket.process)
		}
		e.emit(Update, now.Round(0), &t.conn)
	}
	t.flow.grewAt = now.Sub(e.started)
	t.flow.socket.flows.remove(t, inSocket)
	t.flow.socket.flows.add(t, inSocket)
	if !t.flow.connected {
		e.unconnected.remove(t, inUnconnected)
		e.unconnected.add(t, inUnconnected)
	}
}

// makeRoom closes some idle flows early if sock has too many flows. If all sockets together
// have too many, it closes those of the socket with most. Connected flows do not count, since
// a socket has only one.
func (e *ebpf) makeRoom(sock *socket) {
	if sock.flows.n <= maxFlows/2 {
		if e.unconnected.n <= maxFlows {
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
			if len(list) == min(maxEvicted, sock.flows.n/4) {
				break
			}
		}
	} else {
		for t := e.unconnected.front; t != nil && len(list) < maxEvicted; t = t.flow.links[inUnconnected].next {
			list = append(list, t)
		}
	}
	e.closeFlows(list, time.Now().Round(0))
}

// largest returns a socket with about the most flows of all; nil: none has many. It searches
// all sockets only when the one found before has lost half of its flows.
func (e *ebpf) largest() *socket {
	const many = 16
	if e.largestSocket == nil && e.largestSearchedAt == e.countedAt {
		return nil // the last search, since the last count, found none
	}
	if e.largestSocket == nil || e.largestSocket.flows.n <= e.largestSize/2 {
		e.largestSocket, e.largestSize, e.largestSearchedAt = nil, many, e.countedAt
		for _, s := range e.sockets {
			if s.flows.n > e.largestSize {
				e.largestSocket, e.largestSize = s, s.flows.n
			}
		}
	}
	return e.largestSocket
}

// closeFlow removes a flow from the table and from the kernel's table.
func (e *ebpf) closeFlow(t *tracked, at time.Time) { e.closeFlows([]*tracked{t}, at) }

// closeFlows removes flows from the table and from the kernel's table.
func (e *ebpf) closeFlows(list []*tracked, at time.Time) {
	e.keys = e.keys[:0]
	for _, t := range list {
		e.keys = append(e.keys, t.key())
	}
	counted := func(i int, tx, rx uint64) { list[i].conn.Tx, list[i].conn.Rx = tx, rx }
	if err := e.probe.EndFlows(e.keys, counted); err != nil {
		// For example, there was no file descriptor.
		e.log.Debug("conntrack: closing flows one by one", "error", err)
		for i := range e.keys {
			e.probe.EndFlows(e.keys[i:i+1], func(_ int, tx, rx uint64) { counted(i, tx, rx) })
		}
	}
	for i, t := range list {
		delete(e.flows, e.keys[i])
		t.flow.socket.flows.remove(t, inSocket)
		if t.flow.connected {
			t.flow.socket.connected = nil
		} else {
			e.unconnected.remove(t, inUnconnected)
		}
		if t.flow.socket.flows.n == 0 {
			delete(e.sockets, t.flow.cookie)
		}
		e.closeConn(t, at)
		*t.flow = flow{} // drops the reference to the socket
		e.recycle(t)
	}
}

func (e *ebpf) closeFlowsOf(cookie uint64, at time.Time) {
	if sock := e.sockets[cookie]; sock != nil {
		e.closeFlows(slices.Collect(sock.flows.all()), at)
	}
}

// closeIdle closes flows without packets for flowIdle, some at a time, and reports whether
// there are more. Flows of connected sockets close with the socket.
func (e *ebpf) closeIdle(now time.Time) (more bool) {
	var list []*tracked
	for t := e.unconnected.front; t != nil && now.Sub(e.started)-t.flow.grewAt > flowIdle; t = t.flow.links[inUnconnected].next {
		if len(list) == maxClosesPerTurn {
			more = true
			break
		}
		list = append(list, t)
	}
	e.closeFlows(list, now.Round(0))
	return more
}

// setOwner sets the owner of a connection, and reports whether it has changed.
func (e *ebpf) setOwner(t *tracked, p Process) bool {
	before := t.conn.Process
	if p == (Process{}) || p == before {
		return false
	}
	t.conn.Process, t.gone = p, 0
	switch {
	case p.PID == before.PID:
	case containsPID(t.conn.Sharers, p.PID):
		// The two take turns.
		sharers := append(removePID(t.conn.Sharers, p.PID), before)
		slices.SortFunc(sharers, func(a, b Process) int { return cmp.Compare(a.PID, b.PID) })
		t.conn.Sharers = sharers
	default:
		e.nextHolderPass = time.Time{} // finds out whether the former owner still holds it
	}
	return true
}

// update reports a change of a connection as soon as the subscribers have room.
func (e *ebpf) update(t *tracked, at time.Time) {
	if !e.hasFullQueue() {
		e.emit(Update, at, &t.conn)
	} else if !t.late {
		t.late = true
		e.lateUpdates = append(e.lateUpdates, t)
	}
}
