package history

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// An origin is what wrote a file.
type origin int

const (
	current origin = iota // this version, or nobody yet
	perl                  // connmapperl
	older                 // a schema of this package before its first release
)

func (o origin) String() string {
	if o == perl {
		return "of the connmapperl program"
	}
	return "of an older version"
}

// aside returns the name under which a file is kept for a reason, one that is
// free.
func aside(path, reason string) (string, error) {
	base := path + "." + reason + "-" + time.Now().UTC().Format("20060102T150405Z")
	kept := base
	for i := 2; ; i++ {
		_, err := os.Lstat(kept)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return kept, nil
		case err != nil:
			return "", err
		}
		kept = fmt.Sprintf("%s-%d", base, i)
	}
}

// migrate puts a file with the same rows in the place of an older one, which is
// kept aside. On error, and if the process ends meanwhile, the older one stays.
func migrate(ctx context.Context, path string, from origin, log *slog.Logger) (err error) {
	fresh := path + ".migrating"
	remove := func() {
		for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
			os.Remove(fresh + suffix)
		}
	}
	remove() // of a try that did not end
	defer func() {
		if err != nil {
			remove()
			err = fmt.Errorf("a history %v, which cannot be taken over; it stays as it is: %w", from, err)
		}
	}()
	f, err := os.OpenFile(fresh, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	kept, err := aside(path, "before-migration")
	if err != nil {
		return err
	}
	start := time.Now()
	log.Info("history is migrated", "file", path, "kept", kept)
	rows, err := copyRows(ctx, fresh, path, from, log)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path + "-wal"); err == nil {
		return errors.New("another program has it open: end that one")
	}
	if err := os.Link(path, kept); err != nil {
		if err := copyFile(kept, path); err != nil {
			return err
		}
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	log.Info("history has been migrated", "file", path, "rows", rows, "took", time.Since(start).Round(time.Millisecond))
	return nil
}

func copyFile(to, from string) error {
	b, err := os.Open(from)
	if err != nil {
		return err
	}
	defer b.Close()
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.ReadFrom(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		os.Remove(to)
	}
	return err
}

// copyRows makes the schema in a file and copies the rows of an older one into it, in
// one transaction.
func copyRows(ctx context.Context, fresh, path string, from origin, log *slog.Logger) (rows int64, err error) {
	conn, err := sqlite.OpenConn(fresh, sqlite.OpenReadWrite)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	conn.SetInterrupt(ctx.Done())
	conn.SetBusyTimeout(busyTimeout)
	if err := create(conn); err != nil {
		return 0, err
	}
	err = conn.CreateFunction("connmap_key", &sqlite.FunctionImpl{
		NArgs: 5, Deterministic: true,
		Scalar: func(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
			return sqlite.IntegerValue(keyHash(args[0].Text(), args[1].Text(), args[2].Text(), uint16(args[3].Int64()), uint16(args[4].Int64()))), nil
		},
	})
	if err != nil {
		return 0, err
	}
	if err := sqlitex.Execute(conn, `ATTACH ? AS old`, &sqlitex.ExecOptions{Args: []any{path}}); err != nil {
		return 0, err
	}
	// It also keeps others from writing into the older one.
	end, err := sqlitex.ImmediateTransaction(conn)
	if err != nil {
		return 0, err
	}
	defer end(&err)
	values, err := source(conn, from)
	if err != nil {
		return 0, err
	}
	before, err := number(conn, `SELECT count(*) FROM old.detailed_history`)
	if err != nil {
		return 0, err
	}
	for _, q := range []string{
		`CREATE TEMP VIEW source AS SELECT ` + values + ` FROM old.detailed_history`,
		`INSERT INTO places SELECT lat, lon, sum(count) FROM source WHERE lat IS NOT NULL GROUP BY lat, lon`,
	} {
		if err := sqlitex.ExecuteTransient(conn, q, nil); err != nil {
			return 0, err
		}
	}
	// In pieces, so that it can be told how far it is. Each begins after the
	// last row of the one before: rowids may be negative, and far apart.
	const piece = 100_000
	told := time.Now()
	for after := any(math.Inf(-1)); ; after = conn.LastInsertRowID() {
		err := sqlitex.Execute(conn, `INSERT INTO detailed_history SELECT id, timestamp, ip, port, local_ip, local_port, programname, full_lookup, asn, orgname,
			lat, lon, x, y, count, agent, direction, protocol, exe, container, country, rule, opened, last_opened, closed, tx, rx, tx_before, rx_before, key
			FROM source WHERE id > ?1 ORDER BY id LIMIT ?2`, &sqlitex.ExecOptions{Args: []any{after, piece}})
		if err != nil {
			return 0, err
		}
		n := int64(conn.Changes())
		if n == 0 {
			break
		}
		rows += n
		if time.Since(told) > 2*time.Second {
			told = time.Now()
			log.Info("history is migrated", "file", path, "done", fmt.Sprintf("%d %%", rows*100/max(1, before)))
		}
	}
	if rows != before {
		return 0, fmt.Errorf("only %d of %d rows could be read", rows, before)
	}
	// Nothing goes before somebody says so.
	if err := sqlitex.Execute(conn, `UPDATE settings SET value = iif(name = 'rows', ?, 0)`, &sqlitex.ExecOptions{Args: []any{rows}}); err != nil || from == perl {
		return rows, err
	}
	for _, table := range []string{"settings", "reports", "losses"} {
		has, err := number(conn, `SELECT count(*) FROM old.sqlite_schema WHERE name = '`+table+`'`)
		if err == nil && has > 0 {
			err = sqlitex.ExecuteTransient(conn, `INSERT OR REPLACE INTO `+table+` SELECT * FROM old.`+table, nil)
		}
		if err != nil {
			return 0, err
		}
	}
	return rows, nil
}

