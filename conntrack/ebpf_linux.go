//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/connmapgo/connmap/conntrack/internal/bpf"
)

const (
	flowIdle     = time.Minute      // after which a flow has ended, if its socket may have others
	holdersEvery = 10 * time.Second // how often all processes are asked what they hold, at least
	holdersShare = 300              // of the time between two such passes, one takes at most 1/300
	resyncEvery  = 250 * time.Millisecond
	mostQueued   = 8192 // events that wait for a follower
	mostSpare    = 1024
)

// An ebpf is the backend EBPF. One goroutine, the pump, reads what the programs
// in the kernel tell and owns the table of connections; others have it do
// things for them.
type ebpf struct {
	probe    *bpf.Probe
	log      *slog.Logger
	interval time.Duration
	limited  string
	kick     chan struct{} // capacity 1: something was asked, or a follower has room again
	done     chan struct{} // closed when the pump has ended

	mu     sync.Mutex
	asked  []func()
	closed bool
	failed error // why the pump has ended by itself
	lost   uint64

	followers []*follower // appended to by the pump; their queues are guarded by mu

	// The pump's own.
	conns     map[uint64]*tracked      // by Conn.ID
	flows     map[bpf.FlowKey]*tracked // of conns
	sockets   map[uint64]*tracked      // the first flow of each socket that has some
	programs  programs
	listening map[endpointNS]bool
	ignored   map[uint64]bool // cookies of the self-test
	offset    int64           // of wall clock time from the kernel's, ns
	spare     []*tracked
	flowSeq   uint64
	pass      uint32
	touched   []*tracked // by the pass
	back      time.Time  // when to look into the ring again, even if nothing wakes the pump
	nextTick  time.Time
	holdersAt time.Time // when they are due
	resyncs   int       // passes still to make, because events were lost
	resyncAt  time.Time
	missed    map[uint64]bool // cookies of sockets that ended, but are not known
}

// A tracked is a connection in the table.
type tracked struct {
	conn      Conn
	opened    int64 // as the kernel's clock says
	pass      uint32
	misses    uint8     // passes that did not see it, one after the other
	held      uint64    // by whom, as the pass has seen: the owner and the sharers, a bit each
	primary   bool      // the pass has found the owner among those that hold it
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

type follower struct {
	queue []Event
	wake  chan struct{} // capacity 1: the queue is not empty
}

func openEBPF(o Options) (backend, error) {
	probe, err := bpf.Open(bpf.Options{Loopback: o.Loopback})
	if err != nil {
		return nil, err
	}
	return startEBPF(probe, o)
}

func startEBPF(probe *bpf.Probe, o Options) (backend, error) {
	e := &ebpf{
		probe: probe, log: o.Logger, interval: o.Interval,
		kick: make(chan struct{}, 1), done: make(chan struct{}),
		conns: make(map[uint64]*tracked), flows: make(map[bpf.FlowKey]*tracked), sockets: make(map[uint64]*tracked),
		ignored: make(map[uint64]bool), missed: make(map[uint64]bool),
	}
	var limited []string
	if probe.NoPackets != nil {
		limited = append(limited, fmt.Sprintf("of UDP only sockets with a fixed peer are seen, and ICMP and other protocols are not: %v", probe.NoPackets))
	}
	if probe.NoLengths != nil {
		limited = append(limited, fmt.Sprintf("a program that takes over another's socket is noticed late: %v", probe.NoLengths))
	}
	e.limited = strings.Join(limited, "; ")
	e.setClock()
	err := e.selfTest()
	if err == nil {
		err = e.findHolders()
	}
	if err == nil {
		err = e.countFlows(true)
	}
	if err != nil {
		probe.Close()
		return nil, err
	}
	go e.pump()
	return e, nil
}

// selfTest makes a connection and waits for the programs to tell of it: links
// can be attached and yet not work.
func (e *ebpf) selfTest() error {
	port, end, err := loopbackConnection(e.probe.TestPort)
	if err != nil {
		// Such as in a network namespace whose loopback device is down.
		e.log.Debug("conntrack: no self-test, for there is no loopback", "error", err)
		return nil
	}
	defer e.probe.TestPort(0)
	defer end()
	deadline := time.Now().Add(2 * time.Second)
	for found := 0; found < 2; {
		s, p, err := e.probe.Next()
		switch {
		case errors.Is(err, bpf.ErrEmpty) && time.Now().Before(deadline):
			if err := errors.Join(e.probe.Sleep(time.Now().Add(bpf.Delay)), e.probe.Wait()); err != nil {
				return err
			}
		case err != nil:
			return fmt.Errorf("the programs in the kernel do not tell of a connection made as a test: %w", err)
		case s != nil && s.Kind == bpf.Opened && s.Local.Addr().IsLoopback() && (s.Local.Port() == port || s.Peer.Port() == port):
			e.ignored[s.Cookie] = true
			found++
		default:
			e.handle(s, p)
		}
	}
	return nil
}

// loopbackConnection makes a TCP connection over loopback to a port that it
// announces before. end closes it.
func loopbackConnection(announce func(port uint16) error) (port uint16, end func(), err error) {
	var fds []int
	end = func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	defer func() {
		if err != nil {
			end()
		}
	}()
	for range 2 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		if err != nil {
			return 0, nil, err
		}
		fds = append(fds, fd)
	}
	here := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := unix.Bind(fds[0], here); err != nil {
		return 0, nil, err
	}
	if err := unix.Listen(fds[0], 1); err != nil {
		return 0, nil, err
	}
	name, err := unix.Getsockname(fds[0])
	if err != nil {
		return 0, nil, err
	}
	here.Port = name.(*unix.SockaddrInet4).Port
	if err := announce(uint16(here.Port)); err != nil {
		return 0, nil, err
	}
	return uint16(here.Port), end, unix.Connect(fds[1], here)
}

