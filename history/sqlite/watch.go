package sqlite

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/internal/numbers"
)

const freshStarted = "a fresh one was started"

// checkEvery is the interval at which a DB checks whether somebody else has changed its files:
// SQLite does not notice that, and goes on with its memory and with unlinked files.
const checkEvery = 5 * time.Second

// A watch is the state of a DB's files when they were checked last.
type watch struct {
	checkedAt time.Time
	id        string      // of the file, among its settings
	real      string      // where its name led: SQLite has the log and its index beside that
	log, shm  fs.FileInfo // of the log and its index; nil: not known
	logTime   time.Time   // at which the log was modified when it was found whole
	logUse    logUse      // what was in it then
	changes   uint32      // SQLite's counter in the header, which only grows
	size      int64       // of the file
	modified  time.Time   // when the file was
	before    logUse      // logUse at the check before
	emptied   uint64      // DB.emptied
	first     []byte      // its first page
}

// watched begins a watch of the file that is open.
func (db *DB) watched(id string) {
	db.watch = watch{checkedAt: time.Now(), id: id}
	db.watch.real, _ = realPath(db.path)
	db.watch.log, _ = os.Stat(db.watch.real + "-wal")
	db.watch.shm, _ = os.Stat(db.watch.real + "-shm")
	if info, err := os.Stat(db.watch.real); err == nil {
		db.watch.size, db.watch.modified = info.Size(), info.ModTime()
	}
}

// checkFile notices, each checkEvery, that somebody has removed, replaced, overwritten or cut the
// file, or removed its log or parted them, and has recording go on in one that is whole. db.mu is held.
func (db *DB) checkFile(ctx context.Context) error {
	if db.conn == nil || time.Since(db.watch.checkedAt) < checkEvery {
		return nil
	}
	db.watch.checkedAt = time.Now()
	info, err := os.Stat(db.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		db.emptyInto()
		return db.renew(ctx, "was removed while it was recorded into: "+freshStarted)
	case err != nil:
		return nil // for example too many open files: recording reports that
	case !os.SameFile(info, db.claim.info):
		db.emptyInto()
		return db.renew(ctx, "was replaced by another file while it was recorded into: what is there now is recorded into if it is a history")
	}
	if !db.emptying.TryLock() {
		return nil // half of what goes to its place is there
	}
	defer db.emptying.Unlock()
	for try := 0; ; try++ {
		err := db.tampering()
		if err == nil {
			break
		}
		if try == 10 {
			return db.replace(ctx, err)
		}
		time.Sleep(100 * time.Millisecond) // another program may be checkpointing the log
	}
	const lost = "has lost its log (-wal or -shm), or was moved away from it, while it was recorded into: what was in it has been saved"
	switch db.logState() {
	case logWhole:
		if db.writtenByOthers() {
			if err := db.checkContent(ctx); err != nil {
				return db.replace(ctx, err)
			}
		}
		return nil
	case indexCut:
		return db.renew(ctx, lost) // made anew from the log
	case logCut:
		// Nothing of it may go to its place: what SQLite believes to be in it is not there.
		before, known := db.lastRow()
		os.Truncate(db.watch.real+"-wal", 0)
		os.Remove(db.watch.real + "-wal")
		os.Remove(db.watch.real + "-shm")
		what := "has lost what was in its log (-wal), which somebody has cut off or overwritten while it was recorded into"
		err := db.renew(ctx, what)
		if after, ok := db.lastRow(); err == nil && known && ok && before > after {
			problem := fmt.Sprintf("history: %s %s: %s", db.path, what, numbers.Count(int(before-after), "row", "rows"))
			db.problem.Store(&problem)
			db.log.Error("history has lost rows", "file", db.path, "rows", before-after)
		}
		return err
	}
	busy, err := db.emptyInto()
	switch {
	case damaged(err):
		return db.replace(ctx, err)
	case err != nil:
		return err
	case busy:
		return nil // it is being read: try again next time
	}
	return db.renew(ctx, lost)
}

// lastRow returns the number of the last row, and whether it could be read.
func (db *DB) lastRow() (int64, bool) {
	if db.conn == nil {
		return 0, false
	}
	n, err := number(db.conn, `SELECT ifnull(max(id), 0) FROM detailed_history`)
	return n, err == nil
}