// source returns the columns of an older table as expressions of what they are
// in this one.
func source(conn *sqlite.Conn, from origin) (string, error) {
	has := make(map[string]bool)
	err := sqlitex.Execute(conn, `SELECT name FROM pragma_table_info('detailed_history', 'old')`, &sqlitex.ExecOptions{
		ResultFunc: func(stmt *sqlite.Stmt) error { has[strings.ToLower(stmt.ColumnText(0))] = true; return nil },
	})
	if err != nil {
		return "", err
	}
	if from == older {
		return `id, timestamp, ip, port, local_ip, local_port, programname, full_lookup, asn, orgname, lat, lon, x, y, count,
			agent, direction, protocol, exe, container, country, rule, opened, last_opened, closed, tx, rx, tx_before, rx_before,
			connmap_key(agent, protocol, local_ip, local_port, port) AS key`, nil
	}
	for _, c := range []string{"timestamp", "ip"} {
		if !has[c] {
			return "", fmt.Errorf("its table detailed_history has no column %s", c)
		}
	}
	or := func(column, expression, otherwise string) string {
		if has[column] {
			return expression
		}
		return otherwise
	}
	text := func(c string) string { return or(c, `coalesce(CAST(`+c+` AS TEXT), '')`, `''`) + ` AS ` + c + `, ` }
	whole := func(c, least string) string {
		return or(c, `max(`+least+`, coalesce(CAST(`+c+` AS INTEGER), 0))`, least) + ` AS ` + c + `, `
	}
	// Seconds or milliseconds since 1970, or text.
	const seen = `coalesce(CASE typeof(timestamp) WHEN 'text' THEN datetime(timestamp)
		ELSE datetime(CASE WHEN abs(timestamp) > 1e11 THEN timestamp / 1000 ELSE timestamp END, 'unixepoch') END, CAST(timestamp AS TEXT), '')`
	number := func(c, limit string) string {
		return or(c, `CASE WHEN `+c+` <> '' AND abs(CAST(`+c+` AS REAL)) <= `+limit+` THEN CAST(`+c+` AS REAL) END`, `NULL`)
	}
	located := func(value string) string {
		return `iif(` + number("lat", "90") + ` IS NOT NULL AND ` + number("lon", "180") + ` IS NOT NULL, ` + value + `, NULL)`
	}
	return `rowid AS id, ` + seen + ` AS timestamp, ` + text("ip") + whole("port", "0") + text("local_ip") + whole("local_port", "0") +
		text("programname") + text("full_lookup") +
		or("asn", `nullif(CAST(ltrim(upper(asn), 'AS ') AS INTEGER), 0)`, `NULL`) + ` AS asn, ` + text("orgname") +
		located(number("lat", "90")) + ` AS lat, ` + located(number("lon", "180")) + ` AS lon, ` +
		or("x", `CAST(x AS INTEGER)`, `NULL`) + ` AS x, ` + or("y", `CAST(y AS INTEGER)`, `NULL`) + ` AS y, ` + whole("count", "1") +
		`'' AS agent, 'unknown' AS direction, '' AS protocol, '' AS exe, '' AS container, '' AS country, '' AS rule, ` +
		seen + ` || '.000' AS opened, ` + seen + ` || '.000' AS last_opened, ` + seen + ` || '.000' AS closed,
		0 AS tx, 0 AS rx, 0 AS tx_before, 0 AS rx_before, rowid AS key`, nil
}
