// Package confine drops the rights that a process does not need. It is for programs that are
// started as root, and gives nobody any rights. It does nothing on systems other than Linux, and
// skips what a kernel lacks.
package confine

import "strings"

// A Set is a set of capabilities, those of capabilities(7) by number.
type Set uint64

// The capabilities that an open collector of package conntrack needs.
const (
	// Polling reads the owners of sockets in /proc.
	Polling = 1<<dacReadSearch | 1<<sysPtrace
	// Following runs programs in the kernel, reads the links of processes in /proc, and
	// enters network namespaces for their tunnels.
	Following = 1<<netAdmin | 1<<sysPtrace | 1<<sysAdmin | 1<<perfmon | 1<<bpf
)

// From linux/capability.h.
const (
	chown          = 0
	dacOverride    = 1
	dacReadSearch  = 2
	setPcap        = 8
	netBindService = 10
	netAdmin       = 12
	sysPtrace      = 19
	sysAdmin       = 21
	perfmon        = 38
	bpf            = 39
)

// Serving is for a program with a window and a listener that works with the files of the user
// who has started it by sudo.
const Serving = 1<<dacOverride | 1<<netBindService

// Giving sets the owner of new files to that of the files beside them.
const Giving = 1 << chown

var names = map[int]string{
	chown: "CAP_CHOWN", dacOverride: "CAP_DAC_OVERRIDE", dacReadSearch: "CAP_DAC_READ_SEARCH", netBindService: "CAP_NET_BIND_SERVICE", netAdmin: "CAP_NET_ADMIN",
	sysPtrace: "CAP_SYS_PTRACE", sysAdmin: "CAP_SYS_ADMIN", perfmon: "CAP_PERFMON", bpf: "CAP_BPF",
}

// String names the capabilities, by number.
func (s Set) String() string {
	var list []string
	for c := range 64 {
		if name := names[c]; s&(1<<c) != 0 && name != "" {
			list = append(list, name)
		}
	}
	if list == nil {
		return "none"
	}
	return strings.Join(list, " ")
}

// A Keep says what a process still needs.
type Keep struct {
	Capabilities Set
	// Folders are the folders that the process writes to. They, and all in them, are given
	// to the user that the process becomes. They are not if a file in them is another's
	// and has no Mark in its name. Without folders it can make and change no files at all.
	Folders  []string
	Mark     string
	Programs bool // it starts other programs
	// Services allows connections to services of this machine by Unix sockets: to displays
	// and sound, but also to D-Bus and others that obey root.
	Services bool
}

// Files are the files that a program still works with. Missing ones are ignored, and a folder
// includes all beneath it.
type Files struct {
	Read  []string // to read, list and execute
	Write []string // to read, write, make and remove
}

// Rights are the rights of a process.
type Rights struct {
	User         int // its effective one
	Capabilities Set // its effective ones
	NoNewPrivs   bool
	Filtered     bool // the kernel refuses some system calls
	Missing      []error
}
