package sqlite

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/history"
)

func TestRow(t *testing.T) {
	db := open(t, path(t))
	e := entry(0)
	e.Agent, e.Protocol, e.Direction = "laptop", "udp", "in"
	e.Peer = netip.MustParseAddrPort("[2001:db8::1]:53")
	e.Lat, e.Lon, e.Precision = 52.52, 13.405, "city"
	e.Container = "c0ffee"
	e.Opened = noon.Add(250 * time.Millisecond).In(time.FixedZone("", 7200))
	e.Seen = noon.Add(3 * time.Second)
	require.NoError(t, db.Record(t.Context(), []history.Entry{e}))
	const all = `SELECT id, timestamp, ip, port, local_ip, local_port, programname, full_lookup, asn, orgname, lat, lon, x, y, count,
		agent, direction, protocol, exe, container, country, rule, opened, last_opened, closed, tx, rx, tx_before, rx_before, precision FROM detailed_history`
	want := []string{
		"1", "1782907203", "2001:db8::1", "53", "192.0.2.1", "1024", "curl", "", "AS64496", "Example Networks",
		"52.52", "13.405", "508", "154", "1", "laptop", "in", "udp", "/usr/bin/curl", "c0ffee", "DE", "Other",
		"1782907200.25", "1782907200.25", "NULL", "100", "1000", "0", "0", "city",
	}
	assert.Equal(t, [][]string{want}, query(t, db, all))
	assert.Equal(t, [][]string{{"1"}}, query(t, db, `SELECT count(*) FROM detailed_history WHERE timestamp > unixepoch('2026-07-01 12:00:33', '-31 seconds')`))

	// An entry of which nothing is known has a row too.
	require.NoError(t, db.Record(t.Context(), []history.Entry{{}}))
	want = []string{"2", "-62135596800", "", "0", "", "0", "", "", "", "", "NULL", "NULL", "NULL", "NULL", "1",
		"", "", "", "", "", "", "", "-62135596800.0", "-62135596800.0", "NULL", "0", "0", "0", "0", ""}
	assert.Equal(t, want, query(t, db, all)[1])
}

// TestSameMillisecond: connections with the same ends that opened within a millisecond are
// told apart, also by a history that was closed meanwhile.
func TestSameMillisecond(t *testing.T) {
	name := path(t)
	db := open(t, name)
	for i := range 4 {
		if i == 2 {
			require.NoError(t, db.Close())
			db = open(t, name)
		}
		e := entry(0)
		e.New, e.Tx, e.Rx = true, 10, 20
		e.Opened = noon.Add(time.Duration(i/2*3+i) * 100 * time.Microsecond)
		e.Closed = e.Opened.Add(50 * time.Microsecond)
		require.NoError(t, db.Record(t.Context(), []history.Entry{e, e}))
	}
	assert.Equal(t, [][]string{{"4", "40", "80", "0"}}, query(t, db, `SELECT count, tx, rx, closed < last_opened FROM detailed_history`))
}

func TestPixel(t *testing.T) {
	tests := []struct {
		lat, lon float64
		x, y     int64
	}{
		{0, 0, 471, 326},
		{0, -180, -29, 326},
		{0, 180, 971, 326},
		{85.0511287798066, 0, 471, -174},
		{90, 0, 471, -174},
		{-90, 0, 471, 826},
		{52.52, 13.405, 508, 154},
	}
	for _, tt := range tests {
		x, y := pixel(tt.lat, tt.lon)
		assert.Equal(t, [2]int64{tt.x, tt.y}, [2]int64{x, y}, "%v %v", tt.lat, tt.lon)
	}
}

func TestHostileValues(t *testing.T) {
	db := open(t, path(t))
	texts := []string{
		`'; DROP TABLE detailed_history; --`, `"`, "a\x00b", "\xff\xfe\x80", strings.Repeat("x", 10_000), "?1 :a @b $c", "Ω日本\u202e", "a",
	}
	var all []history.Entry
	for _, s := range texts {
		e := entry(0)
		e.Agent, e.Program, e.Exe, e.Org, e.Rule, e.Container, e.Country, e.Direction = s, s, s, s, s, s, s, s
		all = append(all, e)
	}
	require.NoError(t, db.Record(t.Context(), all))
	for i, row := range query(t, db, `SELECT agent, programname, exe, orgname, rule, container, country, direction FROM detailed_history ORDER BY id`) {
		for _, got := range row {
			assert.Equal(t, texts[i], got)
		}
	}
	assert.Equal(t, "8", count(t, db))

	// Numbers out of range neither fail nor overflow.
	e := entry(1)
	e.Tx, e.Rx, e.Lat = math.MaxUint64, math.MaxUint64, math.NaN()
	e.Opened = time.Date(-5000, 1, 1, 0, 0, 0, 0, time.UTC)
	e.Seen = time.Date(292277, 1, 1, 0, 0, 0, 0, time.UTC)
	f := e
	f.Opened, f.Lat = noon, math.Inf(1)
	require.NoError(t, db.Record(t.Context(), []history.Entry{e, f}))
	assert.Equal(t, [][]string{{"9999-12-31 23:59:59", "0000-01-01 00:00:00.000", "2026-07-01 12:00:00.000", "1125899906842624", "NULL", "2"}},
		query(t, db, `SELECT datetime(timestamp, 'unixepoch'), strftime('%F %H:%M:%f', opened, 'unixepoch'), strftime('%F %H:%M:%f', last_opened, 'unixepoch'), tx, lat, count FROM detailed_history WHERE id = 9`))
}

