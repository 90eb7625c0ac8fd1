package confine

import "golang.org/x/sys/unix"

const (
	arch       = unix.AUDIT_ARCH_ARM
	otherCalls = 0
)

var (
	neverHere = []uintptr{unix.SYS_USELIB, unix.SYS_SYSFS, unix.SYS_CLOCK_SETTIME64, unix.SYS_CLOCK_ADJTIME64}
	forks     = []uintptr{unix.SYS_FORK, unix.SYS_VFORK}
	filesHere = []uintptr{
		unix.SYS_OPEN, unix.SYS_CREAT, unix.SYS_MKDIR, unix.SYS_RMDIR, unix.SYS_UNLINK, unix.SYS_RENAME, unix.SYS_RENAMEAT, unix.SYS_LINK,
		unix.SYS_SYMLINK, unix.SYS_MKNOD, unix.SYS_CHMOD, unix.SYS_CHOWN, unix.SYS_LCHOWN, unix.SYS_CHOWN32, unix.SYS_LCHOWN32,
		unix.SYS_FCHOWN32, unix.SYS_TRUNCATE64, unix.SYS_FTRUNCATE64,
	}
)
