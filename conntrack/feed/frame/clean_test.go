package frame

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/connmapgo/connmap/conntrack"
)

// TestClean: no text of a connection can harm who shows it, and the collector's own connection
// stays as it is.
func TestClean(t *testing.T) {
	hostile, clean := conntrack.Process{PID: 7, Comm: "a\x1b[2J", Exe: "/tmp/\u202egnp", Container: "c\n"}, conntrack.Process{PID: 7, Comm: "a[2J", Exe: "/tmp/gnp", Container: "c"}
	c := testConn(1, 2)
	c.Local = netip.MustParseAddrPort("[fe80::1%3]:80")
	c.Process, c.Sharers = hostile, []conntrack.Process{hostile}
	got := Clean(c)
	assert.Equal(t, clean, got.Process)
	assert.Equal(t, []conntrack.Process{clean}, got.Sharers)
	assert.Equal(t, netip.MustParseAddrPort("[fe80::1]:80"), got.Local)
	assert.Equal(t, c.Peer, got.Peer)
	assert.Equal(t, hostile, c.Sharers[0])
	assert.Equal(t, got, Clean(got))
	assert.Zero(t, Clean(conntrack.Conn{}))
}
