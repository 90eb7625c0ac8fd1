//go:build unix

package sqlite

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/history"
)

// rowsEnv says how many rows the files of the benchmarks have; 10 million take
// some minutes to make.
const rowsEnv = "CONNMAP_HISTORY_ROWS"

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// perCPU records batches and reports rows for each second of processor time.
func perCPU(b *testing.B, batch int, next func() []history.Entry, db *DB) {
	var cpu time.Duration
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		entries := next()
		b.StartTimer()
		start := cpuTime()
		if err := db.Record(b.Context(), entries); err != nil {
			b.Fatal(err)
		}
		cpu += cpuTime() - start
	}
	b.ReportMetric(float64(b.N*batch)/cpu.Seconds(), "rows/cpu-s")
}

// recordings are the ways in which connections are recorded.
func recordings(b *testing.B, db *DB, rows int) {
	traffic := months(max(rows, 1))
	for range 1000 {
		traffic() // another part of the traffic than fill's beginning
	}
	for range 20 {
		require.NoError(b, db.Record(b.Context(), take(traffic, 1000))) // the caches are cold after opening
	}
	b.Run("new/batch=1000", func(b *testing.B) {
		perCPU(b, 1000, func() []history.Entry { return take(traffic, 1000) }, db)
	})
	b.Run("new/batch=1", func(b *testing.B) {
		perCPU(b, 1, func() []history.Entry { return take(traffic, 1) }, db)
	})
	const alive = 20_000
	live := take(traffic, alive)
	for i := range live {
		live[i].Closed = time.Time{}
	}
	require.NoError(b, db.Record(b.Context(), live))
	at := 0
	b.Run("seen/batch=1000", func(b *testing.B) {
		perCPU(b, 1000, func() []history.Entry {
			batch := live[at : at+1000]
			at = (at + 1000) % alive
			for i := range batch {
				batch[i].New = false
				batch[i].Seen = batch[i].Seen.Add(15 * time.Second)
				batch[i].Tx += 100
			}
			return batch
		}, db)
	})
}

func BenchmarkRecord(b *testing.B) { recordings(b, open(b, path(b)), 1_000_000) }

// BenchmarkTool is what the sqlite3 tool, which is the C library, takes for new rows into
// the same table, in one transaction, ready for use in a file of CSV.
func BenchmarkTool(b *testing.B) {
	tool, err := exec.LookPath("sqlite3")
	if err != nil {
		b.Skip("needs sqlite3")
	}
	const rows = 20_000
	db := open(b, path(b))
	require.NoError(b, db.Record(b.Context(), take(months(1_000_000), rows)))
	csv := filepath.Join(b.TempDir(), "rows.csv")
	out, err := exec.Command(tool, "-csv", db.path, `SELECT * FROM detailed_history`).Output()
	require.NoError(b, err)
	require.NoError(b, os.WriteFile(csv, out, 0o600))
	var used time.Duration
	for b.Loop() {
		b.StopTimer()
		to := open(b, path(b))
		require.NoError(b, to.Close())
		cmd := exec.Command(tool, to.path, ".mode csv", ".import '"+csv+"' detailed_history")
		b.StartTimer()
		out, err := cmd.CombinedOutput()
		require.NoError(b, err, string(out))
		used += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	b.ReportMetric(float64(b.N)*rows/used.Seconds(), "rows/cpu-s")
}

// BenchmarkSecond is a second in which 1,000 connections open and 1,000 others end, in
// four batches as the Writer makes them.
func BenchmarkSecond(b *testing.B) {
	db := open(b, path(b))
	traffic := months(1_000_000)
	live := take(traffic, 1000)
	require.NoError(b, db.Record(b.Context(), live))
	var cpu time.Duration
	for b.Loop() {
		opens := take(traffic, 1000)
		start := cpuTime()
		for i := 0; i < 1000; i += 250 {
			for j := i; j < i+250; j++ {
				live[j].New = false
				opens[j].Closed = time.Time{}
			}
			require.NoError(b, db.Record(b.Context(), append(slices.Clone(opens[i:i+250]), live[i:i+250]...)))
		}
		cpu += cpuTime() - start
		for i := range opens {
			opens[i].Closed = opens[i].Seen
		}
		live = opens
	}
	b.ReportMetric(cpu.Seconds()/float64(b.N)*100, "%cpu")
}

// BenchmarkWriter is 100,000 connections of a fleet that a Writer stores, from its first entry
// until its end. A connection is reported when it has closed, or when it opens and again when it
// has closed.
func BenchmarkWriter(b *testing.B) {
	const rows = 100_000
	traffic := fleet(months(1_000_000))
	for _, reports := range []int{1, 2} {
		b.Run(fmt.Sprint("reports=", reports), func(b *testing.B) {
			var cpu time.Duration
			for b.Loop() {
				b.StopTimer()
				all := reported(take(traffic, rows), reports)
				db := open(b, path(b))
				b.StartTimer()
				start := cpuTime()
				w := db.Writer()
				room := make(chan struct{}, 60)
				for some := range slices.Chunk(all, 1000) {
					room <- struct{}{}
					w.AddAll(some, func() { <-room })
				}
				require.NoError(b, w.Close())
				cpu += cpuTime() - start
				b.StopTimer()
				require.Zero(b, w.Dropped())
				openings, err := number(db.conn, `SELECT sum(count) FROM detailed_history`)
				require.NoError(b, err)
				require.EqualValues(b, rows, openings)
				require.NoError(b, db.Close())
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N)*rows/cpu.Seconds(), "rows/cpu-s")
		})
	}
}

