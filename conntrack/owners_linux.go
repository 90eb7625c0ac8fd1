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

const ownerTries = 5 // walks of /proc for one socket: at once, then 1, 4, 16 and 64 seconds after the last

// A process is a Process that holds a connection.
type process struct {
	Process
	gen  uint64 // last snapshot with a connection of it
	gone bool   // it has ended
}

// procOwners finds owners in a proc file system. A walk reads every link of every process, so
// it makes the system calls itself. Package os would cost an allocation and a lookup by path
// for each.
type procOwners struct {
	root   int // directory
	usable bool
	denied bool // a process could not be inspected
	byPID  map[int32]*process
	pids   []int32
	dir    []byte // entries of a directory
	file   []byte // contents of a file or link
}

func (o *procOwners) open(name string) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	*o = procOwners{root: fd, usable: true, byPID: make(map[int32]*process), dir: make([]byte, 32<<10), file: make([]byte, 8<<10)}
	return nil
}

func (o *procOwners) close() {
	if o.usable {
		unix.Close(o.root)
		o.usable = false
	}
}

func (o *procOwners) of(pid int32) Process {
	if p := o.byPID[pid]; p != nil {
		return p.Process
	}
	return Process{}
}

func (o *procOwners) limited() string {
	if o.denied {
		return "names of other users' programs need root, or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
	}
	return ""
}

// find sets the process of each entry of p.live. It walks /proc only if a socket without an
// owner is due: one that is new, or was not searched for in a while.
func (o *procOwners) find(p *poller) {
	due := 0
	for _, i := range p.live {
		e := p.entry(i)
		if owner := o.byPID[e.pid]; owner != nil {
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
			if owner := o.byPID[e.pid]; e.found && owner.gone {
				e.found, e.tries, e.nextWalk = false, 0, 0
			}
			if p.due(e) {
				due++
			}
		}
	}
	if due == 0 || !o.usable {
		return
	}

	// The walk also searches for sockets that are not due, which costs nothing more. It
	// ends when all that are due are found.
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
			e.nextWalk = p.now.Add(time.Second << (2 * e.tries)).UnixNano()
			e.tries++
		}
	}
}

// due reports whether e is worth a walk of /proc.
func (p *poller) due(e *entry) bool {
	return !e.found && e.inode != 0 && e.tries < ownerTries && p.now.UnixNano() >= e.nextWalk
}

// forget removes the processes without connections in snapshot gen: their PID may be reused.
// It marks those that have ended, and reports whether there are new ones of these.
func (o *procOwners) forget(gen uint64) (gone bool) {
	var name [12]byte
	for pid, p := range o.byPID {
		if p.gen != gen {
			delete(o.byPID, pid)
		} else if !p.gone && !accessible(o.root, append(strconv.AppendInt(name[:0], int64(pid), 10), 0)) {
			p.gone, gone = true, true
		}
	}
	return gone
}

// walk calls found for each socket of each process until found returns false. It begins with
// processes known to hold connections, which open most new ones too, and goes on with the
// youngest.
func (o *procOwners) walk(found func(pid int32, inode uint32) bool) {
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
			if _, ok := o.byPID[pid]; pid < 0 || ok != known {
				continue
			}
			o.pids[i] = -1 // found may add it to known
			if !o.sockets(pid, found) {
				return
			}
		}
	}
}

// sockets calls found for each socket of a process until found returns false, and reports
// whether it never did.
func (o *procOwners) sockets(pid int32, found func(pid int32, inode uint32) bool) bool {
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

func (o *procOwners) deny(err error) {
	if err == unix.EACCES || err == unix.EPERM {
		o.denied = true
	}
}

// entries calls visit with each name in a directory until visit returns false. In its capacity
// a name is followed by a zero byte.
func (o *procOwners) entries(fd int, visit func(name []byte) bool) bool {
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

// process returns a known process, or reads a new one. Fields that cannot be read are empty.
func (o *procOwners) process(pid int32) *process {
	if p := o.byPID[pid]; p != nil && !p.gone {
		return p
	}
	p := &process{Process: Process{PID: int(pid)}}
	dir := strconv.Itoa(int(pid))
	p.Comm = strings.TrimSuffix(string(o.read(dir+"/comm")), "\n")
	p.Container = container(o.read(dir + "/cgroup"))
	if n, err := unix.Readlinkat(o.root, dir+"/exe", o.file); err == nil {
		// An update replaces the file of a program that runs.
		p.Exe = strings.TrimSuffix(string(o.file[:n]), " (deleted)")
	} else {
		o.deny(err)
	}
	o.byPID[pid] = p
	return p
}

// read returns the beginning of a file, valid until the next call.
func (o *procOwners) read(name string) []byte {
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

// readlink reads the link name, which a zero byte must follow.
func readlink(dir int, name, link []byte) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(name))),
		uintptr(unsafe.Pointer(unsafe.SliceData(link))), uintptr(len(link)), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// accessible reports whether name exists, which must end with a zero byte.
func accessible(dir int, name []byte) bool {
	_, _, errno := unix.Syscall(unix.SYS_FACCESSAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(name))), unix.F_OK)
	return errno == 0
}

// dirent returns the name of the first struct linux_dirent64 in b, and the rest of b. In its
// capacity the name is followed by a zero byte. It is empty if there is none.
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

// container returns the ID of the innermost container in a /proc/PID/cgroup: the last run of
// exactly 64 hexadecimal digits in the first line that has one, as in
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

// seesAll reports whether a process with this /proc/PID/status may inspect the files of all
// others.
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
