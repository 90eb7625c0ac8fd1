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
	batches []spooled
	bytes   int64
}

type spooled struct {
	number, ends, lost uint64
	bytes              int64
	counted            bool // the server knows of lost
}

// losses returns how many losses are to be told besides the ends.
func (b spooled) losses() uint64 {
	if b.counted {
		return 0
	}
	return b.lost
}

func (b spooled) name() string {
	return fmt.Sprintf("%012d-%d-%d%s", b.number, b.ends, b.lost, spoolMark)
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
	s := &spool{dir: dir}
	for _, e := range entries {
		var b spooled
		info, err := e.Info()
		if err != nil || !strings.HasSuffix(e.Name(), spoolMark) {
			continue
		}
		if _, err := fmt.Sscanf(e.Name(), "%d-%d-%d", &b.number, &b.ends, &b.lost); err != nil || b.name() != e.Name() {
			continue
		}
		b.bytes = info.Size()
		s.batches = append(s.batches, b)
		s.bytes += b.bytes
	}
	slices.SortFunc(s.batches, func(a, b spooled) int { return strings.Compare(a.name(), b.name()) })
	return s, nil
}

// put adds a batch, and reports whether older ones had to make room for it: their ends are
// among its losses. It fails if the disk does not take it, and drops nothing then.
func (s *spool) put(ends []conntrack.Event, lost uint64) (dropped bool, err error) {
	rows := make([]eventRow, len(ends))
	for i := range ends {
		rows[i] = eventRowOf(ends[i])
	}
	data, err := cbor.Marshal(rows)
	if err != nil {
		return false, fmt.Errorf("feed: %w", err)
	}
	b := spooled{ends: uint64(len(ends)), lost: lost, bytes: int64(len(data))}
	if n := len(s.batches); n > 0 {
		b.number = s.batches[n-1].number + 1
	}
	n, room := 0, s.bytes+b.bytes-mostSpooled
	for ; n < len(s.batches) && room > 0; n++ {
		b.lost += s.batches[n].ends + s.batches[n].losses()
		room -= s.batches[n].bytes
	}
	if err := temp.Write(filepath.Join(s.dir, b.name()), 0o600, data); err != nil {
		return false, fmt.Errorf("feed: %w", err)
	}
	for range n {
		s.drop()
	}
	s.batches = append(s.batches, b)
	s.bytes += b.bytes
	return n > 0, nil
}

// first reads the oldest batch. If that is damaged all of it is lost.
func (s *spool) first() (ends []conntrack.Event, lost uint64) {
	b := s.batches[0]
	data, err := os.ReadFile(filepath.Join(s.dir, b.name()))
	if err != nil {
		return nil, b.ends + b.losses()
	}
	ends, err = decodeEvents(data, clock{now: time.Now().Round(0)})
	if err != nil || uint64(len(ends)) != b.ends {
		return nil, b.ends + b.losses()
	}
	return ends, b.losses()
}

// drop removes the oldest batch.
func (s *spool) drop() {
	b := s.batches[0]
	s.batches = s.batches[1:]
	s.bytes -= b.bytes
	if err := os.Remove(filepath.Join(s.dir, b.name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		// It would be told again by the next run; without its content it is nothing.
		os.Truncate(filepath.Join(s.dir, b.name()), 0)
	}
}