// reported is what is reported of connections. If there are two reports of each, the second
// comes when 20,000 others have opened.
func reported(all []history.Entry, reports int) (records []history.Record) {
	if reports == 1 {
		for _, e := range all {
			records = append(records, e)
		}
		return records
	}
	const alive = 20_000
	for i := range len(all) + alive {
		if i < len(all) {
			e := all[i]
			e.Closed, e.Seen = time.Time{}, e.Opened
			records = append(records, e)
		}
		if i >= alive {
			e := all[i-alive]
			e.New = false
			records = append(records, e)
		}
	}
	return records
}

func BenchmarkWriterAdd(b *testing.B) {
	db := open(b, path(b))
	w := db.Writer()
	e := entries(0, 10_000)
	for i := range e {
		e[i].New = false
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		w.Add(e[i%len(e)])
		i++
	}
	require.NoError(b, w.Close())
}

// filled makes a file of months of traffic.
func filled(b *testing.B) (name string, rows int) {
	if testing.Short() {
		b.Skip("takes a while to fill")
	}
	rows = 1_000_000
	if n, err := strconv.Atoi(os.Getenv(rowsEnv)); err == nil {
		rows = n
	}
	dir, err := os.MkdirTemp("", "history")
	require.NoError(b, err)
	b.Cleanup(func() { os.RemoveAll(dir) })
	db := open(b, filepath.Join(dir, "history.sqlite"))
	traffic := months(rows)
	cpu, wall := cpuTime(), time.Now()
	for range rows / 10_000 {
		require.NoError(b, db.Record(b.Context(), take(traffic, 10_000)))
	}
	b.Logf("filled with %.0f rows/s, %.0f rows/cpu-s", float64(rows)/time.Since(wall).Seconds(), float64(rows)/(cpuTime()-cpu).Seconds())
	require.NoError(b, db.Close())
	info, err := os.Stat(db.path)
	require.NoError(b, err)
	b.Logf("%d bytes a row", info.Size()/int64(rows))
	return db.path, rows
}

// BenchmarkMonths opens and asks a file of months.
func BenchmarkMonths(b *testing.B) {
	name, rows := filled(b)
	b.Run(fmt.Sprint("rows=", rows), func(b *testing.B) {
		b.Run("open", func(b *testing.B) {
			for b.Loop() {
				require.NoError(b, open(b, name).Close())
			}
		})
		db := open(b, name)
		b.Run("places", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				for _, err := range db.Places(b.Context()) {
					require.NoError(b, err)
					n++
				}
				b.ReportMetric(float64(n), "places")
			}
		})
		recordings(b, db, rows)
		questions(b, db, rows)
	})
}