// milliseconds is the layout of what timeTexts selects.
const milliseconds = "2006-01-02 15:04:05.000"

// timeTexts are the times of a row as texts.
const timeTexts = `datetime(timestamp, 'unixepoch'), strftime('%F %H:%M:%f', opened, 'unixepoch'), strftime('%F %H:%M:%f', last_opened, 'unixepoch'), strftime('%F %H:%M:%f', closed, 'unixepoch')`

// A row is the part of a row that changes when a connection is recorded
// again.
type row struct {
	Count              int
	Seen               string
	Opened, LastOpened string
	Closed             string
	Tx, Rx             uint64
	Rule               string
}

// twin does with a map what Record does in SQL.
type twin struct {
	rows    map[key]*row
	before  map[key][2]uint64
	located map[key][2]float64
	openers map[key]key // by another program of a connection
}

func newTwin() *twin {
	return &twin{map[key]*row{}, map[key][2]uint64{}, map[key][2]float64{}, map[key]key{}}
}

// open reports whether there is an open row.
func (w *twin) open(k key) bool { return w.rows[k] != nil && w.rows[k].Closed == "NULL" }

// opener returns the key of the row that an entry belongs to.
func (w *twin) opener(e *history.Entry) key {
	k := keyOf(e)
	if o, ok := w.openers[k]; ok {
		return o
	}
	if !e.Resumed || w.open(k) {
		return k
	}
	var all []key
	for o := range w.rows {
		of := o
		of.program = k.program
		if of == k && w.open(o) {
			all = append(all, o)
		}
	}
	if len(all) == 0 {
		return k
	}
	distance := func(k key) time.Duration {
		at, err := time.Parse(milliseconds, w.rows[k].LastOpened)
		if err != nil {
			panic(err)
		}
		return at.Sub(e.Opened).Abs()
	}
	w.openers[k] = slices.MinFunc(all, func(a, b key) int {
		return cmp.Or(cmp.Compare(distance(a), distance(b)), cmp.Compare(a.program, b.program))
	})
	return w.openers[k]
}

func (w *twin) record(e history.Entry) {
	k := w.opener(&e)
	opened := e.Opened.Format(milliseconds)
	closed := "NULL"
	if !e.Closed.IsZero() {
		closed = e.Closed.Format(milliseconds)
	}
	r := w.rows[k]
	if r == nil {
		r = &row{Count: 1, Opened: opened, LastOpened: opened, Closed: "NULL"}
		w.rows[k] = r
	} else if e.New && e.Resumed && r.Closed == "NULL" {
		r.LastOpened = opened
	} else if e.New && r.LastOpened != opened {
		r.Count++
		r.LastOpened = opened
		w.before[k] = [2]uint64{r.Tx, r.Rx}
	}
	if e.New || closed != "NULL" {
		r.Closed = closed
	}
	if closed != "NULL" {
		maps.DeleteFunc(w.openers, func(_, o key) bool { return o == k })
	}
	r.Seen, r.Rule = e.Seen.Format(time.DateTime), e.Rule
	r.Tx, r.Rx = w.before[k][0]+e.Tx, w.before[k][1]+e.Rx
	delete(w.located, k)
	if e.Located {
		w.located[k] = [2]float64{e.Lat, e.Lon}
	}
}

