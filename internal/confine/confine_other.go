//go:build !linux

package confine

import "errors"

// Root reports whether this process has root's rights, some of which can be dropped.
func Root() bool { return false }

// Restart executes this program anew with fewer rights. It returns only if it fails.
func Restart(Set, Files, []string) error { return errors.ErrUnsupported }

// Filter makes the kernel refuse the system calls that this process, with all its threads, does
// not need for what k keeps.
func Filter(Keep) error { return errors.ErrUnsupported }

// Process drops the rights of this process, with all its threads, that k does not keep.
func Process(Keep) Rights { return Rights{} }
