package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/history/sqlite"
	"github.com/connmapgo/connmap/internal/race"
)

// A printed collects what a program prints, while it is read.
type printed struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(b)
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String()
}

// server makes a command that is a map server, without display, run by the shell after setup.
func server(t *testing.T, setup string, args ...string) (*exec.Cmd, *printed) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command("sh", append([]string{"-c", setup + `; exec "$0" "$@"`, self}, args...)...)
	cmd.Env = append(os.Environ(), "CONNMAP_TRAFFIC=server", "DISPLAY=")
	out := &printed{}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

// TestScreenshotReplaces: only a picture of this program is replaced.
func TestScreenshotReplaces(t *testing.T) {
	ownFolders(t)
	dir := t.TempDir()
	draw := func(name string) error {
		return run(context.Background(), []string{"-demo", "5", "-after", "0s", "-size", "200x100", "-screenshot", name}, io.Discard, io.Discard)
	}
	name := filepath.Join(dir, "map.png")
	require.NoError(t, draw(name))
	require.NoError(t, draw(name))
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	_, err = png.Decode(bytes.NewReader(b))
	require.NoError(t, err)

	var other bytes.Buffer
	require.NoError(t, png.Encode(&other, image.NewRGBA(image.Rect(0, 0, 5, 5))))
	for what, content := range map[string]string{"letter": "dear diary", "picture of others": other.String()} {
		file := filepath.Join(dir, what)
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		link := file + " link"
		require.NoError(t, os.Symlink(file, link))
		for _, name := range []string{file, link} {
			assert.ErrorContains(t, draw(name), name+" exists and is not a picture of connmap: name another file, or move it away")
		}
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, content, string(b))
	}
}

// TestExportsKeep: of exports that would have one name each is kept.
func TestExportsKeep(t *testing.T) {
	c := serving(t)
	recorded(t, c)
	names := map[string]bool{}
	for range 3 {
		name, n, err := c.exportTo(filepath.Join(c.cfg.dataDir, "exports", "connmap-1.csv"), mapview.Export{SQL: "SELECT 1 AS a", Format: "csv"})
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		names[filepath.Base(name)] = true
	}
	assert.Equal(t, map[string]bool{"connmap-1.csv": true, "connmap-1-2.csv": true, "connmap-1-3.csv": true}, names)
}

// TestPlacesKept: a file that holds no places is not replaced by them.
func TestPlacesKept(t *testing.T) {
	c := serving(t)
	recorded(t, c)
	require.NoError(t, os.MkdirAll(c.cfg.dataDir, 0o700))
	name := c.placesFile()
	require.NoError(t, os.WriteFile(name, []byte("dear diary\n"), 0o600))
	_, err := c.saveMarks(t.Context())
	assert.ErrorContains(t, err, "it is not changed; move it away to save the places")
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	assert.Equal(t, "dear diary\n", string(b))
}

// awaitEnd waits for a server that was told to end. On a busy machine it may run out of time, and then
// says that it was interrupted.
func awaitEnd(t *testing.T, server *exec.Cmd, out *printed) {
	t.Helper()
	if err := server.Wait(); !strings.Contains(out.String(), "mapserver: interrupted") {
		assert.NoError(t, err)
	}
}

// TestFewDescriptors: with too few files to be open the server says so at once.
func TestFewDescriptors(t *testing.T) {
	ownFolders(t)
	for _, n := range []int{16, 32, 64} {
		cmd, out := server(t, fmt.Sprint("ulimit -n ", n), "-headless", "-no-local", "-listen", "none")
		err := cmd.Run()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		assert.Equal(t, 1, exit.ExitCode())
		assert.Equal(t, fmt.Sprintf("mapserver: only %d files may be open at the same time, which is too few for a map server: allow 128 or more with ulimit -n, or with LimitNOFILE of its service\n", n), out.String())
	}
}

// TestLeastFiles: as few as are asked for suffice.
func TestLeastFiles(t *testing.T) {
	ownFolders(t)
	cmd, out := server(t, fmt.Sprint("ulimit -n ", minFiles), "-headless", "-listen", "127.0.0.1:0")
	require.NoError(t, cmd.Start())
	assert.True(t, poll(time.Minute, 20*time.Millisecond, func() bool { return strings.Contains(out.String(), " live connection") }), out)
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", cmd.Process.Pid))
	require.NoError(t, err)
	t.Logf("%d files are open", len(open))
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	awaitEnd(t, cmd, out)
	assert.NotContains(t, out.String(), "too many open files")
}

