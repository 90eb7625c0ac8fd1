package frame

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	names, err := filepath.Glob(filepath.Join(dir, "0*"+spoolSuffix))
	require.NoError(t, err)
	return names
}

// TestSpoolRemovesUnfinished: batches that killed processes have not finished go after a day, and
// nothing that this package has not made.
func TestSpoolRemovesUnfinished(t *testing.T) {
	dir := t.TempDir()
	s, err := openSpool(dir)
	require.NoError(t, err)
	_, err = s.putUnsent(closes(1, 1), 0)
	require.NoError(t, err)
	name := s.batches[0].name
	old := time.Now().Add(-25 * time.Hour)
	for file, stays := range map[string]bool{
		name + ".123.new": false, name + ".45.new": true, name + ".new.txt": true, "notes.ends.7.new": true, name: true,
	} {
		path := filepath.Join(dir, file)
		require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
		if file != name+".45.new" { // which may be being written
			require.NoError(t, os.Chtimes(path, old, old))
		}
		defer func() {
			if _, err := os.Stat(path); stays {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, os.ErrNotExist)
			}
		}()
	}
	again, err := openSpool(dir)
	require.NoError(t, err)
	assert.Len(t, again.batches, 1)
}

// TestSpoolIsBounded: close events for which there is no room are counted, and so are damaged
// ones.
func TestSpoolIsBounded(t *testing.T) {
	if race.Enabled {
		t.Skip("slow with the race detector, which finds nothing in one goroutine")
	}
	dir := t.TempDir()
	s, err := openSpool(dir)
	require.NoError(t, err)
	ends := closes(1, 15_000)
	for i := range 60 {
		full, err := s.putUnsent(ends, 1)
		require.NoError(t, err)
		assert.Equal(t, len(s.batches) <= i, full)
	}
	assert.LessOrEqual(t, s.bytes, int64(defaultMaxSpool))
	kept, told := len(s.batches), uint64(0)
	for _, b := range s.batches {
		told += b.closes + b.lost
	}
	assert.EqualValues(t, 60*15_001, told)
	again, err := openSpool(dir)
	require.NoError(t, err)
	assert.Equal(t, s.bytes, again.bytes)
	for i, b := range s.batches {
		b.answered = false // another run has to ask
		assert.Equal(t, b, again.batches[i])
	}
	first := func() (got []conntrack.Event, lost uint64) {
		for _, d := range again.readFirst() {
			got, lost = append(got, d.closes...), lost+d.lost
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
	// What was sent is not read again.
	deltas := again.readFirst()
	require.Greater(t, len(deltas), 2)
	again.batches[0].sent = deltas[1].number
	assert.Equal(t, deltas[2:], again.readFirst())
	for _, damage := range [][]byte{nil, []byte("damaged"), {0x99, 0x3a, 0x98}} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, again.batches[0].name), damage, 0o600))
		got, lost = first()
		assert.Empty(t, got)
		assert.EqualValues(t, 15_001, lost)
		again.dropFirst()
	}
	require.NoError(t, os.Remove(filepath.Join(dir, again.batches[0].name)))
	for range 2 {
		got, lost = first()
		assert.Empty(t, got)
		assert.EqualValues(t, 15_001, lost)
	}
	again.batches[0].sent = again.readFirst()[0].number
	_, lost = first()
	assert.Zero(t, lost, "the server knows")
	again.dropFirst()
	assert.Equal(t, kept-4, len(again.batches))

	// Other files are left alone.
	for _, name := range []string{"1-2-3.ends", "000000000001-2.ends", "000000000001-2-3-00.ends", "000000000001-2-3.ends.12.new"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	third, err := openSpool(dir)
	require.NoError(t, err)
	assert.Len(t, third.batches, len(again.batches))
	_, err = OpenTable(TableOptions{Spool: "/dev/null/x"})
	assert.ErrorContains(t, err, "/dev/null")
}

// TestFolderOfOthers: a folder with other files is no spool, and stays as it is.
func TestFolderOfOthers(t *testing.T) {
	for name, make := range map[string]func(name string) error{
		"passwd": func(name string) error { return os.WriteFile(name, nil, 0o600) },
		"folder": func(name string) error { return os.Mkdir(name, 0o700) },
	} {
		dir := t.TempDir()
		for range 2 { // empty, and with what the first has left
			table, err := OpenTable(TableOptions{Spool: dir})
			require.NoError(t, err)
			require.NoError(t, table.Close())
		}
		require.NoError(t, os.Remove(filepath.Join(dir, "run.ends")))
		require.NoError(t, make(filepath.Join(dir, name)))
		_, err := OpenTable(TableOptions{Spool: dir})
		assert.EqualError(t, err, fmt.Sprintf("feed: %s is no folder for a spool, since %q is there too: name an empty folder, or one that is missing", dir, name))
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Len(t, entries, 1)
	}
}

