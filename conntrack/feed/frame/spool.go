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
	mostSpooled = 64 << 20 // bytes of all batches
	spoolMark   = ".ends"  // of the names of files
	mostInName  = 1 << 50  // of a number in a name
)

// A spool keeps batches of ends in a folder, a file each, oldest first. The name of a
// file says its place in the order and what it holds, so that its loss can be counted
// without it.
type spool struct {
	dir     string
	most    int64                                // bytes; mostSpooled
	save    func(name string, data []byte) error // to a file
	batches []batch
	bytes   int64
}

// A batch is deltas of one run: of the agent's, that were told and are not acknowledged, or
// of a run of its own, which nobody has told.
type batch struct {
	name         string
	number       uint64 // place in the order
	ends, lost   uint64 // of all deltas
	run          Run
	old          bool // as older versions wrote it: ends that are of no run
	bytes        int64
	told         uint64 // number of the last delta that is in flight, or recorded
	asked, known bool   // what the server has recorded of this run
}

// A spooledDelta is a delta as its run numbers it.
type spooledDelta struct {
	number, lost uint64
	ends         []conntrack.Event
}

// beyond is the number of what is lost besides, as all of a batch that is damaged.
const beyond = math.MaxInt64

func (b *batch) fileName() string {
	return fmt.Sprintf("%012d-%d-%d-%x%s", b.number, b.ends, b.lost, b.run, spoolMark)
}

// parseName reads the name of a file.
func (b *batch) parseName() bool {
	var run []byte
	n, _ := fmt.Sscanf(b.name, "%d-%d-%d-%x"+spoolMark, &b.number, &b.ends, &b.lost, &run)
	if max(b.number, b.ends, b.lost) > mostInName {
		return false
	}
	if n == 4 && len(run) == len(Run{}) {
		b.run = Run(run)
		return b.name == b.fileName()
	}
	b.old, b.known = true, true
	rand.Read(b.run[:])
	return n == 3 && b.name == fmt.Sprintf("%012d-%d-%d%s", b.number, b.ends, b.lost, spoolMark)
}

// openSpool finds what an earlier run has left.
func openSpool(dir string) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	s := &spool{dir: dir, most: mostSpooled, save: func(name string, data []byte) error { return temp.Write(name, 0o600, data) }}
	for _, e := range entries {
		b := batch{name: e.Name()}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && b.parseName() {
			b.bytes = info.Size()
			s.batches = append(s.batches, b)
			s.bytes += b.bytes
		}
	}
	slices.SortFunc(s.batches, func(a, b batch) int { return strings.Compare(a.name, b.name) })
	return s, nil
}

// begin notes the run that uses the spool, and returns the one before; zero: it is not known.
func (s *spool) begin(run Run) (before Run) {
	name := filepath.Join(s.dir, "run"+spoolMark)
	if info, err := os.Lstat(name); err == nil && info.Mode().IsRegular() && info.Size() == 2*int64(len(run))+1 {
		text, _ := os.ReadFile(name)
		if b, err := hex.DecodeString(strings.TrimSpace(string(text))); err == nil && len(b) == len(before) {
			before = Run(b)
		}
	}
	// On a disk that is full the next one does not know this one.
	s.save(name, fmt.Appendf(nil, "%x\n", run))
	return before
}

// putNew adds a batch of what nobody has told yet.
func (s *spool) putNew(ends []conntrack.Event, lost uint64) (full bool, err error) {
	b := batch{known: true}
	rand.Read(b.run[:])
	return s.put(b, spooledDeltas(ends, lost))
}

// spooledDeltas are those of a run that nobody has told.
func spooledDeltas(ends []conntrack.Event, lost uint64) (deltas []spooledDelta) {
	for part := range parts(ends, eventSize) {
		deltas = append(deltas, spooledDelta{uint64(len(deltas)) + 1, lost, part})
		lost = 0
	}
	return deltas
}

