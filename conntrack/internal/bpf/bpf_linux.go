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

// Options configure a Probe.
type Options struct {
	Loopback bool // also report connections to loopback addresses
	Names    bool // also report what names peers; without it no payload is read
	Ring     int  // bytes of the ring of events, a power of two and a multiple of the page size; zero: 1 MiB
	NoVisits bool // for tests: act as on a kernel whose programs cannot visit sockets
}

// A Probe loads the kernel programs and reads what they report. Wake may be called at any
// time, the other methods by one goroutine at a time.
type Probe struct {
	LengthErr error // why sends and receives are not seen; nil: they are
	PacketErr error // why packets are not seen; nil: they are
	VisitErr  error // why Changes and Audit cannot visit sockets; nil: they can
	NamesErr  error // why names of peers are not seen; nil: they are, or nobody has asked for them

	lengths []string // programs that see sends and receives
	drops   bool     // datagrams that find no room in their socket are seen
	coll    *ebpf.Collection
	links   []link.Link // kept, since the garbage collector detaches an unreferenced link
	held    *link.Iter
	exists  *link.Iter
	changed *link.Iter
	ends    *link.Iter
	queued  *ebpf.Program // see Frames
	frames  link.Link     // nil: no packet socket sends
	ring    *ringbuf.Reader
	grown   *ringbuf.Reader // keys of flows
	// Wait uses Go's poller through this file. A goroutine in a system call would keep a
	// thread busy.
	file *os.File
	poll syscall.RawConn

	record  ringbuf.Record
	socket  Socket
	payload Payload
	change  Change
	buf     []byte // of iterators
	pass    uint32
	visit   uint32
	keys    []connmapFlowKey
	values  []connmapFlow
	value   connmapFlow
	indexes []uint32 // 0, 1, 2 and so on: keys in the map of flows to end

	queuedErr         error // why the program of Frames could not be loaded
	framesUnsupported bool  // the kernel refuses it, and Frames has returned that error
}

