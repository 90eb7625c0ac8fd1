//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/connmapgo/connmap/conntrack/internal/bpf"
)

const (
	flowIdle    = time.Minute // an unconnected flow closes this long after its last packet
	resyncEvery = 250 * time.Millisecond
	idleEvery   = 5 * time.Second // at least, between two checks for idle flows
	maxFlows    = 1 << 14         // of unconnected sockets; one socket may have half of them
	maxEvicted  = 64              // flows closed early at a time: each costs a system call
	maxReleased = 1 << 14
	maxQueue    = 8192 // events queued for a subscriber; at that length the pump stops reading
	maxSpare    = 1024

	holdersEvery = 10 * time.Second // at least, between two passes over the files of all processes
	holdersShare = 300              // such a pass may take 1/300 of the time until the next
	countShare   = 20               // 1/20 where the counters depend on the pass
	minUnheld    = 3                // passes without a holder, after which sock_diag is asked about a socket
	maxUnheld    = 120              // passes without a holder, after which it closes if sock_diag cannot tell

	maxEventsPerTurn = 1024
	maxClosesPerTurn = 512     // of idle flows
	maxInRing        = 1 << 13 // more events than the ring can hold
	maxWaits         = 50      // how often a request waits for events that are being written
	selfTestTries    = 5
)

// An ebpf is the backend EBPF. One goroutine, the pump, reads the events of the kernel
// programs and owns the table of connections. Other goroutines send it requests.
type ebpf struct {
	probe    *bpf.Probe
	log      *slog.Logger
	interval time.Duration
	limited  string
	wakeup   chan struct{} // capacity 1; filled when there is a request, or a subscriber has room again
	done     chan struct{} // closed when the pump has ended

	mu         sync.Mutex
	requests   []func()
	closed     bool
	failed     error  // the error that ended the pump; nil: none
	lost       uint64 // connections and flows
	lateEvents uint64
	unnamed    uint64 // see Info

	subscribers []*subscriber // changed by the pump only; their queues are guarded by mu

	// The fields below belong to the pump.
	conns       map[uint64]*tracked      // by Conn.ID
	flows       map[bpf.FlowKey]*tracked // of conns
	sockets     map[uint64]*socket       // those with flows, by cookie
	tcp         int                      // TCP connections in conns
	unconnected flowList                 // flows of unconnected sockets, longest idle first
	newFlows    int                      // flows opened since the last count
	lateUpdates []*tracked               // connections whose Update event waits for room in the queues
	ignored     map[uint64]bool          // cookies of the self-test
	processes   processes
	listening   map[endpointNS]bool
	tunnels     tunnels
	names       peerNames
	spare       []*tracked
	flowSeq     uint64
	started     time.Time
	offset      int64 // wall clock minus the kernel's clock, in ns

	// The socket with most flows when [ebpf.largest] last searched, and how many it had.
	largestSocket     *socket
	largestSize       int
	largestSearchedAt time.Time // countedAt at that time

	// State of passes, which compare the table with the kernel.
	pass         uint32
	held         []socketHolders  // found by the running pass
	missingTCP   int              // TCP connections in the table that the last pass did not find
	missingGrew  bool             // the last pass found fewer than the one before
	behind       bool             // the ring may hold Open events of flows that a pass has found
	released     map[uint64]int64 // close times of sockets whose flows may not be reported yet
	closesUnseen int              // connections that closeGone has closed
	suspects     []uint64         // buffer of closeGone
	keys         []bpf.FlowKey    // buffer of closeFlows
	passFailure  failure          // of the last pass

	// Times at which work is due.
	nextTick       time.Time // counters
	nextRead       time.Time // reads the ring, even if the kernel does not wake the pump
	nextIdleCheck  time.Time
	nextHolderPass time.Time
	nextAudit      time.Time // earliest next question to sock_diag
	nextResync     time.Time // earliest next resync
	countedAt      time.Time // when the flows were last counted
	resyncDue      bool      // events were dropped
	droppedEvents  uint64    // because the ring was full
}

func openEBPF(o Options) (backend, error) {
	probe, err := bpf.Open(bpf.Options{Loopback: o.Loopback, Names: o.Names})
	if err != nil {
		return nil, err
	}
	return startEBPF(probe, o)
}

