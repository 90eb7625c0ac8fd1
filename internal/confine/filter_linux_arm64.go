package confine

import "golang.org/x/sys/unix"

const (
	arch       = unix.AUDIT_ARCH_AARCH64
	otherCalls = 0
)

var (
	neverHere, forks []uintptr // calls of older tables, which this processor does not have
	filesHere        = []uintptr{unix.SYS_RENAMEAT}
)
