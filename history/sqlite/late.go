package sqlite

import (
	"errors"

	"github.com/connmapgo/connmap/history"
)

// This file records what its agent or the server has not seen from the beginning: connections
// that are found open, whose program may be another by now, and ends that are reported after
// another connection has had the same addresses and ports.

// maxPrograms is among how many programs of an address that which opened a connection is looked for.
const maxPrograms = 32

// findOpen returns the row that a resumed connection goes on with; nil: none is open. That may be
// one of another program, which has executed this one since, as inetd does. hash is the column key.
func (db *DB) findOpen(e *history.Entry, hash int64) (best *cachedRow, err error) {
	of := *e
	// Most addresses have few programs, or none, and the index has their names in order.
	for n, from := 0, ""; n < maxPrograms; n++ {
		program, open, err := db.nextProgram(e, hash, from)
		if err != nil || program == nil {
			return best, err
		}
		if n == 0 {
			if r, err := db.find(e, hash); err == nil && !r.closed || err != nil && !errors.Is(err, errGone) {
				return r, err
			}
		}
		if open && *program != e.Program {
			of.Program = *program
			r, err := db.find(&of, hash)
			if err != nil {
				return nil, err
			}
			if db.continues(r, e) && (best == nil || r.distance(e) < best.distance(e)) {
				best = r
				if r.opener, err = db.opener(r.id); err != nil {
					return nil, err
				}
			}
		}
		from = *program + "\x00"
	}
	return best, nil
}

// distance is the time between the openings of a row and an entry, in ms.
func (r *cachedRow) distance(e *history.Entry) int64 {
	d := (r.opened - micro(e.Opened)) / 1000
	return max(d, -d)
}

// nextProgram returns the first of the programs of an address whose name is not before another,
// and whether it has an open row with a column key; nil: there is none.
func (db *DB) nextProgram(e *history.Entry, hash int64, from string) (program *string, open bool, err error) {
	// With bare parameters in the comparisons SQLite would compile the statement anew each time.
	stmt, err := db.conn.Prepare(`
SELECT programname, EXISTS (
	SELECT 1 FROM detailed_history AS d WHERE d.ip = p.ip AND d.programname = p.programname AND d.key = ?3 AND d.closed IS NULL)
FROM detailed_history AS p WHERE ip = ?1 || '' AND programname >= ?2 || '' ORDER BY programname LIMIT 1`)
	if err != nil {
		return nil, false, err
	}
	defer stmt.Reset()
	stmt.BindText(1, addrText(e.Peer))
	stmt.BindText(2, from)
	stmt.BindInt64(3, hash)
	if found, err := stmt.Step(); err != nil || !found {
		return nil, false, err
	}
	name := stmt.ColumnText(0)
	return &name, stmt.ColumnBool(1), nil
}

// opener returns the program in a row.
func (db *DB) opener(row int64) (*opener, error) {
	stmt, err := db.conn.Prepare(`SELECT programname, exe, container FROM detailed_history WHERE id = ?1`)
	if err != nil {
		return nil, err
	}
	defer stmt.Reset()
	stmt.BindInt64(1, row)
	if _, err := stmt.Step(); err != nil {
		return nil, err
	}
	return &opener{stmt.ColumnText(0), stmt.ColumnText(1), stmt.ColumnText(2)}, nil
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