func (w *twin) check(t testing.TB, db *DB) {
	got := make(map[key]*row)
	for _, c := range query(t, db, `SELECT agent, protocol, programname, local_ip, local_port, ip, port,
			count, `+timeTexts+`, tx, rx, rule FROM detailed_history`) {
		k := key{c[0], c[1], c[2], netip.MustParseAddrPort(c[3] + ":" + c[4]), netip.MustParseAddrPort(c[5] + ":" + c[6])}
		r := &row{Seen: c[8], Opened: c[9], LastOpened: c[10], Closed: c[11], Rule: c[14]}
		fmt.Sscan(c[7], &r.Count)
		fmt.Sscan(c[12], &r.Tx)
		fmt.Sscan(c[13], &r.Rx)
		got[k] = r
	}
	require.Equal(t, w.rows, got)

	marks := make(map[[2]float64]int64)
	for k, p := range w.located {
		marks[p] += int64(w.rows[k].Count)
	}
	require.Equal(t, marks, places(t, db))
}

// small makes an entry of few possible ones from four bytes, so that all that
// can meet does.
func small(b []byte) history.Entry {
	e := history.Entry{
		Agent: [...]string{"a", "b"}[b[0]&1], Protocol: [...]string{"tcp", "udp"}[b[0]>>1&1], Program: [...]string{"", "x", "y", "z"}[b[0]>>2&1|b[1]>>6&2],
		Local:  netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), 1000+uint16(b[0]>>3&1)),
		Peer:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, b[0] >> 4 & 1}), uint16(b[0]>>5&1)),
		New:    b[1]&1 != 0,
		Opened: noon.Add(time.Duration(b[1]>>1&3) * time.Millisecond),
		Seen:   noon.Add(time.Duration(b[2]) * time.Second),
		Tx:     uint64(b[2]), Rx: uint64(b[3]), Rule: fmt.Sprint(b[3] & 3),
		Located: b[1]>>3&3 != 0, Lat: float64(b[1] >> 5 & 1), Lon: float64(b[1] >> 6 & 1),
	}
	if b[3]>>6 == 0 {
		e.Closed = e.Seen
	}
	// A connection that is found open. Late ends have tests of their own.
	e.Resumed = e.Closed.IsZero() && b[3]>>4&3 == 0
	return e
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 0, 3, 2, 200, 0, 8, 9, 10}, uint8(1))
	f.Add([]byte("the same connection opens, is seen, closes and opens again"), uint8(5))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		// A file of its own for each execution would mostly test the disk.
		db := open(t, filepath.Join(dir, fmt.Sprint(os.Getpid())))
		defer db.Close()
		require.NoError(t, db.Reset(t.Context()))
		require.Empty(t, places(t, db))
		var batch []history.Entry
		want := newTwin()
		for ; len(data) >= 4; data = data[4:] {
			e := small(data)
			want.record(e)
			if batch = append(batch, e); len(batch) > int(step) {
				require.NoError(t, db.Record(t.Context(), batch))
				batch = batch[:0]
			}
		}
		require.NoError(t, db.Record(t.Context(), batch))
		want.check(t, db)
	})
}

func TestRecordLikeTwin(t *testing.T) {
	db := open(t, path(t))
	rng := rand.New(rand.NewPCG(1, 2))
	want := newTwin()
	for range 300 {
		batch := make([]history.Entry, rng.IntN(50))
		for i := range batch {
			batch[i] = small(binary.LittleEndian.AppendUint32(nil, rng.Uint32()))
			want.record(batch[i])
		}
		require.NoError(t, db.Record(t.Context(), batch))
	}
	want.check(t, db)
}

// TestEarlierOpening: a connection that is reported late does not disturb the one that has
// its addresses and ports by now, whose bytes are all counted.
func TestEarlierOpening(t *testing.T) {
	for _, lives := range []bool{true, false} {
		db := open(t, path(t))
		now := entry(1)
		now.New, now.Opened, now.Seen, now.Tx, now.Rx = true, noon.Add(63*time.Second), noon.Add(63*time.Second), 1, 2
		closed := now
		closed.New, closed.Seen, closed.Closed, closed.Tx, closed.Rx = false, noon.Add(2*time.Minute), noon.Add(2*time.Minute), 10, 20
		before := now
		before.Resumed = true
		before.Opened, before.Seen, before.Closed, before.Tx, before.Rx = noon, noon.Add(time.Second), noon.Add(time.Second), 100, 200
		order := []history.Entry{now, before, closed}
		if !lives {
			order = []history.Entry{now, closed, before}
		}
		for _, e := range order {
			require.NoError(t, db.Record(t.Context(), []history.Entry{e}))
		}
		assert.Equal(t, [][]string{{"2026-07-01 12:02:00", "2026-07-01 12:00:00.000", "2026-07-01 12:01:03.000", "2026-07-01 12:02:00.000", "2", "110", "220"}},
			query(t, db, `SELECT `+timeTexts+`, count, tx, rx FROM detailed_history`))
	}
}

