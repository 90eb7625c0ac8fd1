package main

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
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
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
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
// or removes or replaces it. It goes on with what the file says, and says what happened.
func TestCutTable(t *testing.T) {
	t.Run("geo", func(t *testing.T) {
		testCutTable(t, "dbip-city-lite.csv.gz", "20.0.2.0,20.0.2.255,OC,AU,Queensland,\"South Brisbane\",-27.4767,153.017\n", "South Brisbane",
			"*.geo", func(c *live.Conn) string { return c.Place.City })
	})
	t.Run("asn", func(t *testing.T) {
		testCutTable(t, "ip2asn-combined.tsv.gz", "20.0.2.0\t20.0.2.255\t64500\tAU\tExample Networks\n", "Example Networks",
			"*.asn", func(c *live.Conn) string { return c.Org })
	})
}

func testCutTable(t *testing.T, base, line, want, cached string, shown func(*live.Conn) string) {
	peer := netip.MustParseAddrPort("20.0.2.7:443")
	for _, tt := range []struct {
		name    string
		spoil   func(file string) error
		problem string // empty: nothing is to be said
	}{
		{"cut to nothing", func(file string) error { return os.Truncate(file, 0) }, " was truncated while it was in use; it was compiled again, "},
		{"cut by half", func(file string) error {
			info, err := os.Stat(file)
			if err != nil {
				return err
			}
			return os.Truncate(file, info.Size()/2)
		}, " was truncated while it was in use; it was compiled again, "},
		{"written over", func(file string) error {
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte(strings.Repeat("nonsense", 32<<10)), 4096)
			return errors.Join(err, f.Close())
		}, "; it was compiled again, "},
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
			original := filepath.Join(dir, base)
			writeGzip(t, original, line)
			open := func() *app {
				a := &app{cfg: cfg, log: slog.New(slog.DiscardHandler), monitor: &monitor.Monitor{}}
				a.monitor.SetRules(rules.Default())
				a.openTables()
				return a
			}
			open()
			file, err := filepath.Glob(filepath.Join(cfg.cacheDir, cached))
			require.NoError(t, err)
			require.Len(t, file, 1)
			// The file's time must differ from that of what is written into it.
			require.NoError(t, os.Chtimes(file[0], time.Time{}, time.Now().Add(-time.Hour)))
			a := open()
			ctx, cancel := context.WithCancel(t.Context())
			a.watchTables(ctx, 10*time.Millisecond)
			defer a.work.Wait()
			defer cancel()

			require.NoError(t, tt.spoil(file[0]))
			agent := feed.Agent{ID: 1, Name: "nas"}
			a.monitor.Join(agent)
			first := func(id uint64) string {
				a.monitor.Delta(agent, []conntrack.Event{{Kind: conntrack.Open, Conn: conntrack.Conn{ID: id, Proto: conntrack.TCP, Peer: peer}}})
				a.monitor.Publish()
				return shown(a.monitor.State().Conns[0]) // the one that was opened first
			}
			if tt.problem == "" {
				for id := range uint64(20) {
					require.Equal(t, want, first(id+1))
					time.Sleep(5 * time.Millisecond)
				}
				assert.Empty(t, a.monitor.State().Problems)
				broken := filepath.Join(cfg.dataDir, "GeoLite2-City.mmdb")
				require.NoError(t, os.WriteFile(broken, []byte("\x00cut off"), 0o600))
				b := &app{cfg: cfg, log: slog.New(slog.DiscardHandler), monitor: &monitor.Monitor{}}
				b.monitor.SetRules(rules.Default())
				b.openTables()
				b.monitor.Publish()
				assert.Contains(t, strings.Join(b.monitor.State().Problems, "\n"), "the data folder: left out: "+broken)
				require.NoError(t, os.Remove(broken))
				return
			}
			id := uint64(0)
			require.Eventually(t, func() bool {
				id++
				now := first(id)
				return len(a.monitor.State().Problems) > 0 && now == want
			}, time.Minute, 5*time.Millisecond)
			require.Len(t, a.monitor.State().Problems, 1)
			assert.Contains(t, a.monitor.State().Problems[0], file[0])
			assert.Contains(t, a.monitor.State().Problems[0], tt.problem) // of the check or of the look-ups, whichever came first
			assert.FileExists(t, file[0])

			// Where the source is gone too, that is said once, until it is there again.
			require.NoError(t, os.Rename(original, original+".away"))
			require.NoError(t, os.Truncate(file[0], 0))
			said := func(part string) func() bool {
				return func() bool {
					a.monitor.Publish()
					return strings.Contains(strings.Join(a.monitor.State().Problems, "\n"), part)
				}
			}
			require.Eventually(t, said("it cannot be compiled again"), time.Minute, 5*time.Millisecond)
			probe := func(addr string) string {
				c := live.Conn{Org: a.monitor.Network(netip.MustParseAddr(addr))}
				c.Place, _ = a.monitor.Locate(netip.MustParseAddr(addr))
				return shown(&c)
			}
			assert.NotContains(t, probe("20.0.2.200"), want) // looked up for the first time
			require.NoError(t, os.Rename(original+".away", original))
			require.Eventually(t, said("it was compiled again"), time.Minute, 5*time.Millisecond)
			assert.Contains(t, probe("20.0.2.7"), want)
		})
	}
}

