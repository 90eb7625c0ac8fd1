package feed

import (
	"unique"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/internal/terminal"
)

// mostText is how long a text from an agent may be, in bytes.
const mostText = 256

// clean makes a text from another host safe to show and to log: valid UTF-8
// of at most 256 bytes without control, formatting, bidirectional and
// invisible characters.
func clean(s string) string { return terminal.Clean(s, mostText) }

// cut returns the beginning of s, at most 256 bytes that end with a whole
// character if s is UTF-8.
func cut(s string) string { return terminal.Cut(s, mostText) }

// CleanProcess returns p with texts that are safe to show: a program chooses
// its own name.
func CleanProcess(p conntrack.Process) conntrack.Process {
	p.Comm, p.Exe, p.Container = share(clean(p.Comm)), share(clean(p.Exe)), share(clean(p.Container))
	return p
}

// share returns an equal text in memory that it has in common with others: few programs
// have many connections.
func share(s string) string {
	if s == "" {
		return ""
	}
	return unique.Make(s).Value()
}
