// Package confine takes from a process the rights that it does not need. It is for programs
// that are started as root, and gives nobody any rights. It does nothing on other systems
// than Linux, and with what a kernel lacks it does without.
package confine

import "strings"

// A Set is a set of capabilities, those of capabilities(7) by number.
type Set uint64

// These are what a collector of package conntrack needs, once it is open.
const (
	// Polling looks into /proc for whose sockets are.
	Polling = 1<<dacReadSearch | 1<<sysPtrace
	// Following asks programs in the kernel, reads the links of processes in /proc, and
	// enters network namespaces for the tunnels in them.
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

// Serving is what a program with a window and a listener needs that works with the files of
// the user who has started it by sudo.
const Serving = 1<<dacOverride | 1<<netBindService

// Giving has files that are made beside those of another user be that one's.
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

// A Keep says what a process goes on needing.
type Keep struct {
	Capabilities Set
	// Folders are those it writes to, and all in them becomes the user's that it becomes,
	// unless something in them has no Mark in its name, and is not its own. If there is no
	// folder, it makes and changes no files at all.
	Folders  []string
	Mark     string
	Programs bool // it starts other programs
	// Services: it connects to services of this machine by sockets that are files. Those are
	// displays and sound, but also D-Bus and others that do whatever root asks them.
	Services bool
}

// Files are those that a program goes on working with. What is not there is passed over, and
// what is beneath a folder belongs to it.
type Files struct {
	Read  []string // and list, and execute
	Write []string // and read, make and remove
}

// Rights say what a process has.
type Rights struct {
	User         int // its effective one
	Capabilities Set // its effective ones
	NoNewPrivs   bool
	Filtered     bool // some system calls are refused
	Missing      []error
}
