package frame

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/internal/temp"
)

const (
	defaultMaxSpool = 64 << 20 // bytes of all batches
	spoolSuffix     = ".ends"  // of the names of files
	maxInName       = 1 << 50  // of a number in a name
)

// A spool keeps batches of close events in a folder, a file each, oldest first. The name of a
// file says where it stands in the order and how many events it holds, so that they are counted
// as lost if the content is damaged.
type spool struct {
	dir       string
	maxBytes  int64
	writeFile func(name string, data []byte) error
	batches   []batch
	bytes     int64
}

// A batch is deltas of one run: those that a run of the agent has sent and that were not
// acknowledged, or those that were never sent, with a run of their own.
type batch struct {
	name         string
	order        uint64
	closes, lost uint64 // of all deltas
	run          Run
	oldFormat    bool // of older versions: close events without deltas
	bytes        int64
	sent         uint64 // number of the last delta that is in flight or recorded
	queried      bool   // this server was asked what is recorded of the run
	answered     bool   // it has answered, or the run has never sent anything
}

// A spooledDelta is a delta with its number in its run.
type spooledDelta struct {
	number, lost uint64
	closes       []conntrack.Event
}

// lostNumber is the number of a delta for events that are lost, such as those of a damaged
// batch.
const lostNumber = math.MaxInt64

func (b *batch) fileName() string {
	return fmt.Sprintf("%012d-%d-%d-%x%s", b.order, b.closes, b.lost, b.run, spoolSuffix)
}

// parseName reads the name of a file.
func (b *batch) parseName() bool {
	var run []byte
	n, _ := fmt.Sscanf(b.name, "%d-%d-%d-%x"+spoolSuffix, &b.order, &b.closes, &b.lost, &run)
	if max(b.order, b.closes, b.lost) > maxInName {
		return false
	}
	if n == 4 && len(run) == len(Run{}) {
		b.run = Run(run)
		return b.name == b.fileName()
	}
	b.oldFormat, b.answered = true, true
	rand.Read(b.run[:])
	return n == 3 && b.name == fmt.Sprintf("%012d-%d-%d%s", b.order, b.closes, b.lost, spoolSuffix)
}

// openSpool lists the batches that earlier runs have left in a folder. It fails if other files are
// there too: somebody has named a wrong folder.
func openSpool(dir string) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	s := &spool{dir: dir, maxBytes: defaultMaxSpool, writeFile: func(name string, data []byte) error { return temp.Write(name, 0o600, data) }}
	for _, e := range entries {
		if !strings.Contains(e.Name(), spoolSuffix) {
			return nil, fmt.Errorf("feed: %s is no folder for a spool, since %q is there too: name an empty folder, or one that is missing", dir, e.Name())
		}
	}
	for _, e := range entries {
		name, unfinished := strings.CutSuffix(e.Name(), ".new")
		if unfinished {
			name = strings.TrimSuffix(strings.TrimRight(name, "0123456789"), ".")
		}
		b := batch{name: name}
		info, err := e.Info()
		switch {
		case err != nil || !info.Mode().IsRegular() || !b.parseName():
		case unfinished:
			// Of a process that was killed: each batch has a name of its own, so that no
			// later one takes this away.
			if time.Since(info.ModTime()) >= temp.Old {
				os.Remove(filepath.Join(dir, e.Name()))
			}
		default:
			b.bytes = info.Size()
			s.batches = append(s.batches, b)
			s.bytes += b.bytes
		}
	}
	slices.SortFunc(s.batches, func(a, b batch) int { return strings.Compare(a.name, b.name) })
	return s, nil
}

// startRun stores which run uses the spool, and returns the one before; zero: unknown.
func (s *spool) startRun(run Run) (before Run) {
	name := filepath.Join(s.dir, "run"+spoolSuffix)
	if info, err := os.Lstat(name); err == nil && info.Mode().IsRegular() && info.Size() == 2*int64(len(run))+1 {
		text, _ := os.ReadFile(name)
		if b, err := hex.DecodeString(strings.TrimSpace(string(text))); err == nil && len(b) == len(before) {
			before = Run(b)
		}
	}
	// If the disk is full, the next run does not know this one.
	s.writeFile(name, fmt.Appendf(nil, "%x\n", run))
	return before
}

// putUnsent adds a batch of events that were never sent.
func (s *spool) putUnsent(closes []conntrack.Event, lost uint64) (full bool, err error) {
	b := batch{answered: true}
	rand.Read(b.run[:])
	return s.put(b, unsentDeltas(closes, lost))
}

