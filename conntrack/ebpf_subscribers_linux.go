//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"context"
	"maps"
	"slices"
	"time"
)

// This file sends events to the callers of Events. Each has a queue of its own.

// A subscriber is a running call of Events, with its queue.
type subscriber struct {
	queue []Event
	wake  chan struct{} // capacity 1; filled when the queue is not empty
	// The connections that existed when it subscribed and are not queued yet. They are
	// queued in parts: all at once would need much memory.
	present map[uint64]struct{} // by Conn.ID
	order   []uint64            // the IDs in present, and some that have left it
	since   time.Time
}

func (e *ebpf) events(ctx context.Context, _ time.Duration, yield func(Event) bool) error {
	f := &subscriber{wake: make(chan struct{}, 1), present: make(map[uint64]struct{}), since: time.Now().Round(0)}
	err := e.do(func() {
		all := slices.Collect(maps.Values(e.conns))
		slices.SortFunc(all, func(a, b *tracked) int { return a.conn.Opened.Compare(b.conn.Opened) })
		for _, t := range all {
			f.order = append(f.order, t.conn.ID)
			f.present[t.conn.ID] = struct{}{}
		}
		e.queuePresent(f)
		e.subscribers = append(e.subscribers, f)
		e.nextTick = time.Now().Add(e.interval)
	})
	if err != nil {
		return err
	}
	defer e.do(func() {
		e.subscribers = slices.DeleteFunc(e.subscribers, func(g *subscriber) bool { return g == f })
	})
	var batch []Event
	for {
		select {
		case <-ctx.Done():
			return e.drainSubscriber(f, yield)
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

// drainSubscriber yields all events from before now, including those still in the ring.
func (e *ebpf) drainSubscriber(f *subscriber, yield func(Event) bool) error {
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

// queuePresent queues, for a subscriber, some of the connections that existed when it subscribed.
func (e *ebpf) queuePresent(f *subscriber) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for ; n < len(f.order) && len(f.queue) < maxQueue/2; n++ {
		id := f.order[n]
		if _, ok := f.present[id]; ok { // otherwise it has closed
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

// emit queues an event of a connection for all subscribers.
func (e *ebpf) emit(kind Kind, at time.Time, c *Conn) {
	e.publish(Event{Kind: kind, Time: at, Conn: *c})
}

func (e *ebpf) publish(ev Event) {
	if len(e.subscribers) == 0 {
		return
	}
	e.mu.Lock()
	for _, f := range e.subscribers {
		if _, ok := f.present[ev.Conn.ID]; ok {
			if ev.Kind == Update {
				continue // the Open event that follows will include it
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

// hasFullQueue reports whether the queue of a subscriber is full.
func (e *ebpf) hasFullQueue() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.subscribers, func(f *subscriber) bool { return len(f.queue) >= maxQueue })
}
