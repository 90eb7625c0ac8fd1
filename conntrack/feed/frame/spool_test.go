package frame

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/internal/race"
)

var closeTime = time.Now().Add(-time.Hour).Truncate(time.Millisecond)

// closes are close events of n connections with IDs from first on.
func closes(first, n uint64) (ends []conntrack.Event) {
	for id := first; id < first+n; id++ {
		c := testConn(id, 1)
		c.Process.Container = ""
		ends = append(ends, conntrack.Event{Kind: conntrack.Close, Time: closeTime, Conn: c})
	}
	return ends
}

// leftOf are the batches that there are in a folder.
func leftOf(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "0*"+spoolMark))
	require.NoError(t, err)
	return names
}

// TestSpoolIsBounded: what there is no room for is counted, and so is what is damaged.
func TestSpoolIsBounded(t *testing.T) {
	if race.Enabled {
		t.Skip("slow with the race detector, which finds nothing in one goroutine")
	}
	dir := t.TempDir()
	s, err := openSpool(dir)
	require.NoError(t, err)
	ends := closes(1, 15_000)
	for i := range 60 {
		full, err := s.putNew(ends, 1)
		require.NoError(t, err)
		assert.Equal(t, len(s.batches) <= i, full)
	}
	assert.LessOrEqual(t, s.bytes, int64(mostSpooled))
	kept, told := len(s.batches), uint64(0)
	for _, b := range s.batches {
		told += b.ends + b.lost
	}
	assert.EqualValues(t, 60*15_001, told)
	again, err := openSpool(dir)
	require.NoError(t, err)
	assert.Equal(t, s.bytes, again.bytes)
	for i, b := range s.batches {
		b.known = false // another run has to ask
		assert.Equal(t, b, again.batches[i])
	}
	first := func() (got []conntrack.Event, lost uint64) {
		for _, d := range again.first() {
			got, lost = append(got, d.ends...), lost+d.lost
		}
		return got, lost
	}
	got, lost := first()
	assert.EqualValues(t, 1, lost)
	require.Len(t, got, 15_000)
	for i, e := range got {
		assert.True(t, e.Conn.Equal(ends[i].Conn))
		assert.Equal(t, conntrack.Close, e.Kind)
	}
	// What is told leaves the rest.
	deltas := again.first()
	require.Greater(t, len(deltas), 2)
	again.batches[0].told = deltas[1].number
	assert.Equal(t, deltas[2:], again.first())
	for _, damage := range [][]byte{nil, []byte("damaged"), {0x99, 0x3a, 0x98}} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, again.batches[0].name), damage, 0o600))
		got, lost = first()
		assert.Empty(t, got)
		assert.EqualValues(t, 15_001, lost)
		again.drop()
	}
	require.NoError(t, os.Remove(filepath.Join(dir, again.batches[0].name)))
	for range 2 {
		got, lost = first()
		assert.Empty(t, got)
		assert.EqualValues(t, 15_001, lost)
	}
	again.batches[0].told = again.first()[0].number
	_, lost = first()
	assert.Zero(t, lost, "the server knows")
	again.drop()
	assert.Equal(t, kept-4, len(again.batches))

	// Other files are left alone.
	for _, name := range []string{"x", "1-2-3.ends", "000000000001-2.ends", "000000000001-2-3-00.ends", "000000000001-2-3.ends.12.new"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	third, err := openSpool(dir)
	require.NoError(t, err)
	assert.Len(t, third.batches, len(again.batches))
	_, err = OpenTable(TableOptions{Spool: "/dev/null/x"})
	assert.ErrorContains(t, err, "/dev/null")
}

// TestSpoolOnAFullDisk: memory goes on as without a spool.
func TestSpoolOnAFullDisk(t *testing.T) {
	tb := newTable()
	dir := t.TempDir()
	var err error
	tb.spool, err = openSpool(dir)
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(dir))
	for _, e := range closes(1, mostKept+500) {
		tb.Add(e)
	}
	assert.Len(t, tb.kept, mostKept)
	assert.EqualValues(t, 500, tb.lost)
}

// TestStoreOnAFullDisk: what a disk does not take when the agent ends its next run knows as
// lost.
func TestStoreOnAFullDisk(t *testing.T) {
	tb, dir := newTable(), t.TempDir()
	var err error
	tb.spool, err = openSpool(dir)
	require.NoError(t, err)
	tb.spool.save = func(string, []byte) error { return syscall.ENOSPC }
	tb.follow(10, true)
	tb.sending(1, closes(1, 3), 4)
	tb.unfollow(5)
	for _, e := range closes(10, 6) {
		tb.Add(e)
	}
	assert.ErrorIs(t, tb.Close(), syscall.ENOSPC)
	s, err := openSpool(dir)
	require.NoError(t, err)
	require.Len(t, s.batches, 1)
	assert.Equal(t, []spooledDelta{{number: beyond, lost: 3 + 4 + 5 + 6}}, s.first())
}

// TestSpoolOfOlderVersions: what an older version has left is told.
func TestSpoolOfOlderVersions(t *testing.T) {
	dir := t.TempDir()
	data, err := cbor.Marshal(appendEventRows(nil, closes(1, 5000)))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "000000000003-5000-7.ends"), data, 0o600))
	tb := newTable()
	tb.spool, err = openSpool(dir)
	require.NoError(t, err)
	tb.follow(10, true)
	frames := tb.unspool(true)
	assert.Greater(t, len(frames), 1, "frames are bounded")
	got, lost := 0, uint64(0)
	for _, f := range frames {
		got, lost = got+len(f.(Delta).Events), lost+f.(Delta).Lost
	}
	assert.Equal(t, 5000, got)
	assert.EqualValues(t, 7, lost)
	tb.acked(uint64(len(frames)))
	assert.Empty(t, leftOf(t, dir))
}