// emptyInto has all that is in the log go to its place in the file, whatever its name is now:
// SQLite has both open still. busy is whether it could not, since they are being read.
func (db *DB) emptyInto() (busy bool, err error) {
	db.emptied.Add(1)
	busy = true
	err = sqlitex.ExecuteTransient(db.conn, `PRAGMA wal_checkpoint(TRUNCATE)`, &sqlitex.ExecOptions{
		ResultFunc: func(stmt *sqlite.Stmt) error {
			busy = stmt.ColumnBool(0)
			return nil
		},
	})
	return busy, err
}

// checkIdle checks while nothing is recorded. The next Record returns the error.
func (db *DB) checkIdle() {
	db.mu.Lock()
	defer db.mu.Unlock()
	if !db.closed.Load() {
		db.checkFile(context.Background())
	}
}

// tampering returns what somebody has done to the content of the file; nil: nothing.
func (db *DB) tampering() error {
	head := make([]byte, headerSize)
	if _, err := db.claim.file.ReadAt(head, 0); err != nil {
		return fmt.Errorf("%w: somebody has cut it off", errDamaged)
	}
	if !isOurs(head) {
		return fmt.Errorf("%w: somebody has overwritten it", errDamaged)
	}
	changes, pages := binary.BigEndian.Uint32(head[24:]), int64(binary.BigEndian.Uint32(head[28:]))
	size := int64(binary.BigEndian.Uint16(head[16:]))
	if size == 1 {
		size = 64 << 10
	}
	info, err := db.claim.file.Stat()
	if err != nil {
		return nil
	}
	short := changes == binary.BigEndian.Uint32(head[92:]) && info.Size() < pages*size
	if short && info.Size() < db.watch.size {
		return fmt.Errorf("%w: somebody has cut it off", errDamaged)
	}
	if changes < db.watch.changes {
		return fmt.Errorf("%w: somebody has overwritten it with an older one", errDamaged)
	}
	db.watch.changes, db.watch.size = changes, info.Size()
	first := make([]byte, size)
	if _, err := db.claim.file.ReadAt(first, 0); err == nil {
		db.watch.first = first
	}
	if short {
		return nil // the disk was full when the log was to go to its place: it still has the rest
	}
	// As it is on the disk, without SQLite's cache.
	conn, err := openConn(fileURI(db.path, "mode=ro&immutable=1"), sqlite.OpenReadOnly, sqlite.OpenURI)
	if err != nil {
		return nil
	}
	defer closeConn(conn)
	id, err := textOf(conn, settingID)
	if damaged(err) || err == nil && id != db.watch.id {
		return fmt.Errorf("%w: somebody has overwritten it", errDamaged)
	}
	return nil
}

// writtenByOthers reports whether somebody else has written into the file since the last check. A DB
// writes into it only when the log goes to its place, which a DB does when it has autoCheckpoint
// pages: whether it did is known if the log had fewer all the time.
func (db *DB) writtenByOthers() bool {
	info, err := db.claim.file.Stat()
	if err != nil {
		return false
	}
	w := &db.watch
	emptied := db.emptied.Load()
	others := !info.ModTime().Equal(w.modified) && emptied == w.emptied &&
		w.before.salts == w.logUse.salts && w.logUse.frames < autoCheckpoint
	w.modified, w.before, w.emptied = info.ModTime(), w.logUse, emptied
	return others
}

// checkContent returns an error if the content of the file is damaged, as far as that is found in
// checkTime.
func (db *DB) checkContent(ctx context.Context) error {
	conn, err := openConn(db.path, sqlite.OpenReadOnly) // which has nothing of it in memory
	if err != nil {
		return nil
	}
	defer closeConn(conn)
	if err := check(ctx, conn, checkTime); damaged(err) {
		return fmt.Errorf("%w: somebody has overwritten a part of it", err)
	}
	return nil
}

const (
	logWhole = iota
	logLost  // SQLite goes on with an unlinked file
	indexCut // the log's index is shorter than SQLite has mapped
	logCut   // the log was cut off or overwritten, and SQLite has written on behind that
)

// A logUse says how much of a write-ahead log is in use.
type logUse struct {
	salts  [8]byte // other ones each time that SQLite begins it anew
	frames int64   // from its beginning, up to the end of the last transaction that is whole
}

// logState returns what somebody has done to SQLite's files beside the history.
func (db *DB) logState() int {
	if real, err := realPath(db.path); err == nil && real != db.watch.real {
		return logLost
	}
	for suffix, known := range map[string]*fs.FileInfo{"-wal": &db.watch.log, "-shm": &db.watch.shm} {
		info, err := os.Stat(db.watch.real + suffix)
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
		case *known == nil:
			if err == nil {
				*known = info
			}
		case err != nil || !os.SameFile(info, *known):
			return logLost
		case suffix == "-shm" && info.Size() < (*known).Size():
			return indexCut
		}
	}
	if info, err := os.Stat(db.watch.real + "-wal"); err == nil && !info.ModTime().Equal(db.watch.logTime) {
		use, whole := useOf(db.watch.real + "-wal")
		if !whole || use.salts == db.watch.logUse.salts && use.frames < db.watch.logUse.frames {
			return logCut
		}
		db.watch.logTime, db.watch.logUse = info.ModTime(), use
	}
	return logWhole
}