// unsentDeltas splits events that were never sent into deltas with numbers from one on.
func unsentDeltas(closes []conntrack.Event, lost uint64) (deltas []spooledDelta) {
	for part := range parts(closes, eventSize) {
		deltas = append(deltas, spooledDelta{uint64(len(deltas)) + 1, lost, part})
		lost = 0
	}
	return deltas
}

// put adds a batch. It reports whether it dropped older ones to make room, whose events it adds
// to the lost ones of the new batch. If the disk does not take the batch it fails and drops
// nothing.
func (s *spool) put(b batch, deltas []spooledDelta) (full bool, err error) {
	if n := len(s.batches); n > 0 {
		b.order = s.batches[n-1].order + 1
	}
	for _, d := range deltas {
		b.closes, b.lost = b.closes+uint64(len(d.closes)), b.lost+d.lost
		for i := range d.closes {
			b.bytes += int64(eventSize(&d.closes[i]))
		}
	}
	n, dropped := 0, uint64(0)
	for room := s.bytes + b.bytes - s.maxBytes; n < len(s.batches) && room > 0; n++ {
		old := &s.batches[n]
		dropped += old.closes + old.lost
		room -= old.bytes
	}
	if dropped > 0 {
		b.lost += dropped
		deltas = append(deltas, spooledDelta{number: lostNumber, lost: dropped})
	}
	var data []byte
	for _, d := range deltas {
		f := spooledBody[[]eventRow]{Number: d.number, Lost: d.lost, Rows: new(rows).events(make([]eventRow, 0, len(d.closes)), d.closes)}
		more, err := cbor.Marshal(f)
		if err != nil {
			return false, fmt.Errorf("feed: %w", err)
		}
		data = append(data, more...)
	}
	b.name, b.bytes = b.fileName(), int64(len(data))
	if err := s.writeFile(filepath.Join(s.dir, b.name), data); err != nil {
		return false, fmt.Errorf("feed: %w", err)
	}
	for range n {
		s.dropFirst()
	}
	s.batches = append(s.batches, b)
	s.bytes += b.bytes
	return n > 0, nil
}

// putLost counts a batch as lost that the disk does not take: the name of an empty file says how
// much it was.
func (s *spool) putLost(closes, lost uint64) {
	b := batch{closes: closes, lost: lost}
	rand.Read(b.run[:])
	if n := len(s.batches); n > 0 {
		b.order = s.batches[n-1].order + 1
	}
	os.WriteFile(filepath.Join(s.dir, b.fileName()), nil, 0o600)
}

// readFirst reads those deltas of the oldest batch that were not sent yet. If the batch is
// damaged, all its events are lost.
func (s *spool) readFirst() (deltas []spooledDelta) {
	b := &s.batches[0]
	var data []byte
	err := ErrDamaged
	if b.bytes <= defaultMaxSpool {
		data, err = os.ReadFile(filepath.Join(s.dir, b.name))
	}
	switch {
	case err != nil:
	case b.oldFormat:
		var all []conntrack.Event
		all, err = decodeEvents(data, clock{})
		deltas = unsentDeltas(all, b.lost)
	default:
		deltas, err = decodeSpooled(data)
	}
	closes, lost := uint64(0), uint64(0)
	for _, d := range deltas {
		closes, lost = closes+uint64(len(d.closes)), lost+d.lost
	}
	if err != nil || closes != b.closes || lost != b.lost {
		deltas = []spooledDelta{{number: lostNumber, lost: b.closes + b.lost}}
	}
	return slices.DeleteFunc(deltas, func(d spooledDelta) bool { return d.number <= b.sent })
}

// decodeSpooled decodes a batch.
func decodeSpooled(data []byte) (deltas []spooledDelta, err error) {
	for len(data) > 0 {
		var f spooledBody[cbor.RawMessage]
		if data, err = decodeMode.UnmarshalFirst(data, &f); err != nil {
			return nil, err
		}
		if n := len(deltas); f.Number == 0 || n > 0 && f.Number <= deltas[n-1].number {
			return nil, ErrDamaged
		}
		d := spooledDelta{number: f.Number, lost: f.Lost}
		if d.closes, err = decodeEvents(f.Rows, clock{}); err != nil {
			return nil, err
		}
		deltas = append(deltas, d)
	}
	return deltas, nil
}

