//go:build !unix

package program

// MaxFiles returns how many files the process may have open; zero: unknown.
func MaxFiles() uint64 { return 0 }
