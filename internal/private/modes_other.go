//go:build !unix

package private

const hasModes = false // access control lists protect the folders of users instead

// NoCoreDumps does nothing on systems without core dumps.
func NoCoreDumps() {}