func startEBPF(probe *bpf.Probe, o Options) (backend, error) {
	e := &ebpf{
		probe: probe, log: o.Logger, interval: o.Interval,
		wakeup: make(chan struct{}, 1), done: make(chan struct{}),
		conns: make(map[uint64]*tracked), flows: make(map[bpf.FlowKey]*tracked), sockets: make(map[uint64]*socket),
		released: make(map[uint64]int64), ignored: make(map[uint64]bool), started: time.Now(),
		tunnels: tunnels{loopback: o.Loopback},
		names:   peerNames{on: o.Names},
	}
	var limited []string
	if probe.PacketErr != nil {
		bytes := ""
		if probe.LengthErr != nil {
			bytes = ", late and without bytes"
		}
		limited = append(limited, fmt.Sprintf("of UDP only sockets with a fixed peer are seen%s, and ICMP and other protocols are not: %v", bytes, probe.PacketErr))
	}
	if probe.LengthErr != nil {
		limited = append(limited, fmt.Sprintf("a program that takes over another's socket is noticed late: %v", probe.LengthErr))
	}
	if probe.VisitErr != nil {
		limited = append(limited, fmt.Sprintf("bytes are read by a walk over all open files, and a close that is not seen is reported within half a minute: %v", probe.VisitErr))
	}
	if probe.NamesErr != nil {
		limited = append(limited, fmt.Sprintf("names of peers are not learnt: %v", probe.NamesErr))
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
	e.findTunnels()
	e.countTunnels()
	e.readAgainSoon()
	go e.pump()
	return e, nil
}

// selfTest makes a connection and waits until the programs report it, since programs can be
// attached and yet not run. It tries again if the ring was full.
func (e *ebpf) selfTest() error {
	for try := 1; ; try++ {
		err := e.tryConnection()
		if !errors.Is(err, bpf.ErrEmpty) || try == selfTestTries {
			return err
		}
		if lost, late, _, lossErr := e.probe.Lost(); lossErr != nil || lost+late == 0 {
			return err
		}
	}
}

func (e *ebpf) tryConnection() error {
	l, err := listenLoopback()
	if err != nil {
		return e.skipSelfTest(err)
	}
	defer l.close()
	if err := e.probe.TestPort(l.port); err != nil {
		return err
	}
	defer e.probe.TestPort(0)
	if err := l.connect(); err != nil {
		return e.skipSelfTest(err)
	}
	deadline := time.Now().Add(2 * time.Second)
	for found := 0; found < 2; {
		ev, err := e.probe.Next()
		s := ev.Socket
		switch {
		case errors.Is(err, bpf.ErrEmpty) && time.Now().Before(deadline):
			if err := errors.Join(e.probe.Sleep(time.Now().Add(bpf.Delay)), e.probe.Wait()); err != nil {
				return err
			}
		case err != nil:
			return fmt.Errorf("the programs in the kernel do not report a test connection: %w", err)
		case s != nil && s.Kind == bpf.Opened && s.Local.Addr().IsLoopback() && (s.Local.Port() == l.port || s.Peer.Port() == l.port):
			e.ignored[s.Cookie] = true
			found++
		default:
			e.handle(ev)
		}
	}
	return nil
}

// skipSelfTest skips the test where loopback does not work, as in a network namespace whose
// loopback device is down or filtered.
func (e *ebpf) skipSelfTest(err error) error {
	e.log.Debug("conntrack: self-test skipped, since loopback does not work", "error", err)
	return nil
}

// A loopback is a TCP connection of this process to itself, for the self-test.
type loopback struct {
	port             uint16
	listener, client int // file descriptors
}

func listenLoopback() (*loopback, error) {
	const typ = unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	l := &loopback{listener: -1, client: -1}
	var err error
	if l.listener, err = unix.Socket(unix.AF_INET, typ, unix.IPPROTO_TCP); err != nil {
		return nil, err
	}
	if l.client, err = unix.Socket(unix.AF_INET, typ, unix.IPPROTO_TCP); err != nil {
		l.close()
		return nil, err
	}
	err = errors.Join(unix.Bind(l.listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(l.listener, 1))
	name, nameErr := unix.Getsockname(l.listener)
	if err = errors.Join(err, nameErr); err != nil {
		l.close()
		return nil, err
	}
	l.port = uint16(name.(*unix.SockaddrInet4).Port)
	return l, nil
}

// connect waits for at most one second: a firewall may drop the packets.
func (l *loopback) connect() error {
	err := unix.Connect(l.client, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: int(l.port)})
	if err != unix.EINPROGRESS {
		return err
	}
	fds := []unix.PollFd{{Fd: int32(l.client), Events: unix.POLLOUT}}
	for deadline := time.Now().Add(time.Second); ; {
		n, err := unix.Poll(fds, max(0, int(time.Until(deadline).Milliseconds())))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return unix.ETIMEDOUT
		}
		break
	}
	errno, err := unix.GetsockoptInt(l.client, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	}
	return err
}

