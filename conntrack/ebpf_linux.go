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
	flowIdle     = time.Minute      // after which a flow has ended, if its socket may have others
	holdersEvery = 10 * time.Second // how often all processes are asked what they hold, at least
	holdersShare = 300              // of the time between two such passes, one takes at most 1/300
	countShare   = 20               // likewise if such passes must count, too
	fewUnheld    = 3                // such passes in which nobody held a connection, after which sock_diag is asked whether it is there
	mostUnheld   = 120              // likewise, after which it is gone if that cannot be asked
	resyncEvery  = 250 * time.Millisecond
	idleEvery    = 5 * time.Second // how often idle flows are looked for, at least
	mostFlows    = 1 << 14         // of unconnected sockets; one socket has at most half
	mostEnds     = 512             // idle flows that end in one turn of the pump
	mostEvicted  = 64              // flows that end early at a time: one by one, each costs a system call
	mostReleased = 1 << 14
	mostQueued   = 8192 // events that wait for a follower: beyond it the pump waits
	mostSpare    = 1024

	mostTurn      = 1024    // events of the ring in one turn of the pump
	mostInRing    = 1 << 13 // more than it can hold
	mostWaits     = 50      // for what is being written, when somebody has asked for all before
	selfTestTries = 5
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
	failed error  // why the pump has ended by itself
	lost   uint64 // connections and flows
	tardy  uint64 // events

	followers []*follower // appended to by the pump; their queues are guarded by mu

	// The pump's own.
	conns        map[uint64]*tracked      // by Conn.ID
	flows        map[bpf.FlowKey]*tracked // of conns
	sockets      map[uint64]*socket       // those with flows, by cookie
	idlest       flowList                 // flows of unconnected sockets
	most         *socket                  // that had most flows when largest last looked
	mostAt       int                      // so many
	fresh        int                      // flows opened since they were counted
	released     map[uint64]int64         // close times of sockets whose flows may not be reported yet
	behind       bool                     // the ring may hold events of flows that a pass has found
	started      time.Time
	processes    processes
	listening    map[endpointNS]bool
	ignored      map[uint64]bool // cookies of the self-test
	offset       int64           // of wall clock time from the kernel's, ns
	spare        []*tracked
	flowSeq      uint64
	pass         uint32
	touched      []holding  // by the pass
	late         []*tracked // whose updates wait until the followers have room
	tcp          int        // of conns
	excess       int        // of tcp over what the kernel's side knew at the last pass
	lacking      bool       // that has grown
	countedAt    time.Time  // when the flows were counted
	soughtAt     time.Time  // the countedAt of when largest last looked
	idleAt       time.Time  // when to look for idle flows
	back         time.Time  // when to look into the ring again, even if nothing wakes the pump
	nextTick     time.Time
	holdersAt    time.Time     // when they are due
	resyncDue    bool          // events were lost
	resyncAt     time.Time     // not before
	auditAt      time.Time     // when sock_diag may be asked again
	lostEvents   uint64        // those without room in the ring
	closesUnseen int           // that endGone has found
	suspects     []uint64      // of endGone
	keys         []bpf.FlowKey // of endAll
	failing      failure       // of the last pass
	tunnels      tunnels
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
		conns: make(map[uint64]*tracked), flows: make(map[bpf.FlowKey]*tracked), sockets: make(map[uint64]*socket),
		released: make(map[uint64]int64), ignored: make(map[uint64]bool), started: time.Now(),
		tunnels: tunnels{loopback: o.Loopback},
	}
	var limited []string
	if probe.NoPackets != nil {
		bytes := ""
		if probe.NoLengths != nil {
			bytes = ", late and without bytes"
		}
		limited = append(limited, fmt.Sprintf("of UDP only sockets with a fixed peer are seen%s, and ICMP and other protocols are not: %v", bytes, probe.NoPackets))
	}
	if probe.NoLengths != nil {
		limited = append(limited, fmt.Sprintf("a program that takes over another's socket is noticed late: %v", probe.NoLengths))
	}
	if probe.NoVisits != nil {
		limited = append(limited, fmt.Sprintf("bytes are read by a walk over all open files, and a close that is not seen is reported within half a minute: %v", probe.NoVisits))
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
	e.comeBack()
	go e.pump()
	return e, nil
}

// selfTest makes a connection and waits for the programs to tell of it: links
// can be attached and yet not work. In a storm the ring may have had no room for that.
func (e *ebpf) selfTest() error {
	for try := 1; ; try++ {
		err := e.tryConnection()
		if !errors.Is(err, bpf.ErrEmpty) || try == selfTestTries {
			return err
		}
		if lost, late, _, noLoss := e.probe.Lost(); noLoss != nil || lost+late == 0 {
			return err
		}
	}
}

func (e *ebpf) tryConnection() error {
	l, err := listenLoopback()
	if err != nil {
		return e.noSelfTest(err)
	}
	defer l.close()
	if err := e.probe.TestPort(l.port); err != nil {
		return err
	}
	defer e.probe.TestPort(0)
	if err := l.connect(); err != nil {
		return e.noSelfTest(err)
	}
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
		case s != nil && s.Kind == bpf.Opened && s.Local.Addr().IsLoopback() && (s.Local.Port() == l.port || s.Peer.Port() == l.port):
			e.ignored[s.Cookie] = true
			found++
		default:
			e.handle(s, p)
		}
	}
	return nil
}

