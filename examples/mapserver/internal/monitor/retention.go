package monitor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"time"

	"github.com/connmapgo/connmap/history"
)

// maintain prunes the history, publishes when writing to it fails, and updates its statistics
// while they are shown, until ctx ends.
func (m *Monitor) maintain(ctx context.Context) {
	watch := time.NewTicker(watchEvery)
	defer watch.Stop()
	var pruned time.Time
	failing := false
	for {
		if problem := m.Writer.Problem() != nil; problem != failing {
			failing = problem
			m.touch()
		}
		// Pruning may make room on a full disk.
		if failing || time.Since(pruned) > pruneEvery {
			pruned = time.Now()
			m.prune(ctx)
		}
		m.readStats()
		select {
		case <-ctx.Done():
			return
		case <-m.pruneNow:
			pruned = time.Time{}
		case <-watch.C:
		}
	}
}

func (m *Monitor) prune(ctx context.Context) {
	text := ""
	if _, err := m.History.Prune(ctx); err != nil && ctx.Err() == nil {
		text = err.Error()
	}
	m.Problem("prune", text)
}

// ShowStats turns HistoryStats of the next states on or off.
func (m *Monitor) ShowStats(on bool) {
	m.init()
	m.mu.Lock()
	m.wantStats = on
	m.stats = nil
	m.mu.Unlock()
	m.touch()
	m.readStats()
}

// readStats reads the statistics if they are shown.
func (m *Monitor) readStats() {
	m.mu.Lock()
	want := m.wantStats && m.Unrecorded() == nil
	before := m.stats
	m.mu.Unlock()
	if !want {
		return
	}
	s, err := m.History.Stats()
	if err != nil {
		return // the Recorder reports the cause
	}
	if before != nil && *before == s {
		return
	}
	m.mu.Lock()
	if m.wantStats {
		m.stats = &s
	}
	m.mu.Unlock()
	m.touch()
}

// SetRetention sets how much of the history is kept, and starts to delete the rest.
func (m *Monitor) SetRetention(r history.Retention) error {
	if err := m.Unrecorded(); err != nil {
		return err
	}
	if err := m.History.SetRetention(r); err != nil {
		return err
	}
	m.init()
	m.readStats()
	select {
	case m.pruneNow <- struct{}{}:
	default:
	}
	return nil
}

var (
	errNotRecorded = errors.New("nothing is recorded: start with -history FILE")
	errOpening     = errors.New("the history is not open yet: wait until it is upgraded or can be opened")
)

// Unrecorded returns why there is no history to query, nil if there is one.
func (m *Monitor) Unrecorded() error {
	switch {
	case m.Opening.Load():
		return errOpening
	case m.History == nil:
		return errNotRecorded
	}
	return nil
}

// ResetHistory deletes all that is stored.
func (m *Monitor) ResetHistory(ctx context.Context) error {
	if err := m.Unrecorded(); err != nil {
		return err
	}
	m.mu.Lock()
	m.loaded, m.reset = nil, true
	m.mu.Unlock()
	err := m.History.Reset(ctx)
	if err == nil {
		m.mu.Lock()
		m.marks.data, m.addrs.data = nil, nil
		m.mu.Unlock()
		m.touch()
		m.marks.refresh()
		m.addrs.refresh()
	}
	m.readStats()
	return err
}

// SaveMarks writes the counts of all stored places into a file; without a history, those of
// the live connections. It keeps the places that the file has already, with the larger of both
// counts, unless the history has been reset. It returns the number of places.
func (m *Monitor) SaveMarks(ctx context.Context, name string) (n int, err error) {
	marks := m.liveMarks()
	if m.Unrecorded() == nil {
		marks = m.History.Places(ctx)
	}
	m.mu.Lock()
	reset := m.reset
	m.mu.Unlock()
	kept := make(map[[2]float64]int64)
	old, err := history.LoadMarks(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%w: it is not changed; move it away to save the places", err)
	}
	if !reset {
		for _, mark := range old {
			kept[[2]float64{mark.Lat, mark.Lon}] = mark.Count
		}
	}
	err = history.SaveMarks(name, func(yield func(history.Mark, error) bool) {
		for mark, err := range marks {
			at := [2]float64{mark.Lat, mark.Lon}
			mark.Count = max(mark.Count, kept[at])
			delete(kept, at)
			if n++; !yield(mark, err) {
				return
			}
		}
		for at, count := range kept {
			if n++; !yield(history.Mark{Lat: at[0], Lon: at[1], Count: count}, nil) {
				return
			}
		}
	})
	return n, err
}

// liveMarks returns the places of the live connections.
func (m *Monitor) liveMarks() iter.Seq2[history.Mark, error] {
	counts := make(map[[2]float64]int64)
	for _, c := range m.State().Conns {
		if locatedOnInternet(c) {
			counts[[2]float64{c.Place.Lat, c.Place.Lon}]++
		}
	}
	return func(yield func(history.Mark, error) bool) {
		for at, n := range counts {
			if !yield(history.Mark{Lat: at[0], Lon: at[1], Count: n}, nil) {
				return
			}
		}
	}
}

// LoadMarks adds the places of a file to those of the history. Of two counts it takes the
// larger one, since a file is mostly a copy. It returns the number of places in the file.
func (m *Monitor) LoadMarks(name string) (int, error) {
	marks, err := history.LoadMarks(name)
	if err != nil {
		return 0, err
	}
	m.mu.Lock()
	m.loaded, m.reset = marks, false
	m.marks.data = merged(slices.Clone(m.marks.data), marks) // a State may hold the old one
	m.mu.Unlock()
	m.touch()
	return len(marks), nil
}

// merged adds loaded places to those of the history.
func merged(marks, loaded []history.Mark) []history.Mark {
	if len(loaded) == 0 {
		return marks
	}
	at := make(map[[2]float64]int, len(marks))
	for i, m := range marks {
		at[[2]float64{m.Lat, m.Lon}] = i
	}
	for _, l := range loaded {
		if i, ok := at[[2]float64{l.Lat, l.Lon}]; ok {
			marks[i].Count = max(marks[i].Count, l.Count)
		} else {
			marks = append(marks, l)
		}
	}
	return marks
}