// TestSignals: whatever the server is at, it ends within a second of a signal.
func TestSignals(t *testing.T) {
	if race.Enabled || testing.Short() {
		t.Skip("takes long, and all the longer with the race detector")
	}
	ownFolders(t)
	dir := t.TempDir()
	old := originalFile(t, 399_999)
	folder := filepath.Join(dir, "connmapperl")
	require.NoError(t, os.Mkdir(folder, 0o700))
	require.NoError(t, os.Link(old, filepath.Join(folder, perlHistory)))
	table := filepath.Join(dir, "GeoLite2-City-Blocks-IPv4.csv")
	bigTable(t, table, 1_500_000)
	recorded := filepath.Join(dir, "recorded.sqlite")
	moments := map[string]struct {
		args []string
		when func(out *printed) bool // it is in the midst of it
	}{
		"migrating":                     {[]string{"-headless", "-no-local", "-listen", "none", "-history", old}, func(*printed) bool { return some(old + ".*.migrating") }},
		"asking what is not taken over": {[]string{"-history", old, "-query", "SELECT count(*) FROM detailed_history"}, func(out *printed) bool { return strings.Contains(out.String(), "is copied") }},
		"importing":                     {[]string{"import", "-config", filepath.Join(dir, "c"), "-data", filepath.Join(dir, "d"), folder}, func(*printed) bool { return some(filepath.Join(dir, "d", "import-*", "*.migrating")) }},
		"compiling":                     {[]string{"-headless", "-no-local", "-listen", "none", "-history", "none", "-geo", table}, func(*printed) bool { return false }},
		"asking":                        {[]string{"-history", recorded, "-format", "csv", "-query", "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"}, func(*printed) bool { return false }},
		"sorting":                       {[]string{"-history", recorded, "-format", "csv", "-query", "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000000) SELECT i FROM n ORDER BY i % 1000"}, func(*printed) bool { return false }},
		"a demo":                        {[]string{"-headless", "-demo", "20000", "-listen", "none", "-history", recorded}, func(out *printed) bool { return strings.Contains(out.String(), "live connections") }},
		"a picture":                     {[]string{"-demo", "5000", "-after", "1m", "-screenshot", filepath.Join(dir, "map.png")}, func(*printed) bool { return false }},
	}
	// Both signals are one to the server: what befalls one moment need not befall it twice.
	for i, name := range slices.Sorted(maps.Keys(moments)) {
		tt, signal := moments[name], []os.Signal{syscall.SIGTERM, os.Interrupt}[i%2]
		t.Run(name, func(t *testing.T) {
			db, err := sqlite.Open(t.Context(), recorded, sqlite.Options{})
			require.NoError(t, err)
			require.NoError(t, db.Close())
			cmd, out := server(t, ":", tt.args...)
			require.NoError(t, cmd.Start())
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			begun := time.Now()
			poll(20*time.Second, 5*time.Millisecond, func() bool {
				// What cannot be seen from outside is under way after some seconds.
				return tt.when(out) || len(ended) > 0 || time.Since(begun) > 1500*time.Millisecond
			})
			if len(ended) > 0 {
				t.Logf("ended before the signal: %s", out.String())
			}
			start := time.Now()
			cmd.Process.Signal(signal)
			select {
			case err := <-ended:
				// A second, and what a busy machine takes.
				assert.Less(t, time.Since(start), 3*time.Second)
				t.Logf("%v: ended after %v: %v", signal, time.Since(start).Round(time.Millisecond), err)
			case <-time.After(20 * time.Second):
				cmd.Process.Kill()
				<-ended
				t.Errorf("%v: it goes on: %s", signal, out.String())
			}
		})
	}
	// What was to be taken over is as it was, and can be.
	db, err := sqlite.Open(t.Context(), old, sqlite.Options{})
	require.NoError(t, err)
	s, err := db.Stats()
	require.NoError(t, err)
	assert.EqualValues(t, 400_000, s.Rows)
	assert.Empty(t, db.Problem())
	require.NoError(t, db.Close())
	left, err := filepath.Glob(old + ".*.migrating")
	require.NoError(t, err)
	assert.Empty(t, left)
}

func some(pattern string) bool {
	found, _ := filepath.Glob(pattern)
	return len(found) > 0
}

// bigTable writes a table of networks of 256 addresses.
func bigTable(t *testing.T, name string, rows int) {
	f, err := os.Create(name)
	require.NoError(t, err)
	fmt.Fprintln(f, "network,geoname_id,registered_country_geoname_id,represented_country_geoname_id,is_anonymous_proxy,is_satellite_provider,postal_code,latitude,longitude,accuracy_radius")
	var b bytes.Buffer
	for i := range rows {
		a := netip.AddrFrom4([4]byte{byte(1 + i>>16), byte(i >> 8), byte(i), 0})
		fmt.Fprintf(&b, "%s/24,%d,1,,0,0,,%.4f,%.4f,10\n", a, i, float64(i%170)-85, float64(i%350)-175)
	}
	_, err = b.WriteTo(f)
	require.NoError(t, errors.Join(err, f.Close()))
}

// TestWriteNewOnFullDisk: of a file that cannot be written whole nothing stays, for the next start
// would read it.
func TestWriteNewOnFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=8k"); err != nil {
		t.Skip("needs the right to mount a file system: ", err)
	}
	defer syscall.Unmount(dir, 0)
	name := filepath.Join(dir, "connmaprc")
	assert.ErrorIs(t, writeNew(name, strings.Repeat("x", 100_000)), syscall.ENOSPC)
	assert.NoFileExists(t, name)
	require.NoError(t, writeNew(name, "short"))
}
