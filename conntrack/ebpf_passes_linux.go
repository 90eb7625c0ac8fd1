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

// This file has the passes, which compare the table with the kernel. Only the pump runs them.

// refresh reads the counters that have changed. It also searches for the holders of sockets if
// that is due, if connections are missing, or if all is true.
func (e *ebpf) refresh(all bool) error {
	now := time.Now().Round(0)
	late := e.lateUpdates
	e.lateUpdates = nil
	for _, t := range late {
		t.late = false
		if e.conns[t.conn.ID] == t {
			e.update(t, now)
		}
	}
	all = all || time.Now().After(e.nextHolderPass)
	present := 0
	if e.probe.VisitErr == nil {
		var err error
		if present, err = e.probe.Changes(func(c *bpf.Change) { e.change(c, now) }); err != nil {
			return err
		}
		all = all || e.missesConnections(present)
	}
	if all {
		if err := e.findHolders(); err != nil {
			return err
		}
		if err := e.closeGone(1); err != nil {
			return err
		}
		e.missingTCP = max(0, e.tcp-present)
	}
	if !time.Now().Before(e.tunnels.nextFind) {
		e.findTunnels()
	}
	return e.count()
}

// count reads the counters of tunnels and flows.
func (e *ebpf) count() error {
	e.countTunnels()
	return e.countFlows(false)
}

// missesConnections reports whether, for the second time, the kernel lacks more connections of
// the table than before. The first time, their Close events may be in the ring. Some may exist
// all the same, since the kernel programs do not know every socket.
func (e *ebpf) missesConnections(present int) bool {
	missing := max(0, e.tcp-present)
	if missing <= e.missingTCP {
		e.missingTCP, e.missingGrew = missing, false
		return false
	}
	before := e.missingGrew
	e.missingGrew = !before
	return before
}

// change applies a change of a socket to the table.
func (e *ebpf) change(c *bpf.Change, now time.Time) {
	if sock := e.sockets[c.Cookie]; sock != nil {
		if c.Owned {
			// A flow's owner is the socket's owner when the flow last grew.
			p := e.processes.of(&c.Owner)
			sock.process = &p
			if t := sock.flows.front; sock.flows.n == 1 && e.setOwner(t, p) {
				e.update(t, now)
			}
		}
		return
	}
	t := e.conns[c.Cookie]
	if t == nil || t.flow != nil {
		return // its Open event is in the ring, or was dropped
	}
	changed := c.Owned && e.setOwner(t, e.processes.of(&c.Owner))
	if c.Counted {
		changed = t.updateCounters(c.Tx, c.Rx, c.RTT, State(c.State), c.UID) || changed
	}
	if changed {
		e.update(t, now)
	}
}

// countMisses adds one to the misses of each socket that the pass did not find.
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
		if cookie&tunnelCookie == 0 {
			missed(&s.presence)
		}
	}
}

// findHolders finds the processes that hold each socket. It adds connections that are older
// than the programs, and those whose Open event was dropped.
func (e *ebpf) findHolders() error {
	start := time.Now()
	now := start.Round(0)
	e.pass++
	e.held = e.held[:0]
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
				if e.probe.VisitErr != nil && t.updateCounters(s.Tx, s.Rx, s.RTT, State(s.State), s.UID) {
					e.update(t, now)
				}
				e.addHolder(&t.presence, socketHolders{conn: t}, s)
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
				e.addHolder(&sock.presence, socketHolders{socket: sock}, s)
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
			delete(e.ignored, s.Cookie) // its socket exists
			t = e.open(s)
		} else {
			s.Opened = s.Time
			if err := e.probe.AddFlow(s); err != nil {
				e.log.Debug("conntrack: no room for a flow", "error", err)
			}
			t = e.openFlow(s)
		}
		if t.flow != nil {
			e.addHolder(&t.flow.socket.presence, socketHolders{socket: t.flow.socket}, s)
		} else {
			e.addHolder(&t.presence, socketHolders{conn: t}, s)
		}
	}
	e.countMisses()
	for i := range e.held {
		h := &e.held[i]
		slices.SortFunc(h.holders, func(a, b Process) int { return cmp.Compare(a.PID, b.PID) })
		if h.conn == nil {
			for t := range h.socket.flows.all() {
				e.setHolders(t, h, now)
			}
		} else if e.conns[h.conn.conn.ID] == h.conn { // otherwise the pass has found a newer connection
			e.setHolders(h.conn, h, now)
		}
	}
	clear(e.held)
	every, share := holdersEvery, time.Duration(holdersShare)
	if e.probe.VisitErr != nil {
		every, share = 0, countShare
	}
	e.nextHolderPass = start.Add(max(every, share*time.Since(start)))
	return nil
}

