package frame

import (
	"time"

	"github.com/connmapgo/connmap/conntrack"
)

const (
	gatherTime    = 25 * time.Millisecond // a poll of the source yields many events at once
	deltaEvery    = 250 * time.Millisecond
	countersEvery = time.Second // if only counters changed
	fullEvery     = 5 * time.Minute
)

// A Reporter sends a Table to one server over one connection: all connections, then what
// changes, and what the spool holds. One goroutine at a time may use it; others may call
// Receive and Acknowledged meanwhile.
type Reporter struct {
	table  *Table
	server Welcome
	send   func(Frame) error

	lost         uint64 // taken from the table, and not sent yet
	lastFull     time.Time
	lastDelta    time.Time
	lastCounters time.Time
}

// Report begins to report to a server that has welcomed this agent. The Reporter calls send
// for each frame, which send must not keep. A Table has one Reporter at a time: close it before
// the next one.
func (t *Table) Report(server Welcome, send func(Frame) error) *Reporter {
	t.resume(server.Recorded, server.Heard)
	return &Reporter{table: t, server: server, send: send}
}

// Close ends the Reporter. The next one sends what the server has not recorded.
func (r *Reporter) Close() { r.table.unsync(r.lost) }

// Flush sends all that is due. The first time, and then every five minutes, that is all
// connections. It fails if send does; then the connection is of no use any more.
func (r *Reporter) Flush(now time.Time) (err error) {
	urgency, synced := r.table.status()
	all := now.Sub(r.lastCounters) >= countersEvery
	switch {
	case !synced || now.Sub(r.lastFull) >= fullEvery:
		r.lastFull = now
		err = r.full()
	case urgency == soon && now.Sub(r.lastDelta) >= deltaEvery || urgency == counters && all:
		err = r.changes(all)
		if r.lastDelta = now; all {
			r.lastCounters = now
		}
	}
	if err != nil {
		return err
	}
	for _, f := range r.table.fromSpool(r.server.Runs) {
		if err := r.write(f); err != nil {
			return err
		}
	}
	return nil
}

// write sends a frame without what the server does not know: it would refuse states of sockets,
// and rows with names.
func (r *Reporter) write(f Frame) error {
	leaveOut := func(c *conntrack.Conn) {
		if !r.server.States {
			c.State = 0
		}
		if !r.server.Names {
			c.Name, c.NameSource = "", 0
		}
	}
	switch f := f.(type) {
	case Full:
		for i := range f.Conns {
			leaveOut(&f.Conns[i])
		}
	case Delta:
		for i := range f.Events {
			leaveOut(&f.Events[i].Conn)
		}
	}
	return r.send(f)
}

// Due returns when to call Flush next. Table.Wake says when it may be earlier. It lets a little
// time pass in which more changes may gather.
func (r *Reporter) Due(now time.Time) time.Time {
	full := r.lastFull.Add(fullEvery)
	urgency, synced := r.table.status()
	if urgency == idle && synced {
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

// Finish sends all that changed, due or not, before the connection ends.
func (r *Reporter) Finish() error { return r.changes(true) }

// Receive takes in an Ack or an Answer of the server, and ignores other frames. The error is
// ErrDamaged.
func (r *Reporter) Receive(t Type, body []byte) error {
	switch t {
	case TypeAck:
		var f Ack
		if err := Decode(body, &f); err != nil {
			return err
		}
		r.table.acknowledge(f.Seq)
	case TypeAnswer:
		var f Answer
		if err := Decode(body, &f); err != nil {
			return err
		}
		r.table.answer(f.Run, f.Number)
	}
	return nil
}

// Acknowledged reports whether the server has recorded all that this run has sent and keeps.
func (r *Reporter) Acknowledged() bool { return r.table.allAcknowledged() }

// full sends what the server must receive before, then all connections.
func (r *Reporter) full() error {
	ids, before, lost := r.table.sync(r.server.MaxConns, r.server.Acks)
	r.lost += lost
	if err := r.delta(before); err != nil {
		return err
	}
	f := Full{Seq: r.table.next(), More: true}
	for f.More {
		f.Conns, ids = r.table.nextPart(f.Conns[:0], ids)
		f.More = len(ids) > 0
		if err := r.write(f); err != nil {
			return err
		}
	}
	return nil
}

// changes sends the changes. Changes of counters alone wait unless all are to be sent.
func (r *Reporter) changes(all bool) error {
	events, lost := r.table.take(all)
	r.lost += lost
	err := r.delta(events)
	r.table.recycle(events)
	return err
}

// delta sends events and what is lost.
func (r *Reporter) delta(events []conntrack.Event) error {
	if len(events) == 0 && r.lost == 0 {
		return nil
	}
	// All parts are noted first, because sending one may fail.
	seq, lost := r.table.seq, r.lost
	for part := range parts(events, eventSize) {
		r.table.noteSent(r.table.next(), part, lost)
		lost = 0
	}
	if lost = r.lost; r.server.Acks {
		r.lost = 0
	}
	for part := range parts(events, eventSize) {
		seq++
		if err := r.write(Delta{Seq: seq, Events: part, Lost: lost}); err != nil {
			return err
		}
		r.lost, lost = 0, 0
	}
	return nil
}
