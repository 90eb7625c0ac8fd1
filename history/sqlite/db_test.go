package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/internal/race"
)

var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// entry returns the i-th of many different entries at some thousand places.
func entry(i int) history.Entry {
	p := uint16(i)
	lat := float64(i*7919%3000)/100 + 30
	return history.Entry{
		Agent: "host", Protocol: "tcp", Direction: "out",
		Local:   netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), 1024+p%60000),
		Peer:    netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 16), byte(i >> 8)}), 443),
		Program: [...]string{"curl", "firefox", "sshd"}[i%3], Exe: "/usr/bin/curl",
		ASN: 64496 + uint32(i%16), Org: "Example Networks", Country: "DE",
		Lat: lat, Lon: lat / 3, Located: true, Precision: "country", Rule: "Other",
		New: true, Opened: noon, Seen: noon, Tx: 100, Rx: 1000,
	}
}

func entries(from, n int) []history.Entry {
	s := make([]history.Entry, n)
	for i := range s {
		s[i] = entry(from + i)
	}
	return s
}

func open(t testing.TB, name string) *DB {
	db, err := Open(t.Context(), name, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func path(t testing.TB) string { return filepath.Join(t.TempDir(), "history.sqlite") }

// query returns the rows of a query as text; NULL as "NULL".
func query(t testing.TB, db *DB, q string) [][]string {
	var rows [][]string
	err := db.read(context.Background(), q, func(stmt *sqlite.Stmt) error {
		rows = append(rows, texts(stmt))
		return nil
	})
	require.NoError(t, err, q)
	return rows
}

// texts returns the columns of a row; NULL as "NULL".
func texts(stmt *sqlite.Stmt) []string {
	row := make([]string, stmt.ColumnCount())
	for i := range row {
		row[i] = stmt.ColumnText(i)
		if stmt.ColumnIsNull(i) {
			row[i] = "NULL"
		}
	}
	return row
}

// execute runs a statement as another program would.
func execute(t testing.TB, name, sql string) error {
	conn, err := sqlite.OpenConn(name, sqlite.OpenReadWrite)
	require.NoError(t, err)
	defer conn.Close()
	conn.SetBusyTimeout(busyTimeout)
	return sqlitex.ExecuteTransient(conn, sql, nil)
}

// slow skips a test of one goroutine that takes long with the race detector.
func slow(t testing.TB) {
	if race.Enabled {
		t.Skip("slow with the race detector, which finds nothing in one goroutine")
	}
}

// fewer returns how often to do what costs much with the race detector.
func fewer(n int) int {
	if race.Enabled {
		return n / 5
	}
	return n
}

// TestPlacesAreMarks: what a history has survives being saved as marks.
func TestPlacesAreMarks(t *testing.T) {
	db := open(t, path(t))
	require.NoError(t, db.Record(t.Context(), entries(0, 5000)))
	name := filepath.Join(t.TempDir(), "places.txt")
	require.NoError(t, history.SaveMarks(name, db.Places(t.Context())))
	got, err := history.LoadMarks(name)
	require.NoError(t, err)
	want := places(t, db)
	require.Len(t, got, len(want))
	for _, m := range got {
		assert.Equal(t, want[[2]float64{m.Lat, m.Lon}], m.Count)
	}
}

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func count(t testing.TB, db *DB) string {
	return query(t, db, `SELECT count(*) FROM detailed_history`)[0][0]
}

func places(t testing.TB, db *DB) map[[2]float64]int64 {
	got := make(map[[2]float64]int64)
	for m, err := range db.Places(context.Background()) {
		require.NoError(t, err)
		got[[2]float64{m.Lat, m.Lon}] += m.Count
	}
	return got
}

func TestClosed(t *testing.T) {
	db := open(t, path(t))
	require.NoError(t, db.Close())
	require.NoError(t, db.Close())
	assert.ErrorIs(t, db.Record(t.Context(), entries(0, 1)), os.ErrClosed)
	for _, err := range db.Places(t.Context()) {
		assert.ErrorIs(t, err, os.ErrClosed)
	}
}

func TestOpenAgain(t *testing.T) {
	name := filepath.Join(t.TempDir(), "new folder", "sub", "history.sqlite")
	db := open(t, name)
	require.NoError(t, db.Record(t.Context(), entries(0, 100)))
	if runtime.GOOS == "linux" {
		for _, f := range []string{name, name + "-wal", name + "-shm", name + ".lock"} {
			info, err := os.Stat(f)
			require.NoError(t, err)
			assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), f)
		}
		info, err := os.Stat(filepath.Dir(name))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	}
	for pragma, want := range map[string]string{
		"auto_vacuum": "2", "journal_mode": "wal", "application_id": "1668112752", "user_version": "7",
	} {
		assert.Equal(t, want, query(t, db, "PRAGMA "+pragma)[0][0], pragma)
	}

	_, err := Open(t.Context(), name, Options{})
	assert.EqualError(t, err, "history: "+name+": another server is recording into it: stop that one or choose another file")

	require.NoError(t, db.Close())
	require.NoError(t, os.Chmod(name, 0o644))
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(name, link))
	db = open(t, link)
	assert.Equal(t, "100", count(t, db))
	assert.Empty(t, db.Problem())
	info, err := os.Stat(name)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	empty := path(t)
	require.NoError(t, os.WriteFile(empty, nil, 0o644))
	require.NoError(t, os.Chmod(empty, 0o644))
	open(t, empty)
	info, err = os.Stat(empty)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestConcurrentOpen(t *testing.T) {
	name := path(t)
	opened := make(chan *DB, 8)
	var wg sync.WaitGroup
	for range cap(opened) {
		wg.Go(func() {
			if db, err := Open(t.Context(), name, Options{}); err == nil {
				opened <- db
			}
		})
	}
	wg.Wait()
	require.Len(t, opened, 1)
	require.NoError(t, (<-opened).Close())
}

