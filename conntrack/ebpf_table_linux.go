//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/connmapgo/connmap/conntrack/internal/bpf"
)

// This file is the table of connections of the backend ebpf. All of it belongs
// to the pump.

// A tracked is a connection in the table.
type tracked struct {
	conn      Conn
	opened    int64 // as the kernel's clock says
	pass      uint32
	misses    uint8     // passes that did not see it, one after the other
	owner     uint32    // PID of the owner, as the kernel last told
	held      uint64    // by whom, as the pass has seen: the owner and the sharers, a bit each
	primary   Process   // the owner, if the pass has found it among those that hold it
	holders   []Process // the others, found by the pass
	flow      bool
	connected bool
	key       bpf.FlowKey
	grown     time.Time // when the counters of a flow last were seen to grow
	next      *tracked  // another flow of the same socket
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
		t.conn.State = Closed
		if s.Owner.PID != 0 {
			t.conn.Process = e.processes.of(&s.Owner)
		}
		e.end(t, e.wall(s.Time))
		if len(e.spare) < mostSpare {
			e.spare = append(e.spare, t)
		}
	case bpf.OwnerChanged:
		t := e.sockets[s.Cookie]
		if t == nil {
			t = e.conns[s.Cookie]
		}
		for ; t != nil; t = t.next {
			t.owner = s.Owner.PID
			t.conn.Process = e.processes.of(&s.Owner)
			t.conn.Sharers = without(t.conn.Sharers, t.conn.Process.PID)
			e.emit(Update, e.wall(s.Time), &t.conn)
			e.holdersAt = time.Time{} // does the one before still hold it?
		}
	case bpf.FlowOpened:
		e.openFlow(s)
	case bpf.Released:
		e.endFlows(s.Cookie, e.wall(s.Time))
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
	t = e.fresh()
	*t = tracked{opened: s.Opened, owner: s.Owner.PID, conn: Conn{
		ID: s.Cookie, Proto: TCP, State: State(s.State), Direction: direction(s.Direction), Local: s.Local, Peer: s.Peer,
		Process: e.processes.of(&s.Owner), UID: s.UID, Opened: e.wall(s.Opened),
	}}
	t.count(s)
	if t.conn.Direction == Unknown {
		t.conn.Direction = e.side(s)
	}
	e.conns[s.Cookie] = t
	e.emit(Open, t.conn.Opened, &t.conn)
	return t
}

