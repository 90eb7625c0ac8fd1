package history

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func BenchmarkRecord(b *testing.B) {
	for _, bm := range []struct {
		name  string
		batch int
		seen  bool
	}{
		{"new/batch=1000", 1000, false},
		{"new/batch=1", 1, false},
		{"seen/batch=1000", 1000, true},
	} {
		b.Run(bm.name, func(b *testing.B) {
			db := open(b, path(b))
			if bm.seen {
				require.NoError(b, db.Record(b.Context(), entries(0, 20_000)))
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				b.StopTimer()
				from := i * bm.batch
				if bm.seen {
					from %= 20_000
				}
				batch := entries(from, bm.batch)
				if bm.seen {
					for j := range batch {
						batch[j].New = false
						batch[j].Tx += uint64(i)
					}
				}
				i++
				b.StartTimer()
				if err := db.Record(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*bm.batch)/b.Elapsed().Seconds(), "rows/s")
		})
	}
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

// BenchmarkOpen and BenchmarkPlaces need a file of a million rows.
func million(b *testing.B) string {
	if testing.Short() {
		b.Skip("takes a while to fill")
	}
	dir, err := os.MkdirTemp("", "history")
	require.NoError(b, err)
	b.Cleanup(func() { os.RemoveAll(dir) })
	db := open(b, filepath.Join(dir, "history.sqlite"))
	for i := range 100 {
		require.NoError(b, db.Record(context.Background(), entries(i*10_000, 10_000)))
	}
	require.NoError(b, db.Close())
	info, err := os.Stat(db.path)
	require.NoError(b, err)
	b.Logf("%d bytes a row", info.Size()/1e6)
	return db.path
}

func BenchmarkMillionRows(b *testing.B) {
	name := million(b)
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
	b.Run("record/new/batch=1000", func(b *testing.B) {
		i := 0
		for b.Loop() {
			b.StopTimer()
			batch := entries(1_000_000+i*1000, 1000)
			i++
			b.StartTimer()
			require.NoError(b, db.Record(b.Context(), batch))
		}
		b.ReportMetric(float64(b.N*1000)/b.Elapsed().Seconds(), "rows/s")
	})
	b.Run("record/seen/batch=1000", func(b *testing.B) {
		i := 0
		for b.Loop() {
			b.StopTimer()
			batch := make([]Entry, 1000)
			for j := range batch {
				batch[j] = entry((i*1000 + j) * 7919 % 1_000_000)
				batch[j].New = false
				batch[j].Tx += uint64(i)
			}
			i++
			b.StartTimer()
			require.NoError(b, db.Record(b.Context(), batch))
		}
		b.ReportMetric(float64(b.N*1000)/b.Elapsed().Seconds(), "rows/s")
	})
	for i, q := range []string{
		`SELECT count(*) FROM detailed_history WHERE timestamp > datetime('2026-07-01 12:00:30', '-30 seconds')`,
		`SELECT orgname, sum(count) FROM detailed_history GROUP BY orgname ORDER BY 2 DESC LIMIT 20`,
		`SELECT ip, count(*) FROM detailed_history a WHERE NOT EXISTS (
			SELECT 1 FROM detailed_history b WHERE b.ip = a.ip AND b.programname <> 'sshd') GROUP BY ip`,
	} {
		b.Run(fmt.Sprint("query=", i+1), func(b *testing.B) {
			for b.Loop() {
				query(b, db, q)
			}
		})
	}
}