// questions asks the saved queries at the end of the months, and what is near.
func questions(b *testing.B, db *DB, rows int) {
	c := console(b, db)
	now := strings.NewReplacer("'now'", "'"+monthsEnd.Format(time.DateTime)+"'")
	for _, q := range SavedQueries() {
		params := make(map[string]any)
		for k, v := range q.Params {
			params[k] = v
		}
		if q.Name == "program" || q.Name == "only" {
			params["program"] = "program3"
		}
		if q.Name == "name" {
			params["domain"] = "site10.example.com"
		}
		sql := now.Replace(q.SQL)
		b.Run("query="+q.Name, func(b *testing.B) {
			var n int
			for b.Loop() {
				table, err := c.Ask(b.Context(), history.Question{SQL: sql, Params: params, MaxRows: 500, Timeout: -1})
				require.NoError(b, err)
				n = len(table.Rows)
			}
			b.ReportMetric(float64(n), "rows")
			// The C library with the same file, where it has the functions.
			tool, err := exec.LookPath("sqlite3")
			if err != nil || strings.Contains(sql, "haversine") || strings.Contains(sql, "cidr_match") {
				return
			}
			for k, v := range params {
				sql = strings.ReplaceAll(sql, ":"+k, "'"+fmt.Sprint(v)+"'")
			}
			start := time.Now()
			out, err := exec.Command(tool, "-readonly", db.path, sql).CombinedOutput()
			require.NoError(b, err, string(out))
			b.ReportMetric(float64(time.Since(start).Microseconds())/1000, "sqlite3-ms")
		})
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, km := range []float64{20, 200, 2000, 20_100} {
		b.Run(fmt.Sprint("nearby/km=", km), func(b *testing.B) {
			n := 0
			for b.Loop() {
				for _, err := range db.Nearby(b.Context(), r.Float64()*120-60, r.Float64()*360-180, km, 500) {
					require.NoError(b, err)
					n++
				}
			}
			b.ReportMetric(float64(n)/float64(b.N), "rows")
		})
	}
	b.Run("prune", func(b *testing.B) {
		// A tenth goes while 1,000 connections a second are recorded.
		require.NoError(b, db.SetRetention(history.Retention{Rows: int64(rows) * 9 / 10}))
		ctx, cancel := context.WithCancel(b.Context())
		traffic := months(rows)
		for range 2000 {
			traffic()
		}
		worst, all := time.Duration(0), []time.Duration(nil)
		var wg sync.WaitGroup
		wg.Go(func() {
			for ctx.Err() == nil {
				batch := take(traffic, 250)
				start := time.Now()
				assert.NoError(b, db.Record(b.Context(), batch))
				took := time.Since(start)
				worst = max(worst, took)
				all = append(all, took)
				time.Sleep(250*time.Millisecond - took)
			}
		})
		start := time.Now()
		deleted, err := db.Prune(b.Context())
		took := time.Since(start)
		cancel()
		wg.Wait()
		require.NoError(b, err)
		slices.Sort(all)
		b.Logf("%d rows went in %v, %d recordings of 250 took %v, at most %v", deleted, took, len(all), all[len(all)/2], worst)
		b.ReportMetric(float64(worst.Microseconds())/1000, "stall-ms")
		b.ReportMetric(0, "ns/op")
	})
}

// BenchmarkMigrate takes over a million rows of connmapperl.
func BenchmarkMigrate(b *testing.B) {
	if testing.Short() {
		b.Skip("takes a while to fill")
	}
	const n = 1_000_000
	name := perlMonths(b, n)
	before, err := os.Stat(name)
	require.NoError(b, err)
	for b.Loop() {
		b.StopTimer()
		to := path(b)
		require.NoError(b, copyFile(to, name))
		b.StartTimer()
		start := cpuTime()
		db, err := Open(b.Context(), to, Options{Complete: func(e *history.Entry) { e.Direction, e.Country, e.Rule = "out", "DE", "Web Surfing" }})
		require.NoError(b, err)
		b.ReportMetric((cpuTime() - start).Seconds(), "cpu-s")
		require.NoError(b, db.Close())
		after, err := os.Stat(to)
		require.NoError(b, err)
		b.ReportMetric(float64(after.Size())/n, "B/row")
		b.ReportMetric(float64(before.Size())/n, "B/row-before")
		b.ReportMetric(float64(after.Size())/float64(before.Size()), "times-as-big")
		os.Remove(to)
	}
}

// perlMonths makes a file of connmapperl with the traffic of months.
func perlMonths(b testing.TB, n int) string {
	name := foreign(b, originalTables["integer"])
	conn, err := sqlite.OpenConn(name, sqlite.OpenReadWrite)
	require.NoError(b, err)
	defer conn.Close()
	require.NoError(b, sqlitex.ExecuteTransient(conn, `BEGIN`, nil))
	next := months(n)
	stmt := conn.Prep(`INSERT INTO detailed_history VALUES (NULL, ?, ?, ?, ?, ?, ?, '', ?, ?, ?, ?, ?, ?, ?)`)
	for range n {
		e := next()
		x, y := pixel(e.Lat, e.Lon)
		for i, v := range []any{e.Seen.Unix(), e.Peer.Addr().String(), int64(e.Peer.Port()), e.Local.Addr().String(), int64(e.Local.Port()), e.Program,
			fmt.Sprint("AS", e.ASN), e.Org, e.Lat, e.Lon, x, y, int64(1)} {
			switch v := v.(type) {
			case int64:
				stmt.BindInt64(i+1, v)
			case float64:
				stmt.BindFloat(i+1, v)
			case string:
				stmt.BindText(i+1, v)
			}
		}
		require.NoError(b, run(stmt))
	}
	require.NoError(b, sqlitex.ExecuteTransient(conn, `COMMIT`, nil))
	return name
}
