//go:build !unix

package private

import "io/fs"

const hasModes = false // access control lists protect the folders of users instead

// NoCoreDumps does nothing on systems without core dumps.
func NoCoreDumps() {}

func ownerOf(fs.FileInfo) int { return 0 }
