package monitor

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/connmapgo/connmap/history"
)

// An overlay is a part of the history that states hold while the view shows it. It is read
// again at intervals, since the history grows.
type overlay[T any] struct {
	about string // key of its problem
	every time.Duration
	read  func(context.Context) ([]T, error)
	now   chan struct{} // capacity 1: it is to be read now

	wanted, reading bool // guarded by Monitor.mu, as is data
	data            []T
}

// show turns an overlay on or off. Its data is kept until the next interval, in case it is
// turned on again.
func show[T any](m *Monitor, s *overlay[T], on bool) {
	m.mu.Lock()
	s.wanted = on
	start := on && !s.reading && m.Unrecorded() == nil
	s.reading = s.reading || start
	m.mu.Unlock()
	m.touch()
	if start {
		m.ask <- func(ctx context.Context) { s.follow(ctx, m) }
	}
}

// follow reads the overlay at intervals until it is turned off.
func (s *overlay[T]) follow(ctx context.Context, m *Monitor) {
	for {
		data, err := s.read(ctx)
		text := ""
		if err != nil && ctx.Err() == nil {
			text = err.Error()
		}
		m.Problem(s.about, text)
		m.mu.Lock()
		s.data = data
		m.mu.Unlock()
		m.touch()
		select {
		case <-ctx.Done():
		case <-s.now:
		case <-time.After(s.every):
		}
		m.mu.Lock()
		s.reading = s.wanted && ctx.Err() == nil
		if !s.reading {
			s.data = nil
		}
		goOn := s.reading
		m.mu.Unlock()
		if !goOn {
			return
		}
	}
}

// refresh has follow read at once.
func (s *overlay[T]) refresh() {
	select {
	case s.now <- struct{}{}:
	default:
	}
}

// ShowHistory turns Marks of the next states on or off.
func (m *Monitor) ShowHistory(on bool) {
	m.init()
	show(m, &m.marks, on)
}

// ShowAddrs turns Addrs of the next states on or off.
func (m *Monitor) ShowAddrs(on bool) {
	m.init()
	show(m, &m.addrs, on)
}

func (m *Monitor) readMarks(ctx context.Context) (marks []history.Mark, err error) {
	for mark, err := range m.History.Places(ctx) {
		if err != nil {
			return nil, err
		}
		marks = append(marks, mark)
	}
	m.mu.Lock()
	loaded := m.loaded
	m.mu.Unlock()
	return merged(marks, loaded), nil
}

func (m *Monitor) readAddrs(ctx context.Context) (addrs []uint32, err error) {
	for a, err := range m.History.Addrs(ctx) {
		if err != nil {
			return nil, err
		}
		if a.Is4() {
			raw := a.As4()
			addrs = append(addrs, binary.BigEndian.Uint32(raw[:]))
		}
	}
	return addrs, nil
}