// noSelfTest goes without, such as in a network namespace whose loopback device
// is down, or behind a firewall that does not let even that pass.
func (e *ebpf) noSelfTest(err error) error {
	e.log.Debug("conntrack: no self-test, for loopback does not work", "error", err)
	return nil
}

// A loopback is a TCP connection of this process to itself.
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
	name, noName := unix.Getsockname(l.listener)
	if err = errors.Join(err, noName); err != nil {
		l.close()
		return nil, err
	}
	l.port = uint16(name.(*unix.SockaddrInet4).Port)
	return l, nil
}

// connect does not wait for long: a firewall may swallow what is sent.
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
	return Info{Backend: EBPF, Limited: e.limited, Lost: e.lost, Late: e.tardy}
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

// do has the pump call f when it has handled what happened before.
func (e *ebpf) do(f func()) error {
	ran := make(chan struct{})
	e.mu.Lock()
	if e.closed {
		defer e.mu.Unlock()
		return e.over()
	}
	e.asked = append(e.asked, func() { f(); close(ran) })
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
	return e.over()
}

// over says why the pump has ended. mu is held.
func (e *ebpf) over() error {
	if e.failed != nil {
		return e.failed
	}
	return fmt.Errorf("collector: %w", os.ErrClosed)
}

// wake has the pump look around, whether it waits for the programs or for a
// follower.
func (e *ebpf) wake() {
	e.probe.Wake()
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
		// To a follower that is behind nothing more is told.
		if !e.full() {
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

// pump reads what the programs tell until Close.
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
	// In between, time passes. Who has asked gets all that the ring held by then.
	most, waits := mostTurn, 0
	if len(asked) > 0 {
		most = mostInRing
	}
	for n := range most {
		s, p, err := e.probe.Next()
		if errors.Is(err, bpf.ErrEmpty) && len(asked) > 0 && waits < mostWaits && e.probe.Unread() {
			waits++
			time.Sleep(100 * time.Microsecond)
			continue
		}
		if errors.Is(err, bpf.ErrEmpty) {
			return e.rest(n > 0, asked)
		}
		if err != nil {
			return err
		}
		e.handle(s, p)
	}
	e.comeBack()
	err := e.due()
	call(asked) // in a storm the ring may never be empty
	return err
}

// comeBack has the pump look again soon, after it has received something: the
// programs do not wake it up again so soon.
func (e *ebpf) comeBack() { e.back = time.Now().Add(bpf.Delay) }

// rest is that of a turn after which the ring is empty.
func (e *ebpf) rest(received bool, asked []func()) error {
	e.behind = false
	if err := e.due(); err != nil {
		return err
	}
	if received {
		e.comeBack()
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

// asks reports whether somebody has asked for something, Close included.
func (e *ebpf) asks() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.asked) > 0 || e.closed
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
	}
	if e.idlest.n > 0 {
		sooner(e.idleAt)
	}
	if e.resyncDue {
		sooner(e.resyncAt)
	}
	if e.back.After(time.Now()) {
		sooner(e.back)
	}
	return d
}

// due does what it is time for. What fails is tried again.
func (e *ebpf) due() error {
	e.setClock()
	connections, late, flows, err := e.probe.Lost()
	if err != nil {
		return err
	}
	now := time.Now()
	if err := e.probe.Frames(now.UnixNano() - e.offset); err != nil {
		e.log.Warn("conntrack: " + err.Error())
	}
	if lost := connections + flows; lost != e.lost {
		e.tell(Event{Kind: Lost, Time: now.Round(0), Lost: lost - e.lost})
		e.mu.Lock()
		e.lost = lost
		e.mu.Unlock()
	}
	if events := connections + late; events != e.lostEvents {
		e.mu.Lock()
		e.tardy = late
		e.mu.Unlock()
		e.lostEvents = events
		e.resyncDue = true
	}
	if e.resyncDue && !now.Before(e.resyncAt) {
		e.resyncDue = false
		e.resyncAt = now.Add(resyncEvery)
		if err := e.resync(); err != nil {
			e.resyncDue = true
			e.resyncAt = now.Add(e.interval)
			e.passed(err)
		}
	}
	if e.fresh >= mostFlows/2 {
		e.passed(e.countFlows(false))
	}
	if e.idlest.n > 0 && !now.Before(e.idleAt) {
		e.passed(e.idle(now))
	}
	if now.Before(e.nextTick) {
		return nil
	}
	e.nextTick = now.Add(e.interval)
	if len(e.followers) > 0 {
		e.passed(e.refresh(false))
	}
	return nil
}

// idle ends flows that are idle. Whether they are is known only from a count that
// is not much older.
func (e *ebpf) idle(now time.Time) error {
	if now.Sub(e.countedAt) > idleEvery/2 {
		if err := e.count(); err != nil {
			return err
		}
	}
	e.idleAt = now
	if !e.endIdle(now) {
		e.idleAt = now.Add(idleEvery)
	}
	return nil
}

// passed takes note of whether a pass over all sockets has failed, as for want of
// memory or of file descriptors.
func (e *ebpf) passed(err error) { e.failing.set(e.log, err) }

// A failure is why something did not work that is tried again; empty: it did.
type failure string

// set takes in how the last try went, and logs what is not as before.
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

// setClock learns how far the wall clock is from the kernel's, which is that of
// boot: it may be set at any time.
func (e *ebpf) setClock() {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) == nil {
		e.offset = time.Now().UnixNano() - ts.Nano()
	}
}

func (e *ebpf) wall(boot int64) time.Time { return time.Unix(0, boot+e.offset) }
