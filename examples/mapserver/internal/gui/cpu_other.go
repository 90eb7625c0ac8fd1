//go:build !unix

package gui

import "time"

// cpuTime returns zero: the cost of a frame is unknown here, and frames are not delayed.
func cpuTime() time.Duration { return 0 }
