//go:build amd64 || arm64 || loong64 || riscv64

package bpf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// Options say how to collect.
type Options struct {
	Loopback bool // also report connections to loopback addresses
	Ring     int  // bytes of the ring of events, a power of two and multiple of the page size; zero: 1 MiB
	NoVisits bool // do without them even if the kernel does not, as tests of that do
}

// A Probe is the programs in the kernel and what they tell. Wake may be called
// at any time, the other methods by one goroutine at a time.
type Probe struct {
	NoLengths error // why sends and receives are not seen; nil: they are
	NoPackets error // why packets are not seen; nil: they are
	NoVisits  error // why Changes and Audit cannot visit sockets; nil: they can

	lengths []string // the programs that see sends and receives
	drops   bool     // datagrams without room are seen
	coll    *ebpf.Collection
	links   []link.Link // an unreferenced link is detached by the garbage collector
	held    *link.Iter
	exists  *link.Iter
	changed *link.Iter
	ends    *link.Iter
	queued  *ebpf.Program // see Frames
	frames  link.Link     // nil: no packet socket sends
	ring    *ringbuf.Reader
	grown   *ringbuf.Reader // keys of flows
	// The ring's file waits in Go's poller: a goroutine that waited in a system
	// call would keep a thread, and the scheduler's watch, awake.
	file *os.File
	poll syscall.RawConn

	record ringbuf.Record
	socket Socket
	change Change
	buf    []byte // of iterators
	pass   uint32
	visit  uint32
	keys   []connmapFlowKey
	values []connmapFlow
	value  connmapFlow
	places []uint32 // in the list of flows to end

	noQueued error // why the program of Frames is not loaded
	noFrames bool  // the kernel does not take it, as Frames has said
}

// The programs that some kernels lack, or refuse without a capability.
var (
	lengthPrograms = []string{connmapProgSendLength, connmapProgRecvLength}
	visitPrograms  = []string{connmapProgChanged, connmapProgExists, connmapProgEndFlows}
	// Instead of lengthPrograms, where the kernel has no such tracepoints.
	functionPrograms = []string{connmapProgSent4, connmapProgSent6, connmapProgReceived4, connmapProgReceived6}
	packetPrograms   = map[string]ebpf.AttachType{
		connmapProgEgress:   ebpf.AttachCGroupInetEgress,
		connmapProgIngress:  ebpf.AttachCGroupInetIngress,
		connmapProgSendTo4:  ebpf.AttachCGroupUDP4Sendmsg,
		connmapProgSendTo6:  ebpf.AttachCGroupUDP6Sendmsg,
		connmapProgCreated:  ebpf.AttachCGroupInetSockCreate,
		connmapProgReleased: ebpf.AttachCgroupInetSockRelease,
	}
)

// Open loads and attaches the programs. If packets, or sends and receives, cannot be
// seen, or sockets not be visited, it does without; the Probe says why. Its error wraps
// [errors.ErrUnsupported] where the kernel cannot do it, and
// [fs.ErrPermission] where it does not allow it.
func Open(o Options) (*Probe, error) {
	if !hostPIDs() {
		return nil, fmt.Errorf("%w in a PID namespace of its own, as in a container, where processes have other numbers: share the host's (docker run --pid=host)", errors.ErrUnsupported)
	}
	cgroup, noCgroup := cgroupRoot()
	p := &Probe{NoPackets: noCgroup, NoVisits: visits(o), buf: make([]byte, 64<<10), pass: 1}
	p.lengths, p.drops = tracing()
	err := p.start(o, cgroup)
	if err != nil && p.NoPackets == nil {
		p.NoPackets = err
		err = p.start(o, cgroup)
	}
	if err != nil {
		p.NoLengths, p.NoPackets = err, noCgroup
		if err = p.start(o, cgroup); err != nil && p.NoPackets == nil {
			p.NoPackets = err
			err = p.start(o, cgroup)
		}
	}
	lacks, _ := missingCapabilities()
	if err != nil {
		return nil, explain(err, lacks, firstLinux)
	}
	if p.noFrames = !p.SeesFrames(); !p.noFrames {
		p.queued, p.noQueued = p.loadFrames()
	}
	if p.NoLengths != nil {
		p.NoLengths = explain(p.NoLengths, lacks, firstLinuxLengths)
	}
	if p.NoPackets != nil {
		p.NoPackets = explain(p.NoPackets, lacks, firstLinuxPackets)
	}
	if p.NoVisits != nil {
		p.NoVisits = explain(p.NoVisits, lacks, firstLinux)
	}
	return p, nil
}

