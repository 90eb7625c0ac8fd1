package feed

import (
	"errors"
	"fmt"
	"io/fs"
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
	spoolMark   = ".ends"  // of the names of batches
)

// A spool keeps batches of ends in a folder, a file each, oldest first. The name of a
// file says its place in the order and how many ends it holds, so that their loss can be
// counted without them.
type spool struct {
	dir     string
	most    int64                                // bytes; mostSpooled
	save    func(name string, data []byte) error // to a file
	batches []spooled
	bytes   int64
}

type spooled struct {
	name               string
	number, ends, lost uint64
	bytes              int64
	toldBy             uint64 // number of the last delta that told of lost; zero: none did
	counted            bool   // that is recorded
}

func spooledName(number, ends, lost uint64) string {
	return fmt.Sprintf("%012d-%d-%d%s", number, ends, lost, spoolMark)
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
		b := spooled{name: e.Name()}
		info, err := e.Info()
		if err != nil || !strings.HasSuffix(e.Name(), spoolMark) {
			continue
		}
		if _, err := fmt.Sscanf(e.Name(), "%d-%d-%d", &b.number, &b.ends, &b.lost); err != nil || spooledName(b.number, b.ends, b.lost) != b.name {
			continue
		}
		b.bytes = info.Size()
		s.batches = append(s.batches, b)
		s.bytes += b.bytes
	}
	slices.SortFunc(s.batches, func(a, b spooled) int { return strings.Compare(a.name, b.name) })
	return s, nil
}

// put adds a batch, and reports whether older ones had to make room for it: their ends are
// among its losses. It fails if the disk does not take it, and drops nothing then.
func (s *spool) put(ends []conntrack.Event, lost uint64) (dropped bool, err error) {
	number := uint64(0)
	if n := len(s.batches); n > 0 {
		number = s.batches[n-1].number + 1
	}
	bytes := int64(0)
	for i := range ends {
		bytes += int64(rowSize(&ends[i].Conn)) + eventExtra
	}
	n, room := 0, s.bytes+bytes-s.most
	for ; n < len(s.batches) && room > 0; n++ {
		old := &s.batches[n]
		lost, room = lost+old.ends, room-old.bytes
		if !old.counted {
			lost += old.lost
		}
	}
	b, err := s.write(number, ends, lost)
	if err != nil {
		return false, err
	}
	for range n {
		s.drop()
	}
	s.batches = append(s.batches, b)
	s.bytes += b.bytes
	return n > 0, nil
}

// first reads the oldest batch, for a process that was told all deltas up to one. If the
// batch is damaged all of it is lost.
func (s *spool) first(heard uint64) (ends []conntrack.Event, lost uint64) {
	b := &s.batches[0]
	data, err := os.ReadFile(filepath.Join(s.dir, b.name))
	if err == nil {
		ends, err = decodeEvents(data, clock{now: time.Now().Round(0)})
	}
	if b.ends > 0 && (err != nil || uint64(len(ends)) != b.ends) {
		if b.counted {
			b.lost = 0
		}
		b.lost, b.ends, b.toldBy, b.counted = b.lost+b.ends, 0, 0, false
	}
	if b.ends == 0 {
		ends = nil
	}
	if b.counted || b.toldBy != 0 && b.toldBy <= heard {
		return ends, 0
	}
	return ends, b.lost
}

// cut takes the first ends out of the oldest batch, and its losses if they are recorded,
// so that the next run does not tell them again.
func (s *spool) cut(done int) error {
	ends, lost := s.first(0)
	old := s.batches[0]
	if done = min(done, len(ends)); done == 0 && !old.counted {
		return nil
	}
	if ends = ends[done:]; len(ends) == 0 && lost == 0 {
		s.drop()
		return nil
	}
	b, err := s.write(old.number, ends, lost)
	if err != nil {
		return err
	}
	s.drop()
	s.batches = append([]spooled{b}, s.batches...)
	s.bytes += b.bytes
	return nil
}

// write makes the file of a batch.
func (s *spool) write(number uint64, ends []conntrack.Event, lost uint64) (spooled, error) {
	rows := make([]eventRow, len(ends))
	for i := range ends {
		rows[i] = eventRowOf(ends[i])
	}
	data, err := cbor.Marshal(rows)
	b := spooled{name: spooledName(number, uint64(len(ends)), lost), number: number, ends: uint64(len(ends)), lost: lost, bytes: int64(len(data))}
	if err == nil {
		err = s.save(filepath.Join(s.dir, b.name), data)
	}
	if err != nil {
		return b, fmt.Errorf("feed: %w", err)
	}
	return b, nil
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
