package sqlite

import (
	"errors"

	"github.com/connmapgo/connmap/history"
)

// This file records what its agent or the server has not seen from the beginning: connections
// that are found open, whose program may be another by now, and ends that are reported after
// another connection has had the same addresses and ports.

// maxAlike is how many open rows with one column key are looked through: connections with the
// same local address and ports, to different peers.
const maxAlike = 1000

// findOpen returns the row that a resumed connection goes on with; nil: none is open. That may be
// one of another program, which has executed this one since, as inetd does. hash is the column key.
func (db *DB) findOpen(e *history.Entry, hash int64) (*cachedRow, error) {
	r, err := db.find(e, hash)
	if err == nil && !r.closed || err != nil && !errors.Is(err, errGone) {
		return r, err
	}
	// With a bare parameter in the comparison SQLite would compile the statement anew each time.
	const alike = `FROM detailed_history INDEXED BY detailed_history_open WHERE key = ?1 + 0 AND closed IS NULL LIMIT ?2`
	stmt, err := db.conn.Prepare(`SELECT 1 ` + alike)
	if err != nil {
		return nil, err
	}
	stmt.BindInt64(1, hash)
	stmt.BindInt64(2, 1)
	found, err := stmt.Step()
	if err := errors.Join(err, stmt.Reset()); err != nil || !found {
		return nil, err
	}
	stmt, err = db.conn.Prepare(`
SELECT ` + cachedColumns + `, programname, exe, container FROM (SELECT * ` + alike + `)
WHERE ip = ?3 || '' ORDER BY abs(round((last_opened - ?4) * 1000)), programname LIMIT 1`)
	if err != nil {
		return nil, err
	}
	defer stmt.Reset()
	stmt.BindInt64(1, hash)
	stmt.BindInt64(2, maxAlike)
	stmt.BindText(3, addrText(e.Peer))
	stmt.BindFloat(4, seconds(e.Opened))
	if found, err := stmt.Step(); err != nil || !found {
		return nil, err
	}
	r = columnRow(stmt)
	r.opener = &opener{stmt.ColumnText(13), stmt.ColumnText(14), stmt.ColumnText(15)}
	if !db.continues(r, e) {
		return nil, nil
	}
	return r, nil
}

// resume records an entry of a connection that goes on with a row.
func (db *DB) resume(e history.Entry, r *cachedRow, ch *changes) error {
	of := r.named(e)
	if known := db.cache.rows[rowKeyOf(&of)]; known != nil {
		known.opener = r.opener
		r = known
	}
	db.cache.rows[rowKeyOf(&of)], db.cache.rows[rowKeyOf(&e)] = r, r
	return db.put(e, ch)
}

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

// removeUnended removes and returns the opening without an end that opened at a time.
func (db *DB) removeUnended(row, opened int64) (o opening, found bool, err error) {
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
	counted, found, err := db.removeUnended(r.id, micro(e.Opened))
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
