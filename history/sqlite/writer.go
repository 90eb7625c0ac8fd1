package sqlite

import (
	"context"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/connmapgo/connmap/history"
)

// queueLen is how many records wait in a [Writer] at most.
const queueLen = 1 << 16

const (
	// Entries of a transaction at most. A page that several change is written once: the more
	// wait, the more of them go together.
	batchLen     = queueLen / 4
	smallBatch   = 1000                   // the same after one that failed: what little room there is may do
	batchDelay   = 250 * time.Millisecond // wait of an entry for others
	retryDelay   = time.Second            // pause after a transaction that failed
	releaseEvery = 5 * time.Second
)

// A Writer queues records and stores them in the background. Its Add never waits for the
// disk. It is safe for concurrent use.
//
// While the file cannot be written, say because the disk is full, the queue grows and Problem
// says why. Recording resumes by itself.
type Writer struct {
	db   *DB
	wake chan struct{} // there is something to do, or more than before
	done chan struct{} // closed when the goroutine has ended

	mu       sync.Mutex // guards what follows
	queue    []queued
	first    uint64            // number of queue[0]; records are numbered as they come
	inFlight int               // records at the head of queue that are being stored
	batch    int               // records of the next transaction at most
	latest   map[uint64]uint64 // number of the last entry in queue with a hash
	closed   bool
	err      error // of Close

	after    []marker // what is to be called, by number
	together []group  // records that are stored together, by number

	lost          map[string]uint64 // what was dropped for good, by agent
	dropped       uint64
	lastDrop      time.Time
	problem       error // nil: the last transaction succeeded
	since         time.Time
	droppedBefore uint64 // before problem
}

// A queued is a record in the queue.
type queued struct {
	history.Record        // nil: a later one replaces it
	hash           uint64 // of an entry's key
}

// A marker is called when all records before a number are stored.
type marker struct {
	number uint64
	f      func()
}

// A group is records by their numbers.
type group struct{ begin, end uint64 } // end is not one of them

// A key identifies a connection.
type key struct {
	agent, protocol, program string
	local, peer              netip.AddrPort
}

// hash is what the queue knows a connection by: a map of keys takes several times as long.
func (k key) hash() uint64 { return maphash.Comparable(seed, k) }

// Writer returns a new Writer that records into db. The caller must close it
// before db.
func (db *DB) Writer() *Writer {
	w := &Writer{
		db:     db,
		wake:   make(chan struct{}, 1),
		done:   make(chan struct{}),
		latest: make(map[uint64]uint64),
		batch:  batchLen,
	}
	go w.run()
	return w
}

// Add queues a record. An entry that is not New updates the one of its connection in the
// queue, if any. The record is dropped, and counted by Dropped, if 65,536 are waiting or the Writer
// is closed.
//
// The next entry of an open connection makes up for one that is dropped, but for the count of an
// opening. A dropped entry with Closed is recorded as lost as soon as possible.
func (w *Writer) Add(r history.Record) {
	q := newQueued(r)
	w.mu.Lock()
	defer w.mu.Unlock()
	if at, e := w.joined(q); at >= 0 && !w.closed {
		w.queue[at].Record = e
		return
	}
	if len(w.queue) >= queueLen || w.closed {
		w.drop(r)
		return
	}
	w.push(q)
}

// AddAll queues records that are to be stored together or not at all, such as what an agent has
// reported and its Report. Entries of their connections that are in the queue are stored with
// them. If there is no room for all, all are dropped.
//
// It calls f, at once or from the Writer's goroutine, when all that was added before is stored.
// It does not if the Writer is closed before that, or if 65,536 others wait. f must not block.
func (w *Writer) AddAll(records []history.Record, f func()) {
	w.mu.Lock()
	begin := w.first + uint64(len(w.queue))
	room := len(w.queue)+len(records) <= queueLen && !w.closed
	for _, r := range records {
		if !room {
			w.drop(r)
			continue
		}
		q := newQueued(r)
		if at, e := w.joined(q); at >= 0 {
			w.queue[at].Record = nil
			q.Record = e
		}
		w.push(q)
	}
	if end := w.first + uint64(len(w.queue)); end > begin+1 {
		w.together = append(w.together, group{begin, end})
	}
	w.mu.Unlock()
	w.then(f)
}