// put adds a batch, and reports whether older ones had to make room for it: their ends are
// among its losses. It fails if the disk does not take it, and drops nothing then.
func (s *spool) put(b batch, deltas []spooledDelta) (full bool, err error) {
	if n := len(s.batches); n > 0 {
		b.number = s.batches[n-1].number + 1
	}
	for _, d := range deltas {
		b.ends, b.lost = b.ends+uint64(len(d.ends)), b.lost+d.lost
		for i := range d.ends {
			b.bytes += int64(eventSize(&d.ends[i]))
		}
	}
	n, dropped := 0, uint64(0)
	for room := s.bytes + b.bytes - s.most; n < len(s.batches) && room > 0; n++ {
		old := &s.batches[n]
		dropped += old.ends + old.lost
		room -= old.bytes
	}
	if dropped > 0 {
		b.lost += dropped
		deltas = append(deltas, spooledDelta{number: beyond, lost: dropped})
	}
	var data []byte
	for _, d := range deltas {
		f := spooledBody[[]eventRow]{Number: d.number, Lost: d.lost, Rows: appendEventRows(make([]eventRow, 0, len(d.ends)), d.ends)}
		more, err := cbor.Marshal(f)
		if err != nil {
			return false, fmt.Errorf("feed: %w", err)
		}
		data = append(data, more...)
	}
	b.name, b.bytes = b.fileName(), int64(len(data))
	if err := s.save(filepath.Join(s.dir, b.name), data); err != nil {
		return false, fmt.Errorf("feed: %w", err)
	}
	for range n {
		s.drop()
	}
	s.batches = append(s.batches, b)
	s.bytes += b.bytes
	return n > 0, nil
}

// putLost notes that a batch is lost, since the disk does not take it: the name of an empty
// file says how much it was.
func (s *spool) putLost(ends, lost uint64) {
	b := batch{ends: ends, lost: lost}
	rand.Read(b.run[:])
	if n := len(s.batches); n > 0 {
		b.number = s.batches[n-1].number + 1
	}
	os.WriteFile(filepath.Join(s.dir, b.fileName()), nil, 0o600)
}

// first reads what is to be told of the oldest batch. If that is damaged all of it is lost.
func (s *spool) first() (deltas []spooledDelta) {
	b := &s.batches[0]
	var data []byte
	err := ErrDamaged
	if b.bytes <= mostSpooled {
		data, err = os.ReadFile(filepath.Join(s.dir, b.name))
	}
	switch {
	case err != nil:
	case b.old:
		var all []conntrack.Event
		all, err = decodeEvents(data, clock{now: time.Now().Round(0)})
		deltas = spooledDeltas(all, b.lost)
	default:
		deltas, err = decodeSpooled(data)
	}
	ends, lost := uint64(0), uint64(0)
	for _, d := range deltas {
		ends, lost = ends+uint64(len(d.ends)), lost+d.lost
	}
	if err != nil || ends != b.ends || lost != b.lost {
		deltas = []spooledDelta{{number: beyond, lost: b.ends + b.lost}}
	}
	return slices.DeleteFunc(deltas, func(d spooledDelta) bool { return d.number <= b.told })
}

// decodeSpooled decodes a batch.
func decodeSpooled(data []byte) (deltas []spooledDelta, err error) {
	c := clock{now: time.Now().Round(0)}
	for len(data) > 0 {
		var f spooledBody[cbor.RawMessage]
		if data, err = decodeMode.UnmarshalFirst(data, &f); err != nil {
			return nil, err
		}
		if n := len(deltas); f.Number == 0 || n > 0 && f.Number <= deltas[n-1].number {
			return nil, ErrDamaged
		}
		d := spooledDelta{number: f.Number, lost: f.Lost}
		if d.ends, err = decodeEvents(f.Rows, c); err != nil {
			return nil, err
		}
		deltas = append(deltas, d)
	}
	return deltas, nil
}

