package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

const (
	applicationID = 0x636d6170 // "cmap"
	schemaVersion = 7
	upgradable    = 4 // from this one on a file is upgraded where it is
)

// The index of detailed_history's key begins with ip and programname because
// it then also serves questions about the programs that used an address. key
// is a hash of the rest that distinguishes connections: the texts would make the
// index three times as big.
const schema = `
CREATE TABLE detailed_history (
	id          INTEGER PRIMARY KEY,
	timestamp   INTEGER NOT NULL,
	ip          TEXT,
	port        INTEGER,
	local_ip    TEXT,
	local_port  INTEGER,
	programname TEXT,
	full_lookup TEXT,
	asn         TEXT,
	orgname     TEXT,
	lat         REAL,
	lon         REAL,
	x           INTEGER,
	y           INTEGER,
	count       INTEGER NOT NULL,
	agent       TEXT    NOT NULL,
	direction   TEXT    NOT NULL,
	protocol    TEXT    NOT NULL,
	exe         TEXT    NOT NULL,
	container   TEXT    NOT NULL,
	country     TEXT    NOT NULL,
	rule        TEXT    NOT NULL,
	opened      REAL    NOT NULL,
	last_opened REAL    NOT NULL,
	closed      REAL,
	tx          INTEGER NOT NULL,
	rx          INTEGER NOT NULL,
	tx_before   INTEGER NOT NULL,
	rx_before   INTEGER NOT NULL,
	key         INTEGER NOT NULL,
	precision   TEXT    NOT NULL DEFAULT '',
	peer_name   TEXT,
	peer_name_source TEXT
);

CREATE TABLE places (
	lat   REAL    NOT NULL,
	lon   REAL    NOT NULL,
	count INTEGER NOT NULL,
	PRIMARY KEY (lat, lon)
) WITHOUT ROWID;

CREATE TABLE settings (
	name  TEXT PRIMARY KEY,
	value
) WITHOUT ROWID;
INSERT INTO settings VALUES ('rows', 0), ('most_bytes', 4000000000);

CREATE TABLE reports (
	run       BLOB    PRIMARY KEY,
	number    INTEGER NOT NULL,
	timestamp INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE losses (
	timestamp INTEGER NOT NULL,
	agent     TEXT    NOT NULL,
	count     INTEGER NOT NULL,
	PRIMARY KEY (timestamp, agent)
) WITHOUT ROWID;
` + agentsTable + unendedTable + namesView

// unendedTable has openings that another one of the same row has followed although no end of
// them was reported: when they opened, in µs, and the bytes that the row has counted of them.
const unendedTable = `
CREATE TABLE unended (
	row    INTEGER NOT NULL,
	opened INTEGER NOT NULL,
	tx     INTEGER NOT NULL,
	rx     INTEGER NOT NULL,
	PRIMARY KEY (row, opened)
) WITHOUT ROWID;
`

// namesView has each name of a peer once. It goes from one to the next in their index: names with
// the same end are found there without reading all rows.
const namesView = `
CREATE VIEW peer_names AS WITH RECURSIVE names(name) AS (
	SELECT min(peer_name) FROM detailed_history WHERE peer_name IS NOT NULL
	UNION ALL
	SELECT (SELECT min(peer_name) FROM detailed_history WHERE peer_name > names.name) FROM names WHERE names.name IS NOT NULL
) SELECT name FROM names WHERE name IS NOT NULL;
`

// namesIndex has the rows whose peer has a name; others cost nothing.
const namesIndex = `
CREATE INDEX detailed_history_peer_name ON detailed_history (peer_name) WHERE peer_name IS NOT NULL;
`

// agentsTable has what each agent has of the history: rows, about how many bytes they take,
// and how many of its rows have been pruned while it had some.
const agentsTable = `
CREATE TABLE agents (
	agent  TEXT    PRIMARY KEY,
	rows   INTEGER NOT NULL,
	bytes  INTEGER NOT NULL,
	pruned INTEGER NOT NULL
) WITHOUT ROWID;
`

// Indexes are made of many rows at a time when they are there: this takes a third of the
// time.
const indexes = `
CREATE UNIQUE INDEX detailed_history_key ON detailed_history (ip, programname, key);
CREATE INDEX detailed_history_timestamp ON detailed_history (timestamp);
CREATE INDEX detailed_history_opened ON detailed_history (opened);
CREATE INDEX detailed_history_place ON detailed_history (lat, lon) WHERE lat IS NOT NULL;
` + agentsIndex + namesIndex + openIndex + ";"

// openIndex has the open rows, and is small: a connection that is found again may be known by
// another program. A file of schema 6 from before it gets it when it is opened.
const openIndex = `CREATE INDEX IF NOT EXISTS detailed_history_open ON detailed_history (key) WHERE closed IS NULL`

const agentsIndex = `
CREATE INDEX detailed_history_agent ON detailed_history (agent, timestamp);
`

// autoCheckpoint is how many pages the log has when SQLite has them go to their place.
const autoCheckpoint = 4000