// TestDownloadedTables: what connmap-data has downloaded is used unasked, whatever it is called,
// and compiled once. Of several tables the most exact place counts.
func TestDownloadedTables(t *testing.T) {
	cfg := config{dataDir: t.TempDir(), cacheDir: filepath.Join(t.TempDir(), "cache")}
	writeGzip(t, filepath.Join(cfg.dataDir, "dbip-country-lite.csv.gz"), "20.0.2.0,20.0.2.255,AU\n20.51.100.0,20.51.100.255,NZ\n")
	writeGzip(t, filepath.Join(cfg.dataDir, "places of cities.gz"), "20.0.2.0,20.0.2.255,OC,AU,Queensland,\"South Brisbane\",-27.4767,153.017\n")
	writeGzip(t, filepath.Join(cfg.dataDir, "dbip-asn-lite.csv.gz"), "20.0.2.0,20.0.2.255,64500,\"Example Networks\"\n")
	writeGzip(t, filepath.Join(cfg.dataDir, "holder.csv.gz"), "# geofeed\n20.51.100.0/25,FR,,Paris,\n20.0.2.0/24,AU,,Sydney,\n")
	for range 2 {
		a := &app{cfg: cfg, log: slog.New(slog.DiscardHandler), monitor: &monitor.Monitor{}}
		a.monitor.SetRules(rules.Default())
		a.openTables()
		a.work.Wait()
		locate := func(addr string) geoip.Place {
			p, _ := a.monitor.Locate(netip.MustParseAddr(addr))
			return p
		}
		assert.Equal(t, geoip.Place{Lat: -27.4767, Lon: 153.017, Country: "AU", City: "South Brisbane", Precision: geoip.City}, locate("20.0.2.7"))
		assert.Equal(t, "NZ", locate("20.51.100.200").Country)
		assert.Equal(t, "FR", locate("20.51.100.1").Country, "the holder says so")
		a.monitor.Publish()
		assert.False(t, a.monitor.State().Geo.CountryLevel)
		assert.Empty(t, a.monitor.State().Problems)
		assert.Equal(t, "AS64500 Example Networks", a.monitor.Network(netip.MustParseAddr("20.0.2.7")))
		files, err := os.ReadDir(cfg.cacheDir)
		require.NoError(t, err)
		assert.Len(t, files, 4)
	}
}

// TestNamedTables: named files are used in place of those in the data folder; one that cannot be
// read is reported as a problem, and the others are used.
func TestNamedTables(t *testing.T) {
	dir := t.TempDir()
	writeGzip(t, filepath.Join(dir, "dbip-city-lite.csv.gz"), "20.0.2.0,20.0.2.255,OC,AU,Queensland,Brisbane,-27.4767,153.017\n")
	v4, v6 := filepath.Join(t.TempDir(), "v4.gz"), filepath.Join(t.TempDir(), "v6.gz")
	writeGzip(t, v4, "20.0.2.0,20.0.2.255,FR\n")
	writeGzip(t, v6, "2a00:db8::,2a00:db8::ffff,DE\n")
	cfg, err := parse([]string{"-geo", v4, "-geo", v6, "-geo", filepath.Join(dir, "missing.csv"), "-history", "none"}, io.Discard)
	require.NoError(t, err)
	cfg.dataDir, cfg.cacheDir = dir, t.TempDir()
	a := &app{cfg: cfg, log: slog.New(slog.DiscardHandler), monitor: &monitor.Monitor{}}
	a.monitor.SetRules(rules.Default())
	a.openTables()
	for addr, want := range map[string]string{"20.0.2.1": "FR", "2a00:db8::1": "DE"} {
		p, _ := a.monitor.Locate(netip.MustParseAddr(addr))
		assert.Equal(t, want, p.Country)
	}
	a.monitor.Publish()
	assert.Contains(t, strings.Join(a.monitor.State().Problems, "\n"), "missing.csv")
	assert.Contains(t, strings.Join(a.monitor.State().Problems, "\n"), "other tables are used instead")
}
