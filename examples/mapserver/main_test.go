package main

import (
	"bytes"
	"context"
	"flag"
	"image/png"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/adrg/xdg"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/geoip"
)

var update = flag.Bool("update", false, "rewrite the golden pictures")

// ownFolders gives the test its own folders, also for its home.
func ownFolders(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "HOME"} {
		t.Setenv(name, dir)
	}
	xdg.Reload()
	t.Cleanup(xdg.Reload)
	return filepath.Join(dir, "connmap")
}

// tokenOf returns the token of a server whose XDG_CONFIG_HOME is a folder.
func tokenOf(t *testing.T, config string) feed.Token {
	t.Helper()
	id, err := feed.LoadIdentity(filepath.Join(config, "connmap"))
	require.NoError(t, err)
	return id.Token()
}

func TestGoldenDemo(t *testing.T) {
	for _, theme := range []string{"dark", "light"} {
		t.Run(theme, func(t *testing.T) {
			ownFolders(t)
			got := filepath.Join(t.TempDir(), "demo.png")
			golden := filepath.Join("testdata", "demo-"+theme+".png")
			require.NoError(t, run(context.Background(), []string{"-demo", "500", "-theme", theme, "-screenshot", got, "-after", "0s"}, io.Discard, io.Discard))
			b, err := os.ReadFile(got)
			require.NoError(t, err)
			if *update {
				require.NoError(t, os.WriteFile(golden, b, 0o644))
			}
			compare(t, golden, b)
		})
	}
}

// compare fails if more than a few pixels of a picture differ visibly from
// the golden one.
func compare(t *testing.T, golden string, b []byte) {
	t.Helper()
	f, err := os.Open(golden)
	require.NoError(t, err)
	defer f.Close()
	want, err := png.Decode(f)
	require.NoError(t, err)
	got, err := png.Decode(bytes.NewReader(b))
	require.NoError(t, err)
	require.Equal(t, want.Bounds(), got.Bounds())
	differ := 0
	for y := range want.Bounds().Dy() {
		for x := range want.Bounds().Dx() {
			r1, g1, b1, _ := want.At(x, y).RGBA()
			r2, g2, b2, _ := got.At(x, y).RGBA()
			for _, d := range []int{int(r1>>8) - int(r2>>8), int(g1>>8) - int(g2>>8), int(b1>>8) - int(b2>>8)} {
				if d > 3 || d < -3 {
					differ++
					break
				}
			}
		}
	}
	assert.LessOrEqual(t, differ, 20, "pixels that differ from %s; go test -run Golden -update rewrites it after a wanted change", golden)
}

func TestBadInput(t *testing.T) {
	ownFolders(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"port in use", []string{"-headless", "-listen", taken.Addr().String()}, "is in use"},
		{"no such host", []string{"-headless", "-listen", "203.0.113.1:1"}, "cannot listen on 203.0.113.1:1"},
		{"home", []string{"-home", "north"}, "expected LAT,LON"},
		{"home out of range", []string{"-home", "91,0"}, "expected LAT,LON"},
		{"home not a number", []string{"-home", "NaN,0"}, "expected LAT,LON"},
		{"size", []string{"-size", "big"}, "expected WIDTHxHEIGHT"},
		{"empty question", []string{"-query", " "}, "the query is empty"},
		{"times without question", []string{"-times", "iso"}, "-times can only be used with -query"},
		{"format without question", []string{"-format", "csv", "-headless"}, "-format can only be used with -query"},
		{"raw without csv", []string{"-query", "list", "-raw"}, "-raw can only be used with -format csv"},
		{"raw without question", []string{"-raw"}, "-raw can only be used with -query"},
		{"timeout", []string{"-query", "list", "-timeout", "-1s"}, "-timeout: expected a time such as 1h, or 0"},
		{"theme", []string{"-theme", "pink"}, "expected dark or light"},
		{"demo", []string{"-demo", "-1"}, "expected 1 to 1000000"},
		{"argument", []string{"map"}, "unexpected argument"},
		{"flag", []string{"-nonsense"}, "-h lists the flags"},
		{"screenshot in no folder", []string{"-demo", "1", "-after", "0s", "-screenshot", "/nonexistent/x.png"}, "/nonexistent/x.png"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := run(context.Background(), tt.args, io.Discard, io.Discard)
			assert.ErrorContains(t, err, tt.want)
			assert.NotContains(t, err.Error(), "\n")
		})
	}
	assert.ErrorIs(t, run(context.Background(), []string{"-h"}, io.Discard, io.Discard), flag.ErrHelp)
	var out strings.Builder
	require.NoError(t, run(context.Background(), []string{"-version"}, &out, io.Discard))
	assert.Equal(t, "mapserver development\n", out.String())
}