// visits reports why the kernel takes no programs that visit the elements of a map: some
// that are locked down do not, whoever asks.
func visits(o Options) error {
	if o.NoVisits {
		return errors.ErrUnsupported
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Tracing, AttachType: ebpf.AttachTraceIter, AttachTo: "bpf_map_elem", License: "Dual MIT/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return err
	}
	return prog.Close()
}

// tracing returns the programs that see sends and receives in this kernel, and whether it
// tells which datagram a socket had no room for, as Linux does since 6.10.
func tracing() (lengths []string, drops bool) {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return lengthPrograms, false // Open will say why
	}
	var tracepoint *btf.Typedef
	if kernel.TypeByName("btf_trace_sock_send_length", &tracepoint) == nil {
		lengths = lengthPrograms
	} else {
		lengths = functionPrograms
	}
	if kernel.TypeByName("btf_trace_udp_fail_queue_rcv_skb", &tracepoint) == nil {
		if p, ok := tracepoint.Type.(*btf.Pointer); ok {
			f, ok := p.Target.(*btf.FuncProto)
			drops = ok && len(f.Params) == 1+3 // the first is the kernel's own
		}
	}
	return lengths, drops
}

// start loads and attaches the programs that are not known to fail.
func (p *Probe) start(o Options, cgroup string) error {
	if err := p.load(o); err != nil {
		return err
	}
	err := p.attach(cgroup)
	if err != nil {
		p.Close()
		p.coll, p.links, p.held, p.exists, p.changed, p.ends, p.ring, p.grown, p.file = nil, nil, nil, nil, nil, nil, nil, nil, nil
	}
	return err
}

func (p *Probe) load(o Options) error {
	spec, err := p.spec(o)
	if err != nil {
		return err
	}
	p.coll, err = ebpf.NewCollection(spec)
	return err
}

// spec has the programs that are not known to fail.
func (p *Probe) spec(o Options) (*ebpf.CollectionSpec, error) {
	spec, err := loadConnmap()
	if err != nil {
		return nil, err
	}
	set := func(name string, value any) { err = errors.Join(err, spec.Variables[name].Set(value)) }
	if o.Ring > 0 {
		spec.Maps[connmapMapEvents].MaxEntries = uint32(o.Ring)
		set(connmapVarWakeBytes, uint32(o.Ring/8))
	}
	set(connmapVarWithLoopback, o.Loopback)
	set(connmapVarByPacket, p.NoPackets == nil)
	set(connmapVarByLength, p.NoLengths == nil)
	if err != nil {
		return nil, err
	}
	delete(spec.Programs, connmapProgQueued) // see Frames
	if !p.drops || p.NoPackets != nil {
		delete(spec.Programs, connmapProgDropped)
	}
	for _, name := range slices.Concat(lengthPrograms, functionPrograms) {
		if p.NoLengths != nil || !slices.Contains(p.lengths, name) {
			delete(spec.Programs, name)
		}
	}
	if p.NoPackets != nil {
		for name := range packetPrograms {
			delete(spec.Programs, name)
		}
	}
	if p.NoVisits != nil {
		for _, name := range visitPrograms {
			delete(spec.Programs, name)
		}
	}
	return spec, nil
}

func (p *Probe) attach(cgroup string) error {
	var err error
	if p.ring, err = ringbuf.NewReader(p.coll.Maps[connmapMapEvents]); err != nil {
		return err
	}
	p.ring.SetDeadline(time.Unix(1, 0))
	if p.grown, err = ringbuf.NewReader(p.coll.Maps[connmapMapGrown]); err != nil {
		return err
	}
	p.grown.SetDeadline(time.Unix(1, 0))
	if err := p.watch(p.coll.Maps[connmapMapEvents].FD()); err != nil {
		return err
	}
	// Lengths first: once states are seen, the first send of a connection must
	// be seen too.
	for _, name := range append(slices.Clone(p.lengths), connmapProgSetState, connmapProgDestroyed, connmapProgDropped) {
		if prog := p.coll.Programs[name]; prog != nil {
			l, err := link.AttachTracing(link.TracingOptions{Program: prog})
			if err != nil {
				return fmt.Errorf("attach %s: %w", name, err)
			}
			p.links = append(p.links, l)
		}
	}
	for name, typ := range packetPrograms {
		if prog := p.coll.Programs[name]; prog != nil {
			l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: typ, Program: prog})
			if err != nil {
				return fmt.Errorf("attach %s to %s: %w", name, cgroup, err)
			}
			p.links = append(p.links, l)
		}
	}
	if p.held, err = link.AttachIter(link.IterOptions{Program: p.coll.Programs[connmapProgHeld]}); err != nil || p.NoVisits != nil {
		return err
	}
	for name, l := range map[string]**link.Iter{connmapProgExists: &p.exists, connmapProgChanged: &p.changed} {
		if *l, err = link.AttachIter(link.IterOptions{Program: p.coll.Programs[name], Map: p.coll.Maps[connmapMapSockets]}); err != nil {
			return err
		}
	}
	p.ends, err = link.AttachIter(link.IterOptions{Program: p.coll.Programs[connmapProgEndFlows], Map: p.coll.Maps[connmapMapEnding]})
	return err
}

