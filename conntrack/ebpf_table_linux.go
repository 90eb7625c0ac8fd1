//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/connmapgo/connmap/conntrack/internal/bpf"
)

// This file is the table of connections of the backend ebpf. All of it belongs
// to the pump.

// A tracked is a connection in the table.
type tracked struct {
	conn      Conn
	opened    int64   // as the kernel's clock says
	socket    *socket // flows of one socket share it
	flow      bool
	connected bool
	late      bool          // its change is to be told when there is room
	cookie    uint64        // of a flow's socket
	grown     time.Duration // when the counters of a flow last were seen to grow, after ebpf.started
	links     [2]link       // in flowLists
}

func (t *tracked) key() bpf.FlowKey { return bpf.KeyOf(t.cookie, uint8(t.conn.Proto), t.conn.Peer) }

// A socket is what passes have seen of one.
type socket struct {
	flows   flowList
	process *Process // the owner of those flows that grow from now on; nil: no other
	at      int      // its place in ebpf.touched
	pass    uint32
	misses  uint8 // passes that did not see it, one after the other
}

// A holding is who holds a socket, as a pass finds it.
type holding struct {
	socket  *socket
	conn    *tracked  // nil: the flows of the socket
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
	t.links[of] = link{prev: l.back}
	if l.back != nil {
		l.back.links[of].next = t
	} else {
		l.front = t
	}
	l.back = t
	l.n++
}

func (l *flowList) remove(t *tracked, of int) {
	k := t.links[of]
	if k.prev != nil {
		k.prev.links[of].next = k.next
	} else {
		l.front = k.next
	}
	if k.next != nil {
		k.next.links[of].prev = k.prev
	} else {
		l.back = k.prev
	}
	t.links[of] = link{}
	l.n--
}

