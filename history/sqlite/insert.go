package sqlite

import (
	"fmt"
	"math"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/history"
)

// insertSizes are how many rows a statement may insert. The more it does, the less each one
// costs: SQLite keeps its place in the table and in each index, and most rows follow the last.
var insertSizes = [...]int{64, 8, 1}

// inserts are rows that are to be inserted together.
type inserts struct {
	rows    []insertion
	counted bool  // lastID is known
	lastID  int64 // the greatest number of a row, after which SQLite goes on
}

// An insertion is a row that is to be inserted if there is none of its connection.
type insertion struct {
	entry history.Entry
	hash  int64 // the row's column key
}

// putUncached records an entry of a connection that is not in the cache.
func (db *DB) putUncached(e history.Entry, ch *changes) error {
	hash := hashOf(&e)
	for i := range ch.inserts.rows {
		if ch.inserts.rows[i].hash != hash {
			continue
		}
		// Likely another one of the same connection.
		if err := db.insert(ch); err != nil {
			return err
		}
		return db.put(e, ch)
	}
	if e.Resumed {
		if r, err := db.findOpen(&e, hash); err != nil {
			return err
		} else if r != nil {
			return db.resume(e, r, ch)
		}
	}
	ch.inserts.rows = append(ch.inserts.rows, insertion{e, hash})
	if len(ch.inserts.rows) < insertSizes[0] {
		return nil
	}
	return db.insert(ch)
}

// insert inserts the rows that wait for it, in their order.
func (db *DB) insert(ch *changes) error {
	rows := ch.inserts.rows
	if len(rows) == 0 {
		return nil
	}
	ch.inserts.rows = rows[:0]
	if len(rows) > 1 && !ch.inserts.counted {
		stmt, err := db.conn.Prepare(`SELECT coalesce(max(id), 0) FROM detailed_history`)
		if err != nil {
			return err
		}
		if ch.inserts.lastID, err = sqlitex.ResultInt64(stmt); err != nil {
			return err
		}
		ch.inserts.counted = true
	}
	for len(rows) > 0 {
		n := 1
		for _, size := range insertSizes {
			if size <= len(rows) && ch.inserts.lastID < math.MaxInt64-int64(size) {
				n = size
				break
			}
		}
		if err := db.insertTogether(rows[:n], ch); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// insertTogether inserts as many rows as one of insertSizes, and updates those that there are.
func (db *DB) insertTogether(rows []insertion, ch *changes) error {
	stmt, err := db.conn.Prepare(insertSQL[len(rows)])
	if err != nil {
		return err
	}
	for i := range rows {
		rows[i].bind(stmt, i*insertParams+1)
	}
	if err := run(stmt); err != nil {
		return err
	}
	inserted, last := db.conn.Changes(), ch.inserts.lastID
	if inserted > 0 {
		ch.inserts.lastID = max(last, db.conn.LastInsertRowID())
	}
	for i := range rows {
		e := &rows[i].entry
		var r *cachedRow
		isNew, id := true, db.conn.LastInsertRowID()-int64(len(rows)-1-i)
		if inserted < len(rows) {
			if r, err = db.find(e, rows[i].hash); err != nil {
				return err
			}
			isNew, id = inserted > 0 && r.id > last, r.id
		}
		if isNew {
			db.nameRecorded(e)
			ch.rows++
			ch.count(placeOf(e), 1)
			size := rowSize(e)
			ch.share(e.Agent, share{rows: 1, bytes: size})
			if e.Closed.IsZero() {
				r = &cachedRow{id: id, count: 1, opened: micro(e.Opened), details: detailsHash(e), place: placeOf(e), tx: limitCounter(e.Tx), rx: limitCounter(e.Rx), size: size, peerName: e.PeerName, peerNameSource: e.PeerNameSource}
			}
		} else if err := db.update(e, r, ch); err != nil {
			return err
		}
		if e.Closed.IsZero() {
			db.cache.rows[rowKeyOf(e)] = r
		}
	}
	return nil
}

const insertParams = 27 // of a row

// insertSQL is the statement that inserts so many rows. Where it fails the whole transaction
// does: without OR FAIL, SQLite would keep a journal of its own for each.
var insertSQL = func() map[int]string {
	all := make(map[int]string)
	for _, n := range insertSizes {
		var b strings.Builder
		b.WriteString(`
INSERT OR FAIL INTO detailed_history (
	timestamp, asn, orgname, lat, lon, x, y, precision, direction, exe, container, country, rule, peer_name, peer_name_source,
	opened, tx, rx, closed, ip, port, local_ip, local_port, programname, agent, protocol, key,
	last_opened, full_lookup, count, tx_before, rx_before
) VALUES`)
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString("\n(")
			for p := range insertParams {
				fmt.Fprintf(&b, "?%d, ", i*insertParams+p+1)
			}
			fmt.Fprintf(&b, "?%d, '', 1, 0, 0)", i*insertParams+16)
		}
		b.WriteString("\nON CONFLICT (ip, programname, key) DO NOTHING")
		all[n] = b.String()
	}
	return all
}()

// bind sets insertParams parameters from p on.
func (n *insertion) bind(stmt *sqlite.Stmt, p int) {
	e := &n.entry
	bindDetails(stmt, p, e)
	stmt.BindFloat(p+15, seconds(e.Opened))
	stmt.BindInt64(p+16, limitCounter(e.Tx))
	stmt.BindInt64(p+17, limitCounter(e.Rx))
	bindTime(stmt, p+18, e.Closed)
	bindAddr(stmt, p+19, e.Peer)
	bindAddr(stmt, p+21, e.Local)
	stmt.BindText(p+23, e.Program)
	stmt.BindText(p+24, e.Agent)
	stmt.BindText(p+25, e.Protocol)
	stmt.BindInt64(p+26, n.hash)
}
