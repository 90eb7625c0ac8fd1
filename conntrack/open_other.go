//go:build !linux && !windows && !darwin

package conntrack

// candidates is empty: there is no backend for this system.
var candidates []candidate