// watch prepares Wait.
func (p *Probe) watch(ring int) error {
	fd, err := unix.FcntlInt(uintptr(ring), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return err
	}
	p.file = os.NewFile(uintptr(fd), "ring of events")
	p.poll, err = p.file.SyscallConn()
	return err
}

// Close detaches the programs. Next, Sleep and Wait return an error then.
func (p *Probe) Close() error {
	var errs []error
	if p.file != nil {
		errs = append(errs, p.file.Close())
	}
	for _, r := range []*ringbuf.Reader{p.ring, p.grown} {
		if r != nil {
			errs = append(errs, r.Close())
		}
	}
	for _, l := range p.links {
		errs = append(errs, l.Close())
	}
	if p.frames != nil {
		errs = append(errs, p.frames.Close())
	}
	if p.queued != nil {
		errs = append(errs, p.queued.Close())
	}
	for _, l := range []*link.Iter{p.held, p.exists, p.changed, p.ends} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	p.coll.Close()
	return errors.Join(errs...)
}

// TestPort has the programs report connections on loopback from or to a port,
// whatever the options; zero ends it.
func (p *Probe) TestPort(port uint16) error {
	return p.coll.Variables[connmapVarTestPort].Set(port<<8 | port>>8)
}

// Drops reports whether datagrams that a socket has no room for are seen: they are not
// counted as received.
func (p *Probe) Drops() bool { return p.coll.Programs[connmapProgDropped] != nil }

// Unseen returns how many changes of state the program for them was not called
// for, because it was running already.
func (p *Probe) Unseen() (uint64, error) {
	s, err := p.coll.Programs[connmapProgSetState].Stats()
	if err != nil {
		return 0, err
	}
	return s.RecursionMisses, nil
}

// Lost returns how many connections since Open nothing was told of, how many other events
// the ring had no room for, and how many flows had no room. Those of one socket that come
// between two calls of Flows count as one.
func (p *Probe) Lost() (lost, late, flows uint64, err error) {
	err = errors.Join(p.coll.Variables[connmapVarLost].Get(&lost), p.coll.Variables[connmapVarLate].Get(&late), p.coll.Variables[connmapVarCrowded].Get(&flows))
	return lost, late, flows, err
}

// ErrEmpty is returned by Next if nothing was told.
var ErrEmpty = os.ErrDeadlineExceeded

// Unread reports whether the ring holds something, such as what a program is writing at
// the moment: what stands behind that Next does not return before.
func (p *Probe) Unread() bool { return p.ring.AvailableBytes() > 0 }

// Next returns what the programs have told, one thing at a time, of which one
// pointer is nil. The Socket is valid until the next call. It does not wait, but
// returns ErrEmpty.
func (p *Probe) Next() (*Socket, *Process, error) {
	for {
		if err := p.ring.ReadInto(&p.record); err != nil {
			return nil, nil, err
		}
		if p.socket.parse(p.record.RawSample) {
			return &p.socket, nil, nil
		}
		if proc, ok := parseProcess(p.record.RawSample); ok {
			return nil, &proc, nil
		}
	}
}

// Sleep sets until when Wait may wait; zero: until there is something.
func (p *Probe) Sleep(until time.Time) error { return p.file.SetReadDeadline(until) }

// Wake ends Wait, now or, if it is not called yet, when it is, unless Sleep is
// called in between. After Close it does nothing.
func (p *Probe) Wake() { p.file.SetReadDeadline(time.Unix(1, 0)) }

