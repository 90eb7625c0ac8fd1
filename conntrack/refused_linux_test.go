//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func init() { helpers["refused"] = helpRefused }

// helpRefused takes something away from itself and prints which backend it gets and why.
func helpRefused(arg string) error {
	var err error
	if arg == "types" {
		err = unix.Mount("none", "/sys/kernel/btf", "tmpfs", 0, "")
	} else {
		var errno int
		if errno, err = strconv.Atoi(arg); err == nil {
			err = refuseBPF(unix.Errno(errno))
		}
	}
	if err != nil {
		return err
	}
	c, err := New(Options{})
	if err != nil {
		return err
	}
	defer c.Close()
	return json.NewEncoder(os.Stdout).Encode(c.Info())
}

// refuseBPF has the kernel answer bpf(2) with an error from now on, in all threads.
func refuseBPF(errno unix.Errno) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_BPF, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, failed := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if failed != 0 {
		return os.NewSyscallError("seccomp", failed)
	}
	return nil
}

// TestRefused: where the kernel does not take the programs, sockets are polled, and why is
// said in a sentence.
func TestRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: others are told that they lack capabilities")
	}
	for _, tt := range []struct{ name, arg, want string }{
		{"a kernel that does not describe its types", "types", "does not describe its types in /sys/kernel/btf"},
		{"a kernel without the system call", fmt.Sprint(int(unix.ENOSYS)), "no system call bpf"},
		{"a sandbox", fmt.Sprint(int(unix.EPERM)), "the kernel denies it (permission denied), as in a sandbox"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			attr := &syscall.SysProcAttr{}
			if tt.arg == "types" {
				if _, err := os.Stat("/sys/kernel/btf"); errors.Is(err, os.ErrNotExist) {
					t.Skip("this kernel does not describe its types anyway")
				}
				attr.Unshareflags = unix.CLONE_NEWNS
			}
			_, _, out := helperIn(t, "refused "+tt.arg, attr)
			var i Info
			require.NoError(t, json.NewDecoder(out).Decode(&i))
			assert.Equal(t, Diag, i.Backend)
			reason, _, _ := strings.Cut(i.Limited, ";")
			if strings.Contains(reason, "is too old") {
				t.Skip(reason)
			}
			assert.True(t, strings.HasPrefix(reason, "ebpf does not work here: "), reason)
			assert.Contains(t, reason, tt.want)
			t.Log(reason)
		})
	}
}
