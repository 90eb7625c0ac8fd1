package conntrack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const ownerTries = 5 // walks of /proc for a socket: at once, then 1, 4, 16 and 64 seconds after the last

// A process is a Process that is known to hold a connection.
type process struct {
	Process
	gen  uint64 // snapshot that saw a connection of it last
	gone bool   // it has ended
}

// holders are the owners found in a proc file system. It makes
// the system calls itself because a walk reads every link of every process:
// package os would cost an allocation and a lookup by path for each.
type holders struct {
	root   int // directory
	usable bool
	denied bool // a process could not be looked at
	known  map[int32]*process
	pids   []int32
	dir    []byte // entries of a directory
	file   []byte // contents of a file or link
}

func (o *holders) open(name string) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	*o = holders{root: fd, usable: true, known: make(map[int32]*process), dir: make([]byte, 32<<10), file: make([]byte, 8<<10)}
	return nil
}

func (o *holders) close() {
	if o.usable {
		unix.Close(o.root)
		o.usable = false
	}
}

func (o *holders) of(pid int32) Process {
	if p := o.known[pid]; p != nil {
		return p.Process
	}
	return Process{}
}

func (o *holders) limited() string {
	if o.denied {
		return "names of other users' programs need root, or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
	}
	return ""
}

// find gives each entry of p.live its process. It walks /proc only if
// there is a socket that it has not looked for before, or not for a while.
func (o *holders) find(p *poller) {
	due := 0
	for _, i := range p.live {
		e := p.entry(i)
		if owner := o.known[e.pid]; owner != nil {
			owner.gen = p.gen
		}
		if p.due(e) {
			due++
		}
	}
	if o.forget(p.gen) {
		due = 0
		for _, i := range p.live {
			e := p.entry(i)
			if owner := o.known[e.pid]; e.found && owner.gone {
				e.found, e.tries, e.retry = false, 0, 0
			}
			if p.due(e) {
				due++
			}
		}
	}
	if due == 0 || !o.usable {
		return
	}

	// The walk also looks for sockets that are not due: it costs nothing more.
	// It ends when those are found that are.
	want := make(map[uint32]int32, due)
	for _, i := range p.live {
		e := p.entry(i)
		if e.found || e.inode == 0 {
			continue
		}
		e.next = -1
		if other, ok := want[e.inode]; ok {
			e.next = other
		}
		want[e.inode] = i
	}
	o.walk(func(pid int32, inode uint32) bool {
		i, ok := want[inode]
		if !ok {
			return true
		}
		for e := p.entry(i); !e.found; e = p.entry(i) {
			if p.due(e) {
				due--
			}
			o.process(pid).gen = p.gen
			e.found, e.pid = true, pid
			if i = e.next; i < 0 {
				break
			}
		}
		return due > 0
	})
	for _, i := range p.live {
		if e := p.entry(i); p.due(e) {
			e.retry = p.now.Add(time.Second << (2 * e.tries)).UnixNano()
			e.tries++
		}
	}
}

// due says whether e is worth a walk of /proc.
func (p *poller) due(e *entry) bool {
	return !e.found && e.inode != 0 && e.tries < ownerTries && p.now.UnixNano() >= e.retry
}

// forget drops the processes without connections in snapshot gen, so that a
// process that gets the number of an earlier one is read anew, and marks those
// that have ended. It reports whether there are any new ones of the latter.
func (o *holders) forget(gen uint64) (gone bool) {
	var name [12]byte
	for pid, p := range o.known {
		if p.gen != gen {
			delete(o.known, pid)
		} else if !p.gone && !accessible(o.root, append(strconv.AppendInt(name[:0], int64(pid), 10), 0)) {
			p.gone, gone = true, true
		}
	}
	return gone
}

// walk calls found for each socket of each process until found returns false.
// It begins with the processes known to hold connections, because most new
// connections are theirs too, and goes on with the youngest.
func (o *holders) walk(found func(pid int32, inode uint32) bool) {
	if _, err := unix.Seek(o.root, 0, unix.SEEK_SET); err != nil {
		return
	}
	o.pids = o.pids[:0]
	o.entries(o.root, func(name []byte) bool {
		if pid, ok := number(name); ok && pid <= 1<<31-1 {
			o.pids = append(o.pids, int32(pid))
		}
		return true
	})
	for _, known := range [...]bool{true, false} {
		for i := range slices.Backward(o.pids) {
			pid := o.pids[i]
			if _, ok := o.known[pid]; pid < 0 || ok != known {
				continue
			}
			o.pids[i] = -1 // found may make it known
			if !o.sockets(pid, found) {
				return
			}
		}
	}
}

// sockets calls found for each socket of a process, and reports whether found
// never returned false.
func (o *holders) sockets(pid int32, found func(pid int32, inode uint32) bool) bool {
	fd, err := unix.Openat(o.root, strconv.Itoa(int(pid))+"/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		o.deny(err)
		return true
	}
	defer unix.Close(fd)
	var link [64]byte
	return o.entries(fd, func(name []byte) bool {
		n, err := readlink(fd, name, link[:])
		if err != nil {
			o.deny(err)
			return true
		}
		inode, ok := inodeOf(link[:n], "socket")
		return !ok || found(pid, inode)
	})
}

