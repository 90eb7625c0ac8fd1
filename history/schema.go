package history

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

const (
	applicationID = 0x636d6170 // "cmap"
	schemaVersion = 1
)

// The index of detailed_history's key begins with ip and programname because
// it then also serves questions about the programs that used an address.
const schema = `
CREATE TABLE detailed_history (
	id          INTEGER PRIMARY KEY,
	timestamp   TEXT    NOT NULL,
	ip          TEXT    NOT NULL,
	port        INTEGER NOT NULL,
	local_ip    TEXT    NOT NULL,
	local_port  INTEGER NOT NULL,
	programname TEXT    NOT NULL,
	full_lookup TEXT    NOT NULL,
	asn         INTEGER,
	orgname     TEXT    NOT NULL,
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
	opened      TEXT    NOT NULL,
	last_opened TEXT    NOT NULL,
	closed      TEXT,
	tx          INTEGER NOT NULL,
	rx          INTEGER NOT NULL,
	tx_before   INTEGER NOT NULL DEFAULT 0,
	rx_before   INTEGER NOT NULL DEFAULT 0,
	UNIQUE (ip, programname, port, local_port, protocol, local_ip, agent)
);
CREATE INDEX detailed_history_timestamp ON detailed_history (timestamp);

CREATE TABLE places (
	id    INTEGER PRIMARY KEY,
	lat   REAL    NOT NULL,
	lon   REAL    NOT NULL,
	count INTEGER NOT NULL,
	UNIQUE (lat, lon)
);

CREATE TRIGGER detailed_history_insert AFTER INSERT ON detailed_history
WHEN new.lat IS NOT NULL BEGIN
	INSERT INTO places (lat, lon, count) VALUES (new.lat, new.lon, new.count)
		ON CONFLICT (lat, lon) DO UPDATE SET count = count + excluded.count;
END;

CREATE TRIGGER detailed_history_update AFTER UPDATE OF lat, lon, count ON detailed_history
WHEN old.count <> new.count OR old.lat IS NOT new.lat OR old.lon IS NOT new.lon BEGIN
	INSERT INTO places (lat, lon, count) SELECT new.lat, new.lon, new.count WHERE new.lat IS NOT NULL
		ON CONFLICT (lat, lon) DO UPDATE SET count = count + excluded.count;
	UPDATE places SET count = count - old.count WHERE lat = old.lat AND lon = old.lon;
	DELETE FROM places WHERE lat = old.lat AND lon = old.lon AND count <= 0;
END;

CREATE TRIGGER detailed_history_delete AFTER DELETE ON detailed_history
WHEN old.lat IS NOT NULL BEGIN
	UPDATE places SET count = count - old.count WHERE lat = old.lat AND lon = old.lon;
	DELETE FROM places WHERE lat = old.lat AND lon = old.lon AND count <= 0;
END;
`

// maxBytes is where byte counters stop: high enough for any connection, low
// enough for sum() over thousands of rows that a lying agent drove there.
const maxBytes = 1 << 50

// upsert takes its parameters in the order in which bind sets them; ?25 is
// Entry.New.
var upsert = strings.NewReplacer(
	"REOPENED", "(?25 AND last_opened <> excluded.last_opened)",
	"MAX", strconv.Itoa(maxBytes),
).Replace(`
INSERT INTO detailed_history (
	timestamp, ip, port, local_ip, local_port, programname, full_lookup, asn, orgname,
	lat, lon, x, y, agent, direction, protocol, exe, container, country, rule,
	opened, last_opened, closed, tx, rx, count
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?21, ?22, ?23, ?24, 1)
ON CONFLICT (ip, programname, port, local_port, protocol, local_ip, agent) DO UPDATE SET
	timestamp = excluded.timestamp, full_lookup = excluded.full_lookup,
	asn = excluded.asn, orgname = excluded.orgname,
	lat = excluded.lat, lon = excluded.lon, x = excluded.x, y = excluded.y,
	direction = excluded.direction, exe = excluded.exe, container = excluded.container,
	country = excluded.country, rule = excluded.rule,
	count = count + REOPENED,
	last_opened = iif(REOPENED, excluded.last_opened, last_opened),
	closed = iif(?25, excluded.closed, coalesce(excluded.closed, closed)),
	tx_before = iif(REOPENED, tx, tx_before),
	rx_before = iif(REOPENED, rx, rx_before),
	tx = min(MAX, iif(REOPENED, tx, tx_before) + excluded.tx),
	rx = min(MAX, iif(REOPENED, rx, rx_before) + excluded.rx)
`)