func (e *ebpf) info() Info {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Info{Backend: EBPF, Limited: e.limited, Lost: e.lost}
}

func (e *ebpf) close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return fmt.Errorf("conntrack: collector: %w", os.ErrClosed)
	}
	e.closed = true
	e.mu.Unlock()
	err := e.probe.Close()
	e.wake()
	<-e.done
	return err
}

// do has the pump call f when it has handled what happened before.
func (e *ebpf) do(f func()) error {
	ran := make(chan struct{})
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return fmt.Errorf("collector: %w", os.ErrClosed)
	}
	e.asked = append(e.asked, func() { f(); close(ran) })
	e.mu.Unlock()
	if err := e.probe.Wake(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	e.wake()
	select {
	case <-ran:
		return nil
	case <-e.done:
	}
	select {
	case <-ran:
		return nil
	default:
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failed != nil {
		return e.failed
	}
	return fmt.Errorf("collector: %w", os.ErrClosed)
}

func (e *ebpf) wake() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

func (e *ebpf) snapshot(ctx context.Context, dst []Conn) ([]Conn, error) {
	if err := ctx.Err(); err != nil {
		return dst, err
	}
	var failed error
	err := e.do(func() {
		if failed = e.refresh(); failed != nil {
			return
		}
		dst = slices.Grow(dst, len(e.conns))
		for _, t := range e.conns {
			dst = append(dst, t.conn)
		}
	})
	return dst, errors.Join(err, failed)
}

func (e *ebpf) events(ctx context.Context, _ time.Duration, yield func(Event) bool) error {
	f := &follower{wake: make(chan struct{}, 1)}
	err := e.do(func() {
		now := time.Now().Round(0)
		for _, t := range e.conns {
			f.queue = append(f.queue, Event{Kind: Open, Time: now, Conn: t.conn})
		}
		slices.SortFunc(f.queue, func(a, b Event) int { return a.Conn.Opened.Compare(b.Conn.Opened) })
		f.wake <- struct{}{}
		e.followers = append(e.followers, f)
		e.nextTick = time.Now().Add(e.interval)
	})
	if err != nil {
		return err
	}
	defer e.do(func() {
		e.followers = slices.DeleteFunc(e.followers, func(g *follower) bool { return g == f })
	})
	var batch []Event
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.done:
			return e.do(func() {})
		case <-f.wake:
		}
		e.mu.Lock()
		full := len(f.queue) >= mostQueued
		batch, f.queue = f.queue, batch[:0]
		e.mu.Unlock()
		if full {
			e.wake()
		}
		for i := range batch {
			if ctx.Err() != nil || !yield(batch[i]) {
				return nil
			}
		}
		clear(batch)
		if cap(batch) > mostQueued {
			batch = nil // the queue of a burst
		}
	}
}

