package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/internal/temp"
)

// An origin says which program wrote a file.
type origin int

const (
	current origin = iota // this version, or nobody yet
	perl                  // connmapperl
	older                 // a schema of this package before this one
)

func (o origin) String() string {
	if o == perl {
		return "of the connmapperl program"
	}
	return "of an older version"
}

// aside returns a free name under which a file is kept for a reason.
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

// migrate replaces an older file by one with the same rows, and keeps the older one under another
// name. On error, and if the process ends meanwhile, the older one stays.
func migrate(ctx context.Context, path string, from origin, o *Options) (err error) {
	fresh := ""
	defer func() {
		if err != nil {
			if fresh != "" {
				os.Remove(fresh)
				os.Remove(fresh + "-journal")
			}
			err = fmt.Errorf("a history %v, which cannot be upgraded; it is not changed: %w", from, err)
		}
	}()
	// Left by interrupted migrations: nobody else makes such files while this DB has the history.
	folder, pattern := filepath.Dir(path), filepath.Base(path)+".*.migrating"
	for _, suffix := range []string{"", "-journal"} {
		temp.Sweep(folder, pattern+suffix, 0)
	}
	f, err := os.CreateTemp(folder, pattern)
	if err != nil {
		return err
	}
	giveTo(f, path)
	f.Close()
	fresh = f.Name()
	start := time.Now()
	rows, err := copyRows(ctx, fresh, fileURI(path, ""), from, o)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path + "-wal"); err == nil {
		return errors.New("another program has it open: end that one")
	}
	kept, err := aside(path, "before-migration")
	if err != nil {
		return err
	}
	if err := os.Link(path, kept); err != nil {
		if err := copyFile(kept, path); err != nil {
			return err
		}
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	o.Logger.Info("history has been migrated", "file", path, "rows", rows, "kept", kept, "took", time.Since(start).Round(time.Millisecond))
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

// fileURI returns the URI of a file, with parameters such as mode=ro.
func fileURI(path, query string) string {
	return (&url.URL{Scheme: "file", Path: path, RawQuery: query}).String()
}

// copyRows makes the schema in a file and copies the rows of an older one, which is named
// by its URI, into it, in one transaction.
func copyRows(ctx context.Context, fresh, old string, from origin, o *Options) (rows int64, err error) {
	conn, err := openConn(fresh, sqlite.OpenReadWrite, sqlite.OpenURI)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, closeConn(conn)) }()
	conn.SetInterrupt(ctx.Done())
	conn.SetBusyTimeout(busyTimeout)
	// First: a BEGIN that was compiled before would not lock it.
	if err := sqlitex.Execute(conn, `ATTACH ? AS old`, &sqlitex.ExecOptions{Args: []any{old}}); err != nil {
		return 0, err
	}
	if err := createTables(conn, schema); err != nil {
		return 0, err
	}
	// For the sorting of indexes, which else goes to the disk in small parts.
	if err := sqlitex.ExecuteTransient(conn, `PRAGMA cache_size = -64000`, nil); err != nil {
		return 0, err
	}
	// Unless the older one is only read, it also keeps others from writing into it.
	end, err := sqlitex.ImmediateTransaction(conn)
	if err != nil {
		return 0, err
	}
	defer end(&err)
	values, err := source(conn, from, o.Complete)
	if err != nil {
		return 0, err
	}
	before, err := number(conn, `SELECT count(*) FROM old.detailed_history`)
	if err != nil {
		return 0, err
	}
	o.Logger.Info("history is migrated", "rows", before)
	if rows, err = copyPieces(conn, values, before, o); err != nil {
		return 0, err
	}
	if rows != before {
		return 0, fmt.Errorf("only %d of %d rows could be read", rows, before)
	}
	defer saying(o.Logger, "history is migrated: its indexes are made")()
	// Before there is an index, by which rows would be read one by one.
	if err := sqlitex.ExecuteScript(conn, `INSERT INTO places SELECT lat, lon, sum(count) FROM detailed_history WHERE lat IS NOT NULL GROUP BY lat, lon;`+indexes+countShares, nil); err != nil {
		return 0, err
	}
	if o.Progress != nil {
		o.Progress(rows, before)
	}
	// No limit until somebody sets one.
	if err := sqlitex.Execute(conn, `UPDATE settings SET value = iif(name = 'rows', ?, 0)`, &sqlitex.ExecOptions{Args: []any{rows}}); err != nil || from == perl {
		return rows, err
	}
	return rows, copyOthers(conn)
}