// Programs that some kernels lack, or refuse without a capability.
var (
	lengthPrograms = []string{connmapProgSendLength, connmapProgRecvLength}
	visitPrograms  = []string{connmapProgChanged, connmapProgExists, connmapProgEndFlows}
	// They replace lengthPrograms if the kernel lacks its tracepoints.
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

// Open loads and attaches the programs. It works without those that see packets, that see sends
// and receives, or that visit sockets; the Probe then says why. The error wraps
// [errors.ErrUnsupported] if the kernel lacks something, and [fs.ErrPermission] if it denies
// something.
func Open(o Options) (*Probe, error) {
	if !hostPIDs() {
		return nil, fmt.Errorf("%w: this process is in a PID namespace of its own, as in a container: use the host's (docker run --pid=host)", errors.ErrUnsupported)
	}
	cgroup, unmount, cgroupErr := cgroupRoot()
	defer unmount()
	p := &Probe{PacketErr: cgroupErr, VisitErr: visitSupport(o), buf: make([]byte, 64<<10), pass: 1}
	p.lengths, p.drops = tracingPrograms()
	err := p.start(o, cgroup)
	if err != nil && o.Names {
		o.Names, p.NamesErr = false, err
		err = p.start(o, cgroup)
	}
	if err != nil && p.PacketErr == nil {
		p.PacketErr = err
		err = p.start(o, cgroup)
	}
	if err != nil {
		p.LengthErr, p.PacketErr = err, cgroupErr
		if err = p.start(o, cgroup); err != nil && p.PacketErr == nil {
			p.PacketErr = err
			err = p.start(o, cgroup)
		}
	}
	lacks, _ := missingCapabilities()
	if err != nil {
		return nil, explain(err, lacks, firstLinux)
	}
	if p.framesUnsupported = !p.SeesFrames(); !p.framesUnsupported {
		p.queued, p.queuedErr = p.loadFrames()
	}
	if p.LengthErr != nil {
		p.LengthErr = explain(p.LengthErr, lacks, firstLinuxLengths)
	}
	if p.PacketErr != nil {
		p.PacketErr = explain(p.PacketErr, lacks, firstLinuxPackets)
	}
	if p.VisitErr != nil {
		p.VisitErr = explain(p.VisitErr, lacks, firstLinux)
	}
	if p.PacketErr != nil && o.Names {
		p.NamesErr = p.PacketErr
	} else if p.NamesErr != nil {
		p.NamesErr = explain(p.NamesErr, lacks, firstLinuxPackets)
	}
	return p, nil
}

// visitSupport returns why programs cannot visit the elements of a map, or nil. Some kernels that
// are locked down refuse this to everybody.
func visitSupport(o Options) error {
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

// tracingPrograms returns the programs that see sends and receives in this kernel. drops reports
// whether the kernel names the datagram that found no room in a socket, as since Linux 6.10.
func tracingPrograms() (lengths []string, drops bool) {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return lengthPrograms, false // Open will return the error
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

// start loads and attaches the programs that have not failed so far.
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

// spec returns the programs that have not failed so far.
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
	set(connmapVarWithNames, o.Names)
	set(connmapVarByPacket, p.PacketErr == nil)
	set(connmapVarByLength, p.LengthErr == nil)
	if err != nil {
		return nil, err
	}
	delete(spec.Programs, connmapProgQueued) // see Frames
	if !p.drops || p.PacketErr != nil {
		delete(spec.Programs, connmapProgDropped)
	}
	for _, name := range slices.Concat(lengthPrograms, functionPrograms) {
		if p.LengthErr != nil || !slices.Contains(p.lengths, name) {
			delete(spec.Programs, name)
		}
	}
	if p.PacketErr != nil {
		for name := range packetPrograms {
			delete(spec.Programs, name)
		}
	}
	if p.VisitErr != nil {
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
	// Lengths come first: once states are seen, the first send of a connection must be
	// seen too.
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
	if p.held, err = link.AttachIter(link.IterOptions{Program: p.coll.Programs[connmapProgHeld]}); err != nil || p.VisitErr != nil {
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

// watch opens the file that Wait uses.
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

// Close detaches the programs. Next, Sleep and Wait then return an error.
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

// TestPort makes the programs report loopback connections from or to a port, whatever the
// options are; zero ends that.
func (p *Probe) TestPort(port uint16) error {
	return p.coll.Variables[connmapVarTestPort].Set(port<<8 | port>>8)
}

// Drops reports whether the programs see datagrams that find no room in their socket. These do
// not count as received.
func (p *Probe) Drops() bool { return p.coll.Programs[connmapProgDropped] != nil }

// Unseen returns how often the program for changes of state was not called because it was
// running already.
func (p *Probe) Unseen() (uint64, error) {
	s, err := p.coll.Programs[connmapProgSetState].Stats()
	if err != nil {
		return 0, err
	}
	return s.RecursionMisses, nil
}

// Lost returns how many connections since Open were never reported, how many other events
// found the ring full, and how many flows had no room. Flows of one socket count once between
// two calls of Flows.
func (p *Probe) Lost() (lost, late, flows uint64, err error) {
	err = errors.Join(p.coll.Variables[connmapVarLost].Get(&lost), p.coll.Variables[connmapVarLate].Get(&late), p.coll.Variables[connmapVarCrowded].Get(&flows))
	return lost, late, flows, err
}

// LostNames returns how many packets that name peers found the ring full since Open.
func (p *Probe) LostNames() (n uint64, err error) {
	err = p.coll.Variables[connmapVarLostPayloads].Get(&n)
	return n, err
}

// ErrEmpty is returned by Next if there is no event.
var ErrEmpty = os.ErrDeadlineExceeded

// Unread reports whether the ring holds an event, such as one that a program is writing.
// Next returns the events behind that one only when it is complete.
func (p *Probe) Unread() bool { return p.ring.AvailableBytes() > 0 }

// An Event is one of these; the others are nil. Socket and Payload are valid until the next is read.
type Event struct {
	Socket  *Socket
	Process *Process
	Payload *Payload
}

// Next returns the next event. It does not wait, but returns ErrEmpty.
func (p *Probe) Next() (Event, error) {
	for {
		if err := p.ring.ReadInto(&p.record); err != nil {
			return Event{}, err
		}
		if e, ok := p.event(p.record.RawSample); ok {
			return e, nil
		}
	}
}

func (p *Probe) event(b []byte) (Event, bool) {
	if p.socket.parse(b) {
		return Event{Socket: &p.socket}, true
	}
	if p.payload.parse(b) {
		return Event{Payload: &p.payload}, true
	}
	proc, ok := parseProcess(b)
	return Event{Process: &proc}, ok
}

// Sleep sets the time until which Wait waits; zero: until there is an event.
func (p *Probe) Sleep(until time.Time) error { return p.file.SetReadDeadline(until) }

// Wake ends the present Wait, or the next one unless Sleep is called before it. After Close it
// does nothing.
func (p *Probe) Wake() { p.file.SetReadDeadline(time.Unix(1, 0)) }

// Wait waits for an event, until the time set by Sleep or Wake.
//
// The programs wake it at most once every [Delay]: after an event, the caller must read the
// ring again after that time.
func (p *Probe) Wait() error {
	err := p.poll.Read(func(uintptr) bool { return p.ring.AvailableBytes() > 0 })
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// Held calls visit for each TCP connection, listener and socket of another protocol, once for
// each process that holds it.
func (p *Probe) Held(visit func(*Socket)) error {
	return p.iterate(p.held, socketSize, func(b []byte) {
		if p.socket.parse(b) {
			visit(&p.socket)
		}
	})
}

// Changes calls visit for each reported socket that has changed since the last call. It
// returns the number of TCP connections in the kernel. Like Audit, it needs programs that can
// visit sockets.
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

// records splits what r yields into records of the given size, and calls visit for each.
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
			// After a million files that are not sockets the kernel pauses.
			idle++
			runtime.Gosched()
		case err != nil:
			return fmt.Errorf("list of sockets: %w", err)
		}
	}
}

// Drain calls visit for each event that was in the ring at the call. It does not wait until
// the ring is empty, which may never happen in a storm of events.
func (p *Probe) Drain(visit func(Event)) error {
	for left := p.ring.AvailableBytes(); left > 0; {
		if err := p.ring.ReadInto(&p.record); err != nil {
			return err
		}
		left -= recordSize(len(p.record.RawSample))
		if e, ok := p.event(p.record.RawSample); ok {
			visit(e)
		}
	}
	return nil
}

// recordSize returns the bytes of a record in the ring: a header and its data, rounded up.
func recordSize(n int) int { return 8 + (n+7)&^7 }

// Audit checks sockets by their cookies. gone are those that do not exist any more, closed the
// TCP sockets that exist but are not connected any more. It is exact with up to a million
// sockets on the machine. Events about these sockets are in the ring when Audit returns: call
// Drain to read them.
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
			if !lookupAndDelete(m, &cookie, &isClosed) || err != nil {
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

// lookupAndDelete removes an entry of a map, and reports whether it existed.
func lookupAndDelete(m *ebpf.Map, key, value any) bool {
	err := m.LookupAndDelete(key, value)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		// Before Linux 5.14 some maps lack LookupAndDelete.
		if err = m.Lookup(key, value); err == nil {
			err = m.Delete(key)
		}
	}
	return err == nil
}

// cgroupRoot returns the mount point of the cgroup2 hierarchy. Where it is not mounted as a whole,
// that of a mount of this process's own, if it may have one, until unmount is called.
func cgroupRoot() (dir string, unmount func(), err error) {
	unmount = func() {}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", unmount, err
	}
	dir, complete := cgroupMount(b)
	// In a cgroup namespace a part of the hierarchy looks like the whole.
	if complete && isCgroupRoot(dir) {
		return dir, unmount, nil
	}
	own, err := mountCgroup()
	if err == nil {
		unmount = func() { own.Close() }
		if name := fmt.Sprintf("/proc/self/fd/%d", own.Fd()); isCgroupRoot(name) {
			return name, unmount, nil
		}
	}
	if dir == "" && err != nil {
		return "", unmount, fmt.Errorf("%w: no cgroup2 file system is mounted, and none can be: %w", errors.ErrUnsupported, err)
	}
	return "", unmount, fmt.Errorf("%w: only a part of the cgroup2 hierarchy is mounted here, as in a container", errors.ErrUnsupported)
}

func isCgroupRoot(dir string) bool {
	ino, err := inode(dir)
	return err == nil && ino == cgroupRootInode
}

// mountCgroup mounts a cgroup2 file system that nobody else can see, until the file is closed. It
// needs CAP_SYS_ADMIN.
func mountCgroup() (*os.File, error) {
	fs, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, os.NewSyscallError("fsconfig", err)
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	return os.NewFile(uintptr(root), "own cgroup2 file system"), nil
}

const (
	cgroupRootInode = 1          // of kernfs
	hostPIDsInode   = 0xeffffffc // PROC_PID_INIT_INO of linux/proc_ns.h
)

// hostPIDs reports whether this process is in the PID namespace of the host, whose numbers the
// kernel programs report.
func hostPIDs() bool {
	ino, err := inode("/proc/self/ns/pid")
	return err != nil || ino == hostPIDsInode
}

func inode(name string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Stat(name, &st)
	return st.Ino, err
}

// missingCapabilities names those of the three needed capabilities that this process lacks.
func missingCapabilities() (names string, known bool) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "", false
	}
	return missing(b)
}