// emit tells the followers of a change.
func (e *ebpf) emit(kind Kind, at time.Time, c *Conn) {
	e.tell(Event{Kind: kind, Time: at, Conn: *c})
}

func (e *ebpf) tell(ev Event) {
	if len(e.followers) == 0 {
		return
	}
	e.mu.Lock()
	for _, f := range e.followers {
		f.queue = append(f.queue, ev)
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
	e.mu.Unlock()
}

// full reports whether a follower is behind.
func (e *ebpf) full() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.followers, func(f *follower) bool { return len(f.queue) >= mostQueued })
}

// pump reads what the programs tell until the probe is closed.
func (e *ebpf) pump() {
	defer close(e.done)
	for !e.ended(e.turn()) {
	}
}

// turn reads what the programs have told, does what others have asked for, and
// waits if there was neither.
func (e *ebpf) turn() error {
	// What happened before it was asked for must be read before it is done.
	asked := e.takeAsked()
	if e.full() {
		// The ring is left to fill up: what is lost is counted there, and
		// found again as after any other loss.
		if len(asked) == 0 {
			<-e.kick
		}
		call(asked)
		return nil
	}
	// In between, time passes.
	for n := range 1024 {
		s, p, err := e.probe.Next()
		if errors.Is(err, bpf.ErrEmpty) {
			return e.idle(n > 0, asked)
		}
		if err != nil {
			return err
		}
		e.handle(s, p)
	}
	err := e.due()
	call(asked) // in a storm the ring may never be empty
	return err
}

// idle is the rest of a turn after which the ring is empty.
func (e *ebpf) idle(received bool, asked []func()) error {
	if err := e.due(); err != nil {
		return err
	}
	if received {
		// The programs do not wake the pump again so soon.
		e.back = time.Now().Add(bpf.Delay + bpf.Delay/10)
	}
	if len(asked) > 0 {
		call(asked)
		return nil
	}
	if err := e.probe.Sleep(e.deadline()); err != nil {
		return err
	}
	// Who asks from here on wakes up what waits.
	if e.asks() {
		return nil
	}
	return e.probe.Wait()
}

// ended reports whether the pump is to end, because of an error or of Close.
func (e *ebpf) ended(err error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil && !e.closed {
		e.closed, e.failed = true, err
		e.probe.Close()
	}
	return e.closed
}

// takeAsked returns what others have asked the pump to do.
func (e *ebpf) takeAsked() []func() {
	e.mu.Lock()
	defer e.mu.Unlock()
	asked := e.asked
	e.asked = nil
	return asked
}

func (e *ebpf) asks() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.asked) > 0
}

func call(asked []func()) {
	for _, f := range asked {
		f()
	}
}

// deadline says until when the pump may sleep; zero: until something happens.
func (e *ebpf) deadline() time.Time {
	var d time.Time
	sooner := func(t time.Time) {
		if d.IsZero() || t.Before(d) {
			d = t
		}
	}
	if len(e.followers) > 0 {
		sooner(e.nextTick)
	} else if len(e.flows) > 0 {
		sooner(e.nextTick.Add(flowIdle / 2))
	}
	if e.resyncs > 0 {
		sooner(e.resyncAt)
	}
	if e.back.After(time.Now()) {
		sooner(e.back)
	}
	return d
}

// due does what it is time for.
func (e *ebpf) due() error {
	e.setClock()
	lost, err := e.probe.Lost()
	if err != nil {
		return err
	}
	now := time.Now()
	if lost != e.lost {
		e.tell(Event{Kind: Lost, Time: now.Round(0), Lost: lost - e.lost})
		e.mu.Lock()
		e.lost = lost
		e.mu.Unlock()
		// Two passes tell what is gone from what is new.
		if e.resyncs == 0 {
			e.resyncAt = now
		}
		e.resyncs = 2
	}
	if e.resyncs > 0 && !now.Before(e.resyncAt) {
		e.resyncs--
		e.resyncAt = now.Add(resyncEvery)
		if err := e.resync(); err != nil {
			return err
		}
	}
	if now.Before(e.nextTick) {
		return nil
	}
	e.nextTick = now.Add(e.interval)
	if err := e.refresh(); err != nil {
		return err
	}
	e.endIdle(now)
	return nil
}

// setClock learns how far the wall clock is from the kernel's, which is that of
// boot: it may be set at any time.
func (e *ebpf) setClock() {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) == nil {
		e.offset = time.Now().UnixNano() - ts.Nano()
	}
}