func (l *loopback) close() {
	for _, fd := range []int{l.listener, l.client} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func (e *ebpf) info() Info {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Info{Backend: EBPF, Limited: e.limited, Lost: e.lost, Late: e.lateEvents, Unnamed: e.unnamed}
}

func (e *ebpf) close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return fmt.Errorf("conntrack: collector: %w", os.ErrClosed)
	}
	e.closed = true
	e.mu.Unlock()
	e.wake()
	<-e.done
	return e.probe.Close()
}

// do runs f on the pump, after all events from before, and waits for it.
func (e *ebpf) do(f func()) error {
	ran := make(chan struct{})
	e.mu.Lock()
	if e.closed {
		defer e.mu.Unlock()
		return e.endReason()
	}
	e.requests = append(e.requests, func() { f(); close(ran) })
	e.mu.Unlock()
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
	return e.endReason()
}

// endReason returns why the pump has ended. The caller holds mu.
func (e *ebpf) endReason() error {
	if e.failed != nil {
		return e.failed
	}
	return fmt.Errorf("collector: %w", os.ErrClosed)
}

// wake ends the pump's wait for the kernel programs or for a subscriber.
func (e *ebpf) wake() {
	e.probe.Wake()
	select {
	case e.wakeup <- struct{}{}:
	default:
	}
}

func (e *ebpf) snapshot(ctx context.Context, dst []Conn) ([]Conn, error) {
	if err := ctx.Err(); err != nil {
		return dst, err
	}
	var failed error
	err := e.do(func() {
		// While a queue is full, counters are not read.
		if !e.hasFullQueue() {
			failed = e.refresh(true)
		}
		if failed != nil {
			return
		}
		dst = slices.Grow(dst, len(e.conns))
		for _, t := range e.conns {
			dst = append(dst, t.conn)
		}
	})
	return dst, errors.Join(err, failed)
}

// pump reads the events of the kernel programs until Close.
func (e *ebpf) pump() {
	defer close(e.done)
	for !e.hasEnded(e.turn()) {
	}
}

// turn reads events and runs requests. It waits if there was neither.
func (e *ebpf) turn() error {
	// Events from before a request are handled before it.
	requests := e.takeRequests()
	if e.hasFullQueue() {
		// The ring may fill up: drops are counted, and a pass corrects the table.
		if len(requests) == 0 {
			<-e.wakeup
		}
		runAll(requests)
		return nil
	}
	// A request needs all events that are in the ring now.
	limit, waits := maxEventsPerTurn, 0
	if len(requests) > 0 {
		limit = maxInRing
	}
	for n := range limit {
		ev, err := e.probe.Next()
		if errors.Is(err, bpf.ErrEmpty) && len(requests) > 0 && waits < maxWaits && e.probe.Unread() {
			waits++
			time.Sleep(100 * time.Microsecond)
			continue
		}
		if errors.Is(err, bpf.ErrEmpty) {
			return e.finishTurn(n > 0, requests)
		}
		if err != nil {
			return err
		}
		e.handle(ev)
	}
	e.readAgainSoon()
	err := e.runDue()
	runAll(requests) // in a storm of events the ring may never be empty
	return err
}

// readAgainSoon makes the pump read the ring again after bpf.Delay. Until then the programs do
// not wake it.
func (e *ebpf) readAgainSoon() { e.nextRead = time.Now().Add(bpf.Delay) }

// finishTurn ends a turn that has emptied the ring.
func (e *ebpf) finishTurn(received bool, requests []func()) error {
	e.behind = false
	if err := e.runDue(); err != nil {
		return err
	}
	if received {
		e.readAgainSoon()
	}
	if len(requests) > 0 {
		runAll(requests)
		return nil
	}
	if err := e.probe.Sleep(e.deadline()); err != nil {
		return err
	}
	// A request that comes later ends the wait.
	if e.hasRequests() {
		return nil
	}
	return e.probe.Wait()
}