// fresh returns a tracked to fill: short connections are many.
func (e *ebpf) fresh() *tracked {
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
	id := s.Cookie
	if s.Connected {
		// A socket that connects anew has left its former peer.
		for t := e.sockets[s.Cookie]; t != nil; t = t.next {
			if t.connected {
				e.endFlow(t, e.wall(s.Opened))
			}
		}
	}
	if e.conns[id] != nil || !s.Connected {
		e.flowSeq++
		id = 1<<63 | e.flowSeq
	}
	t := e.fresh()
	*t = tracked{opened: s.Opened, owner: s.Owner.PID, flow: true, connected: s.Connected, key: key, grown: time.Now(), next: e.sockets[s.Cookie], conn: Conn{
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
	e.conns[id], e.flows[key], e.sockets[s.Cookie] = t, t, t
	e.emit(Open, t.conn.Opened, &t.conn)
	return t
}

// endFlow takes a flow out of the table and out of the kernel's.
func (e *ebpf) endFlow(t *tracked, at time.Time) {
	if tx, rx, ok := e.probe.EndFlow(t.key); ok {
		t.conn.Tx, t.conn.Rx = tx, rx
	}
	delete(e.flows, t.key)
	if first := e.sockets[t.key.Cookie]; first != t {
		for ; first != nil; first = first.next {
			if first.next == t {
				first.next = t.next
			}
		}
	} else if t.next != nil {
		e.sockets[t.key.Cookie] = t.next
	} else {
		delete(e.sockets, t.key.Cookie)
	}
	e.end(t, at)
}

func (e *ebpf) endFlows(cookie uint64, at time.Time) {
	for t := e.sockets[cookie]; t != nil; t = t.next {
		e.endFlow(t, at)
	}
}

// endIdle ends the flows on which nothing has been sent for a while. Those of
// connected sockets end with the socket; if that was not seen, it is when no
// process holds it.
func (e *ebpf) endIdle(now time.Time) {
	for _, t := range e.flows {
		if now.Sub(t.grown) > flowIdle && (!t.connected || t.misses > 1) {
			e.endFlow(t, now.Round(0))
		}
	}
}

// refresh reads the counters of all connections, and who holds them if there
// is reason to.
func (e *ebpf) refresh() error {
	now := time.Now().Round(0)
	e.pass++
	e.touched = e.touched[:0]
	look := time.Now().After(e.holdersAt)
	if len(e.conns) == 0 && !look {
		return nil
	}
	err := e.probe.Counters(func(c bpf.Counters) {
		t := e.conns[c.Cookie]
		if t == nil || t.flow {
			return // its opening is on its way, or was lost
		}
		if t.pass != e.pass {
			t.pass, t.misses, t.held = e.pass, 0, 0
			if len(t.conn.Sharers) > 0 {
				e.touched = append(e.touched, t)
			}
			changed := t.conn.Tx != c.Tx || t.conn.Rx != c.Rx || t.conn.State != State(c.State)
			t.conn.Tx, t.conn.Rx, t.conn.RTT, t.conn.State = c.Tx, c.Rx, c.RTT, State(c.State)
			if changed {
				e.emit(Update, now, &t.conn)
			}
		}
		owner := t.conn.Process.PID
		i := -1
		if int(c.Holder) != owner {
			i = slices.IndexFunc(t.conn.Sharers, func(p Process) bool { return p.PID == int(c.Holder) })
			look = look || i < 0
		}
		t.held |= 1 << (i + 1)
		look = look || c.Owner != 0 && c.Owner != t.owner
	})
	if err != nil {
		return err
	}
	e.countMisses(false)
	for _, t := range e.touched {
		look = look || bits.OnesCount64(t.held) != min(64, 1+len(t.conn.Sharers))
	}
	if look {
		if err := e.findHolders(); err != nil {
			return err
		}
	}
	if err := e.endGone(2); err != nil {
		return err
	}
	return e.countFlows(false)
}

// countMisses notes which connections the pass that has ended did not find, and
// which flows if it looked for them.
func (e *ebpf) countMisses(flows bool) {
	for _, t := range e.conns {
		if (flows || !t.flow) && t.pass != e.pass && t.misses < math.MaxUint8 {
			t.misses++
		}
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
				e.holder(t, s)
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
			for t := e.sockets[s.Cookie]; t != nil; t = t.next {
				e.holder(t, s)
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
		e.holder(t, s)
	}
	e.countMisses(true)
	for _, t := range e.touched {
		if e.conns[t.conn.ID] != t {
			continue // the pass has found another in its place
		}
		owner := t.conn.Process
		switch {
		case t.primary.PID != 0:
			owner = t.primary
		case len(t.holders) > 0:
			// Its owner has let go of it.
			owner, t.holders = t.holders[0], t.holders[1:]
			if len(t.holders) == 0 {
				t.holders = nil
			}
		}
		slices.SortFunc(t.holders, func(a, b Process) int { return cmp.Compare(a.PID, b.PID) })
		if owner != t.conn.Process || !slices.Equal(t.holders, t.conn.Sharers) {
			t.conn.Process, t.conn.Sharers = owner, t.holders
			e.emit(Update, now, &t.conn)
		}
		t.holders, t.primary = nil, Process{}
	}
	e.holdersAt = start.Add(max(holdersEvery, holdersShare*time.Since(start)))
	return nil
}

// holder notes that a process holds a connection.
func (e *ebpf) holder(t *tracked, s *bpf.Socket) {
	if t.pass != e.pass {
		t.pass, t.misses, t.primary, t.owner = e.pass, 0, Process{}, s.Primary
		e.touched = append(e.touched, t)
	}
	p := e.processes.of(&s.Owner)
	// A process may have several file descriptors of one socket.
	if s.Primary == s.Owner.PID {
		t.primary = p
	} else if !holds(t.holders, p.PID) {
		t.holders = append(t.holders, p)
	}
}

// countFlows reads the counters of all flows, if some have grown or if it must.
func (e *ebpf) countFlows(must bool) error {
	now := time.Now()
	return e.probe.Flows(must, func(key bpf.FlowKey, s *bpf.Socket) {
		t := e.flows[key]
		if t == nil {
			if !must {
				return // its opening is on its way, or was lost
			}
			t = e.openFlow(s)
		}
		if t.conn.Tx != s.Tx || t.conn.Rx != s.Rx {
			t.conn.Tx, t.conn.Rx = s.Tx, s.Rx
			t.grown = now
			e.emit(Update, now.Round(0), &t.conn)
		}
	})
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
		if !t.flow && t.misses >= misses {
			e.suspects = append(e.suspects, id)
		}
	}
	for cookie, t := range e.sockets {
		if t.misses >= misses {
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
