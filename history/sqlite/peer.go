package sqlite

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/connmapgo/connmap/history"
)

// First returns when a program's connections to an address were first opened, and how
// often; zero if there are none.
func (db *DB) First(ctx context.Context, peer netip.Addr, program string) (opened time.Time, count int64, err error) {
	err = db.read(ctx, `SELECT min(opened), sum(count) FROM detailed_history WHERE ip = ?1 AND programname = ?2`, func(stmt *sqlite.Stmt) error {
		if !stmt.ColumnIsNull(0) {
			opened = atSeconds(stmt.ColumnFloat(0))
		}
		count = stmt.ColumnInt64(1)
		return nil
	}, peer.String(), program)
	if err != nil {
		err = fmt.Errorf("history: %s: %w", db.path, err)
	}
	return opened, count, err
}

// PeerNames returns by which names programs have asked for an address, the last one first, but
// not more than limit.
func (db *DB) PeerNames(ctx context.Context, peer netip.Addr, limit int) (list []history.PeerName, err error) {
	err = db.read(ctx, `SELECT peer_name, max(timestamp) AS seen, group_concat(DISTINCT nullif(programname, '')) FROM detailed_history
WHERE ip = ?1 AND peer_name IS NOT NULL GROUP BY +peer_name ORDER BY seen DESC, +peer_name LIMIT ?2`, func(stmt *sqlite.Stmt) error {
		n := history.PeerName{Name: stmt.ColumnText(0), Seen: atSeconds(stmt.ColumnFloat(1))}
		if programs := stmt.ColumnText(2); programs != "" {
			n.Programs = strings.Split(programs, ",")
		}
		list = append(list, n)
		return nil
	}, addrText(netip.AddrPortFrom(peer, 0)), limit)
	if err != nil {
		return nil, fmt.Errorf("history: %s: %w", db.path, err)
	}
	return list, nil
}

// Within yields the rows whose peers lie in an IPv4 prefix of 8, 16, 24 or 32 bits, the
// newest first, but not more than limit. After an error it ends.
func (db *DB) Within(ctx context.Context, p netip.Prefix, limit int) iter.Seq2[history.Row, error] {
	return rows(ctx, db, func(yield func(history.Row) error) error {
		from, to, err := textRange(p)
		if err != nil {
			return err
		}
		return db.read(ctx, `SELECT `+rowColumns+` FROM detailed_history WHERE ip >= ?1 AND ip < ?2 ORDER BY +id DESC LIMIT ?3`,
			func(stmt *sqlite.Stmt) error { return yield(scan(stmt)) }, from, to, limit)
	})
}

// withinSQL returns a query for the console with the result of Within. It is empty for a prefix
// that Within does not support.
func withinSQL(p netip.Prefix, limit int) string {
	from, to, err := textRange(p)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("SELECT * FROM detailed_history\nWHERE ip >= '%s' AND ip < '%s'\nORDER BY +id DESC LIMIT %d", from, to, limit)
}

// textRange returns the range of texts of the addresses of a prefix. Addresses are stored as
// text, which does not sort like addresses; but those with the same first bytes are together.
func textRange(p netip.Prefix) (from, to string, err error) {
	if !p.Addr().Is4() || p.Bits() < 8 || p.Bits()%8 != 0 {
		return "", "", errors.New("history: want an IPv4 prefix of 8, 16, 24 or 32 bits")
	}
	parts := strings.Split(p.Addr().String(), ".")[:p.Bits()/8]
	from = strings.Join(parts, ".")
	if p.Bits() == 32 {
		return from, from + " ", nil // a space sorts before all characters of addresses
	}
	return from + ".", from + "/", nil // the character after the point
}

// Addrs yields the distinct IPv4 addresses of all peers, in no particular order. After
// an error it ends. It reads a whole index.
func (db *DB) Addrs(ctx context.Context) iter.Seq2[netip.Addr, error] {
	return rows(ctx, db, func(yield func(netip.Addr) error) error {
		return db.read(ctx, `SELECT DISTINCT ip FROM detailed_history WHERE ip GLOB '[0-9]*.*'`, func(stmt *sqlite.Stmt) error {
			a, err := netip.ParseAddr(stmt.ColumnText(0))
			if err != nil {
				return nil // not one that Record stores
			}
			return yield(a)
		})
	})
}
