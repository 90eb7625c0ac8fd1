package sqlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/internal/terminal"
)

// Options are the settings of Open. The zero value works.
type Options struct {
	Logger *slog.Logger // for damaged files and long operations; nil: none

	// Complete sets what connmapperl did not record of a connection: Rule, Country and
	// Direction. It gets Peer, Local, Program, Exe and the place as far as they are known,
	// and is called for each row of an upgrade, one after another. Other changes are
	// ignored. nil: they stay empty, and the direction unknown.
	Complete func(*history.Entry)
	// Progress is called several times a second during an upgrade, but never by two
	// goroutines at a time. It may be nil.
	Progress func(done, total int64)
}

// A DB is an open history. It is safe for concurrent use: Record calls wait
// for each other, readers wait for nobody.
type DB struct {
	path string
	opts Options // with a logger
	log  *slog.Logger

	closed   atomic.Bool // set with mu held
	problem  atomic.Pointer[string]
	emptying sync.Mutex    // held while the log is checkpointed without mu
	emptied  atomic.Uint64 // how often that was begun, but for what SQLite does by itself

	mu       sync.Mutex // guards what follows, for as long as a transaction takes
	lock     *os.File   // nil: not yet
	claim    *claim     // of the file that conn has; nil if conn is
	conn     *sqlite.Conn
	watch    watch
	cache    rowCache
	nameless position // up to there no row has a name; see forgetNames
	clock    clock
}

var (
	_ history.Store    = (*DB)(nil)
	_ history.Recorder = (*Writer)(nil)
	_ history.Console  = (*Console)(nil)
)

const (
	// busyTimeout is for programs such as sqlite3 that write into the file
	// meanwhile.
	busyTimeout = 5 * time.Second
	// checkTime suffices for some hundred megabytes; what lies beyond is
	// found when it is used.
	checkTime = 500 * time.Millisecond
)

// Open opens the history in the named file. It creates the file, readable by
// its owner only, and the folder if they do not exist. It follows symbolic links. A file with
// several hard links is opened by the name under which it was recorded last.
//
// A damaged history is renamed to NAME.corrupt-TIME and a new one started; Problem then says
// so. A history of connmapperl, or of schema 1 to 3, is copied into a new file with all its
// rows, and kept as NAME.before-migration-TIME. That takes some seconds for a million rows. One
// of schema 4 to 6 is upgraded in place.
//
// Open fails, and leaves the file as it is, if
//   - another DB has it open by any name, in this process or another; between processes, other
//     names than links are only noticed on Linux
//   - it is not a history, for example a text or a database of another program
//   - a newer version of this package has written it
//   - it or its folder cannot be written
//
// The caller must close the DB.
func Open(ctx context.Context, name string, opts Options) (*DB, error) {
	if name == "" {
		return nil, errors.New("history: no file named")
	}
	// SQLite keeps its log beside the file that a link leads to.
	path, err := realPath(name)
	if err != nil {
		return nil, fmt.Errorf("history: %w", hint(err))
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	db := &DB{path: trueName(path), opts: opts, log: opts.Logger}
	if err := os.MkdirAll(filepath.Dir(db.path), 0o700); err != nil {
		return nil, fmt.Errorf("history: %w", hint(err))
	}
	if err := db.open(ctx); err != nil {
		if db.lock != nil {
			db.lock.Close()
		}
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		if db.path != path && errors.Is(err, fs.ErrPermission) {
			// A confined program may write in the folder that was named, not in that of the other name.
			return nil, fmt.Errorf("history: %s was recorded last by another name: %w: open it by that name", path, err)
		}
		return nil, fmt.Errorf("history: %s: %w", db.path, hint(err))
	}
	if db.path != path {
		db.log.Info("history has several names: it is opened by that under which it was recorded last", "file", path, "as", db.path)
	}
	return db, nil
}

// open sets db.conn and db.claim. A damaged history is set aside.
func (db *DB) open(ctx context.Context) error {
	db.nameless = nowhere
	for again := false; ; again = true {
		c, err := claimFile(db.path)
		if err != nil {
			return err
		}
		if c, err = db.openClaimed(ctx, c); err == nil {
			db.claim = c
			return nil
		}
		if damaged(err) && !again {
			if !isHistory(c.file) {
				err = errNoHistory
			} else if err = db.setAside(err); err == nil {
				c.release()
				continue
			}
		}
		c.release()
		return err
	}
}

// openClaimed sets db.conn, and what depends on the file. It returns the claim of the file,
// which may be another one after a migration. On error it sets nothing.
func (db *DB) openClaimed(ctx context.Context, c *claim) (*claim, error) {
	if c.info.Size() > 0 {
		if err := refuse(c.file, db.path); err != nil {
			return c, err
		}
		from, err := identify(db.path)
		if err != nil {
			return c, err
		}
		if err := db.lockName(); err != nil {
			return c, err
		}
		if from != current {
			if err := migrate(ctx, db.path, from, &db.opts); err != nil {
				return c, err
			}
			migrated, err := claimFile(db.path)
			if err != nil {
				return c, err
			}
			c.release()
			c = migrated
		}
	}
	if c.info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(db.path, 0o600); err != nil {
			return c, err
		}
	}
	if err := db.lockName(); err != nil {
		return c, err
	}
	conn, err := openConn(db.path, sqlite.OpenReadWrite)
	if err != nil {
		return c, err
	}
	conn.SetBusyTimeout(busyTimeout)
	err = configure(ctx, conn, checkTime, db.log)
	id := ""
	if err == nil {
		id, err = sign(conn, db.path)
	}
	newest := time.Time{}
	if err == nil {
		newest, err = edge(conn, "max")
	}
	if err != nil {
		closeConn(conn)
		return c, err
	}
	db.conn = conn
	db.watched(id)
	db.cache.clear()
	db.makeReserve()
	db.clock = clock{now: time.Now, ran: sinceNow(), opened: time.Now(), newest: newest}
	return c, nil
}

