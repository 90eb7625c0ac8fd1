package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var today = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// site is a server with files that misbehaves as a test asks it to.
type site struct {
	*httptest.Server
	open  sync.WaitGroup // requests
	mu    sync.Mutex
	files map[string][]byte
	sent  map[string]int      // bytes of each path
	seen  map[string][]string // Range headers of each path's requests, "" without
	odd   func(w http.ResponseWriter, r *http.Request, file []byte) bool
}

// behave has the site call odd for each request from now on; nil: nothing.
func (s *site) behave(odd func(w http.ResponseWriter, r *http.Request, file []byte) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.odd = odd
}

func serve(t *testing.T) *site {
	s := &site{files: map[string][]byte{}, sent: map[string]int{}, seen: map[string][]string{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

type counter struct {
	http.ResponseWriter
	n *int
}

func (c counter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	*c.n += n
	return n, err
}

func (c counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.open.Add(1)
	defer s.open.Done()
	s.mu.Lock()
	file, ok := s.files[r.URL.RequestURI()]
	s.seen[r.URL.Path] = append(s.seen[r.URL.Path], r.Header.Get("Range"))
	odd, n := s.odd, 0
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.sent[r.URL.Path] += n
		s.mu.Unlock()
	}()
	cw := counter{w, &n}
	cw.Header().Set("Content-Type", "application/octet-stream")
	if odd != nil && odd(cw, r, file) {
		return
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	tagged(cw, file)
	http.ServeContent(cw, r, "", today.Add(-time.Hour), bytes.NewReader(file))
}

// bytes is how many bytes were sent of a path, when no request is open.
func (s *site) bytes(path string) int {
	s.open.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent[path]
}

func tagged(w http.ResponseWriter, file []byte) {
	w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(file)))
}

func pack(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.NoCompression)
	_, err := io.WriteString(z, text)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return b.Bytes()
}

func dbip(rows int) string {
	var b strings.Builder
	b.WriteString("0.0.0.0,0.255.255.255,ZZ,ZZ,,,0,0\n")
	for i := range rows - 2 {
		fmt.Fprintf(&b, "198.%d.%d.0,198.%d.%d.255,EU,DE,Berlin,\"Berlin, %d\",52.5,13.%d\n", i>>8, i&255, i>>8, i&255, i, i)
	}
	b.WriteString("2001:db8::,2001:db8:ffff:ffff:ffff:ffff:ffff:ffff,OC,AU,Queensland,\"South Brisbane\",-27.4767,153.017\n")
	return b.String()
}

func ip2asn(rows int) string {
	var b strings.Builder
	for i := range rows {
		fmt.Fprintf(&b, "198.%d.%d.0\t198.%d.%d.255\t%d\tUS\tEXAMPLE-%d - Example \"Ltd.\n", i>>8, i&255, i>>8, i&255, 64496+i%16, i%16)
	}
	return b.String()
}

func delegated(registry string, rows, promised int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# a comment\n2|%s|20261124|%d|19930101|20261124|+0000\n%s|*|asn|*|1|summary\n%s|*|ipv4|*|%d|summary\n", registry, promised, registry, registry, rows)
	for i := range rows {
		fmt.Fprintf(&b, "%s|ZZ|ipv4|198.51.%d.0|256|20200101|allocated|A%d\n", registry, i&255, i)
	}
	return b.String()
}

const (
	dbipPath  = "/free/dbip-city-lite-2026-11.csv.gz"
	dbipOld   = "/free/dbip-city-lite-2026-10.csv.gz"
	asnPath   = "/data/ip2asn-combined.tsv.gz"
	apnicPath = "/stats/apnic/delegated-apnic-extended-latest"
)

// full is a site with the default data sets.
func full(t *testing.T) *site {
	s := serve(t)
	s.files[dbipPath] = pack(t, dbip(2000))
	s.files[asnPath] = pack(t, ip2asn(1000))
	for registry, path := range map[string]string{
		"afrinic": "/pub/stats/afrinic/", "apnic": "/stats/apnic/", "arin": "/pub/stats/arin/",
		"lacnic": "/pub/stats/lacnic/", "ripencc": "/pub/stats/ripencc/",
	} {
		s.files[path+"delegated-"+registry+"-extended-latest"] = []byte(delegated(registry, 100, 100))
	}
	return s
}

// small are the data sets with so few rows as the tests' files have.
func small() []set {
	all := sets()
	for i := range all {
		all[i].minRows = 3
	}
	return all
}

// tool is the command in a world of its own.
type tool struct {
	*app
	dir      string
	out, err bytes.Buffer
	env      map[string]string
}

func newTool(t *testing.T) *tool {
	to := &tool{dir: filepath.Join(t.TempDir(), "data"), env: map[string]string{}}
	to.app = &app{
		stdout: &to.out, stderr: &to.err, sets: small(),
		now: func() time.Time { return today }, getenv: func(k string) string { return to.env[k] },
		network: fetcher{client: newClient, stall: 10 * time.Second, maxTime: time.Hour, pause: time.Millisecond},
	}
	return to
}

func (to *tool) update(s *site, names ...string) error {
	to.out.Reset()
	to.err.Reset()
	return to.run(context.Background(), append([]string{"update", "-data", to.dir, "-from", s.URL}, names...))
}

func (to *tool) read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(to.dir, file))
	require.NoError(t, err)
	return string(b)
}

func (to *tool) files(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(to.dir)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
