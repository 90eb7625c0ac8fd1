package confine

import "golang.org/x/sys/unix"

const (
	arch       = unix.AUDIT_ARCH_RISCV64
	otherCalls = 0
)

var neverHere, forks, filesHere []uintptr // calls of older tables, which this processor does not have
