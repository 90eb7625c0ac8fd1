//go:build !unix

package private

const hasModes = false // but access control lists, which the folders of users have

// NoCoreDumps does nothing where there are none.
func NoCoreDumps() {}
