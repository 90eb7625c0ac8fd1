// Package race reports whether the race detector is on, for tests that would take minutes with
// it. It detects no races itself.
package race