// copyPieces copies rows as source says. It returns how many.
func copyPieces(conn *sqlite.Conn, values string, before int64, o *Options) (rows int64, err error) {
	insert := `INSERT INTO detailed_history SELECT ` + values + ` FROM (SELECT * FROM source WHERE id > ?1 ORDER BY id LIMIT ?2)`
	// In pieces, for Progress. Each begins after the last row of the one before: rowids may be
	// negative, and far apart.
	const piece = 20_000
	reported, logged := time.Now(), time.Now()
	for after := any(math.Inf(-1)); ; after = conn.LastInsertRowID() {
		err := sqlitex.Execute(conn, insert, &sqlitex.ExecOptions{Args: []any{after, piece}})
		if err != nil {
			return 0, err
		}
		n := int64(conn.Changes())
		if n == 0 {
			return rows, nil
		}
		rows += n
		if o.Progress != nil && rows < before && time.Since(reported) > progressEvery {
			reported = time.Now()
			o.Progress(rows, before)
		}
		if time.Since(logged) > sayEvery {
			logged = time.Now()
			o.Logger.Info("history is migrated", "done", fmt.Sprintf("%d %%", rows*100/max(1, before)))
		}
	}
}

// copyOthers copies the other tables of a file of this package.
func copyOthers(conn *sqlite.Conn) error {
	for table, columns := range map[string]string{
		"settings": `name, value`, "reports": `run, number, coalesce(unixepoch(timestamp), 0)`, "losses": `coalesce(unixepoch(timestamp), 0), agent, count`,
	} {
		has, err := number(conn, `SELECT count(*) FROM old.sqlite_schema WHERE name = '`+table+`'`)
		if err == nil && has > 0 {
			err = sqlitex.ExecuteTransient(conn, `INSERT OR REPLACE INTO `+table+` SELECT `+columns+` FROM old.`+table, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sayEvery is the interval of log messages about long operations.
const sayEvery = 2 * time.Second

// saying logs at intervals how long an operation has taken, until the result is called.
func saying(log *slog.Logger, what string) (end func()) {
	start, ends, ended := time.Now(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(sayEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ends:
				return
			case <-ticker.C:
				log.Info(what, "for", time.Since(start).Round(time.Second))
			}
		}
	}()
	return func() { close(ends); <-ended }
}

// progressEvery is how often Progress is called.
const progressEvery = 200 * time.Millisecond

// source makes a view of that name of the table of old, with the columns of this schema, and
// returns what is stored of them. What is computed must be so once for each row: by a
// subquery that is not merged, as one with a limit.
func source(conn *sqlite.Conn, from origin, complete func(*history.Entry)) (values string, err error) {
	if err := registerMigration(conn, complete); err != nil {
		return "", err
	}
	columns, err := sourceColumns(conn, from)
	if err == nil {
		err = sqlitex.ExecuteTransient(conn, `CREATE TEMP VIEW source AS SELECT `+columns+` FROM old.detailed_history`, nil)
	}
	if err != nil {
		return "", err
	}
	closed := "closed"
	if from == perl {
		closed = "timestamp"
	}
	ask := func(name, question string) string {
		if complete == nil {
			return name
		}
		// Also what an older version has taken over of connmapperl without it.
		return `iif(agent = '' AND rule = '', ` + question + `, ` + name + `)`
	}
	// Each argument costs time: the first of the columns has them all.
	return perlColumns + `, agent, ` + ask("direction", "connmap_complete(id, ip, port, local_ip, local_port, programname, exe, lat, lon)") +
		`, protocol, exe, container, ` + ask("country", "connmap_completed(id, 1)") + `, ` + ask("rule", "connmap_completed(id, 2)") + `,
		coalesce(opened, timestamp), coalesce(last_opened, timestamp), ` + closed + `, tx, rx, tx_before, rx_before, key, '', NULL, NULL`, nil
}

// perlColumns are those that connmapperl has.
const perlColumns = `id, timestamp, ip, port, local_ip, local_port, programname, full_lookup, asn, orgname, lat, lon, x, y, count`

// registerMigration adds the functions that source uses to a connection:
//
//	connmap_key(agent, protocol, local_ip, local_port, port)   the column key
//	connmap_complete(id, ip, port, local_ip, local_port, programname, exe, lat, lon)
//	                                                    the direction of a row, as complete says
//	connmap_completed(id, column)                       its country (1) or rule (2)
func registerMigration(conn *sqlite.Conn, complete func(*history.Entry)) error {
	err := conn.CreateFunction("connmap_key", &sqlite.FunctionImpl{
		NArgs: 5, Deterministic: true,
		Scalar: func(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
			return sqlite.IntegerValue(keyHash(args[0].Text(), args[1].Text(), args[2].Text(), uint16(args[3].Int64()), uint16(args[4].Int64()))), nil
		},
	})
	if err != nil || complete == nil {
		return err
	}
	last, known := int64(0), false
	var e history.Entry // of the row last
	addr := func(ip, port sqlite.Value) netip.AddrPort {
		a, _ := netip.ParseAddr(ip.Text())
		return netip.AddrPortFrom(a.Unmap(), uint16(port.Int64()))
	}
	err = conn.CreateFunction("connmap_complete", &sqlite.FunctionImpl{
		NArgs: 9,
		Scalar: func(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
			last, known = args[0].Int64(), true
			e = history.Entry{
				Direction: "unknown", Peer: addr(args[1], args[2]), Local: addr(args[3], args[4]), Program: args[5].Text(), Exe: args[6].Text(),
				Lat: args[7].Float(), Lon: args[8].Float(), Located: args[7].Type() != sqlite.TypeNull,
			}
			complete(&e)
			return sqlite.TextValue(e.Direction), nil
		},
	})
	if err != nil {
		return err
	}
	return conn.CreateFunction("connmap_completed", &sqlite.FunctionImpl{
		NArgs: 2,
		Scalar: func(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
			if !known || args[0].Int64() != last {
				return sqlite.Value{}, errors.New("connmap_completed before connmap_complete of the same row")
			}
			if args[1].Int64() == 1 {
				return sqlite.TextValue(e.Country), nil
			}
			return sqlite.TextValue(e.Rule), nil
		},
	})
}

// sourceColumns returns the columns of an older table as expressions of what they are
// in this one. NULL is for opened and last_opened of connmapperl: timestamp.
func sourceColumns(conn *sqlite.Conn, from origin) (string, error) {
	has := make(map[string]bool)
	err := sqlitex.Execute(conn, `SELECT name FROM pragma_table_info('detailed_history', 'old')`, &sqlitex.ExecOptions{
		ResultFunc: func(stmt *sqlite.Stmt) error { has[strings.ToLower(stmt.ColumnText(0))] = true; return nil },
	})
	if err != nil {
		return "", err
	}
	or := func(column, expression, otherwise string) string {
		if has[column] {
			return expression
		}
		return otherwise
	}
	if from == older {
		return `id, coalesce(unixepoch(timestamp), 0) AS timestamp, ip, port, local_ip, local_port, programname, full_lookup, coalesce('AS' || asn, '') AS asn, orgname, lat, lon, x, y, count,
			agent, direction, protocol, exe, container, country, rule,
			unixepoch(opened, 'subsec') AS opened, unixepoch(last_opened, 'subsec') AS last_opened,
			iif(closed IS NULL, NULL, coalesce(unixepoch(closed, 'subsec'), unixepoch(timestamp), 0)) AS closed, tx, rx, tx_before, rx_before, ` +
			or("key", "key", "connmap_key(agent, protocol, local_ip, local_port, port)") + ` AS key`, nil
	}
	for _, c := range []string{"timestamp", "ip"} {
		if !has[c] {
			return "", fmt.Errorf("its table detailed_history has no column %s", c)
		}
	}
	// NULL stays: conditions mean the same then.
	text := func(c string) string { return or(c, `CAST(`+c+` AS TEXT)`, `NULL`) + ` AS ` + c + `, ` }
	whole := func(c string) string { return or(c, `max(0, CAST(`+c+` AS INTEGER))`, `NULL`) + ` AS ` + c + `, ` }
	number := func(c, limit string) string {
		return or(c, `CASE WHEN `+c+` <> '' AND abs(CAST(`+c+` AS REAL)) <= `+limit+` THEN CAST(`+c+` AS REAL) END`, `NULL`)
	}
	located := func(value, other string) string { return `iif(` + other + ` IS NOT NULL, ` + value + `, NULL)` }
	lat, lon := number("lat", "90"), number("lon", "180")
	// Seconds or milliseconds since 1970, also as text, or a date as text.
	const raw = `CASE WHEN typeof(timestamp) IN ('text', 'blob') AND (timestamp = '' OR timestamp GLOB '*[^0-9.]*') THEN unixepoch(timestamp)
		ELSE CAST(timestamp AS NUMERIC) END`
	seen := fmt.Sprintf(`CASE WHEN typeof(timestamp) = 'integer' AND timestamp BETWEEN 0 AND 1e11 THEN timestamp
		ELSE coalesce(CAST(max(%d, min(%d, iif(abs(%[3]s) > 1e11, (%[3]s) / 1000, %[3]s))) AS INTEGER), 0) END`, minTime.Unix(), maxTime.Unix(), raw)
	return `rowid AS id, ` + seen + ` AS timestamp, ` + text("ip") + whole("port") + text("local_ip") + whole("local_port") +
		text("programname") + text("full_lookup") +
		or("asn", `iif(asn <> '' AND asn NOT GLOB '*[^0-9]*', 'AS' || asn, CAST(asn AS TEXT))`, `NULL`) + ` AS asn, ` + text("orgname") +
		located(lat, lon) + ` AS lat, ` + located(lon, lat) + ` AS lon, ` +
		or("x", `CAST(x AS INTEGER)`, `NULL`) + ` AS x, ` + or("y", `CAST(y AS INTEGER)`, `NULL`) + ` AS y, ` +
		or("count", fmt.Sprintf(`max(1, min(%d, coalesce(CAST(count AS INTEGER), 0)))`, int64(maxOpenings)), `1`) + ` AS count,
		'' AS agent, 'unknown' AS direction, '' AS protocol, '' AS exe, '' AS container, '' AS country, '' AS rule,
		NULL AS opened, NULL AS last_opened, NULL AS closed, 0 AS tx, 0 AS rx, 0 AS tx_before, 0 AS rx_before, rowid AS key`, nil
}