// bind sets the parameters of upsert.
func bind(stmt *sqlite.Stmt, e *Entry) {
	seen := e.Seen
	if seen.IsZero() {
		seen = e.Opened
	}
	stmt.BindText(1, formatTime(seen, "2006-01-02 15:04:05"))
	bindAddr(stmt, 2, e.Peer)
	bindAddr(stmt, 4, e.Local)
	stmt.BindText(6, e.Program)
	stmt.BindText(7, e.Lookup)
	if e.ASN != 0 {
		stmt.BindInt64(8, int64(e.ASN))
	} else {
		stmt.BindNull(8)
	}
	stmt.BindText(9, e.Org)
	if e.Located && e.Lat >= -90 && e.Lat <= 90 && e.Lon >= -180 && e.Lon <= 180 {
		x, y := pixel(e.Lat, e.Lon)
		stmt.BindFloat(10, e.Lat)
		stmt.BindFloat(11, e.Lon)
		stmt.BindInt64(12, x)
		stmt.BindInt64(13, y)
	} else {
		for i := 10; i <= 13; i++ {
			stmt.BindNull(i)
		}
	}
	stmt.BindText(14, e.Agent)
	stmt.BindText(15, e.Direction)
	stmt.BindText(16, e.Protocol)
	stmt.BindText(17, e.Exe)
	stmt.BindText(18, e.Container)
	stmt.BindText(19, e.Country)
	stmt.BindText(20, e.Rule)
	stmt.BindText(21, formatTime(e.Opened, milliseconds))
	if e.Closed.IsZero() {
		stmt.BindNull(22)
	} else {
		stmt.BindText(22, formatTime(e.Closed, milliseconds))
	}
	stmt.BindInt64(23, int64(min(e.Tx, maxBytes)))
	stmt.BindInt64(24, int64(min(e.Rx, maxBytes)))
	stmt.BindBool(25, e.New)
}

const milliseconds = "2006-01-02 15:04:05.000"

// formatTime keeps to the years 0 to 9999, all that SQLite's date functions
// know.
func formatTime(t time.Time, layout string) string {
	t = t.UTC()
	if y := t.Year(); y < 0 {
		t = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	} else if y > 9999 {
		t = time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC)
	}
	return t.Format(layout)
}

// configure prepares a connection for the writer. It creates the schema if
// the file holds nothing. Of a big file it checks what it can in checkTime.
func configure(ctx context.Context, conn *sqlite.Conn, checkTime time.Duration) error {
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
		conn.SetInterrupt(ctx.Done())
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
		`PRAGMA cache_size = -16000`,
		// A reader that took long lets the log grow, and it never shrinks by itself.
		`PRAGMA journal_size_limit = 16777216`,
	} {
		if err := sqlitex.ExecuteTransient(conn, pragma, nil); err != nil {
			return err
		}
	}
	return nil
}

// create makes the schema in a file without tables.
func create(conn *sqlite.Conn) (err error) {
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

// identify returns an error if the file belongs to another program or another
// version of this one. It changes nothing.
func identify(path string) error {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadOnly)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetBusyTimeout(busyTimeout)

	app, err := number(conn, `PRAGMA application_id`)
	if err != nil {
		return err
	}
	version, err := number(conn, `PRAGMA user_version`)
	if err != nil {
		return err
	}
	tables, err := number(conn, `SELECT count(*) FROM sqlite_schema`)
	if err != nil {
		return err
	}
	ours, err := number(conn, `SELECT count(*) FROM sqlite_schema WHERE name = 'detailed_history'`)
	if err != nil {
		return err
	}
	switch {
	case tables == 0 && app == 0 && version == 0, app == applicationID && version == schemaVersion && ours == 1:
		return nil
	case app == applicationID && version > schemaVersion:
		return &foreignError{fmt.Sprintf("written by a newer version of this program (schema %d, this one knows %d): update this one or choose another file", version, schemaVersion)}
	case app == 0 && ours == 1:
		return &foreignError{"a history of the connmapperl program, which cannot be taken over yet: choose another file, this one stays as it is"}
	}
	return &foreignError{"a database of another program: choose another file, this one stays as it is"}
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
