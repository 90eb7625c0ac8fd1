package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/history"
)

// A Console answers questions in SQL about a history. It cannot change anything.
// It is safe for concurrent use: each question has a connection of its own, with at most
// 256 MB in temporary files.
//
// # Times
//
// The columns timestamp, opened, last_opened and closed are Unix seconds, and SQLite takes any
// number for less than any text. So that timestamp > '2026-01-01' does not silently find
// nothing, a Console reads what such a column is compared with:
//
//   - a number is Unix seconds, also as a text
//   - a text is one of '2026', '2026-01', '2026-01-01', '2026-01-01 12', '2026-01-01 12:30',
//     '2026-01-01 12:30:15' and '2026-01-01 12:30:15.250', also with T for the space. It is UTC,
//     unless a time of day ends with Z or an offset such as +02:00
//   - any other text is an error that says what to write
//
// This holds for = == <> != < <= > >= IS, BETWEEN, IN and CASE column WHEN, with lists and
// subqueries, for rows of values, parameters and the results of functions such as datetime. The
// column may be qualified, quoted, in parentheses, in a sum, in min, max, coalesce, ifnull,
// nullif, iif, abs or round, and have another name by an alias or WITH. This does not hold
// where a column has another name otherwise, within min and max of a column and a text, and in
// other functions.
//
// Date functions of such a column take it for Unix seconds without the modifier unixepoch.
// LIKE, GLOB, REGEXP and substr of one are errors.
//
// # Numbers of networks and order
//
// The column asn equals 64496, '64496' and 'AS64496'. Where < <= > >= or BETWEEN compare it
// with numbers in digits, its order is that of numbers. With all else it is compared as a text.
//
// Rows that ORDER BY of a simple SELECT leaves equal come in the order of their ids.
type Console struct {
	path   string // as it was named
	uri    string // of what is read: it, or a copy
	remove []func()
	o      ConsoleOptions
}

// ConsoleOptions are the settings of OpenConsole. The zero value works.
type ConsoleOptions struct {
	// Rule names the rule of a connection by its ports and program, for the
	// function rule; nil: that is NULL.
	Rule func(local, peer uint16, program, exe string) string

	// The others are for a file of connmapperl or of an older version of this package, which
	// is copied into one of this schema before it can be queried. It is not changed.

	// Complete and Progress are as in [Options].
	Complete func(*history.Entry)
	Progress func(done, total int64)
	// Cache is a folder in which the copy is kept for the next Console, until CacheKey
	// changes; empty: Close removes it. When a file of connmapperl has changed, only the
	// changed rows are read again; that takes about 4 s of processor time for a million.
	Cache, CacheKey string
}

const (
	defaultTimeout  = 10 * time.Second
	defaultMaxRows  = 10_000
	defaultMaxBytes = 16 << 20
	// textLimit is the only guard against functions that take long within one
	// instruction, where SQLite cannot be interrupted: at 64 KiB some run for
	// seconds.
	textLimit = 16 << 10
	sqlLimit  = 100_000
)

// OpenConsole opens a history, also one that a DB has open. It takes no lock, and needs no
// right to write. A file in a folder in which this process cannot write must not change.
//
// A file of connmapperl, also one that it has open, and one of schema 1 to 3 of this package is
// copied first: see ConsoleOptions. The copy has the rows of that moment. Schema 4 to 6 are
// queried as they are.
//
// The caller must close the Console.
func OpenConsole(ctx context.Context, name string, o ConsoleOptions) (_ *Console, err error) {
	path, err := realPath(name)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	path = trueName(path)
	if info, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("history: %s: not a file: choose another one", path)
	}
	c := &Console{path: path, o: o}
	if err := c.open(ctx); err != nil {
		c.Close()
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case sqlite.ErrCode(err).ToPrimary() == sqlite.ResultNotADB:
			err = errors.New("not a database: choose another file")
		case damaged(err):
			err = fmt.Errorf("damaged (%w); its rows before the first and after the last damaged page `%s` puts into the file NEW", err, saving(path))
		}
		return nil, fmt.Errorf("history: %s: %w", path, hint(err))
	}
	return c, nil
}