func TestForeignFiles(t *testing.T) {
	tests := []struct{ name, sql, want string }{
		{"other program", `CREATE TABLE moz_cookies (id)`, "a database of another program: choose another file, this one stays as it is"},
		{"other program with an id", `PRAGMA application_id = 77`, "a database of another program: choose another file, this one stays as it is"},
		{"newer", schema + `PRAGMA application_id = 0x636d6170; PRAGMA user_version = 8`, "written by a newer version of this program (schema 8, this one knows 7): update this one or choose another file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name := path(t)
			conn, err := sqlite.OpenConn(name, sqlite.OpenReadWrite|sqlite.OpenCreate)
			require.NoError(t, err)
			for _, s := range strings.SplitAfterN(tt.sql, ";", 2) {
				if strings.HasPrefix(s, "PRAGMA journal") {
					require.NoError(t, sqlitex.ExecuteTransient(conn, s, nil))
				} else {
					require.NoError(t, sqlitex.ExecuteScript(conn, s, nil))
				}
			}
			require.NoError(t, conn.Close())
			require.NoError(t, os.Chmod(name, 0o644))
			before, err := os.ReadFile(name)
			require.NoError(t, err)

			_, err = Open(t.Context(), name, Options{})
			assert.EqualError(t, err, "history: "+name+": "+tt.want)
			after, err := os.ReadFile(name)
			require.NoError(t, err)
			assert.True(t, string(before) == string(after))
			files, _ := filepath.Glob(name + ".*")
			assert.Empty(t, files)
			info, err := os.Stat(name)
			require.NoError(t, err)
			assert.Equal(t, os.FileMode(0o644), info.Mode().Perm())
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	_, err := Open(t.Context(), "", Options{})
	assert.EqualError(t, err, "history: no file named")
	dir := t.TempDir()
	_, err = Open(t.Context(), dir, Options{})
	assert.ErrorContains(t, err, "history: "+dir+": ")
	assert.ErrorContains(t, err, "choose another")

	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = Open(t.Context(), filepath.Join(file, "x"), Options{})
	assert.ErrorContains(t, err, "choose another file")
}

func TestNoPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o500))
	_, err := Open(t.Context(), filepath.Join(dir, "x"), Options{})
	assert.ErrorIs(t, err, os.ErrPermission)
	assert.ErrorContains(t, err, "give this user the right to write there")
}