// TestEndOfAnotherBefore: of a connection that was reported as open, its end is reported after
// another one has had its addresses and ports: each counts once, with its bytes.
func TestEndOfAnotherBefore(t *testing.T) {
	for _, corrected := range []time.Duration{0, 20 * time.Second} {
		db := open(t, path(t))
		first := entry(1)
		first.New, first.Opened, first.Seen, first.Tx, first.Rx = true, noon, noon, 1, 2
		second := first
		second.Opened, second.Seen, second.Closed = noon.Add(7*time.Second), noon.Add(8*time.Second), noon.Add(8*time.Second)
		second.Tx, second.Rx = 10, 20
		end := first
		end.Resumed, end.Opened, end.Seen, end.Closed, end.Tx, end.Rx = true, noon.Add(corrected), noon.Add(3*time.Second), noon.Add(3*time.Second), 100, 200
		for _, e := range []history.Entry{first, second, end} {
			require.NoError(t, db.Record(t.Context(), []history.Entry{e}))
			// Also if the server has been started anew meanwhile.
			require.NoError(t, db.Close())
			db = open(t, db.path)
		}
		assert.Equal(t, "0", query(t, db, `SELECT count(*) FROM unended`)[0][0])
		assert.Equal(t, [][]string{{"2", "110", "220"}}, query(t, db, `SELECT count, tx, rx FROM detailed_history`))
	}
}

// TestProgramBeforeRestart: a connection whose program has executed another one stays one row of the
// program that opened it, also if the server or its agent is restarted meanwhile and reports the
// other program. Closed rows of other programs do not change.
func TestProgramBeforeRestart(t *testing.T) {
	for _, gap := range []time.Duration{0, 10 * time.Second, 63 * time.Second} {
		for _, restarted := range []bool{true, false} {
			db := open(t, path(t))
			record := func(all ...history.Entry) {
				require.NoError(t, db.Record(t.Context(), all))
				if restarted {
					require.NoError(t, db.Close())
					db = open(t, db.path)
				}
			}
			first := entry(1)
			first.Program, first.Exe, first.New, first.Opened, first.Seen, first.Tx = "inetd", "/sbin/inetd", true, noon, noon, 10
			old := first // of another connection
			old.Program, old.Opened, old.Closed = "cat", noon.Add(-time.Hour), noon.Add(-time.Minute)
			ended := old
			ended.Program = "aaa"
			record(old, ended, first)
			next := first
			next.Program, next.Exe, next.Container, next.Resumed = "cat", "/bin/cat", "c", true
			next.Opened, next.Tx, next.Rule = noon.Add(gap), 20, "other"
			record(next)
			// It may execute a third one.
			next.Program = "nc"
			record(next)
			record(next)
			// What was known as cat is nc for a while, and cat again.
			next.Program, next.New, next.Tx, next.Seen = "cat", false, 30, noon.Add(2*time.Minute)
			next.Closed = next.Seen
			record(next)
			assert.Equal(t, [][]string{
				{"aaa", "/sbin/inetd", "", "1", "10", "1"}, {"cat", "/sbin/inetd", "", "1", "10", "1"}, {"inetd", "/sbin/inetd", "", "1", "30", "1"},
			}, query(t, db, `SELECT programname, exe, container, count, tx, closed IS NOT NULL FROM detailed_history ORDER BY programname`), "%v, %v", gap, restarted)
			// The sizes that retention counts are still those of the rows.
			assert.Equal(t, query(t, db, `SELECT agent, count(*), sum(`+rowSizeSQL+`) FROM detailed_history GROUP BY agent`),
				query(t, db, `SELECT agent, rows, bytes FROM agents`))
			// The same ends once more are another connection, of the program that opens it.
			next.New, next.Resumed, next.Opened, next.Closed, next.Tx = true, false, noon.Add(3*time.Minute), time.Time{}, 1
			record(next)
			assert.Equal(t, [][]string{{"aaa", "1", "10"}, {"cat", "2", "11"}, {"inetd", "1", "30"}},
				query(t, db, `SELECT programname, count, tx FROM detailed_history ORDER BY programname`))
			require.NoError(t, db.Close())
		}
	}
}