func (c *Console) open(ctx context.Context) error {
	if info, err := os.Stat(c.path); err == nil && info.Size() > 0 {
		if err := refuseNamed(c.path); err != nil {
			return err
		}
	}
	uri, remove, err := readable(ctx, c.path)
	if remove != nil {
		c.remove = append(c.remove, remove)
	}
	if err != nil {
		return err
	}
	c.uri = uri
	conn, err := openURI(ctx, uri)
	if err != nil {
		return err
	}
	from, err := identifyConn(conn)
	if err == nil && from == current {
		_, err = number(conn, `SELECT count(*) FROM (SELECT 1 FROM detailed_history LIMIT 1)`)
		if err != nil {
			err = fmt.Errorf("not a history: %w", err)
		}
	}
	if err := errors.Join(err, closeConn(conn)); err != nil || from == current {
		return err
	}
	name, remove, err := copyForConsole(ctx, c.path, uri, from, &c.o)
	if remove != nil {
		c.remove = append(c.remove, remove)
	}
	c.uri = fileURI(name, "mode=ro")
	return err
}

// Close removes the copy, if there is one. The Console cannot be used afterwards.
func (c *Console) Close() error {
	for _, f := range c.remove {
		f()
	}
	c.remove = nil
	return nil
}

// connect opens a connection that only reads, until ctx ends, for a question.
func (c *Console) connect(ctx context.Context, sql string) (_ *sqlite.Conn, failed *failure, err error) {
	if err := registerSpill(); err != nil {
		return nil, nil, err
	}
	conn, err := openConn(c.uri+"&vfs="+spillVFS, sqlite.OpenReadOnly, sqlite.OpenURI)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			closeConn(conn)
		}
	}()
	// It also interrupts the wait for a locked file.
	conn.SetInterrupt(ctx.Done())
	// Without conn.SetDefensive (zombiezen.com/go/sqlite 1.4.2): it hands one argument to a
	// function that takes two, and SQLite writes to the address that it finds in place of the
	// second. What it would keep a question from, the authorizer does.
	if err := supplement(conn, sql); err != nil {
		return nil, nil, err
	}
	for _, p := range []string{`query_only = 1`, `trusted_schema = 0`, `cell_size_check = 1`} {
		if err := sqlitex.ExecuteTransient(conn, `PRAGMA `+p, nil); err != nil {
			return nil, nil, err
		}
	}
	if failed, err = registerFunctions(conn, c.o); err != nil {
		return nil, nil, err
	}
	for id, n := range map[sqlite.Limit]int32{
		sqlite.LimitLength: textLimit, sqlite.LimitSQLLength: 4 * sqlLimit, sqlite.LimitExprDepth: 100, sqlite.LimitCompoundSelect: 50,
		sqlite.LimitVDBEOp: 100_000, sqlite.LimitFunctionArg: 16, sqlite.LimitAttached: 0, sqlite.LimitVariableNumber: 50,
		sqlite.LimitLikePatternLength: 100, sqlite.LimitColumn: 200, sqlite.LimitTriggerDepth: 1, sqlite.LimitWorkerThreads: 0,
	} {
		conn.Limit(id, n)
	}
	return conn, failed, conn.SetAuthorizer(sqlite.AuthorizeFunc(authorize))
}

// supplement has views stand for what a question names and a file of an older schema, which is
// only read, lacks. No others: a view has no rowid, by which answers are sorted.
func supplement(conn *sqlite.Conn, sql string) error {
	version, err := number(conn, `PRAGMA user_version`)
	if err != nil || version >= schemaVersion {
		return err
	}
	whole := `(SELECT *, NULL AS peer_name, NULL AS peer_name_source FROM main.detailed_history)`
	if version < 6 {
		whole = `(SELECT *, '' AS precision, NULL AS peer_name, NULL AS peer_name_source FROM main.detailed_history)`
	}
	for _, t := range tokenize(sql) {
		view := ""
		switch {
		case t.kind != word && t.kind != quoted:
		case t.text == "agents" && version < 5:
			view = `agents AS SELECT agent, count(*) AS rows, sum(` + rowSizeSQL + `) AS bytes, 0 AS pruned FROM ` + whole + ` GROUP BY agent`
		case t.text == "precision" && version < 6, t.text == "peer_name", t.text == "peer_name_source":
			view = `detailed_history AS SELECT * FROM ` + whole
		case t.text == "peer_names":
			view = `peer_names AS SELECT NULL AS name WHERE FALSE`
		}
		if view == "" {
			continue
		}
		if err := sqlitex.ExecuteTransient(conn, `CREATE TEMP VIEW IF NOT EXISTS `+view, nil); err != nil {
			return err
		}
	}
	return nil
}

