package frame

import (
	"net/netip"
	"slices"
	"unique"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/internal/names"
	"github.com/connmapgo/connmap/internal/terminal"
)

// Clean returns a connection of this machine as it would arrive at a server: its texts are safe
// to show, for a program chooses its own name, and its addresses have no zones, which mean
// something on their machine only. What is no name of a host is not the peer's name.
func Clean(c conntrack.Conn) conntrack.Conn {
	c = withName(c)
	c.Local, c.Peer = withoutZone(c.Local), withoutZone(c.Peer)
	c.Process = cleanProcess(c.Process)
	c.Sharers = slices.Clone(c.Sharers) // which belong to the collector
	for i, p := range c.Sharers {
		c.Sharers[i] = cleanProcess(p)
	}
	return c
}

// withName returns a connection without what is no name of its peer.
func withName(c conntrack.Conn) conntrack.Conn {
	name, ok := names.Clean(c.Name)
	if !ok || c.NameSource == 0 || c.NameSource > conntrack.NameHost {
		c.Name, c.NameSource = "", 0
		return c
	}
	c.Name = unique.Make(name).Value()
	return c
}

// withoutZone leaves out the device of a link-local address.
func withoutZone(a netip.AddrPort) netip.AddrPort {
	if a.Addr().Zone() == "" {
		return a
	}
	return netip.AddrPortFrom(a.Addr().WithZone(""), a.Port())
}

func cleanProcess(p conntrack.Process) conntrack.Process {
	p.Comm, p.Exe, p.Container = cleanText(p.Comm), cleanText(p.Exe), cleanText(p.Container)
	return p
}

// cleanText returns the text in memory that it shares with equal ones: few programs have many
// connections.
func cleanText(s string) string {
	if s == "" {
		return ""
	}
	return unique.Make(terminal.Clean(s, MaxText)).Value()
}

// cut returns the beginning of s, at most MaxText bytes that end with a whole character if s is
// UTF-8.
func cut(s string) string { return terminal.Cut(s, MaxText) }