func (l *flowList) all() iter.Seq[*tracked] {
	return func(yield func(*tracked) bool) {
		for t := l.front; t != nil; {
			next := t.links[ofSocket].next // t may be ended
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
		if s.Owner.PID != 0 {
			t.conn.Process = e.processes.of(&s.Owner)
		}
		e.end(t, e.wall(s.Time))
		if len(e.spare) < mostSpare {
			e.spare = append(e.spare, t)
		}
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
	if t != nil && !t.flow {
		if t.opened == s.Opened || s.Opened == 0 {
			return t
		}
		// The end of the one before was lost.
		e.end(t, e.wall(s.Opened))
	}
	if s.Opened == 0 {
		s.Opened = s.Time
	}
	t = e.unused()
	sock := t.socket
	if sock == nil {
		sock = new(socket)
	}
	*sock = socket{}
	*t = tracked{opened: s.Opened, socket: sock, conn: Conn{
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

// end takes a connection out of the table.
func (e *ebpf) end(t *tracked, at time.Time) {
	delete(e.conns, t.conn.ID)
	if !t.flow {
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
	key := s.Key()
	if t := e.flows[key]; t != nil {
		return t
	}
	sock := e.sockets[s.Cookie]
	if sock == nil {
		sock = new(socket)
		e.sockets[s.Cookie] = sock
	}
	id := s.Cookie
	if s.Connected {
		// A socket that connects anew has left its former peer.
		for t := range sock.flows.all() {
			if t.connected {
				e.endFlow(t, e.wall(s.Opened))
				e.sockets[s.Cookie] = sock
			}
		}
	}
	if e.conns[id] != nil || !s.Connected {
		e.flowSeq++
		id = 1<<63 | e.flowSeq
	}
	t := new(tracked)
	*t = tracked{opened: s.Opened, socket: sock, flow: true, connected: s.Connected, cookie: s.Cookie, grown: time.Since(e.started), conn: Conn{
		ID: id, Proto: Proto(s.Proto), Direction: direction(s.Direction), Local: s.Local, Peer: s.Peer,
		Process: e.processes.of(&s.Owner), UID: s.UID, Opened: e.wall(s.Opened),
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
	if !t.connected {
		e.idlest.add(t, ofAll)
		e.makeRoom(sock)
	}
	return t
}

// makeRoom ends an idle flow early, if a socket has too many or if there are too
// many at all: then it is one of the socket with most of them. Connected flows do
// not count, as their number is that of sockets.
func (e *ebpf) makeRoom(sock *socket) {
	if sock.flows.n <= mostFlows/2 {
		if e.idlest.n <= mostFlows {
			return
		}
		sock = e.largest()
	}
	t := e.idlest.front
	if sock != nil {
		for t = sock.flows.front; t.connected; t = t.links[ofSocket].next {
		}
	}
	e.endFlow(t, time.Now().Round(0))
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
func (e *ebpf) endFlow(t *tracked, at time.Time) {
	key := t.key()
	if tx, rx, ok := e.probe.EndFlow(key); ok {
		t.conn.Tx, t.conn.Rx = tx, rx
	}
	delete(e.flows, key)
	t.socket.flows.remove(t, ofSocket)
	if !t.connected {
		e.idlest.remove(t, ofAll)
	}
	if t.socket.flows.n == 0 {
		delete(e.sockets, t.cookie)
	}
	e.end(t, at)
}

func (e *ebpf) endFlows(cookie uint64, at time.Time) {
	if sock := e.sockets[cookie]; sock != nil {
		for t := range sock.flows.all() {
			e.endFlow(t, at)
		}
	}
}

// endIdle ends flows on which nothing has been sent for a while, a number of them
// at a time, and reports whether there are more. Those of connected sockets end
// with the socket.
func (e *ebpf) endIdle(now time.Time) (more bool) {
	for range mostEnds {
		t := e.idlest.front
		if t == nil || now.Sub(e.started)-t.grown <= flowIdle {
			return false
		}
		e.endFlow(t, now.Round(0))
	}
	return true
}

// refresh reads what has changed of the connections, and who holds them if there is
// reason to, or if it must.
func (e *ebpf) refresh(must bool) error {
	now := time.Now().Round(0)
	late := e.late
	e.late = nil
	for _, t := range late {
		t.late = false
		if e.conns[t.conn.ID] == t {
			e.update(t, now)
		}
	}
	present, err := e.probe.Changes(func(c *bpf.Change) { e.change(c, now) })
	if err != nil {
		return err
	}
	if must || time.Now().After(e.holdersAt) || e.lacks(present) {
		if err := e.findHolders(); err != nil {
			return err
		}
		if err := e.endGone(1); err != nil {
			return err
		}
		e.excess = max(0, e.tcp-present)
	}
	return e.countFlows(false)
}

// lacks reports whether some connections of the table are missing in the kernel, for
// the second time: at first their close may be on its way. Some may be there although
// the kernel's side has nothing about them.
func (e *ebpf) lacks(present int) bool {
	excess := max(0, e.tcp-present)
	if excess <= e.excess {
		e.excess, e.lacking = excess, false
		return false
	}
	before := e.lacking
	e.lacking = !before
	return before
}

// change takes in what has changed of a socket.
func (e *ebpf) change(c *bpf.Change, now time.Time) {
	if sock := e.sockets[c.Cookie]; sock != nil {
		if c.Owned {
			// That of a flow is the owner of when it last grew.
			p := e.processes.of(&c.Owner)
			sock.process = &p
			if t := sock.flows.front; sock.flows.n == 1 && e.owns(t, p) {
				e.update(t, now)
			}
		}
		return
	}
	t := e.conns[c.Cookie]
	if t == nil || t.flow {
		return // its opening is on its way, or was lost
	}
	changed := c.Owned && e.owns(t, e.processes.of(&c.Owner))
	if c.Counted {
		k := &t.conn
		changed = changed || k.Tx != c.Tx || k.Rx != c.Rx || k.State != State(c.State) || k.UID != c.UID
		k.Tx, k.Rx, k.RTT, k.State, k.UID = c.Tx, c.Rx, c.RTT, State(c.State), c.UID
	}
	if changed {
		e.update(t, now)
	}
}

// owns makes a process the owner of a connection, and reports whether that is news.
func (e *ebpf) owns(t *tracked, p Process) bool {
	before := t.conn.Process
	if p.PID == 0 || p == before {
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

// update tells of a change, or will do so when the followers have room again.
func (e *ebpf) update(t *tracked, at time.Time) {
	if !e.full() {
		e.emit(Update, at, &t.conn)
	} else if !t.late {
		t.late = true
		e.late = append(e.late, t)
	}
}

// countMisses notes which sockets the pass that has ended did not find.
func (e *ebpf) countMisses() {
	missed := func(s *socket) {
		if s.pass != e.pass && s.misses < math.MaxUint8 {
			s.misses++
		}
	}
	for _, t := range e.conns {
		if !t.flow {
			missed(t.socket)
		}
	}
	for _, s := range e.sockets {
		missed(s)
	}
}

// findHolders asks which process holds which socket. It finds connections that
// are older than the programs, or whose opening was lost.
func (e *ebpf) findHolders() error {
	start := time.Now()
	now := start.Round(0)
	e.pass++
	e.touched = e.touched[:0]
	listening := make(map[endpointNS]bool)
	var found []bpf.Socket
	err := e.probe.Held(func(s *bpf.Socket) {
		local := endpointNS{s.NetNS, Proto(s.Proto), s.Local.Port()}
		switch {
		case s.Kind == bpf.Listening:
			listening[local] = true
		case s.Cookie == 0:
			// The first subflow of an MPTCP socket that is older than the programs.
		case s.Proto == uint8(TCP):
			if t := e.conns[s.Cookie]; t != nil && !t.flow && (t.opened == s.Opened || s.Opened == 0) {
				e.holder(t.socket, t, s)
			} else {
				found = append(found, *s)
			}
		case s.Connected:
			if t := e.flows[s.Key()]; t == nil && (s.Peer.Port() != 0 || s.Proto != uint8(UDP)) {
				found = append(found, *s)
			}
			fallthrough
		default:
			listening[local] = listening[local] || !s.Connected && s.Proto == uint8(UDP)
			if sock := e.sockets[s.Cookie]; sock != nil {
				e.holder(sock, nil, s)
			}
		}
	})
	if err != nil {
		return err
	}
	e.listening = listening
	for i := range found {
		s := &found[i]
		var t *tracked
		if s.Proto == uint8(TCP) {
			t = e.open(s)
		} else {
			s.Opened = s.Time
			if err := e.probe.AddFlow(s); err != nil {
				e.log.Debug("conntrack: no room for a flow", "error", err)
			}
			t = e.openFlow(s)
		}
		if t.flow {
			e.holder(t.socket, nil, s)
		} else {
			e.holder(t.socket, t, s)
		}
	}
	e.countMisses()
	for i := range e.touched {
		h := &e.touched[i]
		slices.SortFunc(h.holders, func(a, b Process) int { return cmp.Compare(a.PID, b.PID) })
		if h.conn == nil {
			for t := range h.socket.flows.all() {
				e.heldBy(t, h, now)
			}
		} else if e.conns[h.conn.conn.ID] == h.conn { // else the pass has found another in its place
			e.heldBy(h.conn, h, now)
		}
	}
	clear(e.touched)
	e.holdersAt = start.Add(max(holdersEvery, holdersShare*time.Since(start)))
	return nil
}

// heldBy takes in who holds a connection.
func (e *ebpf) heldBy(t *tracked, h *holding, now time.Time) {
	owner, holders := t.conn.Process, h.holders
	switch {
	case h.primary.PID != 0:
		owner = h.primary
	case len(holders) > 0:
		// Its owner has let go of it.
		owner, holders = holders[0], holders[1:]
	}
	if len(holders) == 0 {
		holders = nil
	}
	if owner != t.conn.Process || !slices.Equal(holders, t.conn.Sharers) {
		t.conn.Process, t.conn.Sharers = owner, holders
		e.update(t, now)
	}
}

// holder notes that a process holds a socket, of a TCP connection or, without
// one, of flows.
func (e *ebpf) holder(sock *socket, conn *tracked, s *bpf.Socket) {
	p := e.processes.of(&s.Owner)
	isNew := sock.pass != e.pass
	if isNew {
		sock.pass, sock.misses, sock.at = e.pass, 0, -1
	}
	if sock.at < 0 {
		if conn != nil && s.Primary == s.Owner.PID && p == conn.conn.Process && conn.conn.Sharers == nil {
			return // as before, unless another holds it too
		}
		sock.at = len(e.touched)
		h := holding{socket: sock, conn: conn}
		if conn != nil && !isNew {
			h.primary = conn.conn.Process
		}
		e.touched = append(e.touched, h)
	}
	h := &e.touched[sock.at]
	// A process may have several file descriptors of one socket.
	if s.Primary == s.Owner.PID {
		h.primary = p
	} else if !holds(h.holders, p.PID) {
		h.holders = append(h.holders, p)
	}
}

// countFlows reads the counters of the flows that have grown, or of all if it
// must.
func (e *ebpf) countFlows(must bool) error {
	now := time.Now()
	e.countedAt, e.fresh = now, 0
	e.behind = e.behind || must
	whole := true
	err := e.probe.Flows(must, func(key bpf.FlowKey, s *bpf.Socket) bool {
		t := e.flows[key]
		if t == nil && (!must && !s.Untold || !e.probe.HasFlow(key)) {
			return true // its opening is on its way, or it has ended
		}
		if t == nil {
			t = e.openFlow(s)
			if at, gone := e.released[s.Cookie]; gone {
				e.endFlow(t, e.wall(at))
			}
			whole = !e.full()
			return whole
		}
		if t.conn.Tx != s.Tx || t.conn.Rx != s.Rx {
			t.conn.Tx, t.conn.Rx = s.Tx, s.Rx
			if t.socket.process != nil {
				e.owns(t, *t.socket.process)
			}
			e.emit(Update, now.Round(0), &t.conn)
			t.grown = now.Sub(e.started)
			t.socket.flows.remove(t, ofSocket)
			t.socket.flows.add(t, ofSocket)
			if !t.connected {
				e.idlest.remove(t, ofAll)
				e.idlest.add(t, ofAll)
			}
		}
		whole = !e.full()
		return whole
	})
	if err == nil && whole {
		clear(e.released)
	}
	return err
}

// resync mends the table after events were lost.
func (e *ebpf) resync() error {
	if err := e.findHolders(); err != nil {
		return err
	}
	if err := e.endGone(1); err != nil {
		return err
	}
	return e.countFlows(true)
}

// endGone ends the connections and flows that do not exist any more although no
// close was seen. Their bytes are those of the last pass that found them. It asks
// about those that the last passes, at least misses of them, did not find held by
// any process.
func (e *ebpf) endGone(misses uint8) error {
	e.suspects = e.suspects[:0]
	for id, t := range e.conns {
		if !t.flow && t.socket.misses >= misses {
			e.suspects = append(e.suspects, id)
		}
	}
	for cookie, s := range e.sockets {
		if s.misses >= misses {
			e.suspects = append(e.suspects, cookie)
		}
	}
	if len(e.suspects) == 0 {
		return nil
	}
	for cookie := range e.ignored {
		e.suspects = append(e.suspects, cookie)
	}
	now := time.Now().Round(0)
	gone, closed, err := e.probe.Audit(e.suspects)
	if err == nil {
		// Of most of them the close stands in the ring.
		err = e.probe.Drain(e.handle)
	}
	if err != nil {
		return err
	}
	before := e.closesUnseen
	for i, cookie := range slices.Concat(gone, closed) {
		if i < len(gone) {
			delete(e.ignored, cookie)
		}
		if e.sockets[cookie] != nil {
			e.endFlows(cookie, now)
			e.closesUnseen++
		} else if t := e.conns[cookie]; t != nil && !t.flow {
			t.conn.State = Closed
			e.end(t, now)
			e.closesUnseen++
			if i >= len(gone) {
				e.ignored[cookie] = true // its close comes when it is destroyed
			}
		}
	}
	if n := e.closesUnseen - before; n > 0 {
		e.log.Debug("conntrack: closes were not seen", "count", n)
	}
	return nil
}