func TestEmptyFiles(t *testing.T) {
	name := path(t)
	require.NoError(t, os.WriteFile(name, nil, 0o600))
	db := open(t, name)
	require.NoError(t, db.Record(t.Context(), entries(0, 1)))

	// A database from which everything was dropped has pages already.
	name = path(t)
	conn, err := sqlite.OpenConn(name, sqlite.OpenReadWrite|sqlite.OpenCreate)
	require.NoError(t, err)
	require.NoError(t, sqlitex.ExecuteScript(conn, `CREATE TABLE t (a); DROP TABLE t`, nil))
	require.NoError(t, conn.Close())
	db = open(t, name)
	require.NoError(t, db.Record(t.Context(), entries(0, 1)))
	assert.Equal(t, "2", query(t, db, "PRAGMA auto_vacuum")[0][0])
}

func TestDamagedFiles(t *testing.T) {
	// Pages of 4096 bytes; quick_check must see damage anywhere in a tree.
	zero := func(at, n int64) func(*testing.T, *os.File) {
		return func(t *testing.T, f *os.File) {
			_, err := f.WriteAt(make([]byte, n), at)
			require.NoError(t, err)
		}
	}
	tests := []struct {
		name   string
		damage func(*testing.T, *os.File)
	}{
		{"header", zero(0, 100)},
		{"magic only", zero(3, 1)},
		{"schema", zero(100, 3000)},
		{"inner page", zero(20*4096, 4096)},
		{"cut short", func(t *testing.T, f *os.File) { require.NoError(t, f.Truncate(50_000)) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name := path(t)
			db := open(t, name)
			require.NoError(t, db.Record(t.Context(), entries(0, 3000)))
			require.NoError(t, db.Close())
			f, err := os.OpenFile(name, os.O_RDWR, 0)
			require.NoError(t, err)
			tt.damage(t, f)
			require.NoError(t, f.Close())
			bad, err := os.ReadFile(name)
			require.NoError(t, err)

			db = open(t, name)
			kept, err := filepath.Glob(name + ".corrupt-*Z")
			require.NoError(t, err)
			require.Len(t, kept, 1)
			assert.Contains(t, db.Problem(), name+" was damaged (")
			assert.Contains(t, db.Problem(), "kept as "+kept[0]+"; its rows before the first and after the last damaged page `"+saving(kept[0])+"` puts")
			got, err := os.ReadFile(kept[0])
			require.NoError(t, err)
			assert.Equal(t, bad, got)
			require.NoError(t, db.Record(t.Context(), entries(0, 7)))
			assert.Equal(t, "7", count(t, db))

			if _, err := exec.LookPath("sqlite3"); err != nil || tt.name != "inner page" {
				return
			}
			dir := t.TempDir()
			save := exec.Command("sh", "-c", saving(kept[0]))
			save.Dir = dir
			out, err := save.CombinedOutput()
			require.NoError(t, err, string(out))
			saved := open(t, filepath.Join(dir, "NEW"))
			assert.Empty(t, saved.Problem())
			assert.NotEqual(t, "0", count(t, saved))
			assert.Equal(t, "0", query(t, saved, `SELECT count(*) FROM detailed_history WHERE agent = '' OR protocol = ''`)[0][0])
		})
	}
}

// TestSavingQuotes: a name is no part of the command.
func TestSavingQuotes(t *testing.T) {
	assert.Contains(t, saving("/home/a $(touch b)/h.sqlite"), `sqlite3 '/home/a $(touch b)/h.sqlite' .dump`)
}

