package conntrack

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"time"
)

// A Backend is a way to read sockets.
type Backend string

// The backends.
const (
	Auto Backend = ""     // the best that works here
	Diag Backend = "diag" // Linux sock_diag over netlink, polled
)

// Options say how to collect. The zero Options work.
type Options struct {
	Backend  Backend       // zero: Auto
	Interval time.Duration // between the polls of Events; zero: one second
	Loopback bool          // also report connections to loopback addresses
	Logger   *slog.Logger  // for what goes wrong and is tried again; nil: discard
}

// An Info says how a [Collector] works and what it cannot see.
type Info struct {
	Backend Backend // in use, never Auto
	Limited string  // why it does not see all, for people; empty: it does
	Lost    uint64  // events lost since New; zero for Diag, which cannot know
}

// A Collector reports the connections of the local host. It comes from New
// and is safe for concurrent use.
type Collector struct {
	interval time.Duration
	snapshot func(context.Context, []Conn) ([]Conn, error)
	info     func() Info
	close    func() error
}

// New returns a Collector for the network namespace of the calling thread.
// It needs no privileges, but sees less without: see [Info]. Its error wraps
// [errors.ErrUnsupported] where there is no backend, which is everywhere but on
// Linux, and on a Linux kernel without sock_diag.
func New(o Options) (*Collector, error) {
	if o.Backend != Auto && o.Backend != Diag {
		return nil, fmt.Errorf("conntrack: there is no backend %q: use %q, or none for the best", o.Backend, Diag)
	}
	if o.Interval < 0 {
		return nil, fmt.Errorf("conntrack: the interval %v is negative", o.Interval)
	}
	if o.Interval == 0 {
		o.Interval = time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c, err := open(o)
	if err != nil {
		return nil, fmt.Errorf("conntrack: %w", err)
	}
	c.interval = o.Interval
	return c, nil
}

// Info returns what is known now: Limited may become true of a Collector later,
// when it meets a process that it may not look at.
func (c *Collector) Info() Info { return c.info() }

// Snapshot reports the current connections, in no particular order. On error
// it is empty: there are no partial snapshots. After Close the error wraps
// [os.ErrClosed].
func (c *Collector) Snapshot(ctx context.Context) ([]Conn, error) {
	conns, err := c.snapshot(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("conntrack: %w", err)
	}
	return conns, nil
}

// Events reports the changes of connections until ctx ends: first an Open for
// each connection present, then what differs between polls. The sequence ends
// without an error when ctx ends, and after the first error otherwise. Each
// range over it starts anew and polls by itself.
func (c *Collector) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		tick := time.NewTicker(c.interval)
		defer tick.Stop()
		var w watch
		var conns []Conn
		for {
			var err error
			conns, err = c.snapshot(ctx, conns[:0])
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				yield(Event{}, fmt.Errorf("conntrack: %w", err))
				return
			}
			// Readings of the monotonic clock would make equal times differ.
			if !w.changes(time.Now().Round(0), conns, yield) {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

// Close ends the Collector. Running Events end with an error, unless their
// context has ended before.
func (c *Collector) Close() error { return c.close() }

// A watch turns snapshots into events. The zero watch has seen nothing.
type watch struct {
	poll  uint64
	known map[uint64]*watched // by Conn.ID
}

type watched struct {
	conn Conn // as last seen
	poll uint64
}

// changes yields what happened between the last call and this one, and reports
// whether to go on. IDs in conns must be unique.
func (w *watch) changes(now time.Time, conns []Conn, yield func(Event, error) bool) bool {
	if w.known == nil {
		w.known = make(map[uint64]*watched, len(conns))
	}
	w.poll++
	for i := range conns {
		c := &conns[i]
		k := w.known[c.ID]
		if k != nil {
			k.poll = w.poll
			if k.conn.Local == c.Local && k.conn.Peer == c.Peer && k.conn.Opened.Equal(c.Opened) {
				changed := k.conn.Tx != c.Tx || k.conn.Rx != c.Rx || k.conn.UID != c.UID || k.conn.Process != c.Process
				k.conn = *c
				if changed && !yield(Event{Kind: Update, Time: now, Conn: *c}, nil) {
					return false
				}
				continue
			}
			// The socket has been connected to another peer.
			if !yield(Event{Kind: Close, Time: now, Conn: k.conn}, nil) {
				return false
			}
			k.conn = *c
		} else {
			w.known[c.ID] = &watched{conn: *c, poll: w.poll}
		}
		if !yield(Event{Kind: Open, Time: now, Conn: *c}, nil) {
			return false
		}
	}
	if len(w.known) == len(conns) {
		return true
	}
	for id, k := range w.known {
		if k.poll == w.poll {
			continue
		}
		delete(w.known, id)
		if !yield(Event{Kind: Close, Time: now, Conn: k.conn}, nil) {
			return false
		}
	}
	return true
}
