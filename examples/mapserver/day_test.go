package main

import (
	"image"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/conntracktest"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/examples/mapserver/internal/paint"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

// long reports whether time is no object.
func long() bool { return os.Getenv("CONNMAP_LONG") != "" }

// TestDay runs six hours of traffic through monitor, history and window, as fast as it goes,
// and a day with CONNMAP_LONG: every four seconds of it have events, a new state and a frame, and
// now and then somebody uses the window. What it takes must not grow.
func TestDay(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	ownFolders(t)
	cfg, err := parse([]string{"-demo", "1", "-history", filepath.Join(t.TempDir(), "h.sqlite"), "-keep", "5000"}, io.Discard)
	require.NoError(t, err)
	a, err := start(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer a.stop()
	agent := feed.Agent{ID: 1, Name: "nas", Since: time.Now()}
	a.monitor.Join(agent)
	traffic := newTraffic(200)
	var view mapview.View
	in := mapview.Input{Size: image.Pt(500, 250), Scale: 1, Inside: true}
	picture := image.NewRGBA(image.Rectangle{Max: in.Size})
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	keys := []ui.Key{'h', 't', 'z', 'q', ui.KeyEscape, ui.KeyEnter, ui.KeyDown, ui.KeyEscape, 'i', 'k', 'o', 'o', 'g', 'g', 'f', 'f', ' ', ' ', 'a', 'a', 't', ui.KeyEscape, 'h'}
	var heap []uint64
	const step = 4 * time.Second
	steps, grows := int(6*time.Hour/step), uint64(1<<10)
	if long() {
		steps, grows = int(24*time.Hour/step), 2<<10
	}
	for s := range steps {
		now = now.Add(step)
		a.monitor.Delta(agent, traffic.events(now))
		a.monitor.Publish()
		in.Cursor = image.Pt(s%500, s/7%250)
		in.Keys = nil
		if s%60 == 0 {
			in.Keys = keys[s/60%len(keys):][:1]
		}
		in.Wheel = float64(s%50/49) * float64(1-s/50%2*2)
		view.Update(now, in, a.monitor.State())
		if s%600 == 0 {
			paint.Draw(picture, view.Scene())
		}
		if s%(steps/12) == steps/12-1 {
			recorded := make(chan struct{})
			a.monitor.Writer.AddAll(nil, func() { close(recorded) })
			select {
			case <-recorded:
			case <-time.After(2 * time.Minute):
				require.FailNow(t, "the history does not record what was told")
			}
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			heap = append(heap, m.HeapAlloc>>10)
		}
	}
	t.Log("kB alive after each twelfth:", heap)
	// Each sample is taken with nothing left to write, so that it does not depend on the disk.
	// What is under way all the same only adds: a leak raises the least of several.
	const warm = 1
	half := (len(heap) + warm) / 2
	assert.Less(t, slices.Min(heap[half:]), slices.Min(heap[warm:half])+grows, "kB")
	assert.Less(t, slices.Max(heap), uint64(32<<10), "kB")
	assert.Less(t, runtime.NumGoroutine(), 60)
}

// traffic opens, changes and closes connections.
type traffic struct {
	pool []conntrack.Conn // what they look like
	live []conntrack.Conn
	n    int
}

func newTraffic(n int) *traffic { return &traffic{pool: conntracktest.Conns(20*n, 1)} }

// events are those of a few seconds.
func (t *traffic) events(now time.Time) (list []conntrack.Event) {
	add := func(kind conntrack.Kind, c conntrack.Conn) {
		list = append(list, conntrack.Event{Kind: kind, Time: now, Conn: c})
	}
	for range 10 {
		c := t.pool[t.n%len(t.pool)]
		t.n++
		c.ID, c.Opened = uint64(t.n), now
		t.live = append(t.live, c)
		add(conntrack.Open, c)
	}
	for len(t.live) > len(t.pool)/20 {
		add(conntrack.Close, t.live[0])
		t.live = t.live[1:]
	}
	for i := range 8 {
		c := &t.live[(t.n+i*31)%len(t.live)]
		c.Rx += 1000
		add(conntrack.Update, *c)
	}
	return list
}
