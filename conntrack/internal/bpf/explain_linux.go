//go:build amd64 || arm64 || loong64 || riscv64

package bpf

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// This file explains why the programs cannot be loaded.

// The first versions of Linux that have all that the programs need.
const (
	firstLinux        = "5.12" // bpf_get_socket_cookie in tracing programs
	firstLinuxPackets = "5.15" // bpf_get_current_task_btf in cgroup programs
	firstLinuxLengths = "6.3"  // the tracepoints; on some processors functions can be traced earlier
)

// explain returns an error that says why the kernel refused something that Linux has since a
// version. lacks names the capabilities that this process does not have.
func explain(err error, lacks, since string) error {
	forbidden := errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
	unsupported := errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)
	switch {
	case errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("the kernel has no memory for the programs: raise the memory limit of this service or container: %w", err)
	case !forbidden && !unsupported:
		return err
	case lacks != "": // without capabilities the kernel also hides features that it has
		return fmt.Errorf("it needs root, or the capabilities CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; missing: %s (%w)", lacks, fs.ErrPermission)
	case lockedDown():
		return fmt.Errorf("the kernel is locked down for confidentiality: no program may read its memory (%w)", fs.ErrPermission)
	case lacksSyscall():
		return fmt.Errorf("%w: no system call bpf: the kernel is built without BPF_SYSCALL, or a sandbox denies it", errors.ErrUnsupported)
	case isOlder(release(), since):
		return fmt.Errorf("%w: Linux %s is too old, it must be %s or later", errors.ErrUnsupported, release(), since)
	case forbidden:
		return fmt.Errorf("the kernel denies it (%w), as in a sandbox: %w", fs.ErrPermission, err)
	}
	if _, btfErr := btf.LoadKernelSpec(); btfErr != nil {
		return fmt.Errorf("%w: the kernel (Linux %s) does not describe its types in /sys/kernel/btf: use one built with DEBUG_INFO_BTF", errors.ErrUnsupported, release())
	}
	return fmt.Errorf("%w: this kernel (Linux %s) lacks something that Linux has since %s: use one built with CGROUP_BPF: %w", errors.ErrUnsupported, release(), since, err)
}

// lockedDown reports whether the kernel hides its memory even from root.
func lockedDown() bool {
	b, err := os.ReadFile("/sys/kernel/security/lockdown")
	return err == nil && bytes.Contains(b, []byte("[confidentiality]"))
}

// lacksSyscall reports whether there is no system call bpf. It tries an unknown command.
func lacksSyscall() bool {
	_, _, errno := unix.Syscall(unix.SYS_BPF, math.MaxInt32, 0, 0)
	return errno == unix.ENOSYS
}

// isOlder compares the first two numbers of versions. A release without them is not older.
func isOlder(release, than string) bool {
	var a, b [2]int
	if _, err := fmt.Sscanf(release, "%d.%d", &a[0], &a[1]); err != nil {
		return false
	}
	_, err := fmt.Sscanf(than, "%d.%d", &b[0], &b[1])
	return err == nil && slices.Compare(a[:], b[:]) < 0
}

func release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "?"
	}
	return unix.ByteSliceToString(u.Release[:])
}