// TestSpoolKeepsTimes: a close event from the spool has the times with which it went there,
// even if the clock was set back meanwhile. The history tells connections apart by them.
func TestSpoolKeepsTimes(t *testing.T) {
	tb := newTable()
	var err error
	tb.spool, err = openSpool(t.TempDir())
	require.NoError(t, err)
	e := closes(1, 1)[0]
	e.Conn.Opened = time.Now().Add(time.Hour).Round(time.Microsecond)
	e.Time = e.Conn.Opened.Add(time.Second)
	tb.Add(e)
	require.NoError(t, tb.Close())
	got := tb.spool.readFirst()[0].closes[0]
	assert.True(t, e.Conn.Opened.Equal(got.Conn.Opened) && e.Time.Equal(got.Time), "%v to %v, not %v to %v", got.Conn.Opened, got.Time, e.Conn.Opened, e.Time)
}

// TestNamesAreCut: what is kept of names holds for the connections of now, and for those that an
// earlier run with other settings has left in the spool.
func TestNamesAreCut(t *testing.T) {
	dir := t.TempDir()
	tb := newTable()
	var err error
	tb.spool, err = openSpool(dir)
	require.NoError(t, err)
	for i, e := range closes(1, 2) {
		e.Conn.Name, e.Conn.NameSource = []string{"www.example.com", "own.example"}[i], conntrack.NameSNI
		tb.Add(e)
	}
	require.NoError(t, tb.Close())

	tb, err = OpenTable(TableOptions{Spool: dir, Names: func(name string) string {
		short, _ := strings.CutPrefix(name, "www.")
		if short == name {
			return ""
		}
		return short
	}})
	require.NoError(t, err)
	tb.synced, tb.acks = true, true
	tb.Add(func() conntrack.Event {
		e := closes(3, 1)[0]
		e.Conn.Name, e.Conn.NameSource = "www.now.example", conntrack.NameDNS
		return e
	}())
	events := slices.Concat(tb.pending, tb.changes)
	for _, f := range tb.fromSpool(false) {
		events = append(events, f.(Delta).Events...)
	}
	got := map[string]conntrack.NameSource{}
	for _, e := range events {
		got[e.Conn.Name] = e.Conn.NameSource
	}
	assert.Equal(t, map[string]conntrack.NameSource{"now.example": conntrack.NameDNS, "example.com": conntrack.NameSNI, "": 0}, got)
}

// TestSpoolOnAFullDisk: if the disk is full, close events stay in memory as without a spool.
func TestSpoolOnAFullDisk(t *testing.T) {
	tb := newTable()
	dir := t.TempDir()
	var err error
	tb.spool, err = openSpool(dir)
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(dir))
	for _, e := range closes(1, defaultMaxCloses+500) {
		tb.Add(e)
	}
	assert.Len(t, tb.pending, defaultMaxCloses)
	assert.EqualValues(t, 500, tb.lost)
}

// TestStoreOnAFullDisk: if the disk is full when the agent ends, its next run counts the close
// events as lost.
func TestStoreOnAFullDisk(t *testing.T) {
	tb, dir := newTable(), t.TempDir()
	var err error
	tb.spool, err = openSpool(dir)
	require.NoError(t, err)
	tb.spool.writeFile = func(string, []byte) error { return syscall.ENOSPC }
	tb.sync(10, true)
	tb.noteSent(1, closes(1, 3), 4)
	tb.unsync(5)
	for _, e := range closes(10, 6) {
		tb.Add(e)
	}
	assert.ErrorIs(t, tb.Close(), syscall.ENOSPC)
	s, err := openSpool(dir)
	require.NoError(t, err)
	require.Len(t, s.batches, 1)
	assert.Equal(t, []spooledDelta{{number: lostNumber, lost: 3 + 4 + 5 + 6}}, s.readFirst())
}

// TestSpoolOfOlderVersions: close events that an older version has left are sent.
func TestSpoolOfOlderVersions(t *testing.T) {
	dir := t.TempDir()
	data, err := cbor.Marshal(new(rows).events(nil, closes(1, 5000)))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "000000000003-5000-7.ends"), data, 0o600))
	tb := newTable()
	tb.spool, err = openSpool(dir)
	require.NoError(t, err)
	tb.sync(10, true)
	frames := tb.fromSpool(true)
	assert.Greater(t, len(frames), 1, "frames are bounded")
	got, lost := 0, uint64(0)
	for _, f := range frames {
		got, lost = got+len(f.(Delta).Events), lost+f.(Delta).Lost
	}
	assert.Equal(t, 5000, got)
	assert.EqualValues(t, 7, lost)
	tb.acknowledge(uint64(len(frames)))
	assert.Empty(t, leftOf(t, dir))
}
