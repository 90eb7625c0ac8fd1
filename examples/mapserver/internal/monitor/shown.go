package monitor

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/connmapgo/connmap/history"
)

// A shown is a part of the history that states hold while it is wanted. It is read
// again from time to time, since the history grows.
type shown[T any] struct {
	about string // key of its problem
	every time.Duration
	read  func(context.Context) ([]T, error)
	now   chan struct{} // capacity 1: it is to be read now

	wanted, reading bool // guarded by Monitor.mu, as is data
	data            []T
}

// show puts a part of the history into the states to come, or leaves it out. It keeps
// what it has for a while, since switches are often thrown back.
func show[T any](m *Monitor, s *shown[T], on bool) {
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

// follow reads for as long as it is wanted.
func (s *shown[T]) follow(ctx context.Context, m *Monitor) {
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

// stale has it read now if it is shown.
func (s *shown[T]) stale() {
	select {
	case s.now <- struct{}{}:
	default:
	}
}

// ShowHistory puts the places of the stored history into the states to come, or
// leaves them out.
func (m *Monitor) ShowHistory(on bool) {
	m.init()
	show(m, &m.marks, on)
}

// ShowAddrs puts the addresses of the stored history into the states to come, or
// leaves them out.
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
