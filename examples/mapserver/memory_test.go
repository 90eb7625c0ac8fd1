package main

import (
	"bytes"
	"fmt"
	"image"
	"log/slog"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/conntracktest"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/conntrack/feed/frame"
	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/history/sqlite"
)

// reporting is what an agent and the server's end of its link keep.
type reporting struct {
	agent    feed.Agent
	conns    []conntrack.Conn
	receiver frame.Receiver
	seq      uint64
}

// frame is what the server decodes of a frame.
func (r *reporting) frame(b *testing.B, f frame.Frame) (frame.Type, []byte) {
	var wire bytes.Buffer
	require.NoError(b, frame.Write(&wire, f))
	kind, body, err := frame.NewReader(&wire).Next(frame.MaxSize)
	require.NoError(b, err)
	return kind, body
}

// BenchmarkMemory says how many bytes of the heap the map server keeps for each live
// connection, of 200 agents with 500 connections each that have changed since: of the table
// with its state, of a view, and of the history.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		measureMemory(b)
	}
}

func measureMemory(b *testing.B) {
	const agents, conns = 200, 500
	dir := b.TempDir()
	app, err := start(b.Context(), config{configDir: dir, dataDir: dir, listen: "127.0.0.1:0", noLocal: true, rules: filepath.Join(dir, "connmaprc")}, slog.New(slog.DiscardHandler))
	require.NoError(b, err)
	defer app.stop()
	all := make([]*reporting, agents)
	for i := range all {
		all[i] = &reporting{
			agent: feed.Agent{ID: uint64(i + 1), Name: fmt.Sprintf("host%04d", i)}, conns: conntracktest.Conns(conns, uint64(i)),
			receiver: frame.Receiver{MaxConns: conns},
		}
	}
	last := alive()
	measure := func(what string) {
		now := alive()
		b.ReportMetric(float64(int64(now-last))/(agents*conns), what+"-B/conn")
		last = now
	}
	for _, r := range all {
		app.monitor.Join(r.agent)
		r.seq++
		_, body := r.frame(b, frame.Full{Seq: r.seq, Conns: r.conns})
		list, whole, err := r.receiver.Full(body, time.Now())
		require.True(b, whole && err == nil)
		app.monitor.Full(r.agent, list)
	}
	for round := range 3 {
		runtime.GC() // lets go of texts that nothing holds any more
		for _, r := range all {
			var events []conntrack.Event
			for i := round; i < conns; i += 3 {
				r.conns[i].Rx++
				events = append(events, conntrack.Event{Kind: conntrack.Update, Time: time.Now(), Conn: r.conns[i]})
			}
			r.seq++
			kind, body := r.frame(b, frame.Delta{Seq: r.seq, Events: events})
			d, err := r.receiver.Delta(kind, body, time.Now())
			require.NoError(b, err)
			app.monitor.Delta(r.agent, d.Events)
		}
	}
	app.monitor.Publish()
	measure("table")
	var view mapview.View
	view.Update(time.Now(), mapview.Input{Size: image.Pt(1000, 500), Scale: 1}, app.monitor.State())
	measure("view")

	db, err := sqlite.Open(b.Context(), filepath.Join(dir, "history.sqlite"), sqlite.Options{})
	require.NoError(b, err)
	defer db.Close()
	w := db.Writer()
	defer w.Close()
	for _, r := range all {
		for _, c := range r.conns {
			w.Add(history.Entry{Agent: r.agent.Name, Protocol: c.Proto.String(), Local: c.Local, Peer: c.Peer, Program: c.Process.Comm, New: true, Opened: c.Opened})
		}
		recorded := make(chan struct{})
		w.AddAll(nil, func() { close(recorded) })
		<-recorded
	}
	measure("history")
	runtime.KeepAlive(view)
	runtime.KeepAlive(all)
}

func alive() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
