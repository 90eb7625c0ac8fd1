//go:build amd64 || arm64 || arm || riscv64

package confine

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// See seccomp(2), struct seccomp_data. The processors of this file are little-endian.
const (
	callAt         = 0
	archAt         = 4
	argAt          = 16 // offset of the low half of the first argument; each has 8 bytes
	allow   uint32 = 0x7fff0000
	errno   uint32 = 0x00050000 // plus the number of the error
	refused        = errno | uint32(unix.EPERM)
	unknown        = errno | uint32(unix.ENOSYS)
)

// Calls that no program of connmap makes after its start, whatever rights it has.
var never = []uintptr{
	// Calls on other processes.
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE, unix.SYS_PIDFD_GETFD,
	// Calls on file systems.
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN,
	unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_FANOTIFY_INIT,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_LOOKUP_DCOOKIE, unix.SYS_NFSSERVCTL,
	// Calls on the kernel.
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_REBOOT,
	unix.SYS_ACCT, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SETHOSTNAME,
	unix.SYS_SETDOMAINNAME, unix.SYS_SYSLOG, unix.SYS_PERSONALITY, unix.SYS_VHANGUP,
	// Calls that are rarely used and often have faults.
	unix.SYS_UNSHARE, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
}

// Calls that start programs, or end those of others.
var programs = []uintptr{unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_KILL, unix.SYS_PIDFD_SEND_SIGNAL}

// Calls that make or change files, other than openat.
var files = []uintptr{
	unix.SYS_MKDIRAT, unix.SYS_MKNODAT, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT, unix.SYS_SYMLINKAT, unix.SYS_FCHMODAT,
	unix.SYS_FCHMODAT2, unix.SYS_FCHOWNAT, unix.SYS_FCHMOD, unix.SYS_FCHOWN, unix.SYS_TRUNCATE, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE,
	unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR, unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR, unix.SYS_FREMOVEXATTR, unix.SYS_UTIMENSAT,
}

// bpfCalls are the commands of bpf(2) on existing programs and maps. Without BPF_PROG_LOAD an
// attacker cannot load programs of his own.
var bpfCalls = []uint32{
	unix.BPF_MAP_CREATE, // cilium/ebpf probes the kernel's features with it
	unix.BPF_MAP_LOOKUP_ELEM, unix.BPF_MAP_UPDATE_ELEM, unix.BPF_MAP_DELETE_ELEM, unix.BPF_MAP_GET_NEXT_KEY, unix.BPF_MAP_LOOKUP_AND_DELETE_ELEM,
	unix.BPF_MAP_LOOKUP_BATCH, unix.BPF_MAP_LOOKUP_AND_DELETE_BATCH, unix.BPF_MAP_UPDATE_BATCH, unix.BPF_MAP_DELETE_BATCH,
	unix.BPF_OBJ_GET_INFO_BY_FD, unix.BPF_RAW_TRACEPOINT_OPEN, unix.BPF_LINK_CREATE, unix.BPF_ITER_CREATE,
}

// A program is what the kernel runs at each system call.
type program []unix.SockFilter

func (p *program) load(at uint32) {
	*p = append(*p, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at})
}

func (p *program) end(result uint32) {
	*p = append(*p, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: result})
}

// jump skips yes instructions if the loaded value compares with k as asked, and no otherwise.
func (p *program) jump(compare uint16, k uint32, yes, no uint8) {
	*p = append(*p, unix.SockFilter{Code: unix.BPF_JMP | compare | unix.BPF_K, K: k, Jt: yes, Jf: no})
}

// call returns a result for each of some calls. The number of the call must be loaded.
func (p *program) call(result uint32, calls ...uintptr) {
	for _, c := range calls {
		p.jump(unix.BPF_JEQ, uint32(c), 0, 1)
		p.end(result)
	}
}

// only allows a call only if its argument i is one of some numbers.
func (p *program) only(call uintptr, i uint32, numbers ...uint32) {
	p.jump(unix.BPF_JEQ, uint32(call), 0, uint8(2*len(numbers)+2))
	p.load(argAt + 8*i)
	for _, n := range numbers {
		p.jump(unix.BPF_JEQ, n, 0, 1)
		p.end(allow)
	}
	p.end(refused)
}

// not allows a call only if its argument i has none of some bits.
func (p *program) not(call uintptr, i, bits uint32) {
	p.jump(unix.BPF_JEQ, uint32(call), 0, 4)
	p.load(argAt + 8*i)
	p.jump(unix.BPF_JSET, bits, 0, 1)
	p.end(refused)
	p.end(allow)
}

// assemble makes the filter program for what a process keeps.
func assemble(k Keep, keep Set) (p program) {
	p.load(archAt)
	p.jump(unix.BPF_JEQ, arch, 1, 0)
	p.end(refused)
	p.load(callAt)
	if otherCalls != 0 { // calls of another table
		p.jump(unix.BPF_JGE, otherCalls, 0, 1)
		p.end(refused)
	}
	p.call(refused, never...)
	p.call(refused, neverHere...)
	const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP
	p.call(unknown, unix.SYS_CLONE3) // its flags are in memory; programs fall back to clone
	if k.Programs {
		p.not(unix.SYS_CLONE, 0, namespaces)
	} else {
		p.jump(unix.BPF_JEQ, uint32(unix.SYS_CLONE), 0, 5)
		p.load(argAt)
		p.jump(unix.BPF_JSET, namespaces, 1, 0)
		p.jump(unix.BPF_JSET, unix.CLONE_THREAD, 1, 0)
		p.end(refused)
		p.end(allow)
		p.call(refused, programs...)
		p.call(refused, forks...)
	}
	if keep&(1<<sysAdmin) != 0 {
		p.only(unix.SYS_SETNS, 1, unix.CLONE_NEWNET)
	} else {
		p.call(refused, unix.SYS_SETNS)
	}
	if keep&(1<<bpf) != 0 {
		p.only(unix.SYS_BPF, 0, bpfCalls...)
	} else {
		p.call(refused, unix.SYS_BPF)
	}
	families := []uint32{unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK}
	if k.Services {
		families = append(families, unix.AF_UNIX)
	}
	p.only(unix.SYS_SOCKET, 0, families...)
	p.call(unknown, unix.SYS_OPENAT2) // its flags are in memory
	if len(k.Folders) == 0 {
		p.not(unix.SYS_OPENAT, 2, unix.O_WRONLY|unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC)
		p.call(refused, files...)
		p.call(refused, filesHere...)
	}
	// With TIOCSTI a program could put input into a terminal as if it was typed.
	p.jump(unix.BPF_JEQ, uint32(unix.SYS_IOCTL), 0, 5)
	p.load(argAt + 8)
	p.jump(unix.BPF_JEQ, unix.TIOCSTI, 1, 0)
	p.jump(unix.BPF_JEQ, tiocLinux, 0, 1)
	p.end(refused)
	p.end(allow)
	p.end(allow)
	return p
}

const tiocLinux = 0x541c // of asm-generic/ioctls.h

// filter makes the kernel refuse system calls of all threads, also of those of cgo.
func filter(k Keep, keep Set) error {
	p := assemble(k, keep)
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	// The flag also sets no_new_privs on the other threads, if it is set on this one.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	failed, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	switch {
	case errno != 0:
		return errno
	case failed != 0: // the number of a thread that could not be filtered
		return unix.EBUSY
	}
	return nil
}
