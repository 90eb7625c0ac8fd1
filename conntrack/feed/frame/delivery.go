package frame

import (
	"slices"
	"time"

	"github.com/connmapgo/connmap/conntrack"
)

// stallTime is how long a server may take to acknowledge before changes no longer wait for it.
const stallTime = 15 * time.Second

// spooledIDBit is added to the ID of a connection in the spool: another connection may have the
// ID by now. A Collector makes no ID with this bit.
const spooledIDBit = 1 << 61

// Spooled reports whether the close event of c comes from an agent's spool. Such an event is
// late: an earlier run of the agent may have seen it, and the server may know the connection
// as open under another ID.
func Spooled(c conntrack.Conn) bool { return c.ID&spooledIDBit != 0 }

// A sentDelta is a delta that was sent and is not acknowledged.
type sentDelta struct {
	seq     uint64
	closes  []conntrack.Event // none if the spool has them
	lost    uint64            // sent with it; zero if the spool has it
	spooled uint64            // number of a delta of the spool's oldest batch; zero: it is not from there
	after   uint64            // number of the one that was sent before; zero: none
}

func (d sentDelta) isSpooled() bool { return d.spooled > 0 }

// stalled reports whether the server has not acknowledged anything for long, such as one whose
// disk is full. It gets changes all the same, so that it shows what lives.
func (t *Table) stalled() bool { return time.Since(t.ackedAt) > stallTime }

// addPending keeps a close event for the next server. To make room it moves older ones to the
// spool, or else drops the oldest.
func (t *Table) addPending(e conntrack.Event) {
	t.pending = append(t.pending, e)
	for len(t.pending)+t.inFlightCloses > t.maxCloses {
		if t.spool != nil && len(t.pending) > t.maxCloses/2 && t.spill() {
			continue
		}
		if !t.dropOldest() {
			t.pending = t.pending[1:]
			t.lost++
		}
	}
}

// dropOldest counts the oldest close events in flight as lost, and reports whether there were
// any. Losses that were sent with them stay in flight.
func (t *Table) dropOldest() bool {
	i := slices.IndexFunc(t.inFlight, func(d sentDelta) bool { return len(d.closes) > 0 })
	if i < 0 {
		return false
	}
	d := &t.inFlight[i]
	t.lost += uint64(len(d.closes))
	t.inFlightCloses -= len(d.closes)
	d.closes = nil
	switch {
	case d.lost > 0:
	case i == 0:
		t.inFlight = t.inFlight[1:] // unlike Delete, this does not move the others
	default:
		t.inFlight = slices.Delete(t.inFlight, i, i+1)
	}
	return true
}

// noteSent notes a delta that is about to be sent.
func (t *Table) noteSent(seq uint64, events []conntrack.Event, lost uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.acks {
		return
	}
	d := sentDelta{seq: seq, lost: lost}
	if n := countCloses(events); n > 0 {
		d.closes = make([]conntrack.Event, 0, n)
		for _, e := range events {
			if e.Kind == conntrack.Close {
				d.closes = append(d.closes, e)
			}
		}
	}
	if d.closes == nil && lost == 0 {
		return
	}
	if n := len(t.inFlight); n >= t.maxCloses && d.closes == nil {
		// A server that never acknowledges must not make this grow without bound.
		if last := &t.inFlight[n-1]; last.closes == nil && last.spooled == 0 {
			last.seq, last.lost = seq, last.lost+lost
			return
		}
	}
	t.inFlight = append(t.inFlight, d)
	for t.inFlightCloses += len(d.closes); t.inFlightCloses > t.maxCloses && t.stalled() && t.dropOldest(); {
	}
}

// allAcknowledged reports whether the server has recorded all that it received.
func (t *Table) allAcknowledged() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.inFlight) == 0
}

// acknowledge notes that the server has recorded all deltas up to seq.
func (t *Table) acknowledge(seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ackedAt = time.Now()
	t.removeAcknowledged(seq)
}

// removeAcknowledged ends the flight of all deltas up to seq. If these were the last of a batch
// of the spool, the batch is removed.
func (t *Table) removeAcknowledged(seq uint64) {
	before := t.inFlightCloses
	for len(t.inFlight) > 0 && t.inFlight[0].seq <= seq {
		t.inFlightCloses -= len(t.inFlight[0].closes)
		t.inFlight = t.inFlight[1:]
	}
	if len(t.inFlight) == 0 {
		t.inFlight = nil
	}
	if before >= t.maxCloses && t.inFlightCloses < t.maxCloses {
		if u := t.urgency; u != idle {
			t.urgency = idle
			t.raise(u)
		}
	}
	if !t.spoolInFlight {
		return
	}
	if !slices.ContainsFunc(t.inFlight, sentDelta.isSpooled) {
		t.spool.dropFirst()
		t.spoolInFlight = false
		if len(t.spool.batches) > 0 {
			t.raise(soon)
		}
	}
}

// resume is for a new connection, to a server that has recorded all deltas up to one number,
// and whose process has received all up to another. Deltas up to that stay in flight. All
// others become pending again.
func (t *Table) resume(recorded, heard uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeAcknowledged(recorded)
	n := len(t.inFlight)
	for n > 0 && t.inFlight[n-1].seq > heard {
		n--
	}
	closes, asks := make([]conntrack.Event, 0, len(t.pending)), false
	for _, d := range t.inFlight[n:] {
		closes = append(closes, d.closes...)
		t.lost += d.lost
		if d.isSpooled() && !asks {
			// The server may have recorded it as of the earlier run, and not as of this one.
			b := &t.spool.batches[0]
			b.sent, b.answered, asks = d.after, false, true
		}
	}
	t.inFlightCloses -= len(closes)
	clear(t.inFlight[n:])
	t.inFlight = t.inFlight[:n]
	t.pending = append(closes, t.pending...) // which closed later
	t.spoolInFlight = false                  // what was not heard of the batch is read again
	if t.spool != nil && len(t.spool.batches) > 0 {
		t.spool.batches[0].queried = false
	}
}

func countCloses(events []conntrack.Event) (n int) {
	for i := range events {
		if events[i].Kind == conntrack.Close {
			n++
		}
	}
	return n
}
