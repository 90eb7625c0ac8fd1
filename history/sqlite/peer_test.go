package sqlite

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/history"
)

// peers makes a history with connections to addresses, the first a minute ago.
func peers(t *testing.T, addrs ...string) *DB {
	t.Helper()
	db, err := Open(context.Background(), t.TempDir()+"/h.sqlite", Options{})
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	var entries []history.Entry
	for i, a := range addrs {
		entries = append(entries, history.Entry{Agent: "nas", Protocol: "tcp", Direction: "out", Program: "sshd",
			Local: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(1000+i)), Peer: netip.AddrPortFrom(netip.MustParseAddr(a), 22),
			New: true, Opened: time.Date(2026, 3, 1, 12, i, 0, 0, time.UTC)})
	}
	require.NoError(t, db.Record(context.Background(), entries))
	return db
}

func TestFirst(t *testing.T) {
	db := peers(t, "192.0.2.1", "192.0.2.1", "192.0.2.10")
	opened, count, err := db.First(context.Background(), netip.MustParseAddr("192.0.2.1"), "sshd")
	require.NoError(t, err)
	assert.Equal(t, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), opened)
	assert.EqualValues(t, 2, count)
	opened, count, err = db.First(context.Background(), netip.MustParseAddr("192.0.2.1"), "ssh")
	require.NoError(t, err)
	assert.True(t, opened.IsZero())
	assert.Zero(t, count)
}

func TestWithin(t *testing.T) {
	all := []string{"192.0.2.1", "192.0.2.10", "192.0.20.1", "19.0.2.1", "192.1.0.1", "193.0.2.1", "2001:db8::1", "1.92.0.2"}
	db := peers(t, all...)
	for _, prefix := range []string{"192.0.0.0/8", "192.0.0.0/16", "192.0.2.0/24", "192.0.2.1/32", "19.0.0.0/8", "1.0.0.0/8", "8.0.0.0/8"} {
		p := netip.MustParsePrefix(prefix)
		var want, got []string
		for i := len(all) - 1; i >= 0; i-- {
			if p.Contains(netip.MustParseAddr(all[i])) {
				want = append(want, all[i])
			}
		}
		for r, err := range db.Within(context.Background(), p, 100) {
			require.NoError(t, err)
			got = append(got, r.Peer.Addr().String())
		}
		assert.Equal(t, want, got, prefix)
		c, err := OpenConsole(t.Context(), db.path, ConsoleOptions{})
		require.NoError(t, err)
		table, err := c.Ask(context.Background(), history.Question{SQL: withinSQL(p, 100)})
		require.NoError(t, err)
		assert.Len(t, table.Rows, len(want))
	}
	n := 0
	for range db.Within(context.Background(), netip.MustParsePrefix("192.0.0.0/8"), 2) {
		n++
	}
	assert.Equal(t, 2, n)
	for _, prefix := range []string{"192.0.0.0/12", "0.0.0.0/0", "2001:db8::/32"} {
		for _, err := range db.Within(context.Background(), netip.MustParsePrefix(prefix), 1) {
			assert.ErrorContains(t, err, "want an IPv4 prefix")
		}
		assert.Empty(t, withinSQL(netip.MustParsePrefix(prefix), 1))
	}
}

func TestAddrs(t *testing.T) {
	db := peers(t, "192.0.2.1", "192.0.2.1", "192.0.2.10", "2001:db8::1")
	got := map[string]int{}
	for a, err := range db.Addrs(context.Background()) {
		require.NoError(t, err)
		got[a.String()]++
	}
	assert.Equal(t, map[string]int{"192.0.2.1": 1, "192.0.2.10": 1}, got)
	for range db.Addrs(context.Background()) {
		break
	}
}
