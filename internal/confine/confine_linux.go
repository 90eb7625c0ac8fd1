package confine

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nobodyElse is the number of a user and a group that own nothing. It is above those of
// directory services, and nothing assigns it.
const nobodyElse = 2_100_006_789

// Root reports whether this process has root's rights, of which some can be taken away.
func Root() bool { return os.Geteuid() == 0 }

// Process takes from this process, with all its threads, what it does not keep. It stops
// being root's where its files allow that. What cannot be taken away is among what is
// missing.
//
// Threads are reached by [syscall.AllThreadsSyscall], which a program with cgo does not
// have: there only system calls are refused.
func Process(k Keep) (r Rights) {
	miss := func(what string, err error) {
		if err != nil {
			r.Missing = append(r.Missing, fmt.Errorf("%s: %w", what, err))
		}
	}
	keep := k.Capabilities & Effective()
	if err := prctl(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		miss("capabilities", err)
	} else {
		miss("capabilities", dropBounding(keep))
		err := handOver(k.Folders, k.Mark)
		if err == nil {
			err = become(nobodyElse)
		}
		miss("user", err)
		// Programs that root starts have root's capabilities anyway, as far as they are bound.
		miss("capabilities", setCapabilities(keep, k.Programs && err == nil))
	}
	miss("memory", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
	miss("filter of system calls", filter(k, keep))
	own := Own()
	own.Missing = r.Missing
	return own
}

// Filter has the kernel refuse system calls that this process, with all its threads, does not
// need for what it keeps.
func Filter(k Keep) error { return filter(k, k.Capabilities&Effective()) }

// Own returns the rights of this thread.
func Own() (r Rights) {
	r.User = os.Geteuid()
	b, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return r
	}
	return parseStatus(b, r)
}

// parseStatus reads a /proc/PID/status, see proc_pid_status(5).
func parseStatus(b []byte, r Rights) Rights {
	for line := range bytes.Lines(b) {
		key, value, _ := bytes.Cut(line, []byte(":"))
		text := string(bytes.TrimSpace(value))
		switch string(key) {
		case "CapEff":
			n, _ := strconv.ParseUint(text, 16, 64)
			r.Capabilities = Set(n)
		case "NoNewPrivs":
			r.NoNewPrivs = text == "1"
		case "Seccomp":
			r.Filtered = text == "2"
		}
	}
	return r
}

// Effective returns the capabilities that this thread can use.
func Effective() Set { return Own().Capabilities }

// all makes a system call on all threads, which must have the same result.
func all(trap, a1, a2, a3 uintptr) (err error) {
	// Package runtime panics in a program that has the runtime of cgo without cgo.
	defer func() {
		if recover() != nil {
			err = errors.ErrUnsupported
		}
	}()
	if _, _, errno := syscall.AllThreadsSyscall(trap, a1, a2, a3); errno != 0 {
		return errno
	}
	return nil
}

func prctl(option, value uintptr) error { return all(unix.SYS_PRCTL, option, value, 0) }

// dropBounding has no program that is executed later gain what is not kept.
func dropBounding(keep Set) error {
	for c := uintptr(0); ; c++ {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err != nil {
			return nil // there are no more
		} else if has == 0 || keep&(1<<c) != 0 {
			continue
		}
		if err := prctl(unix.PR_CAPBSET_DROP, c); err != nil {
			return err
		}
	}
}

// become makes the process another user's. Its permitted capabilities stay.
func become(user int) error {
	if !mapped("/proc/self/uid_map", user) || !mapped("/proc/self/gid_map", user) {
		return fmt.Errorf("%w in a user namespace without such a user", errors.ErrUnsupported)
	}
	if err := prctl(unix.PR_SET_KEEPCAPS, 1); err != nil {
		return err
	}
	defer prctl(unix.PR_SET_KEEPCAPS, 0)
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setresgid(user, user, user); err != nil {
		return err
	}
	return syscall.Setresuid(user, user, user)
}

// Stranger returns how to start a process as a user who owns nothing, with a set of
// capabilities as far as this process has them.
func Stranger(keep Set) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobodyElse, Gid: nobodyElse}}
	for keep &= Effective(); keep != 0; keep &= keep - 1 {
		a.AmbientCaps = append(a.AmbientCaps, uintptr(bits.TrailingZeros64(uint64(keep))))
	}
	return a
}

// mapped reports whether a namespace of users, as user_namespaces(7) shows it, has a number.
func mapped(name string, id int) bool {
	b, err := os.ReadFile(name)
	if err != nil {
		return true // a kernel without them
	}
	for line := range bytes.Lines(b) {
		var first, outside, n int
		if _, err := fmt.Sscan(string(line), &first, &outside, &n); err == nil && id >= first && id-first < n {
			return true
		}
	}
	return false
}

// setCapabilities leaves a set of capabilities, also to programs that are executed if they
// are to have them.
func setCapabilities(keep Set, inherited bool) error {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for i := range data {
		part := uint32(keep >> (32 * i))
		data[i] = unix.CapUserData{Effective: part, Permitted: part}
		if inherited {
			data[i].Inheritable = part
		}
	}
	err := all(unix.SYS_CAPSET, uintptr(unsafe.Pointer(header)), uintptr(unsafe.Pointer(&data)), 0)
	if err != nil || !inherited {
		return err
	}
	for c := uintptr(0); c < 64; c++ {
		if keep&(1<<c) != 0 {
			if err := all(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// handOver gives folders, and the files of root's in them, to the user that this process
// becomes. It fails if that user could not come to them, and gives nothing away of a folder in
// which something is that has no mark in its name: somebody has named a wrong one.
func handOver(folders []string, mark string) error {
	for _, folder := range folders {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
		folder, err := filepath.Abs(folder)
		if err != nil {
			return err
		}
		if folder, err = filepath.EvalSymlinks(folder); err != nil {
			return err
		}
		for dir := filepath.Dir(folder); ; dir = filepath.Dir(dir) {
			info, err := os.Stat(dir)
			if err != nil {
				return err
			}
			if info.Mode()&0o001 == 0 {
				return fmt.Errorf("%s lets only root come to %s", dir, folder)
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
		entries, err := os.ReadDir(folder)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !e.Type().IsRegular() || !strings.Contains(e.Name(), mark) {
				return fmt.Errorf("%s is not for this program alone: %q is there too", folder, e.Name())
			}
		}
		for _, e := range entries {
			if err := give(filepath.Join(folder, e.Name()), 0); err != nil {
				return err
			}
		}
		if err := give(folder, unix.O_DIRECTORY); err != nil {
			return err
		}
	}
	return nil
}

// give changes the owner of what is root's. It follows no links, and gives nothing away that
// has a name elsewhere too.
func give(name string, flags int) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK|flags, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	isFile := st.Mode&unix.S_IFMT == unix.S_IFREG
	if st.Uid == nobodyElse || isFile && st.Nlink != 1 {
		return nil
	}
	if st.Uid != 0 {
		return fmt.Errorf("%s is another user's", name)
	}
	if err := unix.Fchown(fd, nobodyElse, nobodyElse); err != nil {
		return &os.PathError{Op: "chown", Path: name, Err: err}
	}
	return nil
}