// useOf reads a write-ahead log. It is not whole if its header is bad, or if it was cut off and
// then written on where it had ended, which leaves zeros before frames that are in use. These have
// the salts of the header, those behind them have others, or, after a transaction that was rolled
// back, a checksum that does not fit: https://www.sqlite.org/fileformat2.html#walformat
func useOf(name string) (use logUse, whole bool) {
	f, err := os.Open(name) // on which SQLite has no locks
	if err != nil {
		return use, true
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 256<<10)
	header := make([]byte, 32)
	if _, err := io.ReadFull(r, header); err != nil {
		return use, true
	}
	// The magic number says in which byte order checksums are computed.
	var sum logSum
	switch binary.BigEndian.Uint32(header) {
	case 0x377f0682:
		sum.order = binary.LittleEndian
	case 0x377f0683:
		sum.order = binary.BigEndian
	default:
		return use, false
	}
	page := int64(binary.BigEndian.Uint32(header[8:]))
	if sum.add(header[:24]); !sum.is(header[24:]) || page < 512 || page > 64<<10 {
		return use, false
	}
	use.salts = [8]byte(header[16:])
	frame := make([]byte, 24+page)
	hole, end := false, false
	for n := int64(1); ; n++ {
		if _, err := io.ReadFull(r, frame); err != nil {
			return use, true
		}
		used := bytes.Equal(frame[8:16], use.salts[:])
		if used && hole {
			return use, false
		}
		hole = hole || !used
		if end {
			continue
		}
		sum.add(frame[:8])
		sum.add(frame[24:])
		if end = !used || !sum.is(frame[16:]); !end && binary.BigEndian.Uint32(frame[4:]) > 0 {
			use.frames = n
		}
	}
}

// A logSum is the checksum of a write-ahead log, which goes on from frame to frame.
type logSum struct {
	order    binary.ByteOrder
	one, two uint32
}

func (s *logSum) add(b []byte) {
	one, two := s.one, s.two
	if s.order == binary.LittleEndian {
		for ; len(b) >= 8; b = b[8:] {
			one += binary.LittleEndian.Uint32(b) + two
			two += binary.LittleEndian.Uint32(b[4:]) + one
		}
	} else {
		for ; len(b) >= 8; b = b[8:] {
			one += binary.BigEndian.Uint32(b) + two
			two += binary.BigEndian.Uint32(b[4:]) + one
		}
	}
	s.one, s.two = one, two
}

// is compares with the eight bytes of a checksum in the log.
func (s *logSum) is(b []byte) bool {
	return s.one == binary.BigEndian.Uint32(b) && s.two == binary.BigEndian.Uint32(b[4:])
}

// replace renames the damaged file and opens a new one.
func (db *DB) replace(ctx context.Context, reason error) error {
	// Before it is closed: SQLite writes nothing more into a file that has been moved.
	err := db.setAside(reason)
	closeConn(db.conn)
	if err != nil {
		err = db.setAside(reason) // where files that are open cannot be moved
	}
	db.claim.release()
	db.conn, db.claim = nil, nil
	if err != nil {
		return err
	}
	return db.open(ctx)
}

// renew opens what has the name now, and says afterwards what has happened.
func (db *DB) renew(ctx context.Context, what string) error {
	gone, real := db.claim.info, db.watch.real
	db.closeFile()
	if info, err := os.Stat(db.path); err != nil || !os.SameFile(info, gone) {
		// What SQLite has left of the file before, as while that is read, is none of the next.
		for suffix, known := range map[string]fs.FileInfo{"-wal": db.watch.log, "-shm": db.watch.shm} {
			if info, err := os.Stat(real + suffix); err == nil && known != nil && os.SameFile(info, known) {
				os.Remove(real + suffix)
			}
		}
	}
	err := db.open(ctx)
	if err != nil {
		what = strings.TrimSuffix(what, ": "+freshStarted)
	}
	problem := fmt.Sprintf("history: %s %s", db.path, what)
	db.problem.Store(&problem)
	db.log.Error("history "+what, "file", db.path)
	return err
}