// setHolders sets the owner and the sharers of a connection.
func (e *ebpf) setHolders(t *tracked, h *socketHolders, now time.Time) {
	owner, holders := t.conn.Process, h.holders
	switch {
	case h.primary.PID != 0:
		owner = h.primary
	case len(holders) > 0:
		// The owner has closed it. The kernel's programs learn of the next one by what it sends.
		t.gone = owner.PID
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

// addHolder records that the process of s holds the socket of h, whose presence is k.
func (e *ebpf) addHolder(k *presence, h socketHolders, s *bpf.Socket) {
	p := e.processes.of(&s.Owner)
	isNew := k.pass != e.pass
	if isNew {
		k.pass, k.misses, k.at = e.pass, 0, -1
	}
	if k.at < 0 {
		if h.conn != nil && s.Primary == s.Owner.PID && p == h.conn.conn.Process && h.conn.conn.Sharers == nil {
			return // unchanged, unless another process holds it too
		}
		k.at = int32(len(e.held))
		if h.conn != nil && !isNew {
			h.primary = h.conn.conn.Process
		}
		e.held = append(e.held, h)
	}
	found := &e.held[k.at]
	// A process may have several file descriptors of one socket.
	if s.Primary == s.Owner.PID {
		found.primary = p
	} else if !containsPID(found.holders, p.PID) {
		found.holders = append(found.holders, p)
	}
}

// countFlows reads the counters of flows that have grewAt since the last count, or of all flows.
func (e *ebpf) countFlows(all bool) error {
	now := time.Now()
	e.countedAt, e.newFlows = now, 0
	e.behind = e.behind || all
	complete := true
	err := e.probe.Flows(all, func(key bpf.FlowKey, s *bpf.Socket) bool {
		t := e.flows[key]
		if t == nil && (!all && !s.Unreported || !e.probe.HasFlow(key)) {
			return true // its Open event is in the ring, or it is closed
		}
		if t == nil {
			t = e.openFlow(s)
			if at, gone := e.released[s.Cookie]; gone {
				e.closeFlow(t, e.wall(at))
			}
			complete = !e.hasFullQueue()
			return complete
		}
		if t.conn.Tx != s.Tx || t.conn.Rx != s.Rx {
			e.growFlow(t, s.Tx, s.Rx, now)
		}
		complete = !e.hasFullQueue()
		return complete
	})
	if err == nil && complete {
		clear(e.released)
	}
	return err
}

// resync corrects the table after events were dropped.
func (e *ebpf) resync() error {
	if err := e.findHolders(); err != nil {
		return err
	}
	if err := e.closeGone(1); err != nil {
		return err
	}
	return e.countFlows(true)
}

// closeGone closes the connections and flows that no longer exist although no close was seen.
// They keep the bytes of the last pass that found them. It checks those that no process held
// in at least the last misses passes.
func (e *ebpf) closeGone(misses uint8) error {
	visits := e.probe.VisitErr == nil
	if !visits {
		misses = minUnheld
	}
	e.suspects = e.suspects[:0]
	for id, t := range e.conns {
		if t.flow == nil && t.misses >= misses {
			e.suspects = append(e.suspects, id)
		}
	}
	for cookie, s := range e.sockets {
		// If programs cannot visit sockets, flows of unconnected sockets close when idle.
		if s.misses >= misses && (visits || s.connected != nil) {
			e.suspects = append(e.suspects, cookie)
		}
	}
	now := time.Now().Round(0)
	if len(e.suspects) == 0 || now.Before(e.nextAudit) {
		return nil
	}
	for cookie := range e.ignored {
		e.suspects = append(e.suspects, cookie)
	}
	var gone, closed []uint64
	var err error
	if visits {
		gone, closed, err = e.probe.Audit(e.suspects)
	} else {
		gone, err = e.goneSockets(e.suspects, now)
		e.nextAudit = now.Add(max(holdersEvery, holdersShare*time.Since(now)))
	}
	if err == nil {
		// The Close events of most are in the ring.
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
			e.closeFlowsOf(cookie, now)
			e.closesUnseen++
		} else if t := e.conns[cookie]; t != nil && t.flow == nil {
			t.conn.State = Closed
			e.closeConn(t, now)
			e.closesUnseen++
			if i >= len(gone) {
				e.ignored[cookie] = true // the kernel reports its close when the socket is freed
			}
		}
	}
	if n := e.closesUnseen - before; n > 0 {
		e.log.Debug("conntrack: connections closed without an event", "count", n)
	}
	return nil
}