// lockName takes the lock beside the file. It creates the lock file only for a history.
func (db *DB) lockName() (err error) {
	if db.lock == nil {
		db.lock, err = lockFile(db.path)
	}
	return err
}

// hint adds what to do about a file that cannot be opened or written.
func hint(err error) error {
	switch code := sqlite.ErrCode(err); {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: give this user the right to write there, or choose another file", err)
	case errors.Is(err, syscall.EMFILE), code.ToPrimary() == sqlite.ResultCantOpen && tooManyOpen():
		return fmt.Errorf("%w: too many files are open: allow more by ulimit -n", err)
	case errors.As(err, new(*fs.PathError)):
		return fmt.Errorf("%w: choose another file", err)
	// SHMSize: there is no room for the log's index.
	case code.ToPrimary() == sqlite.ResultFull, code == sqlite.ResultIOErrSHMSize:
		return fmt.Errorf("%w: free some space on its disk", err)
	case code.ToPrimary() == sqlite.ResultBusy:
		return fmt.Errorf("%w: stop the program that has locked it", err)
	}
	return err
}

// tooManyOpen reports whether the process may open no more files, which SQLite does not say.
func tooManyOpen() bool {
	f, err := os.Open(os.DevNull)
	if err == nil {
		f.Close()
	}
	return errors.Is(err, syscall.EMFILE)
}

// saving returns the command that copies the rows of a damaged file before the first damaged page
// and after the last into the file NEW, which this package can open.
func saving(name string) string {
	// SQLite's header has the version of the schema here, and then whose it is.
	b := make([]byte, 12)
	if f, err := os.Open(name); err == nil {
		f.ReadAt(b, 60)
		f.Close()
	}
	dump := fmt.Sprintf(`sqlite3 %s .dump | sed 's/^ROLLBACK.*/COMMIT;/'`, terminal.Shell(name))
	if binary.BigEndian.Uint32(b[8:]) == applicationID {
		dump = fmt.Sprintf(`(%s; echo 'PRAGMA application_id = %d; PRAGMA user_version = %d;')`, dump, applicationID, binary.BigEndian.Uint32(b))
	}
	return dump + ` | sqlite3 NEW`
}

// setAside renames the file and its log.
func (db *DB) setAside(reason error) error {
	kept, err := aside(db.path, "corrupt")
	if err != nil {
		return fmt.Errorf("damaged (%w), and it cannot be set aside: %w", reason, err)
	}
	if err := os.Rename(db.path, kept); err != nil {
		return fmt.Errorf("damaged (%w), and it cannot be set aside: %w", reason, err)
	}
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if err := os.Rename(db.path+suffix, kept+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("damaged (%w), and it cannot be set aside: %w", reason, err)
		}
	}
	db.keepFirst(kept)
	save := saving(kept)
	problem := fmt.Sprintf("history: %s was damaged (%v): a fresh one was started, the old one is kept as %s; its rows before the first and after the last damaged page `%s` puts into the file NEW", db.path, reason, kept, save)
	db.problem.Store(&problem)
	db.log.Error("history damaged, fresh one started", "file", db.path, "kept", kept, "err", reason, "to save its rows into NEW", save)
	return nil
}