// dropFirst removes the oldest batch.
func (s *spool) dropFirst() {
	b := s.batches[0]
	s.batches = s.batches[1:]
	s.bytes -= b.bytes
	name := filepath.Join(s.dir, b.name)
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		// Or the next run would send it again.
		os.Truncate(name, 0)
	}
}

// spill moves older close events from memory to the spool, and reports whether it did. After the
// disk did not take them it waits for some more before it tries again.
func (t *Table) spill() bool {
	if t.spoolRetry > 0 {
		t.spoolRetry--
		return false
	}
	n := t.maxCloses / 2
	full, err := t.spool.putUnsent(t.pending[:n], 0)
	if full {
		// The batch that is in flight may be gone.
		t.spoolInFlight = false
		t.inFlight = slices.DeleteFunc(t.inFlight, sentDelta.isSpooled)
	}
	if err != nil {
		t.spoolRetry = n / 10
		return false
	}
	t.pending = append([]conntrack.Event(nil), t.pending[n:]...)
	return true
}

// Close puts all that no server has recorded into the spool, for the next run. Without a spool
// it does nothing. The Table must not be used any more.
func (t *Table) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.spool == nil {
		return nil
	}
	var sent []spooledDelta
	for _, d := range t.inFlight {
		if !d.isSpooled() {
			sent = append(sent, spooledDelta{d.seq, d.lost, d.closes})
		}
	}
	var errs error
	closes, lost := uint64(0), uint64(0) // that the disk does not take
	if len(sent) > 0 {
		if _, err := t.spool.put(batch{run: t.run}, sent); err != nil {
			errs = err
			for _, d := range sent {
				closes, lost = closes+uint64(len(d.closes)), lost+d.lost
			}
		}
	}
	if len(t.pending) > 0 || t.lost > 0 {
		if _, err := t.spool.putUnsent(t.pending, t.lost); err != nil {
			errs = errors.Join(errs, err)
			closes, lost = closes+uint64(len(t.pending)), lost+t.lost
		}
	}
	if errs != nil {
		t.spool.putLost(closes, lost)
	}
	return errs
}

// fromSpool returns the frames that are to be sent from the spool now, and notes that they are in
// flight. They are of one batch; the next one follows when the server has recorded this one. A
// server that knows runs is first asked what it has recorded of the batch.
func (t *Table) fromSpool(asks bool) (frames []Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.spool != nil && len(t.spool.batches) > 0 && t.synced && t.acks && !t.spoolInFlight {
		b := &t.spool.batches[0]
		if asks && !b.answered {
			if b.queried {
				return nil
			}
			b.queried = true
			return []Frame{Ask{Run: b.run}}
		}
		for _, d := range packed(t.spool.readFirst()) {
			f := Delta{Seq: t.next(), Events: d.closes, Lost: d.lost}
			if asks {
				f.Run, f.Number = b.run, d.number
			}
			for i := range f.Events {
				f.Events[i].Conn.ID ^= spooledIDBit
				t.cutName(&f.Events[i].Conn)
			}
			frames = append(frames, f)
			t.inFlight = append(t.inFlight, sentDelta{seq: f.Seq, spooled: d.number, after: b.sent})
			b.sent = d.number
		}
		if len(frames) > 0 {
			t.spoolInFlight = true
			return frames
		}
		if t.spoolInFlight = slices.ContainsFunc(t.inFlight, sentDelta.isSpooled); !t.spoolInFlight {
			t.spool.dropFirst()
		}
	}
	return nil
}

// packed joins deltas in a row as far as they fit into a frame. An agent whose server did not
// acknowledge for hours may have thousands with one close event each, and servers throttle.
func packed(deltas []spooledDelta) (packs []spooledDelta) {
	bytes := 0
	for _, d := range deltas {
		size := 0
		for i := range d.closes {
			size += eventSize(&d.closes[i])
		}
		if n := len(packs); n > 0 && len(packs[n-1].closes)+len(d.closes) <= maxItems && bytes+size <= MaxSize {
			last := &packs[n-1]
			*last = spooledDelta{d.number, last.lost + d.lost, append(last.closes, d.closes...)}
			bytes += size
			continue
		}
		packs, bytes = append(packs, d), maxFrameExtra+size
	}
	return packs
}

// answer notes what the server has recorded of a run.
func (t *Table) answer(run Run, recorded uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.spool == nil || len(t.spool.batches) == 0 {
		return
	}
	if b := &t.spool.batches[0]; b.queried && b.run == run {
		b.sent, b.answered = max(b.sent, recorded), true
		t.raise(soon)
	}
}
