package sqlite

import (
	"context"
	"iter"

	"zombiezen.com/go/sqlite"

	"github.com/connmapgo/connmap/history"
)

// Newest yields all rows, those that were last known to be open most recently first. It
// reads as it goes: who has seen enough breaks off. After an error it ends. The file's
// log cannot be emptied while the loop runs.
func (db *DB) Newest(ctx context.Context) iter.Seq2[history.Row, error] {
	return rows(ctx, db, func(yield func(history.Row) error) error {
		return db.read(ctx, `SELECT `+rowColumns+` FROM detailed_history ORDER BY timestamp DESC`,
			func(stmt *sqlite.Stmt) error { return yield(scan(stmt)) })
	})
}
