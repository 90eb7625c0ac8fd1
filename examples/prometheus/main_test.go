package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/conntracktest"
)

func scrape(t *testing.T, e *exporter) string {
	t.Helper()
	s := httptest.NewServer(e.handler())
	defer s.Close()
	r, err := http.Get(s.URL + "/metrics")
	require.NoError(t, err)
	defer r.Body.Close()
	require.Equal(t, http.StatusOK, r.StatusCode)
	b, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return string(b)
}

func TestExporter(t *testing.T) {
	e := newExporter(10)
	c := conntrack.Conn{ID: 7, Proto: conntrack.TCP, Direction: conntrack.Out, Peer: netip.MustParseAddrPort("198.41.0.4:443"), Process: conntrack.Process{Comm: "firefox"}, Tx: 10}
	e.add(conntrack.Event{Kind: conntrack.Open, Conn: c})
	const of = `{asn="397197",country="US",direction="out",domain="",program="firefox",rule="Web Surfing"} `
	assert.Contains(t, scrape(t, e), "connmap_connections"+of+"1\n")
	c.Tx, c.Rx = 30, 500
	e.add(conntrack.Event{Kind: conntrack.Update, Conn: c})
	c.Rx = 600
	e.add(conntrack.Event{Kind: conntrack.Close, Conn: c})
	e.add(conntrack.Event{Kind: conntrack.Lost, Lost: 3})
	got := scrape(t, e)
	for _, want := range []string{
		"connmap_connections" + of + "0\n", "connmap_connections_opened_total" + of + "1\n",
		"connmap_sent_bytes_total" + of + "30\n", "connmap_received_bytes_total" + of + "600\n", "connmap_lost_events_total 3\n",
	} {
		assert.Contains(t, got, want)
	}
	assert.Empty(t, e.conns)
}

// TestDomain: a connection is counted by the domain of its peer from when that is known.
func TestDomain(t *testing.T) {
	c := conntrack.Conn{ID: 7, Proto: conntrack.TCP, Direction: conntrack.Out, Peer: netip.MustParseAddrPort("198.41.0.4:443"), Process: conntrack.Process{Comm: "firefox"}, Tx: 10}
	e := newExporter(10)
	e.names = true
	e.add(conntrack.Event{Kind: conntrack.Open, Conn: c, Time: time.Now()})
	c.Tx, c.Name = 30, "www.example.co.uk"
	e.add(conntrack.Event{Kind: conntrack.Update, Conn: c, Time: time.Now()})
	const of = `{asn="397197",country="US",direction="out",domain="%s",program="firefox",rule="Web Surfing"} %d`
	got := scrape(t, e)
	assert.Contains(t, got, fmt.Sprintf("connmap_connections"+of, "", 0))
	assert.Contains(t, got, fmt.Sprintf("connmap_sent_bytes_total"+of, "", 10))
	assert.Contains(t, got, fmt.Sprintf("connmap_connections"+of, "example.co.uk", 1))
	assert.Contains(t, got, fmt.Sprintf("connmap_sent_bytes_total"+of, "example.co.uk", 20))
	assert.Contains(t, got, fmt.Sprintf("connmap_connections_opened_total"+of, "", 0))
	assert.Contains(t, got, fmt.Sprintf("connmap_connections_opened_total"+of, "example.co.uk", 1))

	// Those that get no name are counted, too, and each once.
	e = newExporter(10)
	e.names = true
	c.ID, c.Name = 8, ""
	old := time.Now().Add(-youth)
	e.add(conntrack.Event{Kind: conntrack.Open, Conn: c, Time: old})
	assert.Contains(t, scrape(t, e), fmt.Sprintf("connmap_connections_opened_total"+of, "", 1))
	e.add(conntrack.Event{Kind: conntrack.Close, Conn: c, Time: old})
	c.ID = 9
	e.add(conntrack.Event{Kind: conntrack.Open, Conn: c, Time: time.Now()})
	e.add(conntrack.Event{Kind: conntrack.Close, Conn: c, Time: time.Now()})
	assert.Contains(t, scrape(t, e), fmt.Sprintf("connmap_connections_opened_total"+of, "", 2))
}

// TestBounded: many connections make few series, and nothing is left out of the sums.
func TestBounded(t *testing.T) {
	const n, maxSeries = 3000, 50
	e := newExporter(maxSeries)
	for _, c := range conntracktest.Conns(n, 1) {
		e.add(conntrack.Event{Kind: conntrack.Open, Conn: c})
	}
	got, sum := 0, 0
	for _, line := range regexp.MustCompile(`(?m)^connmap_connections\{.* (\d+)$`).FindAllStringSubmatch(scrape(t, e), -1) {
		v := 0
		fmt.Sscan(line[1], &v)
		got++
		sum += v
	}
	assert.LessOrEqual(t, got, maxSeries+3, "other has three directions")
	assert.Equal(t, n, sum)
}

// TestReadme: the list of metrics is what there is.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("README.md")
	require.NoError(t, err)
	readme := string(b)
	e := newExporter(1)
	e.add(conntrack.Event{Kind: conntrack.Open, Conn: conntracktest.Conns(1, 1)[0]})
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(scrape(t, e), -1) {
		assert.Contains(t, readme, fmt.Sprintf("| `%s` | %s |", m[1], m[2]))
	}
	for _, name := range regexp.MustCompile(`connmap_\w+`).FindAllString(readme, -1) {
		assert.Contains(t, scrape(t, e), name, name)
	}
}

func TestRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { err := run(ctx, []string{"-listen", "127.0.0.1:0"}, w); w.CloseWithError(err); done <- err }()
	buf := make([]byte, 4096)
	n, err := r.Read(buf)
	if err != nil {
		t.Skip("this machine's connections cannot be read: ", err)
	}
	go io.Copy(io.Discard, r)
	url := regexp.MustCompile(`http://\S+/metrics`).FindString(string(buf[:n]))
	require.NotEmpty(t, url, string(buf[:n]))
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Contains(t, string(b), "connmap_lost_events_total 0")
	cancel()
	assert.NoError(t, <-done)
	assert.ErrorContains(t, run(t.Context(), []string{"-listen", "nonsense"}, &strings.Builder{}), "nonsense")
}