// configure prepares a connection for the writer. It creates the schema if
// the file holds nothing. Of a big file it checks what it can in checkTime.
func configure(ctx context.Context, conn *sqlite.Conn, checkTime time.Duration, log *slog.Logger) error {
	conn.SetInterrupt(ctx.Done())
	defer conn.SetInterrupt(nil)

	tables, err := number(conn, `SELECT count(*) FROM sqlite_schema`)
	if err != nil {
		return err
	}
	if tables == 0 {
		if err := create(conn); err != nil {
			return err
		}
	} else {
		if err := check(ctx, conn, checkTime); err != nil {
			return err
		}
		version, err := number(conn, `PRAGMA user_version`)
		if err == nil && version < schemaVersion {
			start := time.Now()
			if err = upgrade(ctx, conn, version, log); err == nil {
				log.Info("history has been upgraded", "took", time.Since(start).Round(time.Millisecond))
			}
		}
		if err != nil {
			return err
		}
		conn.SetInterrupt(ctx.Done())
		if err := sqlitex.ExecuteTransient(conn, openIndex, nil); err != nil {
			return err
		}
	}
	var mode string
	err = sqlitex.ExecuteTransient(conn, `PRAGMA journal_mode = WAL`, &sqlitex.ExecOptions{
		ResultFunc: func(stmt *sqlite.Stmt) error {
			mode = stmt.ColumnText(0)
			return nil
		},
	})
	if err != nil {
		return err
	}
	if mode != "wal" {
		return errors.New("its file system has no shared memory: keep the history on a local disk")
	}
	for _, pragma := range []string{
		`PRAGMA synchronous = NORMAL`,
		`PRAGMA cache_size = -32000`,
		// Pages are written again and again: the less often they go to their
		// place the better. The reserve has room for what those in the log add to the file.
		fmt.Sprintf(`PRAGMA wal_autocheckpoint = %d`, autoCheckpoint),
		// A reader that took long lets the log grow, and it never shrinks by itself.
		`PRAGMA journal_size_limit = 4194304`,
	} {
		if err := sqlitex.ExecuteTransient(conn, pragma, nil); err != nil {
			return err
		}
	}
	return nil
}

// create makes the schema in a file without tables.
func create(conn *sqlite.Conn) error { return createTables(conn, schema+indexes) }

func createTables(conn *sqlite.Conn, schema string) (err error) {
	// The setting only holds for a file that does not have its first page
	// yet, or is rewritten.
	for _, s := range []string{`PRAGMA auto_vacuum = INCREMENTAL`, `VACUUM`} {
		if err := sqlitex.ExecuteTransient(conn, s, nil); err != nil {
			return err
		}
	}
	end, err := sqlitex.ImmediateTransaction(conn)
	if err != nil {
		return err
	}
	defer end(&err)
	return sqlitex.ExecuteScript(conn, fmt.Sprintf("%s PRAGMA application_id = %d; PRAGMA user_version = %d;",
		schema, applicationID, schemaVersion), nil)
}

// check reports the first damage it finds in limit as an error for which
// damaged is true.
func check(ctx context.Context, conn *sqlite.Conn, limit time.Duration) error {
	short, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn.SetInterrupt(short.Done())
	defer conn.SetInterrupt(nil)
	err := sqlitex.ExecuteTransient(conn, `PRAGMA quick_check(1)`, &sqlitex.ExecOptions{
		ResultFunc: func(stmt *sqlite.Stmt) error {
			if s := stmt.ColumnText(0); s != "ok" {
				return fmt.Errorf("%w: %s", errDamaged, s)
			}
			return nil
		},
	})
	if sqlite.ErrCode(err) == sqlite.ResultInterrupt {
		return ctx.Err()
	}
	return err
}

var errDamaged = errors.New("the integrity check failed")

// damaged reports whether an error says that the file's content is broken.
func damaged(err error) bool {
	if errors.Is(err, errDamaged) {
		return true
	}
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultCorrupt, sqlite.ResultNotADB:
		return true
	}
	return false
}

// identify returns who wrote a file. It is an error if that was another program or
// a newer version of this one. It changes nothing, but that it rolls back what a
// process that was killed had begun.
func identify(path string) (origin, error) {
	o, err := identifyBy(path, sqlite.OpenReadOnly)
	if sqlite.ErrCode(err).ToPrimary() == sqlite.ResultReadOnly {
		o, err = identifyBy(path, sqlite.OpenReadWrite)
	}
	return o, err
}

func identifyBy(path string, flags sqlite.OpenFlags) (origin, error) {
	conn, err := openConn(path, flags)
	if err != nil {
		return 0, err
	}
	defer closeConn(conn)
	conn.SetBusyTimeout(busyTimeout)
	return identifyConn(conn)
}

func identifyConn(conn *sqlite.Conn) (origin, error) {
	app, err := number(conn, `PRAGMA application_id`)
	if err != nil {
		return 0, err
	}
	version, err := number(conn, `PRAGMA user_version`)
	if err != nil {
		return 0, err
	}
	tables, err := number(conn, `SELECT count(*) FROM sqlite_schema`)
	if err != nil {
		return 0, err
	}
	ours, err := number(conn, `SELECT count(*) FROM sqlite_schema WHERE name = 'detailed_history' AND type = 'table'`)
	if err != nil {
		return 0, err
	}
	switch {
	case tables == 0 && app == 0 && version == 0, app == applicationID && version >= upgradable && version <= schemaVersion && ours == 1:
		return current, nil
	case app == applicationID && version > schemaVersion:
		return 0, &foreignError{fmt.Sprintf("written by a newer version of this program (schema %d, this one knows %d): update this one or choose another file", version, schemaVersion)}
	case app == applicationID && version >= 1 && ours == 1:
		return older, nil
	case app == 0 && ours == 1:
		return perl, nil
	}
	return 0, errForeign
}

// A foreignError says that a file is not to be written.
type foreignError struct{ msg string }

func (e *foreignError) Error() string { return e.msg }

// number returns the integer that a query yields.
func number(conn *sqlite.Conn, query string) (n int64, err error) {
	err = sqlitex.ExecuteTransient(conn, query, &sqlitex.ExecOptions{
		ResultFunc: func(stmt *sqlite.Stmt) error {
			n = stmt.ColumnInt64(0)
			return nil
		},
	})
	return n, err
}