// authorize allows actions that only read.
func authorize(a sqlite.Action) sqlite.AuthResult {
	switch a.Type() {
	case sqlite.OpSelect, sqlite.OpRead, sqlite.OpRecursive, sqlite.OpFunction:
		return sqlite.AuthResultOK
	case sqlite.OpPragma:
		switch strings.ToLower(a.Pragma()) {
		case "table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo":
			return sqlite.AuthResultOK
		}
	}
	return sqlite.AuthResultDeny
}

// Ask returns the answer to a question. Its error is a [*history.QueryError] if the question
// is wrong or too expensive.
func (c *Console) Ask(ctx context.Context, q history.Question) (*history.Table, error) {
	t := &history.Table{}
	start := time.Now()
	var err error
	t.Cut, err = c.Each(ctx, q, func(columns []history.Column) error {
		t.Columns = columns
		return nil
	}, func(row []any) error {
		t.Rows = append(t.Rows, row)
		return nil
	})
	t.Elapsed = time.Since(start)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Each calls begin with the columns of an answer and row with each row, which it
// may keep, until one of them fails. It returns why there are no more rows, if
// these are not all. Its errors are those of Ask, begin and row.
func (c *Console) Each(ctx context.Context, q history.Question, begin func([]history.Column) error, row func([]any) error) (cut string, err error) {
	timeout := q.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	if timeout > 0 {
		limited, cancel = context.WithTimeout(limited, timeout)
		defer cancel()
	}
	conn, failed, err := c.connect(limited, q.SQL)
	switch {
	case err == nil:
		defer closeConn(conn)
		failed.stop = cancel
		cut, err = each(conn, failed, q, begin, row)
	case limited.Err() == nil:
		return "", fmt.Errorf("history: %s: %w", c.path, err)
	}
	code := sqlite.ErrCode(err).ToPrimary()
	ended := limited.Err() != nil && (code == sqlite.ResultInterrupt || code == sqlite.ResultBusy)
	switch {
	case ended && ctx.Err() != nil:
		return "", ctx.Err()
	case ended:
		return "", &history.QueryError{Offset: -1, Msg: fmt.Sprintf("stopped after %v: narrow it, for example by timestamp >= unixepoch('now', '-1 day')", timeout)}
	}
	return cut, queryError(err)
}

// queryError converts an error of SQLite to one that people understand.
func queryError(err error) error {
	code := sqlite.ErrCode(err)
	if err == nil || code == sqlite.ResultError && !isSQLite(err) {
		return err
	}
	offset, ok := sqlite.ErrorOffset(err)
	if !ok {
		offset = -1
	}
	msg := noise.ReplaceAllString(err.Error(), "")
	if msg == "integer overflow" {
		msg = "a sum is larger than integers go: write total() in the place of sum()"
	}
	switch code.ToPrimary() {
	case sqlite.ResultAuth, sqlite.ResultReadOnly:
		msg = "this console only reads: ask with SELECT, WITH, VALUES or EXPLAIN"
	case sqlite.ResultTooBig:
		msg = fmt.Sprintf("a text has more than %d KiB: leave its column out, or its rows, as by octet_length(full_lookup) < %d", textLimit>>10, textLimit)
	case sqlite.ResultNoLFS:
		msg = fmt.Sprintf("to sort or group it takes more than %d MB on the disk: narrow it, for example by timestamp >= unixepoch('now', '-1 day'), or only for the columns you need", maxSpill>>20)
	case sqlite.ResultNoMem:
		msg = "it needs too much memory: narrow it"
	}
	return &history.QueryError{Offset: offset, Msg: msg}
}

// noise is the part of an error before SQLite's message.
var noise = regexp.MustCompile(`^sqlite: (prepare: |step: )?(\d+:\d+: )?(SQL logic error: )?`)

func isSQLite(err error) bool { return strings.HasPrefix(err.Error(), "sqlite: ") }

// each is Console.Each on a connection.
func each(conn *sqlite.Conn, failed *failure, q history.Question, begin func([]history.Column) error, row func([]any) error) (cut string, err error) {
	a := answer{failed: failed, maxRows: q.MaxRows, maxBytes: q.MaxBytes}
	if a.maxRows == 0 {
		a.maxRows = defaultMaxRows
	}
	if a.maxBytes == 0 {
		a.maxBytes = defaultMaxBytes
	}
	defer a.close()
	if err := a.compile(conn, q); err != nil {
		return "", err
	}
	return a.each(begin, row)
}

// An answer is a running question.
type answer struct {
	failed   *failure
	maxRows  int            // negative: no limit
	maxBytes int64          // likewise
	stmts    []*sqlite.Stmt // the last one answers
	columns  []history.Column
}

func (a *answer) close() {
	for _, stmt := range a.stmts {
		stmt.Finalize()
	}
}

// compile prepares the rewritten question, with its parameters and the names of its columns.
func (a *answer) compile(conn *sqlite.Conn, q history.Question) error {
	if i := strings.IndexByte(q.SQL, 0); i >= 0 {
		return &history.QueryError{Offset: i, Msg: "a zero byte, which nothing may contain"}
	}
	if len(q.SQL) > sqlLimit {
		return &history.QueryError{Offset: -1, Msg: fmt.Sprintf("the statement has more than %d kB", sqlLimit/1000)}
	}
	if start := blank(q.SQL); start == len(q.SQL) {
		return &history.QueryError{Offset: -1, Msg: "nothing is asked"}
	}
	stmt, trailing, err := conn.PrepareTransient(q.SQL)
	if err != nil {
		return err
	}
	a.stmts = append(a.stmts, stmt)
	end := len(q.SQL) - trailing
	if next := end + blank(q.SQL[end:]); next < len(q.SQL) {
		return &history.QueryError{Offset: next, Msg: "only one statement can be asked at a time"}
	}
	meant, err := rewrite(q.SQL[:end])
	if err != nil {
		return err
	}
	a.columns = make([]history.Column, stmt.ColumnCount())
	for i, name := range columnNames(conn, stmt, q.SQL[:end]) {
		a.columns[i].Name, a.columns[i].Time = name, timeColumn(meant.times, name)
	}
	for _, sql := range []string{meant.stable, meant.sql} {
		if sql == "" || sql == q.SQL[:end] {
			continue
		}
		again, _, err := conn.PrepareTransient(sql)
		if err == nil {
			a.stmts = append(a.stmts, again)
			stmt = again
			break
		}
		if meant.dates && sql == meant.sql {
			return &history.QueryError{Offset: -1, Msg: "it is not clear what is compared with a date here: write unixepoch('2026-01-01') instead, for times are Unix seconds"}
		}
	}
	if err := bindParams(stmt, q.Params); err != nil {
		return err
	}
	for _, name := range meant.modifiers {
		if err := checkModifier(conn, name, q.Params[name]); err != nil {
			return err
		}
	}
	return nil
}

// each yields the columns, with their types, and the rows.
func (a *answer) each(begin func([]history.Column) error, row func([]any) error) (cut string, err error) {
	stmt := a.stmts[len(a.stmts)-1]
	size := int64(0)
	for rows := 0; ; rows++ {
		more, err := stmt.Step()
		if a.failed.err != nil {
			err = a.failed.err
		}
		if err != nil {
			return "", err
		}
		if rows == 0 {
			for i := range a.columns {
				if more {
					a.columns[i].Type = typeNames[stmt.ColumnType(i)]
				}
			}
			if err := begin(a.columns); err != nil {
				return "", err
			}
		}
		if !more {
			return "", nil
		}
		if a.maxRows > 0 && rows == a.maxRows {
			return fmt.Sprintf("only the first %d rows", rows), nil
		}
		values := make([]any, len(a.columns))
		for i := range values {
			values[i] = value(stmt, i)
			size += 16
			switch v := values[i].(type) {
			case string:
				size += int64(len(v))
			case []byte:
				size += int64(len(v))
			}
		}
		if a.maxBytes > 0 && size > a.maxBytes {
			return fmt.Sprintf("only the first %d rows, for they have %d MB", rows, a.maxBytes>>20), nil
		}
		if err := row(values); err != nil {
			return "", err
		}
	}
}

// checkModifier fails if a parameter is no modifier of a date function: that would be NULL, and
// the answer silently empty.
func checkModifier(conn *sqlite.Conn, name string, v any) error {
	s, ok := v.(string)
	if !ok {
		return nil
	}
	known := false
	err := sqlitex.ExecuteTransient(conn, `SELECT coalesce(unixepoch('now', ?1), unixepoch(0, ?1)) IS NOT NULL`, &sqlitex.ExecOptions{Args: []any{s}, ResultFunc: func(stmt *sqlite.Stmt) error {
		known = stmt.ColumnBool(0)
		return nil
	}})
	if err == nil && !known {
		err = &history.QueryError{Offset: -1, Msg: fmt.Sprintf("%s = %.40q is no modifier of a date function such as '-7 days' or 'start of month': a date is compared with, as by timestamp >= '2026-07-01'", name, s)}
	}
	return err
}

// columnNames returns the names of the columns of an answer. Of columns with one name
// the library knows only the last; as columns of a subquery, SQLite tells them
// apart: ip, ip:1.
func columnNames(conn *sqlite.Conn, stmt *sqlite.Stmt, sql string) []string {
	names := make([]string, stmt.ColumnCount())
	known := true
	for i := range names {
		names[i] = stmt.ColumnName(i)
		known = known && stmt.ColumnIndex(names[i]) == i
	}
	if known {
		return names
	}
	sub, _, err := conn.PrepareTransient("SELECT * FROM (" + strings.TrimRight(sql, "; \t\r\n") + "\n)")
	if err == nil {
		defer sub.Finalize()
	}
	for i := range names {
		if err == nil && sub.ColumnCount() == len(names) {
			names[i] = sub.ColumnName(i)
		} else if names[i] == "" {
			names[i] = fmt.Sprint("column ", i+1)
		}
	}
	return names
}

var typeNames = map[sqlite.ColumnType]string{sqlite.TypeInteger: "integer", sqlite.TypeFloat: "real", sqlite.TypeText: "text", sqlite.TypeBlob: "blob"}

func value(stmt *sqlite.Stmt, i int) any {
	switch stmt.ColumnType(i) {
	case sqlite.TypeInteger:
		return stmt.ColumnInt64(i)
	case sqlite.TypeFloat:
		return stmt.ColumnFloat(i)
	case sqlite.TypeText:
		return stmt.ColumnText(i)
	case sqlite.TypeBlob:
		b := make([]byte, stmt.ColumnLen(i))
		stmt.ColumnBytes(i, b)
		return b
	}
	return nil
}

// blank returns how many bytes of white space, semicolons and comments s begins
// with.
func blank(s string) int {
	at := 0
	for at < len(s) {
		switch rest := s[at:]; {
		case strings.IndexByte(" \t\n\r\f;", rest[0]) >= 0:
			at++
		case strings.HasPrefix(rest, "--"):
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				return len(s)
			}
			at += n
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest[2:], "*/")
			if n < 0 {
				return len(s)
			}
			at += n + 4
		default:
			return at
		}
	}
	return at
}

