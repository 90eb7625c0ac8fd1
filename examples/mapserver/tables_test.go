package main

import (
	"compress/gzip"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/monitor"
	"github.com/connmapgo/connmap/geoip"
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
