//go:build !unix

package main

// maxFiles returns how many files the process may have open; zero: unknown.
func maxFiles() uint64 { return 0 }
