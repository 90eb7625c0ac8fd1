// Package race says whether the race detector is built in, for tests that would take
// minutes with it. It detects nothing itself.
package race
