//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"cmp"
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/connmapgo/connmap/conntrack/internal/bpf"
)

// This file is the passes that compare the table with the kernel. All of it belongs to
// the pump.

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
	must = must || time.Now().After(e.holdersAt)
	present := 0
	if e.probe.NoVisits == nil {
		var err error
		if present, err = e.probe.Changes(func(c *bpf.Change) { e.change(c, now) }); err != nil {
			return err
		}
		must = must || e.lacks(present)
	}
	if must {
		if err := e.findHolders(); err != nil {
			return err
		}
		if err := e.endGone(1); err != nil {
			return err
		}
		e.excess = max(0, e.tcp-present)
	}
	if !time.Now().Before(e.tunnels.findAt) {
		e.findTunnels()
	}
	return e.count()
}

// count reads the counters of all that is no TCP connection.
func (e *ebpf) count() error {
	e.countTunnels()
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
	if t == nil || t.flow != nil {
		return // its opening is on its way, or was lost
	}
	changed := c.Owned && e.owns(t, e.processes.of(&c.Owner))
	if c.Counted {
		changed = t.recount(c.Tx, c.Rx, c.RTT, State(c.State), c.UID) || changed
	}
	if changed {
		e.update(t, now)
	}
}

// countMisses notes which sockets the pass that has ended did not find.
func (e *ebpf) countMisses() {
	missed := func(s *presence) {
		if s.pass != e.pass && s.misses < math.MaxUint8 {
			s.misses++
		}
	}
	for _, t := range e.conns {
		if t.flow == nil {
			missed(&t.presence)
		}
	}
	for cookie, s := range e.sockets {
		if cookie&ofTunnel == 0 {
			missed(&s.presence)
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
			if t := e.conns[s.Cookie]; t != nil && t.flow == nil && (t.opened == s.Opened || s.Opened == 0) {
				if e.probe.NoVisits != nil && t.recount(s.Tx, s.Rx, s.RTT, State(s.State), s.UID) {
					e.update(t, now)
				}
				e.holder(&t.presence, holding{conn: t}, s)
			} else {
				found = append(found, *s)
			}
		case s.Connected:
			if t := e.flows[s.Key()]; t != nil {
				e.connect(t)
			} else if s.Peer.Port() != 0 || s.Proto != uint8(UDP) {
				found = append(found, *s)
			}
			fallthrough
		default:
			listening[local] = listening[local] || !s.Connected && s.Proto == uint8(UDP) || s.Proto == uint8(SCTP) && s.State == unix.BPF_TCP_LISTEN
			if sock := e.sockets[s.Cookie]; sock != nil {
				if !s.Connected {
					e.disconnect(sock)
				}
				e.holder(&sock.presence, holding{socket: sock}, s)
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
			delete(e.ignored, s.Cookie) // it is there
			t = e.open(s)
		} else {
			s.Opened = s.Time
			if err := e.probe.AddFlow(s); err != nil {
				e.log.Debug("conntrack: no room for a flow", "error", err)
			}
			t = e.openFlow(s)
		}
		if t.flow != nil {
			e.holder(&t.flow.socket.presence, holding{socket: t.flow.socket}, s)
		} else {
			e.holder(&t.presence, holding{conn: t}, s)
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
	every, share := holdersEvery, time.Duration(holdersShare)
	if e.probe.NoVisits != nil {
		every, share = 0, countShare
	}
	e.holdersAt = start.Add(max(every, share*time.Since(start)))
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

// holder notes that a process holds a socket, which k is about and h names.
func (e *ebpf) holder(k *presence, h holding, s *bpf.Socket) {
	p := e.processes.of(&s.Owner)
	isNew := k.pass != e.pass
	if isNew {
		k.pass, k.misses, k.at = e.pass, 0, -1
	}
	if k.at < 0 {
		if h.conn != nil && s.Primary == s.Owner.PID && p == h.conn.conn.Process && h.conn.conn.Sharers == nil {
			return // as before, unless another holds it too
		}
		k.at = int32(len(e.touched))
		if h.conn != nil && !isNew {
			h.primary = h.conn.conn.Process
		}
		e.touched = append(e.touched, h)
	}
	found := &e.touched[k.at]
	// A process may have several file descriptors of one socket.
	if s.Primary == s.Owner.PID {
		found.primary = p
	} else if !holds(found.holders, p.PID) {
		found.holders = append(found.holders, p)
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
			e.grow(t, s.Tx, s.Rx, now)
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
	asks := e.probe.NoVisits == nil
	if !asks {
		misses = fewUnheld
	}
	e.suspects = e.suspects[:0]
	for id, t := range e.conns {
		if t.flow == nil && t.misses >= misses {
			e.suspects = append(e.suspects, id)
		}
	}
	for cookie, s := range e.sockets {
		// Without a visit those of unconnected sockets end when they are idle.
		if s.misses >= misses && (asks || s.fixed != nil) {
			e.suspects = append(e.suspects, cookie)
		}
	}
	now := time.Now().Round(0)
	if len(e.suspects) == 0 || now.Before(e.auditAt) {
		return nil
	}
	for cookie := range e.ignored {
		e.suspects = append(e.suspects, cookie)
	}
	var gone, closed []uint64
	var err error
	if asks {
		gone, closed, err = e.probe.Audit(e.suspects)
	} else {
		gone, err = e.absent(e.suspects, now)
		e.auditAt = now.Add(max(holdersEvery, holdersShare*time.Since(now)))
	}
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
		} else if t := e.conns[cookie]; t != nil && t.flow == nil {
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