func newQueued(r history.Record) queued {
	if e, ok := r.(history.Entry); ok {
		return queued{r, keyOf(&e).hash()}
	}
	return queued{r, 0}
}

// joined returns where in the queue the entry is that one of the same connection updates,
// and the two as one; negative: there is none. w.mu is held.
func (w *Writer) joined(q queued) (at int, _ history.Record) {
	e, ok := q.Record.(history.Entry)
	if !ok || e.New {
		return -1, nil
	}
	n, ok := w.latest[q.hash]
	if !ok || n < w.first+uint64(w.inFlight) {
		return -1, nil
	}
	at = int(n - w.first)
	old := w.queue[at].Record.(history.Entry)
	if !old.Opened.Equal(e.Opened) || keyOf(&old) != keyOf(&e) {
		return -1, nil // another connection has the same ends by now, or the same hash
	}
	e.New, e.Resumed = old.New, old.Resumed
	if e.Closed.IsZero() {
		e.Closed = old.Closed
	}
	return at, e
}

// push queues a record. w.mu is held.
func (w *Writer) push(q queued) {
	if _, ok := q.Record.(history.Entry); ok {
		w.latest[q.hash] = w.first + uint64(len(w.queue))
	}
	w.queue = append(w.queue, q)
	if n := len(w.queue); n == 1 || n == batchLen {
		w.signal()
	}
}

// drop counts a record for which there is no room. w.mu is held.
func (w *Writer) drop(r history.Record) {
	w.dropped++
	w.lastDrop = time.Now()
	switch r := r.(type) {
	case history.Loss:
		w.lose(r.Agent, r.Count)
	case history.Entry:
		if !r.Closed.IsZero() {
			w.lose(r.Agent, 1)
		}
	}
}

// lose counts what was dropped for good. w.mu is held.
func (w *Writer) lose(agent string, n uint64) {
	if w.lost == nil {
		w.lost = make(map[string]uint64)
	}
	w.lost[agent] += n
}

func keyOf(e *history.Entry) key {
	return key{e.Agent, e.Protocol, e.Program, e.Local, e.Peer}
}

// then calls f, at once or from the Writer's goroutine, when all that was added before
// is stored. It is not called if the Writer is closed before that, or if as many others wait
// as there is room for records.
func (w *Writer) then(f func()) {
	w.mu.Lock()
	if len(w.queue) > 0 {
		if len(w.after) < queueLen {
			w.after = append(w.after, marker{w.first + uint64(len(w.queue)), f})
		}
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	f()
}

// Room returns how many records can be added now without being dropped, and how many could
// be if the queue were empty.
func (w *Writer) Room() (free, size int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return 0, queueLen
	}
	return max(queueLen-len(w.queue), 0), queueLen
}

// Dropped returns how many records were dropped so far.
func (w *Writer) Dropped() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dropped
}

// Failing reports whether nothing can be stored at the moment.
func (w *Writer) Failing() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.problem != nil
}

// Problem says, for people, why nothing can be stored at the moment and what to do, or that
// records were dropped in the last minute. It is nil if all is well.
func (w *Writer) Problem() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.problem != nil {
		return fmt.Errorf("%w; recording then resumes by itself, since %s %d entries wait and %d are lost",
			w.problem, w.since.Format(time.TimeOnly), len(w.queue), w.dropped-w.droppedBefore)
	}
	if !w.lastDrop.IsZero() && time.Since(w.lastDrop) < time.Minute {
		return fmt.Errorf("history: %s: %d entries lost so far: the disk was full or too slow", w.db.path, w.dropped)
	}
	return nil
}

// Close stores what is queued and ends the Writer. It tries once, and fails if that fails.
func (w *Writer) Close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.signal()
	<-w.done
	return w.err
}

