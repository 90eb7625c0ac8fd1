//go:build !unix

package gui

import "time"

// cpuTime returns zero: what a frame costs is not known here, and frames do not wait.
func cpuTime() time.Duration { return 0 }