// drop removes the oldest batch.
func (s *spool) drop() {
	b := s.batches[0]
	s.batches = s.batches[1:]
	s.bytes -= b.bytes
	name := filepath.Join(s.dir, b.name)
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		// It would be told again by the next run; without its content it is nothing.
		os.Truncate(name, 0)
	}
}

// spill moves the older half of what is kept to the spool, and reports whether that was
// done. A disk that does not take it is not asked again at once.
func (t *Table) spill() bool {
	if t.full > 0 {
		t.full--
		return false
	}
	n := t.room / 2
	full, err := t.spool.putNew(t.kept[:n], 0)
	if full {
		// The batch that was being told may be gone.
		t.reading = false
		t.flight = slices.DeleteFunc(t.flight, sent.isSpooled)
	}
	if err != nil {
		t.full = n / 10
		return false
	}
	t.kept = append([]conntrack.Event(nil), t.kept[n:]...)
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
	var told []spooledDelta
	for _, d := range t.flight {
		if !d.isSpooled() {
			told = append(told, spooledDelta{d.seq, d.lost, d.ends})
		}
	}
	var errs error
	ends, lost := uint64(0), uint64(0) // that the disk does not take
	if len(told) > 0 {
		if _, err := t.spool.put(batch{run: t.run}, told); err != nil {
			errs = err
			for _, d := range told {
				ends, lost = ends+uint64(len(d.ends)), lost+d.lost
			}
		}
	}
	if len(t.kept) > 0 || t.lost > 0 {
		if _, err := t.spool.putNew(t.kept, t.lost); err != nil {
			errs = errors.Join(errs, err)
			ends, lost = ends+uint64(len(t.kept)), lost+t.lost
		}
	}
	if errs != nil {
		t.spool.putLost(ends, lost)
	}
	return errs
}

// unspool returns what is to be told now out of the spool, if anything, and notes that it is
// in flight. It is one batch: the next comes when the server has recorded it. A server that
// can say what is recorded of a run is asked that first.
func (t *Table) unspool(asks bool) (frames []Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.spool != nil && len(t.spool.batches) > 0 && t.follows && t.acks && !t.reading {
		b := &t.spool.batches[0]
		if asks && !b.known {
			if b.asked {
				return nil
			}
			b.asked = true
			return []Frame{Ask{Run: b.run}}
		}
		for _, d := range packed(t.spool.first()) {
			f := Delta{Seq: t.next(), Events: d.ends, Lost: d.lost}
			if asks {
				f.Run, f.Number = b.run, d.number
			}
			for i := range f.Events {
				// Another connection may have its ID by now.
				f.Events[i].Conn.ID ^= otherID
			}
			frames = append(frames, f)
			t.flight = append(t.flight, sent{seq: f.Seq, spooled: d.number, after: b.told})
			b.told = d.number
		}
		if len(frames) > 0 {
			t.reading = true
			return frames
		}
		if t.reading = slices.ContainsFunc(t.flight, sent.isSpooled); !t.reading {
			t.spool.drop()
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
		for i := range d.ends {
			size += eventSize(&d.ends[i])
		}
		if n := len(packs); n > 0 && len(packs[n-1].ends)+len(d.ends) <= maxItems && bytes+size <= MaxSize {
			last := &packs[n-1]
			*last = spooledDelta{d.number, last.lost + d.lost, append(last.ends, d.ends...)}
			bytes += size
			continue
		}
		packs, bytes = append(packs, d), maxFrameExtra+size
	}
	return packs
}

// answered notes what a server has recorded of a run.
func (t *Table) answered(run Run, recorded uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.spool == nil || len(t.spool.batches) == 0 {
		return
	}
	if b := &t.spool.batches[0]; b.asked && b.run == run {
		b.told, b.known = max(b.told, recorded), true
		t.waits(soon)
	}
}