// bindParams sets all parameters of a statement, each of which must have a value.
func bindParams(stmt *sqlite.Stmt, params map[string]any) error {
	used := make(map[string]bool)
	for i := 1; i <= stmt.BindParamCount(); i++ {
		name := stmt.BindParamName(i)
		if name == "" || name[0] == '?' {
			return &history.QueryError{Offset: -1, Msg: "parameters have names, such as :since"}
		}
		v, ok := params[name[1:]]
		if !ok {
			return &history.QueryError{Offset: -1, Msg: fmt.Sprintf("the parameter %s has no value", name)}
		}
		used[name[1:]] = true
		switch v := v.(type) {
		case nil:
			stmt.BindNull(i)
		case string:
			stmt.BindText(i, v)
		case []byte:
			stmt.BindBytes(i, v)
		case float64:
			stmt.BindFloat(i, v)
		case int:
			stmt.BindInt64(i, int64(v))
		case int64:
			stmt.BindInt64(i, v)
		case uint16:
			stmt.BindInt64(i, int64(v))
		case uint32:
			stmt.BindInt64(i, int64(v))
		case bool:
			stmt.BindBool(i, v)
		case time.Time:
			bindSeconds(stmt, i, v)
		default:
			return &history.QueryError{Offset: -1, Msg: fmt.Sprintf("the parameter %s is a %T, want a text, a number or a time", name, v)}
		}
	}
	for name := range params {
		if !used[name] {
			return &history.QueryError{Offset: -1, Msg: fmt.Sprintf("the query has no parameter :%s", name)}
		}
	}
	return nil
}