func (w *Writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *Writer) run() {
	defer close(w.done)
	var released time.Time
	for {
		n, closed := w.waiting()
		switch {
		case n == 0 && closed:
			return
		case n == 0:
			// Pages of before are of no use to what comes in a while.
			if time.Since(released) > releaseEvery {
				w.db.releaseMemory()
				released = time.Now()
			}
			select {
			case <-w.wake:
			case <-time.After(checkEvery):
				w.db.checkIdle()
			}
			continue
		case n < batchLen && !closed:
			w.pause(batchDelay, batchLen)
		}
		begin := time.Now()
		err := w.flush()
		if err == nil {
			// Others are to have half of the time, unless it is not enough.
			w.pause(time.Since(begin), batchLen)
			continue
		}
		w.mu.Lock()
		if w.closed {
			w.dropped += uint64(len(w.queue))
			w.err = fmt.Errorf("%w: %d entries lost", err, len(w.queue))
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		w.pause(retryDelay, queueLen+1)
	}
}

// releaseMemory gives back the memory of pages that were read.
func (db *DB) releaseMemory() {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.conn != nil && !db.closed.Load() {
		db.pragma(`shrink_memory`)
	}
}

// pause returns after d, when n entries wait or when the Writer is closed.
func (w *Writer) pause(d time.Duration, n int) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		if waiting, closed := w.waiting(); waiting >= n || closed {
			return
		}
		select {
		case <-timer.C:
			return
		case <-w.wake:
		}
	}
}

func (w *Writer) waiting() (n int, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue), w.closed
}

// flush stores one batch. On error it stays in the queue.
func (w *Writer) flush() error {
	w.mu.Lock()
	w.inFlight = min(len(w.queue), w.batch)
	for _, g := range w.together {
		if end := w.first + uint64(w.inFlight); g.begin < end && end < g.end {
			w.inFlight = int(g.end - w.first)
		}
	}
	batch := w.queue[:w.inFlight:w.inFlight]
	// Before the queue, so that nobody hears that something is stored before what was dropped
	// until then is counted.
	lost := w.lost
	records := make([]history.Record, 0, len(lost)+len(batch))
	for agent, n := range lost {
		records = append(records, history.Loss{Agent: agent, Count: n, Seen: time.Now()})
	}
	for _, q := range batch {
		if q.Record != nil {
			records = append(records, q.Record)
		}
	}
	w.lost = nil
	w.mu.Unlock()

	err := w.db.recordAll(context.Background(), records)

	var due []marker
	defer func() {
		for _, m := range due {
			m.f()
		}
	}()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inFlight = 0
	if err != nil {
		for agent, n := range lost {
			w.lose(agent, n)
		}
		w.report(err)
		w.batch = smallBatch
		return err
	}
	w.batch = min(2*w.batch, batchLen)
	for i, q := range batch {
		if n, ok := w.latest[q.hash]; ok && n == w.first+uint64(i) {
			delete(w.latest, q.hash)
		}
	}
	// What is stored should not live as long as the array.
	clear(batch)
	w.first += uint64(len(batch))
	w.queue = w.queue[len(batch):]
	w.together = slices.DeleteFunc(w.together, func(g group) bool { return g.end <= w.first })
	n := 0
	for n < len(w.after) && w.after[n].number <= w.first {
		n++
	}
	due, w.after = w.after[:n:n], w.after[n:]
	if len(w.queue) == 0 {
		w.queue = nil
	}
	if w.problem != nil {
		w.db.log.Info("history is recorded again", "file", w.db.path, "lost", w.dropped-w.droppedBefore)
		w.problem = nil
	}
	return nil
}

// report notes that a batch could not be recorded. w.mu is held.
func (w *Writer) report(err error) {
	if w.problem == nil {
		w.since, w.droppedBefore = time.Now(), w.dropped
		w.db.log.Error("history cannot be recorded", "file", w.db.path, "err", err)
	}
	w.problem = err
}
