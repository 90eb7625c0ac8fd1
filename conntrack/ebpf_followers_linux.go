//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"context"
	"maps"
	"slices"
	"time"
)

// This file sends events to the callers of Events.

// A follower is a running call of Events, with its queue.
type follower struct {
	queue []Event
	wake  chan struct{} // capacity 1: the queue is not empty
	// The connections that existed when it came and are not queued yet. They are queued in
	// parts, since all at once would take much memory.
	present map[uint64]struct{} // by Conn.ID
	order   []uint64            // of those, and of some that are no longer in present
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
		e.queuePresent(f)
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
			return e.drainFollower(f, yield)
		case <-e.done:
			return e.do(func() {})
		case <-f.wake:
		}
		e.mu.Lock()
		full := len(f.queue) >= maxQueue
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
		if cap(batch) > 2*maxQueue {
			batch = nil // do not keep the memory of a burst
		}
		if f.order != nil {
			if err := e.do(func() { e.queuePresent(f) }); err != nil {
				return err
			}
		}
	}
}

// drainFollower yields all events from before now, also those that are still in the ring.
func (e *ebpf) drainFollower(f *follower, yield func(Event) bool) error {
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

// queuePresent queues, for a follower, some of the connections that existed when it came.
func (e *ebpf) queuePresent(f *follower) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for ; n < len(f.order) && len(f.queue) < maxQueue/2; n++ {
		id := f.order[n]
		if _, ok := f.present[id]; ok { // else it is closed
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

// emit queues an event of a connection for all followers.
func (e *ebpf) emit(kind Kind, at time.Time, c *Conn) {
	e.publish(Event{Kind: kind, Time: at, Conn: *c})
}

func (e *ebpf) publish(ev Event) {
	if len(e.followers) == 0 {
		return
	}
	e.mu.Lock()
	for _, f := range e.followers {
		if _, ok := f.present[ev.Conn.ID]; ok {
			if ev.Kind == Update {
				continue // its Open event will have it
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

// hasFullQueue reports whether the queue of a follower is full.
func (e *ebpf) hasFullQueue() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.followers, func(f *follower) bool { return len(f.queue) >= maxQueue })
}