// hasEnded reports whether the pump must end, because of an error or of Close.
func (e *ebpf) hasEnded(err error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil && !e.closed {
		e.closed, e.failed = true, err
		e.probe.Close()
	}
	return e.closed
}

// takeRequests removes and returns the requests.
func (e *ebpf) takeRequests() []func() {
	e.mu.Lock()
	defer e.mu.Unlock()
	requests := e.requests
	e.requests = nil
	return requests
}

// hasRequests reports whether there is a request or a Close.
func (e *ebpf) hasRequests() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.requests) > 0 || e.closed
}

func runAll(requests []func()) {
	for _, f := range requests {
		f()
	}
}

// deadline returns until when the pump may sleep; zero: until an event or a request comes.
func (e *ebpf) deadline() time.Time {
	var d time.Time
	sooner := func(t time.Time) {
		if d.IsZero() || t.Before(d) {
			d = t
		}
	}
	if len(e.subscribers) > 0 {
		sooner(e.nextTick)
	}
	if e.unconnected.n > 0 {
		sooner(e.nextIdleCheck)
	}
	if e.resyncDue {
		sooner(e.nextResync)
	}
	if e.nextRead.After(time.Now()) {
		sooner(e.nextRead)
	}
	return d
}

// runDue does all work that is due. Work that fails is tried again later.
func (e *ebpf) runDue() error {
	e.setClock()
	connections, late, flows, err := e.probe.Lost()
	if err != nil {
		return err
	}
	if e.names.on {
		unread, err := e.probe.LostNames()
		if err != nil {
			return err
		}
		n := unread + e.names.forgotten()
		e.mu.Lock()
		e.unnamed = n
		e.mu.Unlock()
		e.names.tell(e.log, n, time.Now())
	}
	now := time.Now()
	if err := e.probe.Frames(now.UnixNano() - e.offset); err != nil {
		e.log.Warn("conntrack: " + err.Error())
	}
	if lost := connections + flows; lost != e.lost {
		e.publish(Event{Kind: Lost, Time: now.Round(0), Lost: lost - e.lost})
		e.mu.Lock()
		e.lost = lost
		e.mu.Unlock()
	}
	if events := connections + late; events != e.droppedEvents {
		e.mu.Lock()
		e.lateEvents = late
		e.mu.Unlock()
		e.droppedEvents = events
		e.resyncDue = true
	}
	if e.resyncDue && !now.Before(e.nextResync) {
		e.resyncDue = false
		e.nextResync = now.Add(resyncEvery)
		if err := e.resync(); err != nil {
			e.resyncDue = true
			e.nextResync = now.Add(e.interval)
			e.notePass(err)
		}
	}
	if e.newFlows >= maxFlows/2 {
		e.notePass(e.countFlows(false))
	}
	if e.unconnected.n > 0 && !now.Before(e.nextIdleCheck) {
		e.notePass(e.endIdleFlows(now))
	}
	if now.Before(e.nextTick) {
		return nil
	}
	e.nextTick = now.Add(e.interval)
	if len(e.subscribers) > 0 {
		e.notePass(e.refresh(false))
	}
	return nil
}

// endIdleFlows closes idle flows. It counts first unless the last count is recent, since only
// a count shows which flows are idle.
func (e *ebpf) endIdleFlows(now time.Time) error {
	if now.Sub(e.countedAt) > idleEvery/2 {
		if err := e.count(); err != nil {
			return err
		}
	}
	e.nextIdleCheck = now
	if !e.closeIdle(now) {
		e.nextIdleCheck = now.Add(idleEvery)
	}
	return nil
}

// notePass records whether a pass has failed, such as for lack of memory or file descriptors.
func (e *ebpf) notePass(err error) { e.passFailure.set(e.log, err) }

// A failure is the error of the last try of a repeated task; empty: it worked.
type failure string

// set records the result of a try, and logs an error that differs from the one before.
func (f *failure) set(log *slog.Logger, err error) {
	before := *f
	*f = ""
	if err != nil {
		*f = failure(err.Error())
	}
	if *f != "" && *f != before {
		log.Warn("conntrack: trying again", "error", err)
	}
}

// setClock computes the offset of the wall clock, which may be set at any time, from the
// kernel's clock, which counts from boot.
func (e *ebpf) setClock() {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) == nil {
		e.offset = time.Now().UnixNano() - ts.Nano()
	}
}

func (e *ebpf) wall(boot int64) time.Time { return time.Unix(0, boot+e.offset) }
