package sqlite

import "github.com/connmapgo/connmap/history"

// This file records ends that are reported late: after another connection has had the same
// addresses and ports.

// An opening is the bytes that a row has counted of one.
type opening struct{ tx, rx int64 }

// putUnended notes that the last opening of a row has no end, and another one follows.
func (db *DB) putUnended(r *cachedRow) error {
	stmt, err := db.conn.Prepare(`INSERT OR REPLACE INTO unended VALUES (?1, ?2, ?3, ?4)`)
	if err != nil {
		return err
	}
	for i, n := range []int64{r.id, r.opened, r.tx - r.txBefore, r.rx - r.rxBefore} {
		stmt.BindInt64(i+1, n)
	}
	return run(stmt)
}

// takeUnended removes and returns the opening without an end that opened at a time.
func (db *DB) takeUnended(row, opened int64) (o opening, found bool, err error) {
	stmt, err := db.conn.Prepare(`DELETE FROM unended WHERE (row, opened) IN (
	SELECT row, opened FROM unended WHERE row = ?1 AND (opened - ?2) % ?3 = 0 ORDER BY opened LIMIT 1) RETURNING tx, rx`)
	if err != nil {
		return o, false, err
	}
	defer stmt.Reset()
	stmt.BindInt64(1, row)
	stmt.BindInt64(2, opened)
	stmt.BindInt64(3, clockStep)
	for {
		more, err := stmt.Step()
		if err != nil || !more {
			return o, found, err
		}
		o, found = opening{stmt.ColumnInt64(0), stmt.ColumnInt64(1)}, true
	}
}

// addLate adds an opening whose end is reported late, and reports whether it did: if it is
// counted already, or opened before the last one.
func (db *DB) addLate(e *history.Entry, r *cachedRow, ch *changes) (added bool, err error) {
	counted, found, err := db.takeUnended(r.id, micro(e.Opened))
	switch {
	case err != nil:
		return false, err
	case !found && micro(e.Opened) > r.opened:
		return false, nil
	case !found:
		r.count++
		ch.count(r.place, 1)
	}
	return true, db.addEarlier(e, r, counted)
}

// addEarlier adds the bytes of an opening that has ended, and opened before the last one.
// counted is what the row has of it. The row goes on with the last opening.
func (db *DB) addEarlier(e *history.Entry, r *cachedRow, counted opening) error {
	tx, rx := max(limitCounter(e.Tx)-counted.tx, 0), max(limitCounter(e.Rx)-counted.rx, 0)
	r.tx, r.txBefore = min(history.MaxCounter, r.tx+tx), min(history.MaxCounter, r.txBefore+tx)
	r.rx, r.rxBefore = min(history.MaxCounter, r.rx+rx), min(history.MaxCounter, r.rxBefore+rx)
	stmt, err := db.conn.Prepare(`
UPDATE detailed_history SET count = ?1, tx = ?2, rx = ?3, tx_before = ?4, rx_before = ?5,
	opened = min(opened, ?6), timestamp = max(timestamp, ?7), closed = max(closed, ?8) -- NULL stays
WHERE id = ?9`)
	if err != nil {
		return err
	}
	for i, n := range []int64{r.count, r.tx, r.rx, r.txBefore, r.rxBefore} {
		stmt.BindInt64(i+1, n)
	}
	stmt.BindFloat(6, seconds(e.Opened))
	stmt.BindInt64(7, wholeSeconds(seen(e)))
	bindTime(stmt, 8, e.Closed)
	stmt.BindInt64(9, r.id)
	if err := run(stmt); err != nil {
		return err
	}
	if db.conn.Changes() == 0 {
		return errGone
	}
	return nil
}
