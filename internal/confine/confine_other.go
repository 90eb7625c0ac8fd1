//go:build !linux

package confine

import "errors"

// Root reports whether this process has root's rights, of which some can be taken away.
func Root() bool { return false }

// Restart executes this program anew with fewer rights. It returns only if it fails.
func Restart(Set, Files, []string) error { return errors.ErrUnsupported }

// Filter has the kernel refuse system calls that this process, with all its threads, does not
// need for what it keeps.
func Filter(Keep) error { return errors.ErrUnsupported }

// Process takes from this process, with all its threads, what it does not keep.
func Process(Keep) Rights { return Rights{} }
