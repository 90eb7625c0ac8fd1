//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"context"
	"maps"
	"slices"
	"time"
)

// This file sends events to those who called Events.

// A follower is a running call of Events, with the events that wait for it.
type follower struct {
	queue []Event
	wake  chan struct{} // capacity 1: the queue is not empty
	// The connections that were there when it came and are not in the queue yet: all of
	// them at once would be a burst of memory.
	present map[uint64]struct{} // by Conn.ID
	order   []uint64            // of present and of some that are no longer in it
	since   time.Time
}

func (e *ebpf) events(ctx context.Context, _ time.Duration, yield func(Event) bool) error {
	f := &follower{wake: make(chan struct{}, 1), present: make(map[uint64]struct{}), since: time.Now().Round(0)}
	err := e.do(func() {
		all := slices.Collect(maps.Values(e.conns))
		slices.SortFunc(all, func(a, b *tracked) int { return a.conn.Opened.Compare(b.conn.Opened) })
		for _, t := range all {
			f.order = append(f.order, t.conn.ID)
			f.present[t.conn.ID] = struct{}{}
		}
		e.tellPresent(f)
		e.followers = append(e.followers, f)
		e.nextTick = time.Now().Add(e.interval)
	})
	if err != nil {
		return err
	}
	defer e.do(func() {
		e.followers = slices.DeleteFunc(e.followers, func(g *follower) bool { return g == f })
	})
	var batch []Event
	for {
		select {
		case <-ctx.Done():
			return e.last(f, yield)
		case <-e.done:
			return e.do(func() {})
		case <-f.wake:
		}
		e.mu.Lock()
		full := len(f.queue) >= mostQueued
		batch, f.queue = f.queue, batch[:0]
		e.mu.Unlock()
		if full {
			e.wake()
		}
		for i := range batch {
			if !yield(batch[i]) {
				return nil
			}
		}
		clear(batch)
		if cap(batch) > 2*mostQueued {
			batch = nil // the queue of a burst
		}
		if f.order != nil {
			if err := e.do(func() { e.tellPresent(f) }); err != nil {
				return err
			}
		}
	}
}

// last yields what happened before now, which the kernel may not have reported yet.
func (e *ebpf) last(f *follower, yield func(Event) bool) error {
	var events []Event
	err := e.do(func() {
		e.mu.Lock()
		events, f.queue = f.queue, nil
		e.mu.Unlock()
	})
	for i := range events {
		if !yield(events[i]) {
			return nil
		}
	}
	return err
}

// tellPresent puts some of the connections that were there when a follower came into its
// queue.
func (e *ebpf) tellPresent(f *follower) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for ; n < len(f.order) && len(f.queue) < mostQueued/2; n++ {
		id := f.order[n]
		if _, ok := f.present[id]; ok { // else it has ended meanwhile
			delete(f.present, id)
			f.queue = append(f.queue, Event{Kind: Open, Time: f.since, Conn: e.conns[id].conn})
		}
	}
	f.order = f.order[n:]
	if len(f.order) == 0 {
		f.order, f.present = nil, nil
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// emit sends an event of a connection to all followers.
func (e *ebpf) emit(kind Kind, at time.Time, c *Conn) {
	e.tell(Event{Kind: kind, Time: at, Conn: *c})
}

func (e *ebpf) tell(ev Event) {
	if len(e.followers) == 0 {
		return
	}
	e.mu.Lock()
	for _, f := range e.followers {
		if _, ok := f.present[ev.Conn.ID]; ok {
			if ev.Kind == Update {
				continue // its opening will tell
			}
			delete(f.present, ev.Conn.ID)
			f.queue = append(f.queue, Event{Kind: Open, Time: f.since, Conn: ev.Conn})
		}
		f.queue = append(f.queue, ev)
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
	e.mu.Unlock()
}

// full reports whether a follower is behind.
func (e *ebpf) full() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.followers, func(f *follower) bool { return len(f.queue) >= mostQueued })
}