func (e *ebpf) wall(boot int64) time.Time { return time.Unix(0, boot+e.offset) }

// handle takes in what the programs tell.
func (e *ebpf) handle(s *bpf.Socket, p *bpf.Process) {
	if p != nil {
		e.programs.add(p)
		return
	}
	switch s.Kind {
	case bpf.Opened:
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
			t.conn.Process = e.programs.of(&s.Owner)
		}
		e.end(t, e.wall(s.Time))
	case bpf.OwnerChanged:
		t := e.sockets[s.Cookie]
		if t == nil {
			t = e.conns[s.Cookie]
		}
		for ; t != nil; t = t.next {
			t.conn.Process = e.programs.of(&s.Owner)
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
		if t.opened == s.Opened {
			return t
		}
		// The end of the one before was lost.
		e.end(t, e.wall(s.Opened))
	}
	t = e.fresh()
	*t = tracked{opened: s.Opened, conn: Conn{
		ID: s.Cookie, Proto: TCP, State: State(s.State), Direction: direction(s.Direction), Local: s.Local, Peer: s.Peer,
		Process: e.programs.of(&s.Owner), UID: s.UID, Opened: e.wall(s.Opened),
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
	if len(e.spare) < mostSpare {
		e.spare = append(e.spare, t)
	}
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
	*t = tracked{opened: s.Opened, flow: true, connected: s.Connected, key: key, grown: time.Now(), next: e.sockets[s.Cookie], conn: Conn{
		ID: id, Proto: Proto(s.Proto), Direction: direction(s.Direction), Local: s.Local, Peer: s.Peer,
		Process: e.programs.of(&s.Owner), UID: s.UID, Opened: e.wall(s.Opened),
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
// connected sockets end with the socket, if its end is seen.
func (e *ebpf) endIdle(now time.Time) {
	for _, t := range e.flows {
		if now.Sub(t.grown) > flowIdle && (!t.connected || e.probe.NoPackets != nil) {
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
		look = look || c.Owner != 0 && int(c.Owner) != owner
	})
	if err != nil {
		return err
	}
	for _, t := range e.touched {
		look = look || bits.OnesCount64(t.held) != min(64, 1+len(t.conn.Sharers))
	}
	if look {
		if err := e.findHolders(); err != nil {
			return err
		}
	}
	return e.countFlows(false)
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
			if t := e.conns[s.Cookie]; t != nil && !t.flow && t.opened == s.Opened {
				e.holder(t, s)
			} else {
				found = append(found, *s)
			}
		case s.Connected:
			if t := e.flows[s.Key()]; t == nil && (s.Peer.Port() != 0 || s.Proto != uint8(UDP)) && s.Peer.Addr().IsValid() {
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
	for _, t := range e.touched {
		owner := t.conn.Process
		if !t.primary && len(t.holders) > 0 {
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
		t.holders = nil
	}
	e.holdersAt = start.Add(max(holdersEvery, holdersShare*time.Since(start)))
	return nil
}

// holder notes that a process holds a connection.
func (e *ebpf) holder(t *tracked, s *bpf.Socket) {
	if t.pass != e.pass {
		t.pass, t.misses, t.primary = e.pass, 0, false
		e.touched = append(e.touched, t)
	}
	p := e.programs.of(&s.Owner)
	// A process may have several file descriptors of one socket.
	if s.Primary == s.Owner.PID {
		t.primary = true
		t.conn.Process = p
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
	cookies, all := e.probe.Missed()
	now := time.Now().Round(0)
	for _, c := range cookies {
		e.missed[c] = true
	}
	for c := range e.missed {
		t := e.conns[c]
		switch {
		case e.sockets[c] != nil:
			e.endFlows(c, now)
		case t != nil && !t.flow:
			e.end(t, now)
		case e.resyncs > 0:
			continue // its opening may still come
		}
		delete(e.missed, c)
	}
	if err := e.findHolders(); err != nil {
		return err
	}
	if err := e.countFlows(true); err != nil {
		return err
	}
	if all {
		return nil
	}
	// Not even all ends are known: what no process holds is taken to be gone.
	for _, t := range e.conns {
		if t.pass == e.pass || t.flow && e.sockets[t.key.Cookie] == nil {
			continue
		}
		if t.misses++; t.misses > 1 && !t.flow {
			e.end(t, now)
		}
	}
	return nil
}
