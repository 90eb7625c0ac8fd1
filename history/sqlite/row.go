package sqlite

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/connmapgo/connmap/history"
)

// rowColumns are those that scan reads.
const rowColumns = `id, timestamp, ip, port, local_ip, local_port, programname, asn, orgname, lat, lon, count,
	agent, direction, protocol, exe, container, country, rule, opened, last_opened, closed, tx, rx, precision, peer_name, peer_name_source`

func scan(stmt *sqlite.Stmt) history.Row {
	addr := func(i int) netip.AddrPort {
		a, _ := netip.ParseAddr(stmt.ColumnText(i))
		return netip.AddrPortFrom(a, uint16(stmt.ColumnInt64(i+1)))
	}
	at := func(i int) time.Time {
		if stmt.ColumnIsNull(i) {
			return time.Time{}
		}
		return atSeconds(stmt.ColumnFloat(i))
	}
	asn, _ := parseASN(stmt.ColumnText(7))
	return history.Row{ID: stmt.ColumnInt64(0), Count: stmt.ColumnInt64(11), LastOpened: at(20), Entry: history.Entry{
		Seen: at(1), Peer: addr(2), Local: addr(4), Program: stmt.ColumnText(6), ASN: asn, Org: stmt.ColumnText(8),
		Lat: stmt.ColumnFloat(9), Lon: stmt.ColumnFloat(10), Located: !stmt.ColumnIsNull(9), Precision: stmt.ColumnText(24),
		Agent: stmt.ColumnText(12), Direction: stmt.ColumnText(13), Protocol: stmt.ColumnText(14), Exe: stmt.ColumnText(15),
		Container: stmt.ColumnText(16), Country: stmt.ColumnText(17), Rule: stmt.ColumnText(18),
		Opened: at(19), Closed: at(21), PeerName: stmt.ColumnText(25), PeerNameSource: stmt.ColumnText(26),
		Tx: uint64(stmt.ColumnInt64(22)), Rx: uint64(stmt.ColumnInt64(23)),
	}}
}

// Replay yields what was first opened from one time until before another, in that
// order. After an error it ends. The file's log cannot be emptied while the
// loop runs.
func (db *DB) Replay(ctx context.Context, from, to time.Time) iter.Seq2[history.Row, error] {
	return rows(ctx, db, func(yield func(history.Row) error) error {
		return db.read(ctx, `SELECT `+rowColumns+` FROM detailed_history WHERE opened >= ?1 AND opened < ?2 ORDER BY opened`,
			func(stmt *sqlite.Stmt) error { return yield(scan(stmt)) }, seconds(from), seconds(to))
	})
}

// Span returns when the first and the last of the stored connections were first
// opened, the range for Replay; zero if there are none.
func (db *DB) Span(ctx context.Context) (first, last time.Time, err error) {
	err = db.read(ctx, `SELECT (SELECT min(opened) FROM detailed_history), (SELECT max(opened) FROM detailed_history)`, func(stmt *sqlite.Stmt) error {
		if !stmt.ColumnIsNull(0) {
			first, last = atSeconds(stmt.ColumnFloat(0)), atSeconds(stmt.ColumnFloat(1))
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("history: %s: %w", db.path, err)
	}
	return first, last, err
}

// Newest yields all rows, those that were last seen most recently first. It reads as it goes,
// so that a loop may break off early. After an error it ends. The file's log cannot be emptied
// while the loop runs.
func (db *DB) Newest(ctx context.Context) iter.Seq2[history.Row, error] {
	return rows(ctx, db, func(yield func(history.Row) error) error {
		return db.read(ctx, `SELECT `+rowColumns+` FROM detailed_history ORDER BY timestamp DESC`,
			func(stmt *sqlite.Stmt) error { return yield(scan(stmt)) })
	})
}