// Wait waits until the programs tell something, and not beyond what was said by
// Sleep and Wake.
//
// The programs wake it up at most every [Delay]: who has received something
// must come back after that time.
func (p *Probe) Wait() error {
	err := p.poll.Read(func(uintptr) bool { return p.ring.AvailableBytes() > 0 })
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// Held calls visit for each TCP connection, listener, and socket of another
// protocol, once for each process that holds it.
func (p *Probe) Held(visit func(*Socket)) error {
	return p.iterate(p.held, socketSize, func(b []byte) {
		if p.socket.parse(b) {
			visit(&p.socket)
		}
	})
}

// Changes calls visit for each socket of which something has changed since the last
// call, and was told of before. It returns how many TCP connections there are. Like
// Audit, it needs NoVisits to be nil.
func (p *Probe) Changes(visit func(*Change)) (present int, err error) {
	v := p.coll.Variables[connmapVarPresent]
	p.visit++
	if err := errors.Join(v.Set(uint64(0)), p.coll.Variables[connmapVarVisit].Set(p.visit)); err != nil {
		return 0, fmt.Errorf("list of sockets: %w", err)
	}
	err = p.iterate(p.changed, changeSize, func(b []byte) {
		if p.change.parse(b) {
			visit(&p.change)
		}
	})
	var n uint64
	err = errors.Join(err, v.Get(&n))
	return int(n), err
}

func (p *Probe) iterate(l *link.Iter, size int, visit func([]byte)) error {
	r, err := l.Open()
	if err != nil {
		return fmt.Errorf("list of sockets: %w", err)
	}
	defer r.Close()
	return records(r, p.buf, size, visit)
}

// records calls visit for each record of a size that r holds.
func records(r io.Reader, buf []byte, size int, visit func([]byte)) error {
	n, idle := 0, 0
	for {
		m, err := r.Read(buf[n:])
		n += m
		for at := 0; ; at += size {
			if n-at < size {
				n = copy(buf, buf[at:n])
				break
			}
			visit(buf[at : at+size])
		}
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, unix.EAGAIN) && idle < 1000:
			// After a million files that are no sockets the kernel takes a break.
			idle++
			runtime.Gosched()
		case err != nil:
			return fmt.Errorf("list of sockets: %w", err)
		}
	}
}

// Drain calls visit for each event that was in the ring when it was called. It does
// not wait for the ring to be empty, since in a storm that may never happen.
func (p *Probe) Drain(visit func(*Socket, *Process)) error {
	for left := p.ring.AvailableBytes(); left > 0; {
		if err := p.ring.ReadInto(&p.record); err != nil {
			return err
		}
		left -= recordSize(len(p.record.RawSample))
		if p.socket.parse(p.record.RawSample) {
			visit(&p.socket, nil)
		} else if proc, ok := parseProcess(p.record.RawSample); ok {
			visit(nil, &proc)
		}
	}
	return nil
}

// recordSize is how much of the ring a record takes: a header and its data, rounded up.
func recordSize(n int) int { return 8 + (n+7)&^7 }

// Audit asks the kernel about sockets by their cookies: gone are those that do
// not exist any more, closed the TCP sockets that do exist but are not connected
// any more. It is exact with up to a million sockets on the machine. Events
// about these sockets are in the ring when Audit returns; call Drain to read them.
func (p *Probe) Audit(cookies []uint64) (gone, closed []uint64, err error) {
	m := p.coll.Maps[connmapMapSuspects]
	for chunk := range slices.Chunk(cookies, int(m.MaxEntries())) {
		for _, cookie := range chunk {
			if err := m.Put(cookie, uint64(0)); err != nil {
				return gone, closed, fmt.Errorf("list of sockets: %w", err)
			}
		}
		err := p.iterate(p.exists, 1, func([]byte) {})
		for _, cookie := range chunk {
			var isClosed uint64
			if !take(m, &cookie, &isClosed) || err != nil {
				continue
			}
			if isClosed != 0 {
				closed = append(closed, cookie)
			} else {
				gone = append(gone, cookie)
			}
		}
		if err != nil {
			return gone, closed, err
		}
	}
	return gone, closed, nil
}

// take removes an entry of a map, and reports whether there was one.
func take(m *ebpf.Map, key, value any) bool {
	err := m.LookupAndDelete(key, value)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		// Before Linux 5.14.
		if err = m.Lookup(key, value); err == nil {
			err = m.Delete(key)
		}
	}
	return err == nil
}

// cgroupRoot returns where the hierarchy of cgroups, version 2, is mounted.
func cgroupRoot() (string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	dir, whole := cgroupMount(b)
	if dir == "" {
		return "", fmt.Errorf("%w: no cgroup2 file system is mounted", errors.ErrUnsupported)
	}
	// A cgroup namespace shows its part as if it were all.
	if ino, err := inode(dir); err != nil || ino != cgroupRootInode || !whole {
		return "", fmt.Errorf("%w: only a part of the cgroup2 hierarchy is mounted here, as in a container", errors.ErrUnsupported)
	}
	return dir, nil
}

const (
	cgroupRootInode = 1          // of kernfs
	hostPIDsInode   = 0xeffffffc // PROC_PID_INIT_INO of linux/proc_ns.h
)

// hostPIDs reports whether processes have the numbers here that the kernel knows
// them by.
func hostPIDs() bool {
	ino, err := inode("/proc/self/ns/pid")
	return err != nil || ino == hostPIDsInode
}

func inode(name string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Stat(name, &st)
	return st.Ino, err
}

// missingCapabilities names those of the three that this process lacks.
func missingCapabilities() (names string, known bool) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "", false
	}
	return missing(b)
}
