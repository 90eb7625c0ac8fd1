package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/history"
)

const (
	stepTime = 15 * time.Millisecond // maximum wait of recording for a step, if the disk does not get slower
	maxStep  = 5000                  // rows of a step, or pages
	logSize  = 8 << 20               // half of the size that the writer allows

	maxReports = 100_000 // kept rows; an agent can make many
	maxUnended = 100_000 // kept openings without a close event
)

// SetRetention sets the limits for Prune, and stores them in the file.
func (db *DB) SetRetention(r history.Retention) error {
	if r.Age < 0 || r.Names < 0 || r.Rows < 0 || r.Bytes < 0 {
		return errors.New("history: retention: a limit is negative: zero is none")
	}
	_, err := db.step(context.Background(), func() (err error) {
		end, err := sqlitex.ImmediateTransaction(db.conn)
		if err != nil {
			return err
		}
		defer end(&err)
		disabled := int64(0)
		if r.Disabled {
			disabled = 1
		}
		for name, n := range map[string]int64{"age": int64(r.Age), "names": int64(r.Names), "most_rows": r.Rows, "most_bytes": r.Bytes, "disabled": disabled} {
			err := sqlitex.Execute(db.conn, `INSERT OR REPLACE INTO settings VALUES (?, ?)`, &sqlitex.ExecOptions{Args: []any{name, n}})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// Stats returns how much there is, and the retention that was set last, be it by an earlier
// process. A new file has a limit of 4 GB; an upgraded one has none.
func (db *DB) Stats() (s history.Stats, err error) {
	err = db.locked(context.Background(), func() error {
		var err error
		s, err = db.stats()
		return err
	})
	return s, err
}

const countedRows = `SELECT value FROM settings WHERE name = 'rows'`

func (db *DB) stats() (s history.Stats, err error) {
	if s.Rows, err = number(db.conn, countedRows); err != nil {
		return s, err
	}
	if s.Bytes, err = db.pages("page_count"); err != nil {
		return s, err
	}
	if s.Oldest, err = edge(db.conn, "min"); err != nil {
		return s, err
	}
	s.Retention, err = db.retention()
	return s, err
}

// retention reads what SetRetention has set. db.mu is held.
func (db *DB) retention() (r history.Retention, err error) {
	for name, to := range map[string]func(int64){
		"age":        func(n int64) { r.Age = time.Duration(n) },
		"names":      func(n int64) { r.Names = time.Duration(n) },
		"most_rows":  func(n int64) { r.Rows = n },
		"most_bytes": func(n int64) { r.Bytes = n },
		"disabled":   func(n int64) { r.Disabled = n != 0 },
	} {
		n, err := number(db.conn, `SELECT value FROM settings WHERE name = '`+name+`'`)
		if err != nil {
			return r, err
		}
		to(n)
	}
	return r, nil
}

// edge returns the min or max of when rows were last seen; zero: there are none.
func edge(conn *sqlite.Conn, which string) (t time.Time, err error) {
	err = sqlitex.Execute(conn, `SELECT `+which+`(timestamp) FROM detailed_history`, &sqlitex.ExecOptions{
		ResultFunc: func(stmt *sqlite.Stmt) error {
			if !stmt.ColumnIsNull(0) {
				t = atSeconds(stmt.ColumnFloat(0))
			}
			return nil
		},
	})
	return t, err
}

// pages returns a number of pages that a pragma counts, in bytes.
func (db *DB) pages(pragma string) (int64, error) {
	n, err := number(db.conn, `PRAGMA `+pragma)
	if err != nil {
		return 0, err
	}
	size, err := number(db.conn, `PRAGMA page_size`)
	return n * size, err
}

func (db *DB) pragma(p string) error { return sqlitex.ExecuteTransient(db.conn, `PRAGMA `+p, nil) }

// locked calls f with the writer's connection, and adds to its error what to do.
func (db *DB) locked(ctx context.Context, f func() error) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	err := fs.ErrClosed
	if !db.closed.Load() {
		err = nil
		if db.conn == nil {
			err = db.open(ctx) // an earlier try to start a fresh file failed
		}
		if err == nil {
			err = f()
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("history: %s: %w", db.path, hint(err))
	}
	return nil
}

// Prune deletes rows and names that exceed the retention, and shrinks the file. The table agents
// counts the deleted rows of each agent. It returns the number of deleted rows, also on error.
//
// It works in small steps, between which Record goes on, and can be called at any time. If the
// disk is full it deletes the reserve first. If the clock seems wrong, it does not delete by
// age, and returns an error that says so; the other limits still hold.
func (db *DB) Prune(ctx context.Context) (deleted int64, err error) {
	var r history.Retention
	err = db.locked(ctx, func() (err error) {
		r, err = db.retention()
		return err
	})
	if err != nil || r.Disabled {
		return 0, err
	}
	var clock error // errClock, if the clock seems wrong
	before := func(age time.Duration) int64 {
		if age == 0 {
			return math.MinInt64
		}
		db.mu.Lock()
		defer db.mu.Unlock()
		if !db.clock.trusted(age) {
			clock = errClock
			return math.MinInt64
		}
		return wholeSeconds(db.clock.now().Add(-age))
	}
	cutoff := before(r.Age)
	n := int64(100) // rows of a step, as many as its time allows
	for {
		var gone int64
		took, err := db.step(ctx, func() (err error) {
			gone, err = db.deleteStep(r, cutoff, n)
			return err
		})
		deleted += gone
		if isFull(err) && n > 1 {
			n = max(1, n/8) // the log had no space for more
			continue
		}
		if err != nil {
			return deleted, err
		}
		if gone == 0 {
			break
		}
		n = adapt(n, took)
	}
	if err := db.forgetNames(ctx, before(r.Names)); err != nil {
		return deleted, err
	}
	if err := db.shrink(ctx); err != nil {
		return deleted, err
	}
	return deleted, clock
}

func isFull(err error) bool { return sqlite.ErrCode(err).ToPrimary() == sqlite.ResultFull }

// excess returns by how many rows, and by which fraction of the bytes, the limits are exceeded.
func (db *DB) excess(r history.Retention) (rows int64, part float64, err error) {
	all, err := number(db.conn, countedRows)
	if err != nil {
		return 0, 0, err
	}
	if r.Rows > 0 {
		rows = max(0, all-r.Rows)
	}
	if r.Bytes <= 0 {
		return rows, 0, nil
	}
	used, err := db.pages("page_count")
	if err != nil {
		return 0, 0, err
	}
	free, err := db.pages("freelist_count")
	if err != nil {
		return 0, 0, err
	}
	if used -= free; used > r.Bytes {
		part = float64(used-r.Bytes) / float64(used)
	}
	return rows, part, nil
}

// adapt adjusts the size of a step to the time that the last one took.
func adapt(n int64, took time.Duration) int64 {
	f := float64(stepTime) / float64(max(took, time.Microsecond))
	return min(maxStep, max(1, int64(float64(n)*min(2, max(0.25, f)))))
}

// step calls f with the writer's connection. If the disk is full it deletes the reserve and
// tries again.
func (db *DB) step(ctx context.Context, f func() error) (took time.Duration, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err = db.locked(ctx, func() error {
		start := time.Now()
		defer func() { took = time.Since(start) }()
		err := f()
		if isFull(err) {
			if err := db.makeRoom(); err != nil {
				return err
			}
			err = f()
		}
		return err
	})
	if err == nil {
		if info, err := os.Stat(db.path + "-wal"); err == nil && info.Size() > logSize {
			db.emptyLog() // or the writer does it, later
		}
		time.Sleep(took / 4) // lets recording go first
	}
	return took, err
}

// makeRoom deletes the reserve and checkpoints the log, so that it starts again at its
// beginning.
func (db *DB) makeRoom() error {
	db.dropReserve()
	db.emptied.Add(1)
	return db.pragma(`wal_checkpoint(TRUNCATE)`)
}

// emptyLog checkpoints the log on a connection of its own: the writer's would have to wait.
func (db *DB) emptyLog() error {
	db.emptying.Lock()
	defer db.emptying.Unlock()
	db.emptied.Add(1)
	conn, err := openConn(db.path, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	conn.SetBusyTimeout(busyTimeout)
	return sqlitex.ExecuteTransient(conn, `PRAGMA wal_checkpoint(PASSIVE)`, nil)
}

// deleteStep deletes up to n rows: those last seen before cutoff, then those that exceed the
// other limits.
func (db *DB) deleteStep(r history.Retention, cutoff, n int64) (gone int64, err error) {
	end, err := sqlitex.ImmediateTransaction(db.conn)
	if err != nil {
		return 0, err
	}
	ch := newChanges()
	defer func() {
		end(&err)
		if err != nil {
			gone = 0
			db.cache.clear()
		}
	}()
	if gone, err = db.deleteRows(`timestamp < ?2 ORDER BY timestamp`, "detailed_history_timestamp", n, cutoff, ch); err != nil {
		return 0, err
	}
	if gone == 0 {
		if gone, err = db.deleteExcess(r, n, ch); err != nil {
			return 0, err
		}
	}
	if err := sqlitex.Execute(db.conn, `DELETE FROM losses WHERE timestamp < ?1`, &sqlitex.ExecOptions{Args: []any{cutoff}}); err != nil {
		return 0, err
	}
	// Of runs that ended long ago: no agent keeps unacknowledged events for so long.
	old := wholeSeconds(db.clock.now().AddDate(0, -3, 0))
	if err := sqlitex.Execute(db.conn, `DELETE FROM reports WHERE timestamp < ?1 OR run IN (
		SELECT run FROM reports ORDER BY timestamp LIMIT min(?3, max(0, (SELECT count(*) FROM reports) - ?2)))`,
		&sqlitex.ExecOptions{Args: []any{old, maxReports, maxStep}}); err != nil {
		return 0, err
	}
	if err := sqlitex.Execute(db.conn, `DELETE FROM unended WHERE (row, opened) IN (
		SELECT row, opened FROM unended ORDER BY opened LIMIT min(?2, max(0, (SELECT count(*) FROM unended) - ?1)))`,
		&sqlitex.ExecOptions{Args: []any{maxUnended, maxStep}}); err != nil {
		return 0, err
	}
	return gone, db.writeTotals(ch)
}

// deleteRows deletes the first n rows of an index that meet a condition on ?2.
func (db *DB) deleteRows(fit, index string, n int64, arg any, ch *changes) (gone int64, err error) {
	err = sqlitex.Execute(db.conn, `DELETE FROM detailed_history WHERE id IN (
		SELECT id FROM detailed_history INDEXED BY `+index+` WHERE `+fit+` LIMIT ?1)
		RETURNING count, lat, lon, agent, `+rowSizeSQL, &sqlitex.ExecOptions{
		Args: []any{n, arg},
		ResultFunc: func(stmt *sqlite.Stmt) error {
			gone++
			ch.rows--
			ch.count(columnPlace(stmt, 1), -stmt.ColumnInt64(0))
			ch.share(stmt.ColumnText(3), share{rows: -1, bytes: -stmt.ColumnInt64(4), pruned: 1})
			return nil
		},
	})
	return gone, err
}

// shrink returns free pages of the file to the disk.
func (db *DB) shrink(ctx context.Context) error {
	n := int64(50)
	for {
		var left int64
		took, err := db.step(ctx, func() (err error) {
			if left, err = number(db.conn, `PRAGMA freelist_count`); err != nil || left == 0 {
				return err
			}
			return db.pragma(fmt.Sprintf(`incremental_vacuum(%d)`, n))
		})
		if err != nil {
			return err
		}
		if left == 0 {
			break
		}
		n = adapt(n, took)
	}
	// Only this may free the space for the reserve.
	err := db.emptyLog()
	return db.locked(ctx, func() error {
		if isFull(err) {
			err = db.makeRoom()
		}
		if err == nil {
			db.makeReserve()
		}
		return err
	})
}

// Reset deletes everything but the retention, and makes the file small.
func (db *DB) Reset(ctx context.Context) error {
	_, err := db.step(ctx, func() (err error) {
		db.conn.SetInterrupt(ctx.Done())
		defer db.conn.SetInterrupt(nil)
		defer db.cache.clear()
		end, err := sqlitex.ImmediateTransaction(db.conn)
		if err != nil {
			return err
		}
		defer end(&err)
		// Without a condition SQLite empties a table at once.
		for _, q := range []string{
			`DELETE FROM detailed_history`, `DELETE FROM places`, `DELETE FROM losses`, `DELETE FROM reports`, `DELETE FROM agents`, `DELETE FROM unended`,
			`UPDATE settings SET value = 0 WHERE name = 'rows'`,
		} {
			if err := sqlitex.ExecuteTransient(db.conn, q, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return db.shrink(ctx)
}
