package main

import (
	"compress/gzip"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/examples/mapserver/internal/monitor"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/rules"
)

func writeGzip(t *testing.T, name, content string) {
	f, err := os.Create(name)
	require.NoError(t, err)
	w := gzip.NewWriter(f)
	_, err = w.Write([]byte(content))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, f.Close())
}

// TestCutTable: somebody cuts the compiled table of a server that runs, or writes into it,
// or removes or replaces it. It goes on with the places of the file, and says what was.
func TestCutTable(t *testing.T) {
	peer := netip.MustParseAddrPort("192.0.2.7:443")
	for _, tt := range []struct {
		name    string
		spoil   func(file string) error
		problem string // empty: nothing is to be said
	}{
		{"cut to nothing", func(file string) error { return os.Truncate(file, 0) }, " was truncated while it was in use; it was compiled anew: "},
		{"cut by half", func(file string) error {
			info, err := os.Stat(file)
			if err != nil {
				return err
			}
			return os.Truncate(file, info.Size()/2)
		}, " was truncated while it was in use; it was compiled anew: "},
		{"written over", func(file string) error {
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte(strings.Repeat("nonsense", 32<<10)), 4096)
			return errors.Join(err, f.Close())
		}, "; it was compiled anew: "},
		{"removed", os.Remove, ""},
		{"renamed over", func(file string) error {
			other := filepath.Join(filepath.Dir(filepath.Dir(file)), "other")
			if err := os.WriteFile(other, []byte("no table"), 0o600); err != nil {
				return err
			}
			return os.Rename(other, file)
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			cfg := config{dataDir: dir, cacheDir: filepath.Join(dir, "cache")}
			writeGzip(t, filepath.Join(dir, "dbip-city-lite.csv.gz"), "192.0.2.0,192.0.2.255,OC,AU,Queensland,\"South Brisbane\",-27.4767,153.017\n")
			cfg.geo = cfg.downloaded(geoFiles)
			a := &app{cfg: cfg, log: slog.New(slog.DiscardHandler), monitor: &monitor.Monitor{}}
			a.monitor.SetRules(rules.Default())
			a.openTables()
			file, err := filepath.Glob(filepath.Join(cfg.cacheDir, "*"))
			require.NoError(t, err)
			require.Len(t, file, 1)
			// The file's time must differ from that of what is written into it.
			require.NoError(t, os.Chtimes(file[0], time.Time{}, time.Now().Add(-time.Hour)))
			a.monitor = &monitor.Monitor{}
			a.monitor.SetRules(rules.Default())
			a.openTables()
			ctx, cancel := context.WithCancel(t.Context())
			a.work.Go(func() { a.watchTable(ctx, 10*time.Millisecond) })
			defer a.work.Wait()
			defer cancel()

			require.NoError(t, tt.spoil(file[0]))
			agent := feed.Agent{ID: 1, Name: "nas"}
			a.monitor.Join(agent)
			city := func(id uint64) string {
				a.monitor.Delta(agent, []conntrack.Event{{Kind: conntrack.Open, Conn: conntrack.Conn{ID: id, Proto: conntrack.TCP, Peer: peer}}})
				a.monitor.Publish()
				conns := a.monitor.State().Conns
				return conns[0].Place.City // the one that was opened first
			}
			if tt.problem == "" {
				for id := range uint64(20) {
					require.Equal(t, "South Brisbane", city(id+1))
					time.Sleep(5 * time.Millisecond)
				}
				assert.Empty(t, a.monitor.State().Problems)
				return
			}
			id := uint64(0)
			require.Eventually(t, func() bool {
				id++
				place := city(id)
				return len(a.monitor.State().Problems) > 0 && place == "South Brisbane"
			}, time.Minute, 5*time.Millisecond)
			require.Len(t, a.monitor.State().Problems, 1)
			assert.Contains(t, a.monitor.State().Problems[0], file[0])
			assert.Contains(t, a.monitor.State().Problems[0], tt.problem) // of the check or of the look-ups, whichever came first
			assert.FileExists(t, file[0])

			// Where the source is gone too, that is said once, until it is there again.
			require.NoError(t, os.Rename(cfg.geo, cfg.geo+".away"))
			require.NoError(t, os.Truncate(file[0], 0))
			said := func(part string) func() bool {
				return func() bool {
					a.monitor.Publish()
					return strings.Contains(strings.Join(a.monitor.State().Problems, "\n"), part)
				}
			}
			require.Eventually(t, said("it cannot be compiled anew"), time.Minute, 5*time.Millisecond)
			_, ok := a.monitor.Locate(netip.MustParseAddr("192.0.2.200")) // asked for the first time
			assert.False(t, ok)
			require.NoError(t, os.Rename(cfg.geo+".away", cfg.geo))
			require.Eventually(t, said("it was compiled anew"), time.Minute, 5*time.Millisecond)
			place, _ := a.monitor.Locate(netip.MustParseAddr("192.0.2.7"))
			assert.Equal(t, "South Brisbane", place.City)
		})
	}
}

// TestDownloadedTables: what connmap-data has downloaded is used unasked, and
// compiled once.
func TestDownloadedTables(t *testing.T) {
	cfg := config{dataDir: t.TempDir(), cacheDir: filepath.Join(t.TempDir(), "cache")}
	assert.Empty(t, cfg.downloaded(geoFiles))
	writeGzip(t, filepath.Join(cfg.dataDir, "dbip-city-lite.csv.gz"), "192.0.2.0,192.0.2.255,OC,AU,Queensland,\"South Brisbane\",-27.4767,153.017\n")
	cfg.geo = cfg.downloaded(geoFiles)
	require.NotEmpty(t, cfg.geo)
	for range 2 {
		a := &app{cfg: cfg, log: slog.New(slog.DiscardHandler), monitor: &monitor.Monitor{}}
		a.openTables()
		a.work.Wait()
		require.Len(t, a.monitor.Geo, 2)
		p, ok := a.monitor.Geo[0].Lookup(netip.MustParseAddr("192.0.2.7"))
		assert.True(t, ok)
		assert.Equal(t, geoip.Place{Lat: -27.4767, Lon: 153.017, Country: "AU", City: "South Brisbane", Precision: geoip.City}, p)
		assert.False(t, a.monitor.Source.CountryLevel)
		files, err := os.ReadDir(cfg.cacheDir)
		require.NoError(t, err)
		assert.Len(t, files, 1)
	}
}
