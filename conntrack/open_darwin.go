package conntrack

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// candidates are in the order in which Auto tries them.
var candidates = []candidate{{PCBList, openPCBList}}

const listTries = 4 // how often a list is requested that grows meanwhile

// A pcbLists is the lister of the backend PCBList.
type pcbLists struct{}

func openPCBList(o Options) (backend, error) {
	var l pcbLists
	if err := l.list(context.Background(), func(Proto, *sock) {}); err != nil {
		return nil, err
	}
	w := &listedOwners{describe: describeProcess, started: processStarted, deniedNote: "macOS does not report the paths of some programs"}
	return newPoller(PCBList, o, l, w, "UDP sockets without a fixed peer, the bytes of UDP and other protocols", "bytes and round-trip times are not read on macOS"), nil
}

func (pcbLists) close() error { return nil }

func (pcbLists) list(ctx context.Context, add func(Proto, *sock)) error {
	for _, proto := range [...]Proto{TCP, UDP} {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := "net.inet." + proto.String() + ".pcblist_n"
		b, err := unix.SysctlRaw(name)
		for try := 1; err == unix.ENOMEM && try < listTries; try++ {
			b, err = unix.SysctlRaw(name)
		}
		if err == nil {
			err = parsePCBList(b, proto, func(s *sock) { add(proto, s) })
		}
		if errors.Is(err, unix.ENOENT) {
			err = fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// processStarted returns when a process started, in microseconds.
func processStarted(pid int32) int64 {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", int(pid))
	if err != nil || info.Proc.P_pid != pid {
		return 0
	}
	return info.Proc.P_starttime.Sec*1e6 + int64(info.Proc.P_starttime.Usec)
}

// describeProcess reads the path from libSystem, and the name, of at most 16 bytes, from the
// kernel's table of processes.
func describeProcess(pid int32) (p Process, denied bool) {
	p.PID = int(pid)
	path := make([]byte, maxProcPath)
	n, _, _ := syscall_syscall(procPIDPathAddr, uintptr(pid), uintptr(unsafe.Pointer(&path[0])), uintptr(len(path)))
	if n := int32(n); n > 0 && int(n) <= len(path) {
		p.Exe = string(path[:n])
	}
	if info, err := unix.SysctlKinfoProc("kern.proc.pid", int(pid)); err == nil && info.Proc.P_pid == pid {
		p.Comm = unix.ByteSliceToString(info.Proc.P_comm[:])
	}
	return p, p.Comm != "" && p.Exe == ""
}

const maxProcPath = 4 * 1024 // PROC_PIDPATHINFO_MAXSIZE of sys/proc_info.h

// proc_pidpath of libSystem, called without cgo as golang.org/x/sys calls the rest of it:
//
//	int proc_pidpath(int pid, void *buffer, uint32_t buffersize);
//
// It returns the length of the path, and zero if it fails.

//go:cgo_import_dynamic libc_proc_pidpath proc_pidpath "/usr/lib/libSystem.B.dylib"

// procPIDPathAddr is the address of a jump to proc_pidpath.
var procPIDPathAddr uintptr

//go:linkname syscall_syscall syscall.syscall
func syscall_syscall(fn, a1, a2, a3 uintptr) (r1, r2 uintptr, err syscall.Errno)
