package feed

import (
	"time"

	"github.com/connmapgo/connmap/conntrack"
)

const (
	gatherTime    = 25 * time.Millisecond // a poll yields many events at once
	deltaEvery    = 250 * time.Millisecond
	countersEvery = time.Second // of counters alone
	fullEvery     = 5 * time.Minute
)

// A reporter sends a table to one server, over one connection: all connections, then what
// changes, and what the spool holds. One goroutine at a time may use it; others may call
// receive and acknowledged meanwhile.
type reporter struct {
	table  *table
	server welcomeFrame
	send   func(frame) error

	lost         uint64 // taken from the table, and not sent yet
	lastFull     time.Time
	lastDelta    time.Time
	lastCounters time.Time
}

// report begins to report to a server that has welcomed this agent. A table has one reporter
// at a time: it must be closed before the next one.
func (t *table) report(server welcomeFrame, send func(frame) error) *reporter {
	t.joined(server.Recorded, server.Heard)
	return &reporter{table: t, server: server, send: send}
}

// close ends the reporter. What the server has not recorded is left to the next one.
func (r *reporter) close() { r.table.unfollow(r.lost) }

// flush sends all that is due. The first time, and then every five minutes, that is all
// connections.
func (r *reporter) flush(now time.Time) (err error) {
	urgency, follows := r.table.waiting()
	all := now.Sub(r.lastCounters) >= countersEvery
	switch {
	case !follows || now.Sub(r.lastFull) >= fullEvery:
		r.lastFull = now
		err = r.full()
	case urgency == soon || urgency == counters && all:
		err = r.changes(all)
		if r.lastDelta = now; all {
			r.lastCounters = now
		}
	}
	if err != nil {
		return err
	}
	for _, f := range r.table.unspool(r.server.Runs) {
		if err := r.write(f); err != nil {
			return err
		}
	}
	return nil
}

// write sends a frame. Servers that do not know the states of sockets refuse them.
func (r *reporter) write(f frame) error {
	if !r.server.States {
		switch f := f.(type) {
		case fullFrame:
			for i := range f.Conns {
				f.Conns[i].State = 0
			}
		case deltaFrame:
			for i := range f.Events {
				f.Events[i].Conn.State = 0
			}
		}
	}
	return r.send(f)
}

// due returns when to call flush next. It may be earlier after the table has woken its user.
func (r *reporter) due(now time.Time) time.Time {
	full := r.lastFull.Add(fullEvery)
	urgency, follows := r.table.waiting()
	if urgency == idle && follows {
		return full
	}
	at := later(now.Add(gatherTime), r.lastDelta.Add(deltaEvery))
	if urgency == counters {
		at = later(at, r.lastCounters.Add(countersEvery))
	}
	if at.After(full) {
		return full
	}
	return at
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// finish sends what changed, before the connection ends.
func (r *reporter) finish() error { return r.changes(true) }

// receive takes in a frame of the server. It ignores frames that are not about what this
// agent has sent.
func (r *reporter) receive(t frameType, body []byte) error {
	switch t {
	case typeAck:
		var f ackFrame
		if err := decode(body, &f); err != nil {
			return err
		}
		r.table.acked(f.Seq)
	case typeAnswer:
		var f answerFrame
		if err := decode(body, &f); err != nil {
			return err
		}
		r.table.answered(f.Run, f.Number)
	}
	return nil
}

// acknowledged reports whether the server has recorded all that it has to.
func (r *reporter) acknowledged() bool { return r.table.landedAll() }

// full sends what the server has to know first, then all connections.
func (r *reporter) full() error {
	ids, before, lost := r.table.follow(r.server.MaxConns, r.server.Acks)
	r.lost += lost
	if err := r.delta(before); err != nil {
		return err
	}
	f := fullFrame{Seq: r.table.next(), More: true}
	for f.More {
		f.Conns, ids = r.table.part(f.Conns[:0], ids)
		f.More = len(ids) > 0
		if err := r.write(f); err != nil {
			return err
		}
	}
	return nil
}

// changes sends what changed; changes of counters alone only if all are to be sent.
func (r *reporter) changes(all bool) error {
	events, lost := r.table.take(all)
	r.lost += lost
	err := r.delta(events)
	r.table.giveBack(events)
	return err
}

// delta sends events and what is lost.
func (r *reporter) delta(events []conntrack.Event) error {
	if len(events) == 0 && r.lost == 0 {
		return nil
	}
	// All of it is noted first, for it may be that the first part breaks the link.
	seq, lost := r.table.seq, r.lost
	for part := range parts(events, eventSize) {
		r.table.sending(r.table.next(), part, lost)
		lost = 0
	}
	if lost = r.lost; r.server.Acks {
		r.lost = 0
	}
	for part := range parts(events, eventSize) {
		seq++
		if err := r.write(deltaFrame{Seq: seq, Events: part, Lost: lost}); err != nil {
			return err
		}
		r.lost, lost = 0, 0
	}
	return nil
}