func (o *holders) deny(err error) {
	if err == unix.EACCES || err == unix.EPERM {
		o.denied = true
	}
}

// entries calls visit with the names in a directory, each followed by a zero
// byte in its capacity, until visit returns false.
func (o *holders) entries(fd int, visit func(name []byte) bool) bool {
	for {
		n, err := unix.Getdents(fd, o.dir)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return true
		}
		for b := o.dir[:n]; len(b) > 0; {
			var name []byte
			name, b = dirent(b)
			if len(name) > 0 && !visit(name) {
				return false
			}
		}
	}
}

// process returns what is known of a process, reading it if it is new. Fields
// that cannot be read stay empty.
func (o *holders) process(pid int32) *process {
	if p := o.known[pid]; p != nil && !p.gone {
		return p
	}
	p := &process{Process: Process{PID: int(pid)}}
	dir := strconv.Itoa(int(pid))
	p.Comm = strings.TrimSuffix(string(o.read(dir+"/comm")), "\n")
	p.Container = container(o.read(dir + "/cgroup"))
	if n, err := unix.Readlinkat(o.root, dir+"/exe", o.file); err == nil {
		// A program that was replaced by an update is still that program.
		p.Exe = strings.TrimSuffix(string(o.file[:n]), " (deleted)")
	} else {
		o.deny(err)
	}
	o.known[pid] = p
	return p
}

// read returns the beginning of a file, valid until the next call.
func (o *holders) read(name string) []byte {
	fd, err := unix.Openat(o.root, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	n := 0
	for n < len(o.file) {
		m, err := unix.Read(fd, o.file[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || m <= 0 {
			break
		}
		n += m
	}
	return o.file[:n]
}

// readlink reads the link name, which must be followed by a zero byte.
func readlink(dir int, name, link []byte) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(name))),
		uintptr(unsafe.Pointer(unsafe.SliceData(link))), uintptr(len(link)), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// accessible says whether name, which must end with a zero byte, exists.
func accessible(dir int, name []byte) bool {
	_, _, errno := unix.Syscall(unix.SYS_FACCESSAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(name))), unix.F_OK)
	return errno == 0
}

// dirent returns the name of the first struct linux_dirent64 in b, followed by
// a zero byte in its capacity, and what comes after it. The name is empty if
// there is none.
func dirent(b []byte) (name, rest []byte) {
	const header = int(unsafe.Offsetof(unix.Dirent{}.Name))
	if len(b) < header {
		return nil, nil
	}
	size := int(binary.NativeEndian.Uint16(b[unsafe.Offsetof(unix.Dirent{}.Reclen):]))
	if size < header || size > len(b) {
		return nil, nil
	}
	name, rest = b[header:size], b[size:]
	end := bytes.IndexByte(name, 0)
	if end < 0 {
		return nil, rest
	}
	return name[:end], rest
}

// inodeOf returns the number in a link such as "socket:[number]".
func inodeOf(link []byte, kind string) (uint32, bool) {
	size := len(kind) + len(":[")
	if len(link) <= size || string(link[:len(kind)]) != kind || string(link[len(kind):size]) != ":[" || link[len(link)-1] != ']' {
		return 0, false
	}
	n, ok := number(link[size : len(link)-1])
	return uint32(n), ok && n <= 1<<32-1
}

// number reads a decimal number of at most 18 digits.
func number(b []byte) (n uint64, ok bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

// container finds the ID of the innermost container in a /proc/PID/cgroup: the
// last run of exactly 64 hexadecimal digits in the first line with one, as in
//
//	0::/system.slice/docker-0123...cdef.scope
//	4:memory:/kubepods/besteffort/pod0123.../0123...cdef
func container(cgroup []byte) string {
	for line := range bytes.Lines(cgroup) {
		for end := len(line); end > 0; {
			start := end
			for start > 0 && hexDigit(line[start-1]) {
				start--
			}
			if end-start == 64 {
				return string(line[start:end])
			}
			end = min(start, end-1)
		}
	}
	return ""
}

func hexDigit(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' }

// seesAll says whether a process with this /proc/PID/status may look at the
// files of all others.
func seesAll(status []byte) bool {
	for line := range bytes.Lines(status) {
		if digits, ok := bytes.CutPrefix(line, []byte("CapEff:")); ok {
			caps, err := strconv.ParseUint(string(bytes.TrimSpace(digits)), 16, 64)
			has := func(c uint) bool { return caps&(1<<c) != 0 }
			return err == nil && has(unix.CAP_SYS_PTRACE) && (has(unix.CAP_DAC_READ_SEARCH) || has(unix.CAP_DAC_OVERRIDE))
		}
	}
	return false
}
