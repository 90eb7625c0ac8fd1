package main

import (
	"compress/gzip"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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

// TestCutTable: somebody cuts the compiled table of a server that runs, which goes on and
// says so.
func TestCutTable(t *testing.T) {
	dir := t.TempDir()
	cfg := config{dataDir: dir, cacheDir: filepath.Join(dir, "cache")}
	writeGzip(t, filepath.Join(dir, "dbip-city-lite.csv.gz"), "192.0.2.0,192.0.2.255,OC,AU,Queensland,\"South Brisbane\",-27.4767,153.017\n")
	cfg.geo = cfg.downloaded(geoFiles)
	a := &app{cfg: cfg, log: slog.New(slog.DiscardHandler), monitor: &monitor.Monitor{}}
	a.monitor.SetRules(rules.Default())
	a.openTables()
	a.work.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	a.work.Go(func() { a.watchTable(ctx, a.monitor.Geo[0], time.Millisecond) })
	files, err := filepath.Glob(filepath.Join(cfg.cacheDir, "*"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.NoError(t, os.Truncate(files[0], 0))
	for i := range 256 {
		a.monitor.Geo[0].Lookup(netip.AddrFrom4([4]byte{byte(i), 0, 2, 7}))
	}
	a.work.Wait()
	require.NoError(t, ctx.Err())
	a.monitor.Publish()
	problems := a.monitor.State().Problems
	require.Len(t, problems, 1)
	assert.Contains(t, problems[0], "some places are unknown: ")
	assert.Contains(t, problems[0], files[0]+": it is compiled anew at the next start")
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