// TestManyPrograms: a connection is found among those of any number of programs of its address, in
// a file from before the index of open rows too.
func TestManyPrograms(t *testing.T) {
	db := open(t, path(t))
	e := entry(1)
	e.New, e.Opened, e.Seen = true, noon, noon
	var all []history.Entry
	for i := range 2000 {
		e.Program, e.Closed = fmt.Sprintf("%04d", i), noon
		if i == 1234 {
			e.Closed = time.Time{}
		}
		all = append(all, e)
	}
	// Others with the same ports and local address, to other peers.
	other := e
	other.Closed = time.Time{}
	for i := range maxAlike / 2 {
		other.Peer = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), e.Peer.Port())
		other.Program = fmt.Sprint(i)
		all = append(all, other)
	}
	require.NoError(t, db.Record(t.Context(), all))
	require.NoError(t, sqlitex.ExecuteTransient(db.conn, `DROP INDEX detailed_history_open`, nil))
	require.NoError(t, db.Close())
	db = open(t, db.path)
	e.Program, e.Resumed, e.Closed, e.Tx = "other", true, time.Time{}, 77
	require.NoError(t, db.Record(t.Context(), []history.Entry{e}))
	assert.Equal(t, [][]string{{"1234", "77"}}, query(t, db, `SELECT programname, tx FROM detailed_history WHERE closed IS NULL AND ip = '`+e.Peer.Addr().String()+`'`))
}

// TestClockOfAgentCorrected: a connection that goes on while the clock of its agent is
// corrected is not another one.
func TestClockOfAgentCorrected(t *testing.T) {
	db := open(t, path(t))
	e := entry(1)
	e.New, e.Opened, e.Seen, e.Closed = true, noon, noon, noon.Add(time.Second)
	require.NoError(t, db.Record(t.Context(), []history.Entry{e}))
	e.Closed = time.Time{}
	for i, d := range []time.Duration{15 * time.Second, 25 * time.Second, 5 * time.Second} {
		e.Opened, e.Seen, e.Resumed = noon.Add(d), noon.Add(d), i > 0
		require.NoError(t, db.Record(t.Context(), []history.Entry{e}))
	}
	assert.Equal(t, [][]string{{"2"}}, query(t, db, `SELECT count FROM detailed_history`))
}

// TestClockOfServerSetBack: the end of a connection that its agent has found is that of the row that
// is open, although the server's clock was set back meanwhile.
func TestClockOfServerSetBack(t *testing.T) {
	for _, restarted := range []bool{true, false} {
		db := open(t, path(t))
		e := entry(1)
		e.New, e.Opened, e.Seen, e.Tx = true, time.Now().Add(time.Minute), time.Now().Add(2*time.Minute), 10
		require.NoError(t, db.Record(t.Context(), []history.Entry{e}))
		if restarted {
			require.NoError(t, db.Close())
			db = open(t, db.path)
		}
		e.Resumed, e.Opened, e.Tx = true, time.Now().Add(-7*time.Second), 20
		e.Closed = time.Now()
		e.Seen = e.Closed
		require.NoError(t, db.Record(t.Context(), []history.Entry{e}))
		assert.Equal(t, [][]string{{"1", "20", "1"}}, query(t, db, `SELECT count, tx, closed IS NOT NULL FROM detailed_history`))
	}
}

func TestRecordIsAllOrNothing(t *testing.T) {
	db := open(t, path(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, db.Record(ctx, entries(0, 10)), context.Canceled)
	assert.Equal(t, "0", count(t, db))
	require.NoError(t, db.Record(t.Context(), entries(0, 10)))
	for _, err := range db.Places(ctx) {
		assert.ErrorIs(t, err, context.Canceled)
	}
	n := 0
	for _, err := range db.Places(t.Context()) {
		require.NoError(t, err)
		n++
		break
	}
	assert.Equal(t, 1, n)
}

// TestLosses: what agents could not tell is added up by the hour.
func TestLosses(t *testing.T) {
	db := open(t, path(t))
	w := db.Writer()
	at := time.Date(2026, 5, 1, 12, 10, 0, 0, time.UTC)
	for i, l := range []history.Loss{{Agent: "nas", Count: 3, Seen: at}, {Agent: "nas", Count: 4, Seen: at.Add(time.Minute)}, {Agent: "web", Count: 1, Seen: at}, {Agent: "nas", Count: 9, Seen: at.Add(time.Hour)}} {
		w.Add(l)
		if i == 0 {
			w.Add(entry(1))
		}
	}
	require.NoError(t, w.Close())
	assert.Equal(t, [][]any{{int64(1777636800), "nas", int64(7)}, {int64(1777636800), "web", int64(1)}, {int64(1777640400), "nas", int64(9)}},
		ask(t, console(t, db), `SELECT timestamp, agent, count FROM losses ORDER BY timestamp, agent`, nil))
	s, err := db.Stats()
	require.NoError(t, err)
	assert.EqualValues(t, 1, s.Rows)
	require.NoError(t, db.Reset(t.Context()))
	assert.Empty(t, ask(t, console(t, db), `SELECT * FROM losses`, nil))
}
