package sqlite

import (
	"context"
	"math"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/history"
)

// A position is one in the index of timestamp.
type position struct{ timestamp, id int64 }

// nowhere is the position before all rows.
var nowhere = position{math.MinInt64, math.MinInt64}

// nameRecorded notes that a row gets a name. Names that are recorded late may be older than those
// that were deleted last.
func (db *DB) nameRecorded(e *history.Entry) {
	if e.PeerName != "" && wholeSeconds(seen(e)) <= db.nameless.timestamp {
		db.nameless = nowhere
	}
}

// forgetNames deletes the names of rows last seen before cutoff, in small steps. It begins where the
// last call has ended.
func (db *DB) forgetNames(ctx context.Context, cutoff int64) error {
	for n, done := int64(100), cutoff == math.MinInt64; !done; {
		took, err := db.step(ctx, func() (err error) {
			done, err = db.forgetStep(cutoff, n)
			return err
		})
		if isFull(err) && n > 1 {
			n = max(1, n/8) // the log had no space for more
			continue
		}
		if err != nil {
			return err
		}
		n = adapt(n, took)
	}
	return nil
}

// forgetStep looks at the next n rows.
func (db *DB) forgetStep(cutoff, n int64) (done bool, err error) {
	end, err := sqlitex.ImmediateTransaction(db.conn)
	if err != nil {
		return false, err
	}
	at, ch := db.nameless, newChanges()
	var ids []int64
	defer func() {
		if end(&err); err == nil {
			db.nameless = at
		}
		if ids != nil {
			db.cache.clear() // which may have their names
		}
	}()
	done = true
	err = sqlitex.Execute(db.conn, `SELECT timestamp, id, agent, 2 * octet_length(peer_name) + octet_length(peer_name_source)
FROM detailed_history INDEXED BY detailed_history_timestamp
WHERE timestamp >= ?1 + 0 AND timestamp < ?2 + 0 AND (timestamp > ?1 OR id > ?3) ORDER BY timestamp, id LIMIT ?4`, &sqlitex.ExecOptions{
		Args: []any{at.timestamp, cutoff, at.id, n},
		ResultFunc: func(stmt *sqlite.Stmt) error {
			done = false
			at = position{stmt.ColumnInt64(0), stmt.ColumnInt64(1)}
			if !stmt.ColumnIsNull(3) {
				ids = append(ids, at.id)
				ch.share(stmt.ColumnText(2), share{bytes: -stmt.ColumnInt64(3)})
			}
			return nil
		},
	})
	for _, id := range ids {
		if err == nil {
			err = sqlitex.Execute(db.conn, `UPDATE detailed_history SET peer_name = NULL, peer_name_source = NULL WHERE id = ?1`, &sqlitex.ExecOptions{Args: []any{id}})
		}
	}
	if err != nil {
		return false, err
	}
	return done, db.writeTotals(ch)
}