// keepFirst gives a file that was cut off to nothing its first page again: SQLite removes the log
// of an empty file, and its rows with it.
func (db *DB) keepFirst(kept string) {
	if info, err := os.Stat(kept); err != nil || info.Size() > 0 {
		return
	}
	if f, err := os.OpenFile(kept, os.O_WRONLY, 0); err == nil {
		f.WriteAt(db.watch.first, 0)
		f.Close()
	}
}

// Problem says, for people, that the file was damaged, where it is kept and what to do. It is
// empty if all is well.
func (db *DB) Problem() string {
	if p := db.problem.Load(); p != nil {
		return *p
	}
	return ""
}

// closeFile closes what open has opened.
func (db *DB) closeFile() error {
	if db.conn == nil {
		return nil
	}
	err := closeConn(db.conn)
	db.claim.release()
	db.conn, db.claim = nil, nil
	return err
}

// Close closes the history. Running readers are not interrupted.
func (db *DB) Close() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed.Load() {
		return nil
	}
	db.closed.Store(true)
	err := db.closeFile()
	db.lock.Close()
	if err != nil {
		return fmt.Errorf("history: %s: %w", db.path, err)
	}
	return nil
}

// Record stores entries in one transaction, in their order: all, or on error none. Only an
// entry that is New takes back that a connection was closed.
//
// If the file turns out to be damaged, it is set aside as in Open and the
// entries go into a fresh one.
func (db *DB) Record(ctx context.Context, entries []history.Entry) error {
	records := make([]history.Record, len(entries))
	for i, e := range entries {
		records[i] = e
	}
	return db.recordAll(ctx, records)
}

// recordAll stores records of all kinds as Record does entries.
func (db *DB) recordAll(ctx context.Context, records []history.Record) error {
	if len(records) == 0 {
		return ctx.Err()
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if err := db.recordOrReplace(ctx, records); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("history: %s: %w", db.path, hint(err))
	}
	return nil
}

func (db *DB) recordOrReplace(ctx context.Context, records []history.Record) error {
	if db.closed.Load() {
		return fs.ErrClosed
	}
	if db.conn == nil {
		// An earlier try to start a fresh file failed.
		if err := db.open(ctx); err != nil {
			return err
		}
	}
	if err := db.checkFile(ctx); err != nil {
		return err
	}
	err := db.record(ctx, records)
	if !damaged(err) {
		return err
	}
	if err := db.replace(ctx, err); err != nil {
		return err
	}
	return db.record(ctx, records)
}

// Places yields the distinct places of all rows, by latitude and longitude.
// After an error it ends. The file's log cannot be emptied while the loop
// runs.
func (db *DB) Places(ctx context.Context) iter.Seq2[history.Mark, error] {
	return rows(ctx, db, func(yield func(history.Mark) error) error {
		return db.read(ctx, `SELECT lat, lon, count FROM places ORDER BY lat, lon`, func(stmt *sqlite.Stmt) error {
			return yield(history.Mark{Lat: stmt.ColumnFloat(0), Lon: stmt.ColumnFloat(1), Count: stmt.ColumnInt64(2)})
		})
	})
}

// ErrInUse is wrapped by errors of Open if another DB has the file open, in this process or
// another.
var ErrInUse = errors.New("another server is recording into it: stop that one or choose another file")

var errStop = errors.New("stop")

// A reader is a connection of its own that reads.
func (db *DB) reader(ctx context.Context) (*sqlite.Conn, error) {
	if db.closed.Load() {
		return nil, fs.ErrClosed
	}
	conn, err := openConn(db.path, sqlite.OpenReadOnly)
	if err != nil {
		return nil, err
	}
	conn.SetBusyTimeout(busyTimeout)
	conn.SetInterrupt(ctx.Done())
	return conn, nil
}

// read runs a query on a connection of its own.
func (db *DB) read(ctx context.Context, query string, row func(*sqlite.Stmt) error, args ...any) error {
	conn, err := db.reader(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	return sqlitex.ExecuteTransient(conn, query, &sqlitex.ExecOptions{Args: args, ResultFunc: row})
}

// rows yields what f finds until it fails.
func rows[T any](ctx context.Context, db *DB, f func(yield func(T) error) error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		err := f(func(v T) error {
			if !yield(v, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			var none T
			yield(none, fmt.Errorf("history: %s: %w", db.path, err))
		}
	}
}
