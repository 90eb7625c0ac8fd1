package confine

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Restart executes this program anew, with the same arguments and PID. It keeps only some
// capabilities and, if the kernel has Landlock, access to some files. The environment is env
// plus [Without], which says what the kernel lacks. Restart returns only if it fails; then this
// process is as before.
//
// The kernel ends all other threads when a program is executed, so that Restart also works with
// cgo, and with libraries that imitate it.
func Restart(keep Set, f Files, env []string) error {
	failed := make(chan error)
	go func() {
		// The thread stays locked, so that it ends with its fewer rights.
		runtime.LockOSThread()
		failed <- restart(keep, f, env)
	}()
	return <-failed
}

// Without is the environment variable that says, in a sentence, what Restart could not do;
// empty: it did all.
const Without = "CONNMAP_CONFINED_WITHOUT"

func restart(keep Set, f Files, env []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if _, err := os.Stat(self); err != nil {
		self = "/proc/self/exe" // the program's file was replaced
	}
	keep &= Effective()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	for c := uintptr(0); ; c++ {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err != nil {
			break // the kernel has no more capabilities
		} else if has != 0 && keep&(1<<c) == 0 {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
				return fmt.Errorf("capabilities: %w", err)
			}
		}
	}
	without := Without + "="
	f.Read = append(f.Read, self)
	if err := landlock(f); err != nil {
		without += "files cannot be restricted: " + strings.ReplaceAll(err.Error(), "\n", " ")
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for i := range data {
		part := uint32(keep >> (32 * i))
		data[i] = unix.CapUserData{Effective: part, Permitted: part}
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return os.NewSyscallError("execve", unix.Exec(self, os.Args, append(env, without)))
}

// What Landlock can restrict, by its version. Since version 5 it can also restrict ioctl on
// devices, which graphics need.
const (
	landlock1 = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	landlock2 = landlock1 | unix.LANDLOCK_ACCESS_FS_REFER
	landlock3 = landlock2 | unix.LANDLOCK_ACCESS_FS_TRUNCATE

	reading = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	writing = reading | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER
	// ofFile are the rights that apply to files other than folders.
	ofFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
)

// landlock restricts the files of this thread, see landlock(7). All folders can still be listed:
// names are not secret, and packages search for files.
func landlock(f Files) error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	var handled uint64
	switch version {
	case 1:
		handled = landlock1
	case 2:
		handled = landlock2
	default:
		handled = landlock3
	}
	// The first member is the only one in version 1.
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&handled)), unsafe.Sizeof(handled), 0)
	if errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	defer unix.Close(int(fd))
	if err := rule(int(fd), "/", handled&unix.LANDLOCK_ACCESS_FS_READ_DIR); err != nil {
		return err
	}
	for _, name := range f.Read {
		if err := rule(int(fd), name, handled&reading); err != nil {
			return err
		}
	}
	for _, name := range f.Write {
		if err := rule(int(fd), name, handled&writing); err != nil {
			return err
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	return nil
}

// rule allows access to a file, or to all beneath a folder; it does nothing if that is missing.
func rule(ruleset int, name string, access uint64) error {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("landlock: %s: %w", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= ofFile
	}
	attr := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("landlock: %s: %w", name, errno)
	}
	return nil
}
