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

// nobodyElse is the number of a user and a group that own nothing. It is above the numbers of
// directory services, and nothing assigns it.
const nobodyElse = 2_100_006_789

// Root reports whether this process has root's rights, some of which can be dropped.
func Root() bool { return os.Geteuid() == 0 }

// Process drops the rights of this process, with all its threads, that k does not keep. It
// changes the user from root to another if the files allow that. Rights.Missing has what could
// not be dropped.
//
// It reaches threads with [syscall.AllThreadsSyscall], which does not work in a program with
// cgo: there it only filters system calls.
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
		// Programs that root starts get root's capabilities anyway, up to the bounding set.
		miss("capabilities", setCapabilities(keep, k.Programs && err == nil))
	}
	miss("memory", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
	miss("filter of system calls", filter(k, keep))
	own := Own()
	own.Missing = r.Missing
	return own
}

// Filter makes the kernel refuse the system calls that this process, with all its threads, does
// not need for what k keeps.
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

// parseStatus parses a /proc/PID/status, see proc_pid_status(5).
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

// all makes a system call on all threads, which must all return the same.
func all(trap, a1, a2, a3 uintptr) (err error) {
	// Package runtime panics in a program that has cgo's runtime without cgo.
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

// dropBounding stops programs that are executed later from gaining what is not kept.
func dropBounding(keep Set) error {
	for c := uintptr(0); ; c++ {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err != nil {
			return nil // the kernel has no more capabilities
		} else if has == 0 || keep&(1<<c) != 0 {
			continue
		}
		if err := prctl(unix.PR_CAPBSET_DROP, c); err != nil {
			return err
		}
	}
}

// become changes the user of the process. Its permitted capabilities stay.
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

// Stranger returns how to start a process as a user who owns nothing, with those capabilities of
// a set that this process has.
func Stranger(keep Set) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobodyElse, Gid: nobodyElse}}
	for keep &= Effective(); keep != 0; keep &= keep - 1 {
		a.AmbientCaps = append(a.AmbientCaps, uintptr(bits.TrailingZeros64(uint64(keep))))
	}
	return a
}

// mapped reports whether a user namespace, as shown in user_namespaces(7), has a number.
func mapped(name string, id int) bool {
	b, err := os.ReadFile(name)
	if err != nil {
		return true // the kernel has no user namespaces
	}
	for line := range bytes.Lines(b) {
		var first, outside, n int
		if _, err := fmt.Sscan(string(line), &first, &outside, &n); err == nil && id >= first && id-first < n {
			return true
		}
	}
	return false
}

// setCapabilities drops all but a set of capabilities. If inherited is set, programs that are
// executed keep that set too.
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

// handOver gives folders, and root's files in them, to the user that this process becomes. It
// fails if that user could not reach them. It also fails, and gives nothing of a folder away,
// if a file in it has no mark in its name. Then somebody has named a wrong folder.
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

// give changes the owner of a file that is root's. It follows no links, and changes no file that
// has another name too.
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
