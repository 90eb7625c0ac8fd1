package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/history"
)

// A share is the part of the history that one agent has. Bytes are an estimate by rowSize.
type share struct {
	agent               string
	rows, bytes, pruned int64
}

// rowBytes is an estimate of the size of a row without its texts, with its entries in indexes.
const rowBytes = 220

// rowSize estimates the size of a row: its texts, those in indexes twice.
func rowSize(e *history.Entry) int64 {
	return rowBytes + 2*int64(len(e.Agent)+len(e.Program)+addrLen(e.Peer)+len(e.PeerName)) +
		int64(addrLen(e.Local)+len(formatASN(e.ASN))+len(e.Org)+len(e.Direction)+len(e.Protocol)+len(e.Exe)+len(e.Container)+len(e.Country)+len(e.Rule)+len(e.PeerNameSource))
}

// rowSizeSQL is rowSize of a stored row.
var rowSizeSQL = func() string {
	lengths := func(columns ...string) string {
		for i, c := range columns {
			columns[i] = "coalesce(octet_length(" + c + "), 0)"
		}
		return "(" + strings.Join(columns, " + ") + ")"
	}
	return fmt.Sprint(rowBytes, " + 2 * ") + lengths("agent", "programname", "ip", "peer_name") + " + " +
		lengths("local_ip", "full_lookup", "asn", "orgname", "direction", "protocol", "exe", "container", "country", "rule", "peer_name_source")
}()

// countShares counts the shares of all agents anew, over all rows.
var countShares = `
DELETE FROM agents WHERE NOT EXISTS (SELECT 1 FROM main.detailed_history WHERE agent = agents.agent);
INSERT OR REPLACE INTO agents SELECT agent, count(*), sum(` + rowSizeSQL + `), coalesce((SELECT pruned FROM agents AS a WHERE a.agent = d.agent), 0)
	FROM main.detailed_history AS d GROUP BY agent;
`

// upgrade makes a file of schema 4, 5 or 6 one of this schema. They lack names of peers, schemas 4
// and 5 the precision of places and the openings without an end, and schema 4 also shares.
func upgrade(ctx context.Context, conn *sqlite.Conn, from int64, log *slog.Logger) (err error) {
	conn.SetInterrupt(ctx.Done())
	defer conn.SetInterrupt(nil)
	log.Info("history is upgraded", "schema", schemaVersion)
	defer saying(log, "history is upgraded")()
	end, err := sqlitex.ImmediateTransaction(conn)
	if err != nil {
		return err
	}
	defer end(&err)
	script := ""
	if from < 6 {
		script += unendedTable + `ALTER TABLE detailed_history ADD COLUMN precision TEXT NOT NULL DEFAULT '';`
	}
	script += `ALTER TABLE detailed_history ADD COLUMN peer_name TEXT; ALTER TABLE detailed_history ADD COLUMN peer_name_source TEXT;` + namesView + namesIndex
	if from < 5 {
		script += agentsTable + agentsIndex + countShares
	}
	return sqlitex.ExecuteScript(conn, fmt.Sprint(script, " PRAGMA user_version = ", schemaVersion), nil)
}

// deleteExcess deletes up to n of the rows that are too many, from the agents that have
// most.
func (db *DB) deleteExcess(r history.Retention, n int64, ch *changes) (gone int64, err error) {
	rows, part, err := db.excess(r)
	if err != nil || rows == 0 && part == 0 {
		return 0, err
	}
	shares, err := db.shares()
	if err != nil {
		return 0, err
	}
	for _, c := range reductions(shares, rows, part) {
		want := min(c.n, n-gone)
		if want <= 0 {
			break
		}
		k, err := db.deleteRows(`agent = ?2 ORDER BY timestamp`, "detailed_history_agent", want, c.of.agent, ch)
		if err != nil {
			return 0, err
		}
		if gone += k; k < want {
			// Another program has deleted rows.
			if err := db.recount(ch); err != nil {
				return 0, err
			}
			more, err := db.deleteExcess(r, n-gone, ch)
			return gone + more, err
		}
	}
	if gone == 0 {
		// Another program has added rows that are counted for nobody.
		return db.deleteRows(`?2 IS NOT NULL ORDER BY timestamp`, "detailed_history_timestamp", min(n, max(rows, 1)), 0, ch)
	}
	return gone, nil
}

// recount counts the shares again when others have changed rows. It takes a second for about a
// million.
func (db *DB) recount(ch *changes) error {
	ch.rows = 0
	for agent, s := range ch.shares {
		ch.shares[agent] = share{agent: agent, pruned: s.pruned}
	}
	return sqlitex.ExecuteScript(db.conn, countShares+`UPDATE settings SET value = (SELECT count(*) FROM detailed_history) WHERE name = 'rows';`, nil)
}

// shares returns the shares of all agents.
func (db *DB) shares() (all []share, err error) {
	err = sqlitex.Execute(db.conn, `SELECT agent, rows, bytes FROM agents WHERE rows > 0`, &sqlitex.ExecOptions{
		ResultFunc: func(stmt *sqlite.Stmt) error {
			all = append(all, share{agent: stmt.ColumnText(0), rows: stmt.ColumnInt64(1), bytes: stmt.ColumnInt64(2)})
			return nil
		},
	})
	return all, err
}

// A reduction is how many rows of an agent are to be deleted.
type reduction struct {
	of share
	n  int64
}

// reductions returns how many rows go of which agents, those that have most first, so that so many
// rows or else such a part of the bytes goes: all that have more than others come down to
// one level. It sorts the shares, and then looks at each once.
func reductions(shares []share, rows int64, part float64) (out []reduction) {
	size, want := func(s share) int64 { return s.rows }, rows
	if rows == 0 {
		size = func(s share) int64 { return max(s.bytes, s.rows) }
		for _, s := range shares {
			want += int64(float64(size(s))*part) + 1
		}
	}
	slices.SortFunc(shares, func(a, b share) int {
		return cmp.Or(cmp.Compare(size(b), size(a)), cmp.Compare(a.agent, b.agent))
	})
	high, sum, level := 0, int64(0), int64(0) // how many come down, what they have, and to what
	for high < len(shares) {
		sum += size(shares[high])
		high++
		level = max(0, (sum-want)/int64(high))
		if high < len(shares) && level >= size(shares[high]) {
			break
		}
	}
	above := sum - level*int64(high) - want // how many stay one above the level
	for _, s := range shares[:high] {
		over := size(s) - level
		if above > 0 {
			above--
			over--
		}
		if over <= 0 {
			continue
		}
		if rows == 0 {
			over = min(s.rows, int64(math.Ceil(float64(over)/float64(size(s))*float64(s.rows))))
		}
		out = append(out, reduction{s, over})
	}
	return out
}
