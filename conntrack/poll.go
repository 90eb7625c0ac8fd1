package conntrack

import (
	"context"
	"time"
)

// poll turns the snapshots of a backend into events. It calls yield until ctx ends, yield
// returns false or a snapshot fails.
func poll(ctx context.Context, interval time.Duration, snapshot func(context.Context, []Conn) ([]Conn, error), yield func(Event) bool) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var w watch
	var conns []Conn
	for {
		var err error
		conns, err = snapshot(ctx, conns[:0])
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		// Round removes the monotonic clock, with which equal times would differ.
		if !w.changes(time.Now().Round(0), conns, yield) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// A watch turns snapshots into events. The zero watch has seen no connection.
type watch struct {
	poll uint64
	byID map[uint64]*watched // by Conn.ID
}

type watched struct {
	conn Conn // as last seen
	poll uint64
}

// changes yields what changed since the last call, and reports whether to go on. IDs in conns
// must be unique.
func (w *watch) changes(now time.Time, conns []Conn, yield func(Event) bool) bool {
	if w.byID == nil {
		w.byID = make(map[uint64]*watched, len(conns))
	}
	w.poll++
	for i := range conns {
		c := &conns[i]
		k := w.byID[c.ID]
		if k != nil {
			k.poll = w.poll
			if k.conn.Local == c.Local && k.conn.Peer == c.Peer && k.conn.Opened.Equal(c.Opened) {
				changed := k.conn.State != c.State || k.conn.Tx != c.Tx || k.conn.Rx != c.Rx || k.conn.UID != c.UID || k.conn.Direction != c.Direction || k.conn.Process != c.Process
				k.conn = *c
				if changed && !yield(Event{Kind: Update, Time: now, Conn: *c}) {
					return false
				}
				continue
			}
			// The socket is connected to another peer now.
			if !yield(Event{Kind: Close, Time: now, Conn: k.conn}) {
				return false
			}
			k.conn = *c
		} else {
			w.byID[c.ID] = &watched{conn: *c, poll: w.poll}
		}
		if !yield(Event{Kind: Open, Time: now, Conn: *c}) {
			return false
		}
	}
	if len(w.byID) == len(conns) {
		return true
	}
	for id, k := range w.byID {
		if k.poll == w.poll {
			continue
		}
		delete(w.byID, id)
		if !yield(Event{Kind: Close, Time: now, Conn: k.conn}) {
			return false
		}
	}
	return true
}