// TestDamagedFiles: the server says what is wrong with each file, starts
// without it and overwrites nothing.
func TestDamagedFiles(t *testing.T) {
	dir := ownFolders(t)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	files := map[string]string{"connmaprc": "\"Web\",peer,443,0,0,255,255,0,0\nnonsense\n", "geo": "nonsense", "asn": "nonsense",
		"history.sqlite": "no database at all, but some text that is long enough to be one", "server-cert.pem": "nonsense", "server-key.pem": "nonsense"}
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	cfg, err := parse([]string{"-geo", filepath.Join(dir, "geo"), "-asn", filepath.Join(dir, "asn"), "-listen", "127.0.0.1:0", "-no-local", "-headless"}, io.Discard)
	require.NoError(t, err)
	a, err := start(context.Background(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	a.monitor.Publish()
	problems := a.monitor.State().Problems
	a.stop()
	all := ""
	for _, p := range problems {
		all += p + "\n"
	}
	assert.Len(t, problems, 5, all)
	for _, want := range []string{"connmaprc", "line 2", "/geo", "/asn", "history.sqlite", "server-"} {
		assert.Contains(t, all, want)
	}
	for name, text := range files {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if name == "history.sqlite" && string(b) != text {
			kept, _ := filepath.Glob(filepath.Join(dir, "history.sqlite.corrupt-*"))
			require.Len(t, kept, 1, "kept aside")
			b, err = os.ReadFile(kept[0])
		}
		require.NoError(t, err)
		assert.Equal(t, text, string(b), name)
	}
}

func TestHeadlessReports(t *testing.T) {
	ownFolders(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out := endsAt{text: " live connections of ", end: cancel}
	err := run(ctx, []string{"-headless", "-demo", "50", "-listen", "127.0.0.1:0"}, &out, io.Discard)
	require.NoError(t, err)
	assert.Contains(t, out.String(), "connmap-agent 127.0.0.1:")
	assert.Contains(t, out.String(), "Running without a window")
	assert.Contains(t, out.String(), "1 agent, ")
	assert.Contains(t, out.String(), " live connections of ")
}

// An endsAt collects what is written until a text has come, and then calls end.
type endsAt struct {
	bytes.Buffer
	text string
	end  func()
}

func (w *endsAt) Write(b []byte) (int, error) {
	n, err := w.Buffer.Write(b)
	if strings.Contains(w.String(), w.text) {
		w.end()
	}
	return n, err
}

func TestSummaryCountsWhatIsKnown(t *testing.T) {
	unnamed := &conntrack.Process{}
	st := &live.State{Agents: make([]live.Agent, 1), Conns: []*live.Conn{
		{Process: &conntrack.Process{Comm: "ssh"}, Place: geoip.Place{Country: "DE", Precision: geoip.Country}},
		{Process: unnamed, Place: geoip.Place{Lat: 1, Precision: geoip.City}}, // from a table without countries
		{Process: unnamed},
		{Process: unnamed, Scope: live.LAN},
		{State: conntrack.LastAck, Process: &conntrack.Process{Comm: "curl"}}, // no longer live
	}}
	assert.Equal(t, "1 agent, 4 live connections of 1 program to 1 country, 1 to unknown places", summary(st))
}

func TestZonePlace(t *testing.T) {
	table := filepath.Join(t.TempDir(), "zone1970.tab")
	require.NoError(t, os.WriteFile(table, []byte("# comment\nDE,DK\t+5230+01322\tEurope/Berlin\tmost\nUS\t+404251-0740023\tAmerica/New_York\nXX\tnonsense\tBad/Zone\n"), 0o600))
	p, ok := zonePlace(table, "Europe/Berlin")
	require.True(t, ok)
	assert.Equal(t, "DE", p.Country)
	assert.InDelta(t, 52.5, p.Lat, 0.001)
	assert.InDelta(t, 13.3667, p.Lon, 0.001)
	assert.Equal(t, geoip.Country, p.Precision)
	p, ok = zonePlace(table, "America/New_York")
	require.True(t, ok)
	assert.InDelta(t, -74.0064, p.Lon, 0.001)
	for _, zone := range []string{"", "Bad/Zone", "Etc/UTC"} {
		_, ok = zonePlace(table, zone)
		assert.False(t, ok, zone)
	}
}

// poll reports whether something comes true in time. Unlike require.Eventually it stays
// on the goroutine of the test.
func poll(within, every time.Duration, ok func() bool) bool {
	for end := time.Now().Add(within); ; time.Sleep(every) {
		if ok() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}