// TestDamagedIndex: what quick_check does not see, the entries of an index, is
// damage too if opening needs it.
func TestDamagedIndex(t *testing.T) {
	name := path(t)
	db := open(t, name)
	require.NoError(t, db.Record(t.Context(), entries(0, 10)))
	require.NoError(t, db.Close())
	conn, err := sqlite.OpenConn(name, sqlite.OpenReadOnly)
	require.NoError(t, err)
	root, err := number(conn, `SELECT rootpage FROM sqlite_schema WHERE name = 'detailed_history_timestamp'`)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	bad, err := os.ReadFile(name)
	require.NoError(t, err)
	// An entry's header of 3 bytes, the second for an integer of 4 bytes, becomes
	// longer than the entry.
	page := bad[(root-1)*4096 : root*4096]
	copy(page, bytes.ReplaceAll(page, []byte{3, 4}, []byte{127, 4}))
	require.NoError(t, os.WriteFile(name, bad, 0o600))

	db = open(t, name)
	assert.Contains(t, db.Problem(), name+" was damaged (")
	kept, err := filepath.Glob(name + ".corrupt-*Z")
	require.NoError(t, err)
	require.Len(t, kept, 1)
	got, err := os.ReadFile(kept[0])
	require.NoError(t, err)
	assert.Equal(t, bad, got)
	require.NoError(t, db.Record(t.Context(), entries(0, 7)))
	assert.Equal(t, "7", count(t, db))
}

// A second damaged file within the same second does not replace the first.
func TestDamagedTwice(t *testing.T) {
	name := path(t)
	require.NoError(t, open(t, name).Close())
	for range 3 {
		require.NoError(t, os.Truncate(name, 5000))
		open(t, name).Close()
	}
	kept, err := filepath.Glob(name + ".corrupt-*")
	require.NoError(t, err)
	kept = slices.DeleteFunc(kept, func(s string) bool { return strings.HasSuffix(s, "-wal") || strings.HasSuffix(s, "-shm") })
	assert.Len(t, kept, 3)
}

// Damage that appears while the file is open is dealt with as well.
func TestDamagedMeanwhile(t *testing.T) {
	name := path(t)
	db := open(t, name)
	require.NoError(t, db.Record(t.Context(), entries(0, 20_000)))
	require.NoError(t, db.Close())
	db = open(t, name)
	// The test may not open the file itself: closing it would cancel SQLite's
	// locks. These pages come through SQLite, as if the disk had lost them.
	require.NoError(t, sqlitex.ExecuteScript(db.conn, `PRAGMA writable_schema = ON;
		UPDATE sqlite_schema SET rootpage = 7 WHERE type = 'index';`, nil))
	require.NoError(t, db.conn.Close())
	conn, err := sqlite.OpenConn(name, sqlite.OpenReadWrite)
	require.NoError(t, err)
	db.conn = conn

	require.NoError(t, db.Record(t.Context(), entries(20_000, 3000)))
	assert.Equal(t, "3000", count(t, db))
	assert.Contains(t, db.Problem(), "was damaged")
}

func TestReadersAndWriter(t *testing.T) {
	db := open(t, path(t))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			last := int64(0)
			for ctx.Err() == nil {
				sum := int64(0)
				for m, err := range db.Places(t.Context()) {
					if !assert.NoError(t, err) {
						return
					}
					sum += m.Count
				}
				// Transactions show as a whole.
				assert.Zero(t, sum%100)
				assert.GreaterOrEqual(t, sum, last)
				last = sum
			}
		})
	}
	// Two goroutines that record at once.
	rounds := fewer(50)
	var writers sync.WaitGroup
	for w := range 2 {
		writers.Go(func() {
			for i := range rounds {
				assert.NoError(t, db.Record(t.Context(), entries(w*1_000_000+i*100, 100)))
			}
		})
	}
	writers.Wait()
	cancel()
	wg.Wait()
	sum := int64(0)
	for _, n := range places(t, db) {
		sum += n
	}
	assert.EqualValues(t, 2*rounds*100, sum)
}

// A reader in the middle of its loop does not hold up the writer.
func TestSlowReader(t *testing.T) {
	db := open(t, path(t))
	rows := fewer(1000)
	require.NoError(t, db.Record(t.Context(), entries(0, rows)))
	n := 0
	for _, err := range db.Places(t.Context()) {
		require.NoError(t, err)
		if n++; n <= 20 {
			require.NoError(t, db.Record(t.Context(), entries(rows*n, rows)))
		}
	}
	assert.Equal(t, fmt.Sprint(21*rows), count(t, db))
}
