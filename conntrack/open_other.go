//go:build !linux && !windows && !darwin

package conntrack

// candidates are none: nothing is known of how sockets can be read here.
var candidates []candidate
